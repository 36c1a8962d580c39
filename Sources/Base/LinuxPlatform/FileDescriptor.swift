import CLinux
import Glibc

/// Owns a file descriptor. The number stays valid as long as this object lives, so that another thread's call on it
/// can never hit a descriptor that meanwhile became someone else's.
package final class FileDescriptor: Sendable {
  package let number: Int32

  /// Takes over `number`: nobody else may close it.
  package init(owning number: Int32) { self.number = number }

  deinit { cmc_close(number) }

  /// Lets go of the file or device now, while others may still hold this object: the number goes on to exist, but every
  /// call on it fails with EBADF. Calls that are under way finish on the file. Any thread, any number of times.
  package func close() {
    guard let tombstone = Self.tombstone else { return }
    _ = cmc_replace_descriptor(tombstone.number, number)
  }

  /// An O_PATH descriptor answers EBADF to every read, write and ioctl.
  private static let tombstone: FileDescriptor? = {
    let number = cmc_open("/", CMC_O_PATH, 0)
    return number >= 0 ? FileDescriptor(owning: Int32(number)) : nil
  }()

  /// Opens `path`; O_CLOEXEC is always added.
  package static func open(_ path: String, _ flags: Int32, mode: UInt32 = 0o600) throws(SystemError) -> FileDescriptor {
    FileDescriptor(owning: Int32(try check(cmc_open(path, flags, mode), "open \(path)")))
  }

  /// Another descriptor of the same open file, above 2.
  package func duplicate() throws(SystemError) -> FileDescriptor {
    FileDescriptor(owning: Int32(try check(cmc_duplicate(number), "duplicate a descriptor")))
  }
}

/// Wakes whoever polls on something else at the same time. Once set it stays set.
package final class CancelSignal: Sendable {
  let descriptor: FileDescriptor

  package init() throws(SystemError) {
    descriptor = FileDescriptor(owning: Int32(try check(cmc_eventfd(), "make an event descriptor")))
  }

  /// Any thread, any number of times.
  package func cancel() {
    var one: UInt64 = 1
    // EAGAIN means that the counter is full, hence set.
    _ = cmc_write(descriptor.number, &one, 8)
  }

  package var isCancelled: Bool {
    var ready: Int16 = 0
    var none: Int16 = 0
    return cmc_poll(descriptor.number, Int16(POLLIN), -1, 0, &ready, &none) > 0
  }
}
