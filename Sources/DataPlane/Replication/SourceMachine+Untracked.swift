import BlockModel
import H2HProtocol

extension SourceMachine {
  /// Nobody knows which blocks were written: all of them differ until they are copied again, which begins with
  /// `.tracked`. The source has the newest data in any case, because the application writes there, so stand-in is left,
  /// and a proof says nothing any more.
  mutating func lostTrack(_ why: String, into effects: inout [SourceEffect]) {
    guard stage != .fenced, stage != .cancelled else { return }
    trackLost = why
    isLossUnnoted = true
    for index in volumes.indices {
      volumes[index].intent.requireAll()
      storeIntents(of: index, into: &effects)
    }
    // A session of which nothing was copied yet has nothing to lose.
    guard volumes.contains(where: { !$0.dirty.isFull }) || !transfers.isEmpty || !comparisons.isEmpty else { return }
    lastError = why
    effects.append(.journal("untracked: \(why)"))
    for index in volumes.indices {
      volumes[index].verified.removeAll()
      if initialSynchronizationAt != nil { volumes[index].changed.insert(0..<volumes[index].extentCount) }
      markDirty(index, 0..<volumes[index].blockCount)
    }
    forgetLeftDifferent()
    for index in comparisons.indices { comparisons[index].isSpoiled = true }
    repairs = [:]
    receiptDigest = nil
    isReceiptPending = false
    if authority == .standIn || barrier?.step == .storing {
      beginFallBack(why, into: &effects)
    } else {
      abortBarrier(why, into: &effects)
      abortSwing(why, into: &effects)
      if stage == .proving || stage == .proven { setStage(.tapClosed, into: &effects) }
    }
    // What a pass has swept is dirty again, and it isn't over before all of that is copied.
    if pass != nil { startPass() }
  }

  /// All is still marked that may have been written meanwhile: nothing was copied since.
  mutating func regainedTrack(into effects: inout [SourceEffect]) {
    guard let why = trackLost else { return }
    trackLost = nil
    isLossUnnoted = false
    if lastError == why {
      lastError = nil
      effects.append(.journal("tracked again"))
    }
    if stage == .tracking { startPass() }
    pump(into: &effects)
  }

  /// Whether a crash from here on finds all of every volume marked.
  package var isLossNoted: Bool { !isLossUnnoted || volumes.allSatisfy { $0.intent.isAllDurable } }

  /// What a command that relies on every write being seen is refused with; nil where it is.
  var trackRefusal: CommandAnswer? {
    trackLost.map { .refused(why: "writes may go past the tap (\($0)); open the tap first") }
  }
}
