package import AgentProtocol
package import BlockModel

/// Who may command which session. Pure: the caller keeps `entries` durable before it answers.
package struct LeaseBook: Sendable, Equatable {
  package private(set) var entries: [LeaseEntry]
  /// Longest lease that is given, in seconds.
  package static let longestSeconds = 3600.0

  package init(entries: [LeaseEntry]) { self.entries = entries }

  /// Takes, renews or steals. Throws `.fenced` and names the holder.
  package mutating func acquire(_ call: AcquireLeaseCall, now: WallTime) throws(AgentFault) -> Lease {
    let index = entries.firstIndex { $0.session == call.session }
    let entry = index.map { entries[$0] }
    let running = entry?.lease.flatMap { $0.expiresAt > now ? $0 : nil }
    let isRenewal = entry?.lease?.holder == call.holder && entry?.lease?.fencingNumber == call.fencingNumber
    if let running, running.holder != call.holder, !call.steal {
      throw AgentFault(
        .fenced,
        "\(running.holder) has the lease of \(call.session) for another \(Int(running.expiresAt.secondsSince1970 - now.secondsSince1970) + 1) s; wait for it, or steal the lease"
      )
    }
    let highest = entry?.highestFencingNumber ?? 0
    guard isRenewal || call.fencingNumber > highest else {
      throw AgentFault(
        .fenced,
        "fencing number \(call.fencingNumber) for \(call.session) is not above \(highest), which this agent has seen; observe again and propose a higher one"
      )
    }
    guard call.timeToLiveSeconds > 0, call.timeToLiveSeconds <= Self.longestSeconds else {
      throw AgentFault(.badRequest, "a lease runs for more than 0 and at most \(Int(Self.longestSeconds)) s")
    }
    let lease = Lease(
      session: call.session, holder: call.holder, fencingNumber: call.fencingNumber,
      acquiredAt: isRenewal ? entry?.lease?.acquiredAt ?? now : now,
      expiresAt: now.adding(seconds: call.timeToLiveSeconds))
    let replacement = LeaseEntry(session: call.session, highestFencingNumber: call.fencingNumber, lease: lease)
    if let index { entries[index] = replacement } else { entries.append(replacement) }
    return lease
  }

  /// Gives the lease back; a number that is no longer the lease's changes nothing.
  package mutating func release(_ call: ReleaseLeaseCall) {
    guard let index = entries.firstIndex(where: { $0.session == call.session }),
      entries[index].lease?.fencingNumber == call.fencingNumber
    else { return }
    entries[index].lease = nil
  }

  /// Whether a command with this number may still act. Answers true where the number is new and must be remembered.
  package mutating func admit(fencingNumber: UInt64, for session: SessionID) throws(AgentFault) -> Bool {
    guard let index = entries.firstIndex(where: { $0.session == session }) else {
      entries.append(LeaseEntry(session: session, highestFencingNumber: fencingNumber, lease: nil))
      return true
    }
    let highest = entries[index].highestFencingNumber
    guard fencingNumber >= highest else {
      let holder = entries[index].lease.map { ", held by \($0.holder)" } ?? ""
      throw AgentFault(
        .fenced,
        "fencing number \(fencingNumber) for \(session) is older than \(highest)\(holder); another apply took over: observe again before you go on"
      )
    }
    guard fencingNumber > highest else { return false }
    entries[index].highestFencingNumber = fencingNumber
    entries[index].lease = nil
    return true
  }
}
