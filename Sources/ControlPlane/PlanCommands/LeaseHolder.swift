import Foundation
import LinuxPlatform

/// Who holds a lease, in words that also tell another cmcplan on the same machine whether that process still lives:
/// "root@vm, run R, process PID.START@MACHINE". A killed apply leaves its leases behind; the next one on this machine
/// takes them over at once, one elsewhere waits until they expire.
enum LeaseHolder {
  static func describe(who: String, runID: String) -> String {
    let processID = ProcessInfo.processInfo.processIdentifier
    let start = ProcessTable.startTime(of: processID) ?? 0
    return "\(who), run \(runID), process \(processID).\(start)@\(machine)"
  }

  /// Whether the process that described itself so is gone; false where that can't be told from here.
  @Sendable static func isDead(_ holder: String) -> Bool {
    guard let mark = holder.range(of: ", process ", options: .backwards) else { return false }
    let parts = holder[mark.upperBound...].split(separator: "@")
    guard parts.count == 2, parts[1] == machine else { return false }
    let numbers = parts[0].split(separator: ".")
    guard numbers.count == 2, let processID = Int32(numbers[0]), let start = UInt64(numbers[1]), start != 0 else {
      return false
    }
    return ProcessTable.startTime(of: processID) != start
  }

  /// This boot and this process id namespace: a number names the same process only within both.
  private static let machine: String = {
    let boot = (try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8)) ?? "?"
    let space = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/pid")) ?? "?"
    return "\(boot.prefix(8))-\(space.filter(\.isNumber))"
  }()
}
