import CLinux
import Glibc

/// A loop device over a file or device. It stays until `detach`, also past the end of this process.
package struct LoopDevice: Sendable, Equatable {
  /// "/dev/loop3".
  package let path: String

  package static let attachAttempts = 64

  /// Names a loop device that exists already.
  package init(path: String) { self.path = path }

  /// Attaches the first free loop device to `backing` (Linux 5.8). `usesDirectIO` keeps a second copy of the data out
  /// of the page cache; where the backing file can't do it, the kernel falls back: see `usesDirectIO()`. A process that
  /// is killed in here, even while the kernel keeps it waiting, leaves no device.
  package static func attach(
    backing: String, blockBytes: UInt32 = 512, usesDirectIO: Bool = true, isReadOnly: Bool = false
  ) throws(SystemError) -> LoopDevice {
    let control = try FileDescriptor.open("/dev/loop-control", O_RDWR)
    let file = try FileDescriptor.open(backing, isReadOnly ? O_RDONLY : O_RDWR)
    for _ in 0..<attachAttempts {
      let number = try check(cmc_loop_free_number(control.number), "find a free loop device")
      let path = "/dev/loop\(number)"
      let device = try FileDescriptor.open(path, isReadOnly ? O_RDONLY : O_RDWR)
      let result = cmc_loop_configure(
        device.number, file.number, blockBytes, usesDirectIO ? 1 : 0, isReadOnly ? 1 : 0, backing)
      // Somebody else took the number first.
      if result == -Int(EBUSY) { continue }
      _ = try check(result, "attach \(path) to \(backing)")
      _ = try check(cmc_loop_keep(device.number), "keep \(path) attached to \(backing)")
      return LoopDevice(path: path)
    }
    throw SystemError("attach a loop device to \(backing)", errorNumber: EBUSY)
  }

  /// Detaches. While somebody has the device open, the kernel only notes the wish and detaches with the last close;
  /// use `isInUse` first.
  package func detach() throws(SystemError) {
    let device = try FileDescriptor.open(path, O_RDONLY)
    let result = cmc_loop_clear(device.number)
    // ENXIO: it was not attached.
    if result != -Int(ENXIO) { _ = try check(result, "detach \(path)") }
  }

  /// Takes over a new size of the backing file.
  package func refreshSize() throws(SystemError) {
    let device = try FileDescriptor.open(path, O_RDWR)
    _ = try check(cmc_loop_refresh_size(device.number), "read the new size of \(path)")
  }

  /// Whether it is attached to anything.
  package func isAttached() throws(SystemError) -> Bool {
    var flags: UInt32 = 0
    var inode: UInt64 = 0
    let device = try FileDescriptor.open(path, O_RDONLY)
    let result = cmc_loop_status(device.number, &flags, &inode)
    if result == -Int(ENXIO) { return false }
    _ = try check(result, "look at \(path)")
    return true
  }

  package func usesDirectIO() throws(SystemError) -> Bool {
    var flags: UInt32 = 0
    var inode: UInt64 = 0
    let device = try FileDescriptor.open(path, O_RDONLY)
    _ = try check(cmc_loop_status(device.number, &flags, &inode), "look at \(path)")
    return cmc_loop_flags_direct(flags) != 0
  }

  /// The file beneath, as sysfs names it; nil where none is attached.
  package func backingPath() -> String? {
    let name = Files.lastPart(of: path)
    guard let text = try? Files.readText("/sys/block/\(name)/loop/backing_file") else { return nil }
    return String(text.prefix { !$0.isNewline })
  }
}

/// Who claims a block device.
package enum DeviceUse {
  /// True where something holds the device exclusively: a mount, swap, device-mapper, MD, or an exclusive open. A plain
  /// open by a process is not seen: see `openers`.
  package static func isClaimed(_ path: String) throws(SystemError) -> Bool {
    do {
      _ = try FileDescriptor.open(path, O_RDONLY | O_EXCL)
      return false
    } catch {
      if error.errorNumber == EBUSY { return true }
      throw error
    }
  }

  /// Has the kernel refuse writes to the device, or take them again; until the next boot.
  package static func setReadOnly(_ path: String, _ isReadOnly: Bool) throws(SystemError) {
    let device = try FileDescriptor.open(path, O_RDONLY)
    _ = try check(cmc_set_device_read_only(device.number, isReadOnly ? 1 : 0), "make \(path) read-only")
  }

  package static func isReadOnly(_ path: String) throws(SystemError) -> Bool {
    let device = try FileDescriptor.open(path, O_RDONLY)
    var flag: Int32 = 0
    _ = try check(cmc_device_read_only(device.number, &flag), "see whether \(path) is read-only")
    return flag != 0
  }

  /// "PID (command)" of processes that have `path`, or the device it names, open; at most `limit`. Needs root for other
  /// users' processes.
  package static func openers(of path: String, limit: Int = 16) throws(SystemError) -> [String] {
    let wanted = try Files.facts(path)
    var found: [String] = []
    for name in try Files.list("/proc") where Int32(name) != nil && found.count < limit {
      // Processes come and go while we look.
      guard let entries = try? Files.list("/proc/\(name)/fd") else { continue }
      let hasIt = entries.contains { entry in
        guard let facts = try? Files.facts("/proc/\(name)/fd/\(entry)"), facts.kind == wanted.kind else { return false }
        return wanted.kind == .blockDevice
          ? facts.device == wanted.device : (facts.inode, facts.onDevice) == (wanted.inode, wanted.onDevice)
      }
      guard hasIt else { continue }
      let command = (try? Files.readText("/proc/\(name)/comm")).map { $0.prefix { !$0.isNewline } } ?? "?"
      found.append("\(name) (\(command))")
    }
    return found
  }
}
