import BlockModel
import H2HProtocol

extension SourceMachine {
  /// Why the volumes can't get these sizes now, and what to do about it; nil where they can. Only while the source's disk
  /// is what the application reads: with the destination's in its place both would have to grow at one moment.
  package func growthRefusal(to sizes: [UInt64]) -> String? {
    guard sizes.count == volumes.count else { return "another number of volumes" }
    for (volume, size) in zip(volumes, sizes) {
      if size < volume.sizeBytes {
        return "volume \(volume.name) has \(volume.sizeBytes) bytes and can't shrink to \(size)"
      }
      if limits.blockBytes(forVolumeBytes: size) != volume.blockBytes
        || limits.extentBytes(forVolumeBytes: size) != volume.intent.extentBytes
      {
        return
          "volume \(volume.name) would grow from \(volume.sizeBytes) to \(size) bytes, past the size up to which what "
          + "is known of it can be kept; cancel the session, and synchronize it anew"
      }
    }
    if fallback != nil || barrier != nil || authority != .source {
      return "its I/O is being moved, or lives at the destination; revert cMotion, then apply again"
    }
    switch stage {
    case .prepared, .synchronizing, .tracking: return nil
    case .swinging, .standIn: return "a volume grows before cMotion or after it; revert, then apply again"
    case .tapClosed, .proving, .proven:
      return "finalize has begun; go on with the size it has, or open the tap again and apply again"
    case .fenced, .cancelled: return "the session is \(stage.rawValue), and its size is final"
    }
  }

  /// The link is opened anew, for both halves have to agree on the sizes: what was under way on it is dirty again.
  mutating func grow(to sizes: [UInt64], into effects: inout [SourceEffect]) {
    precondition(growthRefusal(to: sizes) == nil, "asked before")
    let grown = volumes.indices.filter { volumes[$0].sizeBytes < sizes[$0] }
    guard !grown.isEmpty else { return }
    if let offer = pendingOffer {
      pendingOffer = nil
      if offer.link != link?.id { effects.append(.closeLink(link: offer.link, why: Self.grewWords)) }
    }
    failLink(Self.grewWords, into: &effects)
    // What is still being read for a link that is gone was put back with it, and counts for nothing.
    dropComparisons()
    if verification?.isRunning ?? false { giveUpVerification(Self.grewWords, into: &effects) }
    for index in grown {
      let old = volumes[index].sizeBytes
      volumes[index].grow(to: sizes[index], isSynchronized: initialSynchronizationAt != nil)
      configuration.volumes[index].sizeBytes = sizes[index]
      verification?.pending[index].grow(to: volumes[index].extentCount)
      verification?.differing[index].grow(to: volumes[index].extentCount)
      effects.append(.journal("volume \(volumes[index].name) grew from \(old) to \(sizes[index]) bytes"))
      storeIntents(of: index, into: &effects)
    }
    verifyCursor = (0, 0)
    isVerificationIdle = false
    dirtySince = dirtySince ?? now
    if pass != nil { startPass() }
  }

  private static let grewWords = "a volume grew, and both ends have to agree on its size"
}
