import BlockModel
import H2HProtocol

extension SourceMachine {
  /// Nobody knows which blocks were written: all of them differ until they are copied again. The source has the newest
  /// data in any case, because the application writes there, so stand-in is left.
  mutating func lostTrack(_ why: String, into effects: inout [SourceEffect]) {
    guard stage.takesApplicationIO, stage != .cancelled else { return }
    lastError = why
    effects.append(.journal("untracked: \(why)"))
    for index in volumes.indices {
      volumes[index].intent.requireAll()
      volumes[index].verified.removeAll()
      volumes[index].knownZero = nil
      markDirty(index, 0..<volumes[index].blockCount)
      storeIntents(of: index, into: &effects)
    }
    receiptDigest = nil
    isReceiptPending = false
    if authority == .standIn || barrier?.step == .storing {
      beginFallBack(why, into: &effects)
    } else if stage == .swinging {
      if barrier != nil { abortBarrier(why, into: &effects) } else { abortSwing(why, into: &effects) }
    } else if stage == .tracking {
      startPass()
    }
    pump(into: &effects)
  }
}
