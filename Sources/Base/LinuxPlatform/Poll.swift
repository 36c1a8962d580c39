package import BlockModel
import CLinux
import Glibc

/// What ended a wait.
package enum Readiness: Sendable, Equatable {
  case ready
  case cancelled
  case timedOut
}

/// Waiting for a descriptor, with a deadline and a way out.
package enum Poll {
  package enum Direction: Sendable {
    case reading
    case writing
    case either
  }

  /// Blocks until `descriptor` is ready (an error or a hang-up counts), `cancel` is set or `deadline` has passed.
  package static func wait(
    _ descriptor: Int32, for direction: Direction, cancel: CancelSignal? = nil, until deadline: MonotonicTime? = nil
  ) throws(SystemError) -> Readiness {
    let events: Int32 =
      switch direction {
      case .reading: Int32(POLLIN)
      case .writing: Int32(POLLOUT)
      case .either: Int32(POLLIN) | Int32(POLLOUT)
      }
    while true {
      var ready: Int16 = 0
      var cancelled: Int16 = 0
      let left = remainingMilliseconds(until: deadline)
      let count = cmc_poll(descriptor, Int16(events), cancel?.descriptor.number ?? -1, left, &ready, &cancelled)
      if count == -Int(EINTR) { continue }
      _ = try check(count, "wait for input or output")
      if cancelled != 0 { return .cancelled }
      if ready != 0 { return .ready }
      if left == 0 { return .timedOut }
    }
  }
}
