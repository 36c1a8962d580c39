import BlockModel
import CLinux
import Glibc

/// An exclusive flock(2) on a file of its own, held as long as this object lives or until `release`. It ends with the
/// process, however that ends.
package final class FileLock: Sendable {
  package let path: String
  private let descriptor: FileDescriptor

  /// Nil where another process (or another lock of this one) holds it for longer than `patienceSeconds`. The file is made
  /// where missing, and stays. A child between fork and exec holds its parent's locks for a moment: after a release a
  /// little patience is right.
  package static func take(_ path: String, patienceSeconds: Double = 0) throws(SystemError) -> FileLock? {
    let file = try FileDescriptor.open(path, O_RDWR | O_CREAT)
    let deadline = MonotonicTime.now.adding(seconds: patienceSeconds)
    while true {
      let result = cmc_flock(file.number, LOCK_EX | LOCK_NB)
      if result == -Int(EWOULDBLOCK) {
        guard MonotonicTime.now < deadline else { return nil }
        pauseThread(milliseconds: 10)
        continue
      }
      _ = try check(result, "lock \(path)")
      return FileLock(path, file)
    }
  }

  private init(_ path: String, _ descriptor: FileDescriptor) {
    self.path = path
    self.descriptor = descriptor
  }

  package func release() { descriptor.close() }
}
