package import BlockModel
package import Replication

/// What production's requests through the tap took, as sums since the start.
package struct LatencySums: Sendable, Equatable {
  package var requests: UInt64 = 0
  package var seconds = 0.0
  /// How long the oldest request that is not answered waits already; 0 where none does.
  package var oldestWaitSeconds = 0.0
  package init() {}
}

/// How far migration yields to the application (`latencyBound`). Pure: the caller passes the time, ten times a second.
///
/// The baseline is what requests take while nothing is on its way: between passes, and within one in a short pause now and
/// then. Above it by more than the bound, migration halves its rate at every tick, and it grows again by a twentieth a tick;
/// a floor keeps it going (`RateGovernor.floorBytesPerSecond`).
package struct LatencyGuard: Sendable {
  /// A rise of less than this is noise, in seconds: a fifth more of a cache's 20 microseconds means nothing.
  package static let slackSeconds = 0.0002
  /// Fewer requests than this in a tick are judged with those of the tick before.
  package static let judgedRequests: UInt64 = 8
  package static let leastFactor = 1.0 / 64
  package static let recovery = 0.05
  /// A baseline older than this is measured anew; so long a pause may take. Half a per cent of the time.
  package static let baselineSeconds = 60.0
  package static let pauseSeconds = 0.3
  /// What a tick in a gap counts of the baseline: older ones fade.
  package static let fading = 0.9
  /// So many ticks with nothing on its way give the rate back step by step: those that the floor itself leaves don't.
  package static let restfulTicks = 10

  package var bound: Double?
  package private(set) var factor = 1.0
  private var seen = LatencySums()
  private var before = (requests: UInt64(0), seconds: 0.0)
  private var base = (requests: 0.0, seconds: 0.0)
  private var baseAt: MonotonicTime?
  private var pauseUntil: MonotonicTime?
  private var lastPauseAt: MonotonicTime?
  private var quietTicks = 0
  private var busySeconds = 0.0

  package init(bound: Double?) { self.bound = bound }

  /// Seconds that a request takes while nothing is copied; nil where nobody knows yet.
  package var baselineSecondsPerRequest: Double? { base.requests >= 1 ? base.seconds / base.requests : nil }
  package var isYielding: Bool { factor < 1 }

  /// `paces`: of all that may be in the application's way. The factor of the rate from here on; 0 is a pause.
  package mutating func tick(_ sums: LatencySums, beside paces: [PaceObservation], now: MonotonicTime) -> Double {
    let busySeconds = paces.reduce(0) { $0 + $1.busySeconds }
    let requests = sums.requests &- min(seen.requests, sums.requests)
    let seconds = max(0, sums.seconds - seen.seconds)
    let isQuiet = busySeconds <= self.busySeconds && !paces.contains(where: \.isBusy)
    defer {
      seen = sums
      before = (requests, seconds)
      quietTicks = isQuiet ? quietTicks + 1 : 0
      self.busySeconds = busySeconds
    }
    guard let bound else {
      factor = 1
      pauseUntil = nil
      return 1
    }
    // What was on its way at the end of the last tick may still have been in the way of this one.
    if isQuiet, quietTicks > 0 {
      learn(requests, seconds, now)
    } else {
      judge(requests, seconds, sums.oldestWaitSeconds, bound)
    }
    return pausing(requests, isQuiet, now) ? 0 : factor
  }

  private mutating func learn(_ requests: UInt64, _ seconds: Double, _ now: MonotonicTime) {
    if quietTicks >= Self.restfulTicks { factor = min(1, factor + Self.recovery) }
    guard requests > 0 else { return }
    base.requests = base.requests * Self.fading + Double(requests)
    base.seconds = base.seconds * Self.fading + seconds
    baseAt = now
    pauseUntil = nil
  }

  private mutating func judge(_ requests: UInt64, _ seconds: Double, _ oldest: Double, _ bound: Double) {
    guard let baseline = baselineSecondsPerRequest else { return }
    let limit = max(baseline * (1 + bound), baseline + Self.slackSeconds)
    let isFew = requests < Self.judgedRequests
    let count = Double(isFew ? requests + before.requests : requests)
    let sum = isFew ? seconds + before.seconds : seconds
    // Whoever waits longer than all that were answered together would take is as good as answered late.
    let isSlow = (count > 0 && sum > limit * count) || oldest > limit * (count + 1)
    factor = isSlow ? max(Self.leastFactor, factor / 2) : min(1, factor + Self.recovery)
  }

  /// Whether migration stands still now, so that a baseline can be had.
  private mutating func pausing(_ requests: UInt64, _ isQuiet: Bool, _ now: MonotonicTime) -> Bool {
    if let until = pauseUntil {
      if now < until { return true }
      pauseUntil = nil
      return false
    }
    let isOld = baseAt.map { now.seconds(since: $0) >= Self.baselineSeconds } ?? true
    let mayPause = lastPauseAt.map { now.seconds(since: $0) >= Self.baselineSeconds } ?? true
    guard isOld, mayPause, !isQuiet, requests > 0 else { return false }
    lastPauseAt = now
    pauseUntil = now.adding(seconds: Self.pauseSeconds)
    return true
  }
}
