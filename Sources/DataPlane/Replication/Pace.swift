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
  package init() {}
}

/// How fast things go while any of them is on its way, whatever the pauses between. Of what goes in bursts.
package struct BusyMeter: Sendable {
  package private(set) var bytes: UInt64 = 0
  package private(set) var seconds = 0.0
  /// Seconds to the other end and back: of every burst so much is waiting, and says nothing of how much goes through.
  package var delaySeconds = 0.0
  private var onTheirWay = 0
  /// Up to here it is counted.
  private var mark = MonotonicTime(nanoseconds: 0)

  package init() {}

  package var isBusy: Bool { onTheirWay > 0 }

  package mutating func begin(at now: MonotonicTime) {
    if onTheirWay == 0 { mark = now.adding(seconds: delaySeconds) }
    onTheirWay += 1
  }

  /// `moved`: 0 where it said nothing of the speed (zeroes, a failure).
  package mutating func end(_ moved: UInt64, at now: MonotonicTime) {
    guard onTheirWay > 0 else { return }
    onTheirWay -= 1
    if moved > 0 { bytes += moved }
    // Several may arrive at once, having shared the way: only the whole burst has a speed.
    guard now > mark else { return }
    if moved > 0 { seconds += now.seconds(since: mark) }
    mark = now
  }

  /// Whatever was on its way is given up.
  package mutating func reset() { onTheirWay = 0 }
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
