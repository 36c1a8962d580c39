package import BlockModel

/// What a governor needs to know of copying, or of comparing.
package struct PaceObservation: Sendable, Equatable {
  /// Moved while something was on its way all the time, and in how much time.
  package var busyBytes: UInt64 = 0
  package var busySeconds = 0.0
  /// Granted and not used; below zero what is to be repaid. Nil where nothing limits.
  package var budgetBytes: Int64?
  /// Something is on its way now.
  package var isBusy = false
  package var bursts = BurstSums()
  package init() {}
}

/// Sums over finished bursts, for a straight line through their sizes and durations (least squares): its slope is what a
/// byte takes, free of what every burst takes or is given however long it is: the way there and back, a shaper's bucket
/// or a disk's cache that the pause before has filled.
package struct BurstSums: Sendable, Equatable {
  /// Fewer say nothing.
  package static let fewest = 3.0
  /// Sizes that are more alike say nothing: their variance by the square of their mean.
  package static let leastSpread = 0.04
  /// Nor do durations of which sizes explain less than this (the line's coefficient of determination): others were on the
  /// way, too.
  package static let leastFit = 0.8

  private var count = 0.0
  package private(set) var bytes = 0.0
  package private(set) var seconds = 0.0
  private var bytesSquared = 0.0
  private var product = 0.0
  private var secondsSquared = 0.0

  package init() {}

  package mutating func add(bytes: Double, seconds: Double) {
    count += 1
    self.bytes += bytes
    self.seconds += seconds
    bytesSquared += bytes * bytes
    product += bytes * seconds
    secondsSquared += seconds * seconds
  }

  package static func + (one: Self, other: Self) -> Self {
    var sum = one
    sum.count += other.count
    sum.bytes += other.bytes
    sum.seconds += other.seconds
    sum.bytesSquared += other.bytesSquared
    sum.product += other.product
    sum.secondsSquared += other.secondsSquared
    return sum
  }

  /// What came since `earlier`.
  package static func - (all: Self, earlier: Self) -> Self {
    var rest = all
    rest.count -= earlier.count
    rest.bytes -= earlier.bytes
    rest.seconds -= earlier.seconds
    rest.bytesSquared -= earlier.bytesSquared
    rest.product -= earlier.product
    rest.secondsSquared -= earlier.secondsSquared
    return rest
  }

  /// Nil where the bursts are too few or too much alike, or no line goes through them.
  package var bytesPerSecond: Double? {
    guard count >= Self.fewest else { return nil }
    let mean = (bytes: bytes / count, seconds: seconds / count)
    let ofBytes = bytesSquared / count - mean.bytes * mean.bytes
    let ofSeconds = secondsSquared / count - mean.seconds * mean.seconds
    let ofBoth = product / count - mean.bytes * mean.seconds
    guard ofBytes > Self.leastSpread * mean.bytes * mean.bytes, ofBoth > 0,
      ofBoth * ofBoth >= Self.leastFit * ofBytes * ofSeconds
    else { return nil }
    return ofBytes / ofBoth
  }

  /// What a burst of so many bytes takes by a line of this slope through the middle of these; nil where there are none.
  package func seconds(of more: Double, at bytesPerSecond: Double) -> Double? {
    guard count > 0, bytesPerSecond > 0 else { return nil }
    return max(1e-6, seconds / count + (more - bytes / count) / bytesPerSecond)
  }
}

