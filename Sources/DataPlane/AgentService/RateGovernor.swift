package import AgentProtocol
package import BlockModel
package import Replication

/// How much of what there is migration may take (iQoS). Pure: the caller passes the time.
///
/// The rate allowed is `share × capacity`, divided among the sessions of one way (`PaceGroup`), and never above
/// `networkLimitBytesPerSecond`. It is granted piece by piece, a hundred times a second, so that a request of the
/// application finds at most a piece before it: a burst of many would be what its slowest hundredth waits for. Only the
/// probes that capacity is measured by are bursts; they are saved up for and repaid, so that the share stays exact.
package struct RateGovernor: Sendable {
  /// Least that a share ever yields, all sessions of one way together: a floor too low would mean days, not politeness.
  package static let floorBytesPerSecond = 4.0 * 1024 * 1024
  /// A tick that came late grants no more than this.
  package static let lateSeconds = 0.5
  /// Most that may be in hand and not used, of the rate; more would be a burst that a share of five seconds shows.
  package static let savedSeconds = 0.2
  /// And at least so many pieces, which half of a probe takes.
  package static let savedUnits = 16.0
  /// How long a probe may wait until nothing is on its way, and for its own end.
  package static let emptyingSeconds = 1.0
  package static let probeLimitSeconds = 1.5
  /// One of which nothing begins in so long has come to nothing.
  package static let startSeconds = 0.05
  /// What is paced is looked at so often, and compared with what was usual at about the same rate.
  package static let watchSeconds = 0.5
  package static let sameRate = 0.1

  /// What a rate comes from.
  package enum Limit: Sendable, Equatable {
    case share
    case network
    /// Production got slower (`LatencyGuard`).
    case latency
  }
  package private(set) var limit = Limit.share

  private enum Phase: Sendable {
    case pacing
    /// What was granted before is let through, and half of what the probe takes is saved up.
    case emptying(until: MonotonicTime)
    case probing(before: PaceObservation, at: MonotonicTime)
  }

  private let session: SessionID
  /// Of one piece: a copier with any budget left sends a whole one.
  private let unitBytes: Double
  private var limits: RateLimits
  private var last: MonotonicTime
  private var carried = 0.0
  private var isLimited = false
  private var phase = Phase.pacing
  private var watch: (at: MonotonicTime, seen: PaceObservation)?
  private var usual: (secondsPerByte: Double, bytesPerSecond: Double)?
  private var isInDoubt = false
  /// What goes through where no share asks for probes.
  private var plainBytesPerSecond: Double?
  /// Something is to be sent that waits for its grant: ticks are to come often.
  package private(set) var isPacing = false

  package init(session: SessionID, limits: RateLimits, transferBytes: Int, now: MonotonicTime) {
    self.session = session
    self.limits = limits
    unitBytes = Double(max(1, transferBytes))
    last = now
  }

  package mutating func change(limits: RateLimits) {
    self.limits = limits
    carried = 0
  }

  /// Called every tick; what the machine is to be told, nil where nothing changes. `yield`: a factor of the rate, 0 for a
  /// pause.
  package mutating func tick(
    _ pace: PaceObservation, yield: Double = 1, in group: inout PaceGroup, now: MonotonicTime
  ) -> CopyBudget? {
    let elapsed = min(now.seconds(since: last), Self.lateSeconds)
    last = now
    if limits.share == nil { measure(pace, now) }
    guard limits.share != nil || limits.networkLimitBytesPerSecond != nil || yield < 1 else {
      group.note(session, isBusy: nil, now: now)
      phase = .pacing
      isPacing = false
      defer { isLimited = false }
      return isLimited ? .unlimited : nil
    }
    let hadBudget = pace.budgetBytes != nil
    isLimited = true
    isPacing = pace.isBusy || (pace.budgetBytes ?? 0) <= 0
    let rate = yielding(allowedBytesPerSecond(group), by: yield, group)
    group.note(session, isBusy: isPacing && limits.share != nil ? pace.isBusy : nil, now: now)
    carried += rate * elapsed
    // What nobody used is not saved up.
    let most = max(rate * Self.savedSeconds, Self.savedUnits * unitBytes)
    carried = min(carried, max(0, most - Double(max(0, pace.budgetBytes ?? 0))))
    if limits.share != nil, let bytes = probe(pace, rate, isYielding: yield < 1, &group, now) {
      carried -= bytes
      return .grant(bytes: UInt64(bytes))
    }
    var whole = 0.0
    if case .pacing = phase, !group.mustStandStill(session, now: now) {
      whole = max(0, (carried / unitBytes).rounded(.down) * unitBytes)
    }
    carried -= whole
    return whole == 0 && hadBudget ? nil : .grant(bytes: UInt64(whole))
  }

  private mutating func yielding(_ allowed: Double, by yield: Double, _ group: PaceGroup) -> Double {
    guard yield < 1 else { return allowed }
    limit = .latency
    if yield <= 0 {
      carried = min(carried, 0)
      return 0
    }
    // Where nothing else limits, the part is of what there is.
    let whole = min(allowed, group.capacityBytesPerSecond ?? plainBytesPerSecond ?? Self.floorBytesPerSecond)
    return max(min(whole, Self.floorBytesPerSecond), whole * yield)
  }

  private mutating func allowedBytesPerSecond(_ group: PaceGroup) -> Double {
    let network = limits.networkLimitBytesPerSecond.map { Double($0) } ?? .infinity
    guard let share = limits.share else {
      limit = .network
      return network
    }
    limit = .share
    let whole = max(Self.floorBytesPerSecond, share * (group.capacityBytesPerSecond ?? 0))
    let allowed = whole / Double(group.memberCount(with: session))
    if network < allowed { limit = .network }
    return min(network, allowed)
  }

  private mutating func measure(_ pace: PaceObservation, _ now: MonotonicTime) {
    guard let found = watched(pace, now) else { return }
    plainBytesPerSecond = found.bytes / max(1e-9, found.seconds)
  }

  /// What was moved in the last `watchSeconds`, once they are over and it was enough to tell something.
  private mutating func watched(_ pace: PaceObservation, _ now: MonotonicTime) -> (bytes: Double, seconds: Double)? {
    guard let (at, seen) = watch else {
      watch = (now, pace)
      return nil
    }
    guard now.seconds(since: at) >= Self.watchSeconds else { return nil }
    watch = (now, pace)
    let bytes = Double(pace.busyBytes &- min(seen.busyBytes, pace.busyBytes))
    return bytes >= 4 * unitBytes ? (bytes, pace.busySeconds - seen.busySeconds) : nil
  }

  // MARK: Probes

  /// What to grant for one, if this is its time.
  private mutating func probe(
    _ pace: PaceObservation, _ rate: Double, isYielding: Bool, _ group: inout PaceGroup, _ now: MonotonicTime
  ) -> Double? {
    switch phase {
    case .pacing:
      lookForSurprises(pace, rate, &group, now)
      guard isPacing, !isYielding, group.mayProbe(session, now: now) else { return nil }
      phase = .emptying(until: now.adding(seconds: Self.emptyingSeconds))
      return nil
    case .emptying(let until):
      if now >= until || isYielding {
        phase = .pacing
        group.yieldTurn(session)
        return nil
      }
      let bytes = group.probeBytes(unitBytes: unitBytes, bytesPerSecond: rate)
      guard group.isStill, carried >= bytes / 2 || group.capacityBytesPerSecond == nil else { return nil }
      phase = .probing(before: pace, at: now)
      return bytes
    case .probing(let before, let begun):
      let took = now.seconds(since: begun)
      let isOver = !pace.isBusy && (pace.bursts != before.bursts || took >= Self.startSeconds)
      guard isOver || took >= Self.probeLimitSeconds else { return nil }
      group.probed(from: before, to: pace, by: session, now: now)
      phase = .pacing
      watch = nil
      return nil
    }
  }

  /// Whether what is paced takes another time than it used to, twice in a row: then production came or went, or the way is
  /// another one. Only where it goes at the capacity that is known, or slower: what a bucket or a cache swallows says nothing.
  private mutating func lookForSurprises(
    _ pace: PaceObservation, _ rate: Double, _ group: inout PaceGroup, _ now: MonotonicTime
  ) {
    guard let moved = watched(pace, now), let capacity = group.capacityBytesPerSecond else { return }
    let found = moved.seconds / moved.bytes
    guard let before = usual, abs(rate - before.bytesPerSecond) <= Self.sameRate * rate else {
      usual = (found, rate)
      isInDoubt = false
      return
    }
    let difference = found - before.secondsPerByte
    let isSurprising =
      abs(difference) > PaceGroup.surprise * before.secondsPerByte
      && max(found, before.secondsPerByte) > (1 - PaceGroup.surprise) / capacity
    if isSurprising, isInDoubt {
      usual = nil
      group.search(now)
    } else if !isSurprising {
      usual?.secondsPerByte = 0.8 * before.secondsPerByte + 0.2 * found
    }
    isInDoubt = isSurprising
  }
}
