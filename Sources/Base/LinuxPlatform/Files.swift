import BlockModel
import CLinux
import Glibc

/// What stat(2) tells of a path.
package struct FileFacts: Sendable, Equatable {
  package enum Kind: String, Sendable {
    case regular
    case directory
    case blockDevice
    case symbolicLink
    case socket
    case other
  }
  package var kind: Kind
  package var sizeBytes: UInt64
  /// What it really takes on its file system.
  package var allocatedBytes: UInt64
  /// The lower 12 bits: rights.
  package var mode: UInt32
  package var ownerID: UInt32
  package var inode: UInt64
  /// The device that it lies on.
  package var onDevice: DeviceNumber
  /// The device that it is, where it is a block device.
  package var device: DeviceNumber
  package var modifiedSecondsSince1970: Int64

  init(_ facts: cmc_file_facts) {
    kind =
      if cmc_is_regular(facts.mode) != 0 {
        .regular
      } else if cmc_is_directory(facts.mode) != 0 {
        .directory
      } else if cmc_is_block_device(facts.mode) != 0 {
        .blockDevice
      } else if cmc_is_symlink(facts.mode) != 0 {
        .symbolicLink
      } else if cmc_is_socket(facts.mode) != 0 {
        .socket
      } else {
        .other
      }
    sizeBytes = facts.size_bytes
    allocatedBytes = facts.allocated_bytes
    mode = facts.mode & 0o7777
    ownerID = facts.owner
    inode = facts.inode
    onDevice = DeviceNumber(major: facts.major, minor: facts.minor)
    device = DeviceNumber(major: facts.device_major, minor: facts.device_minor)
    modifiedSecondsSince1970 = facts.modified_seconds
  }
}

/// A block device's number, "8:1".
package struct DeviceNumber: Sendable, Hashable, CustomStringConvertible {
  package var major: UInt32
  package var minor: UInt32
  package init(major: UInt32, minor: UInt32) {
    self.major = major
    self.minor = minor
  }
  /// From "8:1", as sysfs and mountinfo write it.
  package init?(_ text: some StringProtocol) {
    let parts = text.split(separator: ":")
    guard parts.count == 2, let major = UInt32(parts[0]), let minor = UInt32(parts[1]) else { return nil }
    self.init(major: major, minor: minor)
  }
  package var description: String { "\(major):\(minor)" }
}

