package import AgentProtocol
package import BlockModel

/// How much of the link the copier may take, and what it measured of it. Pure: the caller passes the time.
///
/// Capacity is the highest delivery rate of the last `windowSeconds` (what the destination answered, not what a socket
/// took in), without samples in which this bucket was the limit. The rate allowed is `share × capacity`, and never
/// above `networkLimitBytesPerSecond`. While no sample is that young, at the beginning and then once a window, the share
/// does not limit for one sample: that measures the capacity anew, and what it took too much is repaid afterwards.
package struct TokenBucket: Sendable {
  /// Least that a share ever yields: a floor too low would mean days, not politeness.
  package static let floorBytesPerSecond = 4.0 * 1024 * 1024
  package static let windowSeconds = 30.0
  package static let sampleSeconds = 0.5
  /// Longest wait that a single transfer is given, so that a change of limits is felt soon.
  package static let longestWaitSeconds = 1.0

  private var limits: RateLimits
  private var tokens: Double = 0
  private var last: MonotonicTime
  private var samples: [(at: MonotonicTime, rate: Double)] = []
  private var sampleStart: MonotonicTime
  private var sampleBytes: UInt64 = 0
  private var sampleWasThrottled = false
  private var lastSharedRate: Double?

  package init(limits: RateLimits, now: MonotonicTime) {
    self.limits = limits
    last = now
    sampleStart = now
  }

  package mutating func change(limits: RateLimits) {
    self.limits = limits
    tokens = max(tokens, 0)
    if limits.share == nil { lastSharedRate = nil }
  }

  /// Bytes a second allowed now; nil for no limit.
  package func allowedBytesPerSecond(now: MonotonicTime) -> Double? {
    var allowed = limits.networkLimitBytesPerSecond.map(Double.init)
    let young = samples.filter { now.seconds(since: $0.at) <= Self.windowSeconds }
    if let share = limits.share, let capacity = young.map(\.rate).max() {
      allowed = min(allowed ?? .infinity, max(Self.floorBytesPerSecond, share * capacity))
    }
    return allowed
  }

  /// Takes `bytes`; the answer is how many seconds to wait before sending them. Debt is allowed, so that one transfer
  /// larger than the bucket still passes and is paid for by the next.
  package mutating func take(_ bytes: Int, now: MonotonicTime) -> Double {
    let allowed = allowedBytesPerSecond(now: now)
    if limits.share != nil, let allowed { lastSharedRate = allowed }
    guard let rate = allowed ?? lastSharedRate, rate > 0 else {
      last = now
      return 0
    }
    let burst = max(1024 * 1024, rate * 0.1)
    tokens = min(burst, tokens + now.seconds(since: last) * rate) - Double(bytes)
    last = now
    guard tokens < 0, allowed != nil else { return 0 }
    sampleWasThrottled = true
    return min(Self.longestWaitSeconds, -tokens / rate)
  }

  /// What the destination answered as written.
  package mutating func delivered(_ bytes: Int, now: MonotonicTime) {
    sampleBytes += UInt64(bytes)
    let elapsed = now.seconds(since: sampleStart)
    guard elapsed >= Self.sampleSeconds else { return }
    samples.removeAll { now.seconds(since: $0.at) > Self.windowSeconds }
    // A long idle stretch says nothing about the link.
    if elapsed < 4 * Self.sampleSeconds, !sampleWasThrottled {
      samples.append((now, Double(sampleBytes) / elapsed))
    }
    sampleStart = now
    sampleBytes = 0
    sampleWasThrottled = false
  }
}
