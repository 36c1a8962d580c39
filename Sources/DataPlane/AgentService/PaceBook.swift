internal import AgentProtocol
internal import BlockModel
internal import LinuxPlatform

/// What the sessions of one agent know together of the ways that they share: one for copying to each peer, one for
/// comparing with it. Any thread.
package final class PaceBook: Sendable {
  package enum Work: Sendable {
    case copying
    case comparing
  }
  private struct Way: Hashable, Sendable {
    var peer: KeyFingerprint
    var work: Work
  }

  private let groups = Monitor<[Way: PaceGroup]>([:])

  package init() {}

  /// `body` holds a lock, and calls nothing that waits.
  func withGroup<Result>(
    _ peer: KeyFingerprint, _ work: Work, now: MonotonicTime, _ body: (inout PaceGroup) -> Result
  ) -> Result {
    groups.withLock { groups in
      let way = Way(peer: peer, work: work)
      if groups[way] == nil { groups = groups.filter { !$0.value.isForgotten(now) } }
      return body(&groups[way, default: PaceGroup()])
    }
  }
}
