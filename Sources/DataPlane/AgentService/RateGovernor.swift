package import AgentProtocol
package import BlockModel
package import Replication

/// How much of what there is migration may take (iQoS). Pure: the caller passes the time.
///
/// Capacity is what was moved in the last `windowSeconds` while something was on its way (`BusyMeter`), so production's own
/// load is taken off it and no probe is needed: whatever is granted goes out in bursts, and a burst goes as fast as there
/// is room. A short burst goes faster than that where a pause has filled a shaper's bucket or a disk's cache: bursts are of
/// two sizes on purpose, and what the larger takes more than the smaller is what counts (`BurstSums`). The rate allowed is `share × capacity`, and never above `networkLimitBytesPerSecond`.
package struct RateGovernor: Sendable {
  /// Least that a share ever yields: a floor too low would mean days, not politeness.
  package static let floorBytesPerSecond = 4.0 * 1024 * 1024
  package static let windowSeconds = 5.0
  /// So long a capacity holds where nothing was moved since.
  package static let memorySeconds = 30.0
  /// Most that may be in hand and not used, of the rate; more would be a burst that a share of five seconds shows.
  package static let savedSeconds = 0.2
  /// A tick that came late grants no more than this.
  package static let lateSeconds = 0.5
  /// A burst of fewer pieces says nothing of the capacity.
  package static let burstUnits = 2.0
  /// What is granted to find a capacity of which nothing is known yet; repaid.
  package static let firstUnits = 4.0
  /// The line through bursts is believed so far from what they took as a whole.
  package static let mostCorrection = 2.0

  /// Grants are multiples of one transfer, because a copier with any budget left sends a whole one.
  private let unitBytes: Double
  private var limits: RateLimits
  private var last: MonotonicTime
  private var carried = 0.0
  private var owed = 0.0
  private var wasLimited = false
  /// What a rate comes from.
  package enum Limit: Sendable, Equatable {
    case share
    case network
    /// Production got slower (`LatencyGuard`).
    case latency
  }
  package private(set) var limit = Limit.share
  private var seen = PaceObservation()
  private struct Sample: Sendable {
    var at: MonotonicTime
    var bytes: Double
    var seconds: Double
    var bursts: BurstSums
  }
  private var samples: [Sample] = []
  private var grants = 0
  private var ticksUntilGrant = 0
  private var known: (at: MonotonicTime, bytesPerSecond: Double)?

  package init(limits: RateLimits, transferBytes: Int, now: MonotonicTime) {
    self.limits = limits
    unitBytes = Double(max(1, transferBytes))
    last = now
  }

  package mutating func change(limits: RateLimits) {
    self.limits = limits
    carried = 0
    owed = 0
  }

  /// Called every tick; what the machine is to be told, nil where nothing changes. `yield`: a factor of the rate, 0 for a
  /// pause.
  package mutating func tick(_ pace: PaceObservation, yield: Double = 1, now: MonotonicTime) -> CopyBudget? {
    let elapsed = min(now.seconds(since: last), Self.lateSeconds)
    last = now
    sample(pace, now)
    guard limits.share != nil || limits.networkLimitBytesPerSecond != nil || yield < 1 else {
      defer { wasLimited = false }
      return wasLimited ? .unlimited : nil
    }
    wasLimited = true
    let rate = yielding(allowedBytesPerSecond(now), by: yield)
    carried += rate * elapsed
    // What nobody used is not saved up.
    let most = max(rate * Self.savedSeconds, 2 * Self.burstUnits * unitBytes)
    carried = min(carried, max(0, most - Double(max(0, pace.budgetBytes ?? 0))))
    let whole = (carried / unitBytes).rounded(.down) * unitBytes
    ticksUntilGrant -= 1
    guard ticksUntilGrant <= 0, whole >= Self.burstUnits * unitBytes else { return .grant(bytes: 0) }
    carried -= whole
    // After one tick or two, in an order that falls in step with nothing (Thue and Morse's).
    grants += 1
    ticksUntilGrant = 1 + grants.nonzeroBitCount % 2
    return .grant(bytes: UInt64(whole))
  }

  /// Of the link or the disks, as they are now; nil where nothing was moved for long.
  package var capacityBytesPerSecond: Double? { known?.bytesPerSecond }

  private mutating func yielding(_ allowed: Double, by yield: Double) -> Double {
    guard yield < 1 else { return allowed }
    limit = .latency
    if yield <= 0 {
      carried = 0
      return 0
    }
    // Where nothing else limits, the part is of what there is.
    let whole = min(allowed, known?.bytesPerSecond ?? Self.floorBytesPerSecond)
    return max(min(whole, Self.floorBytesPerSecond), whole * yield)
  }

  private mutating func allowedBytesPerSecond(_ now: MonotonicTime) -> Double {
    let network = limits.networkLimitBytesPerSecond.map { Double($0) } ?? .infinity
    guard let share = limits.share else {
      limit = .network
      return network
    }
    limit = .share
    guard let capacity = known?.bytesPerSecond else {
      if owed == 0 {
        owed = Self.firstUnits * unitBytes
        carried = owed
      }
      return min(network, Self.floorBytesPerSecond)
    }
    carried -= owed
    owed = 0
    let allowed = max(Self.floorBytesPerSecond, share * capacity)
    if network < allowed { limit = .network }
    return min(network, allowed)
  }

  private mutating func sample(_ pace: PaceObservation, _ now: MonotonicTime) {
    let bytes = Double(pace.busyBytes &- min(seen.busyBytes, pace.busyBytes))
    let seconds = max(0, pace.busySeconds - seen.busySeconds)
    let bursts = pace.bursts - seen.bursts
    seen = pace
    samples.removeAll { now.seconds(since: $0.at) > Self.windowSeconds }
    if bytes > 0 { samples.append(Sample(at: now, bytes: bytes, seconds: seconds, bursts: bursts)) }
    if let found = sampledBytesPerSecond {
      known = (now, found)
    } else if let found = known, now.seconds(since: found.at) > Self.memorySeconds {
      known = nil
    }
  }

  private var sampledBytesPerSecond: Double? {
    let busySeconds = samples.reduce(0) { $0 + $1.seconds }
    let plain = busySeconds > 0 ? samples.reduce(0) { $0 + $1.bytes } / busySeconds : nil
    let bursts = samples.reduce(BurstSums()) { $0 + $1.bursts }
    // What never pauses has no bursts, and needs no correction.
    guard bursts.seconds > busySeconds / 2, let found = bursts.bytesPerSecond else { return plain }
    guard let plain else { return found }
    return min(max(found, plain / Self.mostCorrection), plain * Self.mostCorrection)
  }
}
