package import BlockModel
import CLinux
import Seams

/// The machine's clocks: CLOCK_MONOTONIC (the one that condition variables can wait on) and CLOCK_REALTIME.
package struct SystemTime: TimeSource {
  package init() {}
  package func monotonicNow() -> MonotonicTime { .now }
  package func wallNow() -> WallTime { WallTime(secondsSince1970: Double(cmc_realtime_nanoseconds()) / 1e9) }
}

extension MonotonicTime {
  /// What CLOCK_MONOTONIC shows. Engines take a `TimeSource` instead.
  package static var now: MonotonicTime { MonotonicTime(nanoseconds: cmc_monotonic_nanoseconds()) }

  /// Now and `seconds` more; nil (never) for an infinite number of them.
  package static func afterNow(seconds: Double) -> MonotonicTime? {
    seconds < 1e9 ? now.adding(seconds: seconds) : nil
  }
}

/// Pauses the calling thread. For retries at the edge (a device that appears a moment later); engines wait on a
/// `Monitor`, which can be cancelled.
package func pauseThread(milliseconds: Int) {
  var entry = pollfd(fd: -1, events: 0, revents: 0)
  let deadline = MonotonicTime.now.adding(nanoseconds: UInt64(max(0, milliseconds)) * 1_000_000)
  while true {
    let left = remainingMilliseconds(until: deadline)
    if left == 0 || cmc_poll_many(&entry, 1, left) == 0 { return }
  }
}

/// What poll wants: -1 for no deadline, otherwise whole milliseconds, rounded up, at least 0.
func remainingMilliseconds(until deadline: MonotonicTime?) -> Int32 {
  guard let deadline else { return -1 }
  let now = MonotonicTime.now
  guard deadline > now else { return 0 }
  return Int32(clamping: (deadline.nanoseconds - now.nanoseconds + 999_999) / 1_000_000)
}
