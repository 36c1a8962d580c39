package import AgentProtocol
package import BlockModel
package import Replication

/// How much of the link the copier may take, and what it measured of it. Pure: the caller passes the time.
///
/// Capacity is the highest delivery rate of the last `windowSeconds` (what the destination answered, not what a socket
/// took in), without samples in which this governor was the limit. The rate allowed is `share × capacity`, and never
/// above `networkLimitBytesPerSecond`. While no sample is that young, at the beginning and then once a window, the share
/// does not limit for one sample: that measures the capacity anew, and what it took too much is repaid afterwards.
package struct RateGovernor: Sendable {
  /// Least that a share ever yields: a floor too low would mean days, not politeness.
  package static let floorBytesPerSecond = 4.0 * 1024 * 1024
  package static let windowSeconds = 30.0
  package static let sampleSeconds = 0.5
  /// Grants are multiples of one transfer, because a copier with any budget left sends a whole one.
  private let unitBytes: Double
  private var carried = 0.0

  private var limits: RateLimits
  private var last: MonotonicTime
  private var samples: [(at: MonotonicTime, rate: Double)] = []
  private var sampleStart: MonotonicTime
  private var sampleFrom: UInt64 = 0
  private var sampleWasLimited = false
  private var lastTotal: UInt64 = 0
  private var lastRate: Double?
  /// Bytes that a measuring took beyond the share, to be withheld from grants.
  private var debt = 0.0

  package init(limits: RateLimits, transferBytes: Int, now: MonotonicTime) {
    self.limits = limits
    unitBytes = Double(max(1, transferBytes))
    last = now
    sampleStart = now
  }

  package mutating func change(limits: RateLimits) {
    self.limits = limits
    debt = 0
    carried = 0
    lastRate = nil
  }

  /// Called every tick with all that the destination has answered so far; what the copier is to be told, if anything.
  package mutating func tick(deliveredBytes total: UInt64, now: MonotonicTime) -> CopyBudget {
    let elapsed = now.seconds(since: last)
    last = now
    let delivered = Double(total &- min(lastTotal, total))
    lastTotal = total
    sample(total, now)
    guard let rate = allowedBytesPerSecond(now: now) else {
      // Measuring: counted against the share that held before.
      if limits.share != nil, let lastRate { debt += max(0, delivered - lastRate * elapsed) }
      return .unlimited
    }
    if limits.share != nil, !samples.isEmpty { lastRate = rate }
    sampleWasLimited = true
    // A tick that came late grants no more than a moment's worth.
    let grant = rate * min(elapsed, Self.sampleSeconds)
    let repaid = min(debt, grant * 0.5)
    debt -= repaid
    carried += grant - repaid
    let whole = (carried / unitBytes).rounded(.down) * unitBytes
    carried -= whole
    return .grant(bytes: UInt64(whole))
  }

  private func allowedBytesPerSecond(now: MonotonicTime) -> Double? {
    var allowed = limits.networkLimitBytesPerSecond.map { Double($0) }
    let young = samples.filter { now.seconds(since: $0.at) <= Self.windowSeconds }
    if let share = limits.share, let capacity = young.map(\.rate).max() {
      allowed = min(allowed ?? .infinity, max(Self.floorBytesPerSecond, share * capacity))
    }
    return allowed
  }

  private mutating func sample(_ total: UInt64, _ now: MonotonicTime) {
    let elapsed = now.seconds(since: sampleStart)
    guard elapsed >= Self.sampleSeconds else { return }
    samples.removeAll { now.seconds(since: $0.at) > Self.windowSeconds }
    let rate = Double(total &- min(sampleFrom, total)) / elapsed
    // An idle or broken stretch says nothing about the link.
    if elapsed < 4 * Self.sampleSeconds, !sampleWasLimited, rate > Self.floorBytesPerSecond {
      samples.append((now, rate))
    }
    sampleStart = now
    sampleFrom = total
    sampleWasLimited = false
  }
}
