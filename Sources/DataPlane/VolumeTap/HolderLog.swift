import BlockModel
import CFUSE
import LinuxPlatform
import Seams

/// The holder's log: lines on its standard error, which its starter led into a file. No more than `maxLines`, since a
/// link that flaps for months must not fill a disk.
final class HolderLog: Sendable {
  static let maxLines = 20_000
  private let written = Monitor(0)

  func say(_ text: String) {
    let count = written.withLock { count in
      count += 1
      return count
    }
    guard count <= Self.maxLines else { return }
    let seconds = UInt64(SystemTime().wallNow().secondsSince1970)
    var line = "\(seconds) \(text)\n"
    if count == Self.maxLines { line += "\(seconds) no more lines are written\n" }
    line.withUTF8 { _ = cfuse_write(2, $0.baseAddress, $0.count) }
  }
}
