package import BlockModel
import Seams
import Synchronization

/// A clock that stands until it is advanced. Wall and monotonic time move together.
package final class ManualTime: TimeSource {
  /// 2030-01-01T00:00:00Z.
  package static let defaultStart = WallTime(secondsSince1970: 1_893_456_000)
  private let elapsedNanoseconds = Mutex<UInt64>(1_000_000_000)
  private let start: WallTime

  package init(start: WallTime = ManualTime.defaultStart) { self.start = start }

  package func monotonicNow() -> MonotonicTime { MonotonicTime(nanoseconds: elapsedNanoseconds.withLock { $0 }) }
  package func wallNow() -> WallTime {
    start.adding(seconds: Double(elapsedNanoseconds.withLock { $0 } - 1_000_000_000) / 1e9)
  }
  package func advance(seconds: Double) { elapsedNanoseconds.withLock { $0 += UInt64(seconds * 1e9) } }
}
