import CLinux
import Glibc
package import Seams
import Synchronization

/// Durable small files below one directory of their own (0700). See `StateStore` for what holds after a crash.
///
/// A path's parts are letters, digits, "-", "_", "." and others, but no part begins with "." (so there is no way up),
/// and no symbolic link is followed. Files that begin with "." are this store's own unfinished ones: `list` leaves them
/// out, and the next `replace` of the same path overwrites them.
package final class DirectoryStateStore: StateStore {
  /// Longest file that is read, in bytes.
  package static let fileLimitBytes = 512 << 20
  package static let depthLimit = 16

  package let path: String
  private let root: FileDescriptor
  private let removals = Atomic<UInt64>(0)

  /// Makes the directory (and those above it) where it is missing.
  package init(path: String) throws(SystemError) {
    self.path = path
    try Files.makeDirectories(path, mode: 0o700)
    root = try FileDescriptor.open(path, O_RDONLY | O_DIRECTORY)
  }

  package func read(_ path: String) throws(StateStoreError) -> [UInt8]? {
    try readPart(path, from: 0, limitBytes: Self.fileLimitBytes)?.bytes
  }

  package func readPart(
    _ path: String, from offset: UInt64, limitBytes: Int
  ) throws(StateStoreError) -> StateFilePart? {
    let parts = try split(path)
    guard let directory = try openDirectory(parts.directories, creating: false) else { return nil }
    let number = cmc_openat(directory.number, parts.name, O_RDONLY | O_NOFOLLOW, 0)
    if number == -Int(ENOENT) { return nil }
    let file = FileDescriptor(owning: Int32(try stored(number, "open", path)))
    var facts = cmc_file_facts()
    _ = try stored(cmc_fstat(file.number, &facts), "look at", path)
    guard cmc_is_regular(facts.mode) != 0, facts.size_bytes <= UInt64(Self.fileLimitBytes) else {
      throw StateStoreError(
        .failed, "\(self.path)/\(path) is no regular file of at most \(Self.fileLimitBytes) bytes; move it away")
    }
    let left = facts.size_bytes - min(offset, facts.size_bytes)
    var bytes = [UInt8](repeating: 0, count: min(Int(left), limitBytes))
    var filled = 0
    while filled < bytes.count {
      let start = filled
      let count = bytes.withUnsafeMutableBytes {
        cmc_pread(file.number, $0.baseAddress.map { $0 + start }, $0.count - start, offset + UInt64(start))
      }
      filled += try stored(count, "read", path)
      if count == 0 { break }
    }
    bytes.removeLast(bytes.count - filled)
    return StateFilePart(bytes: bytes, sizeBytes: facts.size_bytes)
  }

  package func replace(_ path: String, with bytes: [UInt8]) throws(StateStoreError) {
    let parts = try split(path)
    guard let directory = try openDirectory(parts.directories, creating: true) else { return }
    let temporary = ".\(parts.name).new"
    let flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW
    let file = FileDescriptor(
      owning: Int32(try stored(cmc_openat(directory.number, temporary, flags, 0o600), "make", path)))
    do throws(StateStoreError) {
      try writeAll(bytes, to: file, path)
      _ = try stored(cmc_fsync(file.number), "flush", path)
      _ = try stored(cmc_renameat(directory.number, temporary, parts.name), "replace", path)
    } catch {
      _ = cmc_unlinkat(directory.number, temporary, 0)
      throw error
    }
    _ = try stored(cmc_fsync(directory.number), "flush the directory of", path)
  }

  package func append(_ path: String, _ bytes: [UInt8]) throws(StateStoreError) {
    let parts = try split(path)
    guard let directory = try openDirectory(parts.directories, creating: true) else { return }
    var number = cmc_openat(directory.number, parts.name, O_WRONLY | O_APPEND | O_NOFOLLOW, 0)
    let isNew = number == -Int(ENOENT)
    if isNew { number = cmc_openat(directory.number, parts.name, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0o600) }
    let file = FileDescriptor(owning: Int32(try stored(number, "open", path)))
    var facts = cmc_file_facts()
    _ = try stored(cmc_fstat(file.number, &facts), "look at", path)
    do throws(StateStoreError) {
      try writeAll(bytes, to: file, path)
      _ = try stored(cmc_fdatasync(file.number), "flush", path)
    } catch {
      // Half a record must not stand before the next one.
      _ = cmc_ftruncate(file.number, facts.size_bytes)
      throw error
    }
    if isNew { _ = try stored(cmc_fsync(directory.number), "flush the directory of", path) }
  }

  package func remove(_ path: String) throws(StateStoreError) {
    let parts = try split(path)
    guard let directory = try openDirectory(parts.directories, creating: false) else { return }
    let result = cmc_unlinkat(directory.number, parts.name, 0)
    if result == -Int(ENOENT) { return try finishRemovals(of: parts.name, in: directory, path) }
    if result == -Int(EISDIR) || result == -Int(EPERM) {
      // Renamed away first, so that a crash halfway leaves no directory with a part of its files.
      let serial = removals.add(1, ordering: .relaxed).newValue
      let doomed = ".\(parts.name).\(getpid()).\(serial)\(Self.removedSuffix)"
      _ = try stored(cmc_renameat(directory.number, parts.name, doomed), "remove", path)
      _ = try stored(cmc_fsync(directory.number), "flush the directory of", path)
      try finishRemovals(of: parts.name, in: directory, path)
    } else {
      _ = try stored(result, "remove", path)
    }
    _ = try stored(cmc_fsync(directory.number), "flush the directory of", path)
  }

  private static let removedSuffix = ".removed"

  /// Deletes what was renamed away, by this call or by one that a crash cut short.
  private func finishRemovals(
    of name: String, in directory: FileDescriptor, _ path: String
  ) throws(StateStoreError) {
    do throws(SystemError) {
      for entry in try Files.names(in: directory, path)
      where entry.hasPrefix(".\(name).") && entry.hasSuffix(Self.removedSuffix) {
        try Files.removeTree(in: directory, entry, depth: Self.depthLimit * 2)
      }
    } catch {
      throw StateStoreError(.failed, "\(error)")
    }
  }

  package func list(_ path: String) throws(StateStoreError) -> [String] {
    let parts = path.isEmpty ? [] : try checkedParts(path)
    guard let directory = try openDirectory(parts, creating: false) else { return [] }
    do {
      return try Files.names(in: directory, path).filter { !$0.hasPrefix(".") }
    } catch {
      throw StateStoreError(.failed, "\(error)")
    }
  }

  // MARK: paths

  private func checkedParts(_ path: String) throws(StateStoreError) -> [String] {
    let parts = path.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    let isGood = parts.allSatisfy { part in
      !part.isEmpty && !part.hasPrefix(".") && part.utf8.count <= 200 && !part.utf8.contains(0)
    }
    guard isGood, parts.count <= Self.depthLimit else {
      throw StateStoreError(
        .denied,
        "\"\(path)\" is no path of this store: relative, at most \(Self.depthLimit) parts, none empty, longer than 200 bytes or beginning with a period"
      )
    }
    return parts
  }

  private func split(_ path: String) throws(StateStoreError) -> (directories: [String], name: String) {
    var parts = try checkedParts(path)
    let name = parts.removeLast()
    return (parts, name)
  }

  /// Nil where a directory is missing and not to be made.
  private func openDirectory(
    _ parts: [String], creating: Bool
  ) throws(StateStoreError) -> FileDescriptor? {
    var current = root
    for part in parts {
      let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW
      var number = cmc_openat(current.number, part, flags, 0)
      if number == -Int(ENOENT) {
        guard creating else { return nil }
        let made = cmc_mkdirat(current.number, part, 0o700)
        if made != -Int(EEXIST) { _ = try stored(made, "make directory", part) }
        _ = try stored(cmc_fsync(current.number), "flush the directory above", part)
        number = cmc_openat(current.number, part, flags, 0)
      }
      if number == -Int(ENOTDIR), !creating { return nil }
      current = FileDescriptor(owning: Int32(try stored(number, "open directory", part)))
    }
    return current
  }

  private func writeAll(_ bytes: [UInt8], to file: FileDescriptor, _ path: String) throws(StateStoreError) {
    var done = 0
    while done < bytes.count {
      let start = done
      let count = bytes.withUnsafeBytes {
        cmc_write(file.number, $0.baseAddress.map { $0 + start }, $0.count - start)
      }
      done += try stored(count, "write", path)
    }
  }

  private func stored(_ result: Int, _ verb: String, _ subject: String) throws(StateStoreError) -> Int {
    guard result < 0 else { return result }
    throw StateStoreError(SystemError("\(verb) \(path)/\(subject)", errorNumber: Int32(-result)))
  }
}

extension StateStoreError {
  /// What the operating system's refusal means to whoever keeps records.
  package init(_ error: SystemError) {
    let code: Code =
      switch error.errorNumber {
      case ENOENT: .notFound
      case ENOSPC, EDQUOT: .noSpace
      case EACCES, EPERM, ELOOP, EROFS: .denied
      default: .failed
      }
    self.init(code, "\(error)")
  }
}