/// How fast things go while any of them is on its way, whatever the pauses between. Of what goes in bursts.
package struct BusyMeter: Sendable {
  package private(set) var bytes: UInt64 = 0
  package private(set) var seconds = 0.0
  /// Seconds to the other end and back: of every burst so much is waiting, and says nothing of how much goes through.
  package var delaySeconds = 0.0
  package private(set) var bursts = BurstSums()

  private struct Burst: Sendable {
    var start: MonotonicTime
    var bytes: UInt64 = 0
    /// All of it said something of the speed.
    var isWhole = true
    /// What began after everything before it had gone through, and before its answer was back.
    var idleSeconds = 0.0
    /// Begun behind so many whose answers are not here.
    var follower: (at: MonotonicTime, older: Int)?
  }
  private var burst: Burst?
  private var onTheirWay = 0
  /// Up to here it is counted.
  private var mark = MonotonicTime(nanoseconds: 0)

  package init() {}

  package var isBusy: Bool { onTheirWay > 0 }

  package mutating func begin(at now: MonotonicTime) {
    if onTheirWay == 0 {
      mark = now.adding(seconds: delaySeconds)
      burst = Burst(start: now)
    } else if burst?.follower == nil {
      burst?.follower = (now, onTheirWay)
    }
    onTheirWay += 1
  }

  /// `moved`: 0 where it said nothing of the speed (zeroes, a failure).
  package mutating func end(_ moved: UInt64, at now: MonotonicTime) {
    guard onTheirWay > 0 else { return }
    onTheirWay -= 1
    if moved > 0 { bytes += moved }
    finishBurst(moved, at: now)
    // Several may arrive at once, having shared the way: only the whole burst has a speed.
    guard now > mark else { return }
    if moved > 0 { seconds += now.seconds(since: mark) }
    mark = now
  }

  private mutating func finishBurst(_ moved: UInt64, at now: MonotonicTime) {
    guard var current = burst else { return }
    current.bytes += moved
    if moved == 0 { current.isWhole = false }
    if let next = current.follower {
      current.follower?.older -= 1
      if next.older == 1 {
        // All older answers are here, sooner than one way there and back after it began: nothing was going through then.
        current.idleSeconds += max(0, delaySeconds - now.seconds(since: next.at))
        current.follower = nil
      }
    }
    burst = current
    guard onTheirWay == 0 else { return }
    burst = nil
    guard current.isWhole else { return }
    bursts.add(
      bytes: Double(current.bytes), seconds: max(0, now.seconds(since: current.start) - current.idleSeconds))
  }

  /// Whatever was on its way is given up.
  package mutating func reset() {
    onTheirWay = 0
    burst = nil
  }
}

/// What the copier waited for, in seconds, and what packing saved. Of the machine's own knowledge: how long a read or a
/// send takes, its driver knows.
package struct CopyStages: Sendable, Equatable {
  package enum Gate: Sendable {
    /// Nothing left to begin, or not the time for it.
    case none
    /// Work and room for it, but no budget.
    case limited
    /// As much under way as may be.
    case full
  }
  package var limitedSeconds = 0.0
  package var fullSeconds = 0.0
  /// Of the destination's disk, by what its answers say; several writes at once count severally.
  package var destinationSeconds = 0.0
  /// Of what went packed: how much it was, and how much crossed the wire.
  package var packedBytes: UInt64 = 0
  package var packedWireBytes: UInt64 = 0
  private var gate = Gate.none
  private var since = MonotonicTime(nanoseconds: 0)

  package init() {}

  mutating func set(_ gate: Gate, at now: MonotonicTime) {
    self = upTo(now)
    self.gate = gate
  }

  func upTo(_ now: MonotonicTime) -> Self {
    var stages = self
    switch gate {
    case .none: break
    case .limited: stages.limitedSeconds += now.seconds(since: since)
    case .full: stages.fullSeconds += now.seconds(since: since)
    }
    stages.since = now
    return stages
  }
}

/// Bytes a second, smoothed over some five seconds.
struct RateMeter: Sendable {
  private var bytes: UInt64 = 0
  private var since: MonotonicTime?
  private(set) var bytesPerSecond = 0.0
  private(set) var lastProgressAt: MonotonicTime?

  mutating func add(_ count: UInt64, at now: MonotonicTime) {
    bytes += count
    lastProgressAt = now
  }
  mutating func tick(_ now: MonotonicTime) {
    guard let start = since else {
      since = now
      return
    }
    let elapsed = now.seconds(since: start)
    guard elapsed >= 0.5 else { return }
    let weight = min(1, elapsed / 5)
    let current = Double(bytes) / elapsed
    bytesPerSecond = bytesPerSecond == 0 ? current : bytesPerSecond + weight * (current - bytesPerSecond)
    if bytesPerSecond < 1 { bytesPerSecond = 0 }
    bytes = 0
    since = now
  }
}