/// Paths and small files. Calls block on the disk.
package enum Files {
  /// Longest file that `read` takes unless told otherwise, in bytes.
  package static let readLimitBytes = 16 << 20

  /// Whole contents; a longer file than `limitBytes` is an error. Works for /proc and /sys, whose files show size 0.
  package static func read(_ path: String, limitBytes: Int = readLimitBytes) throws(SystemError) -> [UInt8] {
    let file = try FileDescriptor.open(path, O_RDONLY | O_NONBLOCK)
    var bytes: [UInt8] = []
    while true {
      let (count, part) = withUnsafeTemporaryAllocation(byteCount: 64 << 10, alignment: 16) { buffer in
        let count = cmc_read(file.number, buffer.baseAddress, buffer.count)
        return (count, count > 0 ? Array(buffer[..<count]) : [])
      }
      if try check(count, "read \(path)") == 0 { return bytes }
      guard bytes.count + count <= limitBytes else {
        throw SystemError("read \(path)", errorNumber: EFBIG, detail: "it has more than \(limitBytes) bytes")
      }
      bytes += part
    }
  }

  /// Has the kernel ask the file's server for its attributes again; answers the size. Elsewhere nothing happens.
  package static func refreshSize(of path: String) throws(SystemError) -> UInt64 {
    var size: UInt64 = 0
    _ = try check(cmc_refresh_attributes(path, &size), "read the size of \(path)")
    return size
  }

  /// Contents as text; bytes that are no UTF-8 become U+FFFD.
  package static func readText(_ path: String, limitBytes: Int = readLimitBytes) throws(SystemError) -> String {
    String(decoding: try read(path, limitBytes: limitBytes), as: UTF8.self)
  }

  /// Replaces a file atomically and durably: temporary file beside it, fsync, rename, fsync of the directory.
  package static func replace(_ path: String, with bytes: [UInt8], mode: UInt32 = 0o600) throws(SystemError) {
    let temporary = "\(path).\(getpid()).new"
    do {
      let file = try FileDescriptor.open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: mode)
      _ = try check(cmc_fchmod(file.number, mode), "set the rights of \(path)")
      try write(bytes, to: file, path)
      _ = try check(cmc_fsync(file.number), "flush \(path)")
      _ = try check(cmc_rename(temporary, path), "replace \(path)")
    } catch {
      _ = cmc_unlinkat(AT_FDCWD, temporary, 0)
      throw error
    }
    try flushDirectory(parent(of: path))
  }

  /// Adds to the end of a file, which is made (0600) where missing. Durable when it returned.
  package static func append(_ path: String, _ bytes: [UInt8], mode: UInt32 = 0o600) throws(SystemError) {
    let file = try FileDescriptor.open(path, O_WRONLY | O_APPEND | O_CREAT, mode: mode)
    try write(bytes, to: file, path)
    _ = try check(cmc_fdatasync(file.number), "flush \(path)")
  }

  /// Writes to an existing kernel file such as /proc/self/oom_score_adj or one in /sys, in one call.
  package static func writeKernelFile(_ path: String, _ text: String) throws(SystemError) {
    let file = try FileDescriptor.open(path, O_WRONLY)
    var text = text
    let count = text.withUTF8 { cmc_write(file.number, $0.baseAddress, $0.count) }
    _ = try check(count, "write \(path)")
  }

  package static func facts(_ path: String, followingLinks: Bool = true) throws(SystemError) -> FileFacts {
    var facts = cmc_file_facts()
    _ = try check(cmc_statat(AT_FDCWD, path, followingLinks ? 1 : 0, &facts), "look at \(path)")
    return FileFacts(facts)
  }

  package static func exists(_ path: String) -> Bool {
    var facts = cmc_file_facts()
    return cmc_statat(AT_FDCWD, path, 0, &facts) == 0
  }

  /// Makes a directory and those above it; no error where it exists.
  package static func makeDirectories(_ path: String, mode: UInt32 = 0o755) throws(SystemError) {
    let result = cmc_mkdirat(AT_FDCWD, path, mode)
    // Where the parent is there and still nothing can be made in it (/proc), the error stands.
    if result == -Int(ENOENT), !exists(parent(of: path)), path != parent(of: path) {
      try makeDirectories(parent(of: path), mode: mode)
      return try makeDirectories(path, mode: mode)
    }
    if result == -Int(EEXIST) {
      guard try facts(path).kind == .directory else {
        throw SystemError("make directory \(path)", errorNumber: EEXIST, detail: "there is a file of that name")
      }
      return
    }
    _ = try check(result, "make directory \(path)")
    try flushDirectory(parent(of: path))
  }

  /// Removes a file; no error where there is none.
  package static func remove(_ path: String) throws(SystemError) {
    let result = cmc_unlinkat(AT_FDCWD, path, 0)
    if result != -Int(ENOENT) { _ = try check(result, "remove \(path)") }
  }

  /// Removes a file, or a directory with all in it, without following links. No error where there is none.
  package static func removeTree(_ path: String) throws(SystemError) {
    guard exists(path) else { return }
    let directory = try FileDescriptor.open(parent(of: path), O_RDONLY | O_DIRECTORY)
    try removeTree(in: directory, lastPart(of: path), depth: treeDepthLimit)
  }

  package static let treeDepthLimit = 64

  static func removeTree(in directory: FileDescriptor, _ name: String, depth: Int) throws(SystemError) {
    let result = cmc_unlinkat(directory.number, name, 0)
    if result == -Int(ENOENT) { return }
    guard result == -Int(EISDIR) || result == -Int(EPERM) else {
      _ = try check(result, "remove \(name)")
      return
    }
    guard depth > 0 else { throw SystemError("remove \(name)", because: "it is nested too deep") }
    do {
      let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW
      let inner = FileDescriptor(
        owning: Int32(try check(cmc_openat(directory.number, name, flags, 0), "open directory \(name)")))
      for entry in try names(in: inner, name) { try removeTree(in: inner, entry, depth: depth - 1) }
    }
    _ = try check(cmc_unlinkat(directory.number, name, 1), "remove directory \(name)")
  }

  package static func rename(_ from: String, to: String) throws(SystemError) {
    _ = try check(cmc_rename(from, to), "rename \(from) to \(to)")
    try flushDirectory(parent(of: to))
  }

  package static func makeSymbolicLink(_ path: String, to target: String) throws(SystemError) {
    _ = try check(cmc_symlink(target, path), "make the link \(path)")
  }

  package static func linkTarget(_ path: String) throws(SystemError) -> String {
    let (count, text) = withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 1) { buffer in
      let count = cmc_readlink(path, buffer.baseAddress?.assumingMemoryBound(to: CChar.self), buffer.count)
      return (count, count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : "")
    }
    _ = try check(count, "read the link \(path)")
    return text
  }

  /// The path without links, "." and "..": "/dev/sdb" for "/dev/disk/by-id/…".
  package static func resolve(_ path: String) throws(SystemError) -> String {
    guard let found = realpath(path, nil) else { throw SystemError("resolve \(path)", errorNumber: errno) }
    defer { free(found) }
    return String(cString: found)
  }

  package static func setMode(_ path: String, _ mode: UInt32) throws(SystemError) {
    _ = try check(cmc_chmod(path, mode), "set the rights of \(path)")
  }

  /// Names in a directory, sorted, without "." and "..".
  package static func list(_ path: String) throws(SystemError) -> [String] {
    try names(in: try FileDescriptor.open(path, O_RDONLY | O_DIRECTORY), path)
  }

  /// Bytes that an ordinary user may still write, and all bytes, of the file system that holds `path`.
  package static func space(at path: String) throws(SystemError) -> (freeBytes: UInt64, totalBytes: UInt64) {
    var free: UInt64 = 0
    var total: UInt64 = 0
    _ = try check(cmc_free_bytes(path, &free, &total), "see how much space \(path) has")
    return (free, total)
  }

  package static func flushDirectory(_ path: String) throws(SystemError) {
    let directory = try FileDescriptor.open(path, O_RDONLY | O_DIRECTORY)
    let result = cmc_fsync(directory.number)
    // Some kernel file systems have nothing to flush and say so.
    if result != -Int(EINVAL) { _ = try check(result, "flush the directory \(path)") }
  }

  /// "/a" for "/a/b", "." for "b", "/" for "/a".
  package static func parent(of path: String) -> String {
    var trimmed = Substring(path)
    while trimmed.count > 1, trimmed.hasSuffix("/") { trimmed = trimmed.dropLast() }
    guard let slash = trimmed.lastIndex(of: "/") else { return "." }
    return slash == trimmed.startIndex ? "/" : String(trimmed[..<slash])
  }

  /// "b" for "/a/b" and "/a/b/".
  package static func lastPart(of path: String) -> String {
    path.split(separator: "/").last.map(String.init) ?? path
  }

  static func names(in directory: FileDescriptor, _ path: String) throws(SystemError) -> [String] {
    _ = cmc_seek(directory.number, 0, SEEK_SET)
    var names: [String] = []
    while true {
      let (count, part) = withUnsafeTemporaryAllocation(byteCount: 32 << 10, alignment: 16) { buffer in
        let count = cmc_getdents(directory.number, buffer.baseAddress, buffer.count)
        return (count, parseDirectoryEntries(UnsafeRawBufferPointer(buffer), count))
      }
      if try check(count, "list \(path)") == 0 { break }
      names += part
    }
    return names.sorted()
  }

  /// linux_dirent64: inode (8 bytes), offset (8), record length (2), type (1), name up to a NUL.
  private static func parseDirectoryEntries(_ buffer: UnsafeRawBufferPointer, _ count: Int) -> [String] {
    var names: [String] = []
    var position = 0
    while position + 19 < count {
      let length = Int(buffer.loadUnaligned(fromByteOffset: position + 16, as: UInt16.self))
      guard length > 19, position + length <= count else { break }
      let raw = buffer[position + 19..<position + length].prefix { $0 != 0 }
      let name = String(decoding: raw, as: UTF8.self)
      if name != ".", name != ".." { names.append(name) }
      position += length
    }
    return names
  }

  private static func write(_ bytes: [UInt8], to file: FileDescriptor, _ path: String) throws(SystemError) {
    var done = 0
    while done < bytes.count {
      let start = done
      let count = bytes.withUnsafeBytes {
        cmc_write(file.number, $0.baseAddress.map { $0 + start }, $0.count - start)
      }
      done += try check(count, "write \(path)")
    }
  }
}
