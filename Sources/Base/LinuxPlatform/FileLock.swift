import CLinux
import Glibc

/// An exclusive flock(2) on a file of its own, held as long as this object lives or until `release`. It ends with the
/// process, however that ends.
package final class FileLock: Sendable {
  package let path: String
  private let descriptor: FileDescriptor

  /// Nil where another process (or another lock of this one) holds it. The file is made where missing, and stays.
  package static func take(_ path: String) throws(SystemError) -> FileLock? {
    let file = try FileDescriptor.open(path, O_RDWR | O_CREAT)
    let result = cmc_flock(file.number, LOCK_EX | LOCK_NB)
    if result == -Int(EWOULDBLOCK) { return nil }
    _ = try check(result, "lock \(path)")
    return FileLock(path, file)
  }

  private init(_ path: String, _ descriptor: FileDescriptor) {
    self.path = path
    self.descriptor = descriptor
  }

  package func release() { descriptor.close() }
}
