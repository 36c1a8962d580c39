import CLinux
import Glibc

/// Processes by pid and start time, which together are never used twice in a boot.
package enum ProcessTable {
  /// Start time in clock ticks since boot (field 22 of /proc/PID/stat); nil where there is no such process. A zombie
  /// counts as gone.
  package static func startTime(of processID: Int32) -> UInt64? {
    guard let text = try? Files.readText("/proc/\(processID)/stat") else { return nil }
    return parseStartTime(text)
  }

  package static func isRunning(processID: Int32, startTime: UInt64) -> Bool {
    self.startTime(of: processID) == startTime
  }

  /// Sends a signal, unless the pid belongs to another process by now. The instant between the look and the signal
  /// can't be closed without a pidfd; pids are reused only after all others were.
  @discardableResult
  package static func signal(_ number: Int32, processID: Int32, startTime: UInt64) -> Bool {
    guard processID > 1, isRunning(processID: processID, startTime: startTime) else { return false }
    return cmc_kill(processID, number) == 0
  }

  package static let terminate = SIGTERM
  package static let kill = SIGKILL

  /// The command's name is in parentheses and may itself contain some, so fields count from the last one.
  package static func parseStartTime(_ text: String) -> UInt64? {
    guard let close = text.lastIndex(of: ")") else { return nil }
    let fields = text[text.index(after: close)...].split(separator: " ")
    guard fields.count > 19, fields[0] != "Z", fields[0] != "X" else { return nil }
    return UInt64(fields[19])
  }
}
