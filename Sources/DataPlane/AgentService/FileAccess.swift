internal import LinuxPlatform

/// How a source's file is read and written: past the page cache where its file system can, so that a volume's bytes don't
/// push out what the host's applications have there, and what is read is what is on the disk.
struct FileAccess: Sendable, Equatable {
  var isDirect: Bool
  /// Why it isn't; nil where it is.
  var reason: String?

  var word: String { isDirect ? "direct" : "page cache" }

  static func of(_ path: String) -> FileAccess {
    // Such a file is the page cache; the kernel takes direct access and does without it.
    if let kind = (try? MountTable.mount(holding: path))?.fileSystem, kind == "tmpfs" || kind == "ramfs" {
      return FileAccess(isDirect: false, reason: "\(kind) lies in memory")
    }
    // A failure shows where the file is really opened.
    guard let device = try? FileBlockDevice(path: path, .init(access: .direct, isReadOnly: true)) else {
      return FileAccess(isDirect: false, reason: "it can't be opened")
    }
    defer { device.close() }
    guard device.access == .direct else {
      return FileAccess(isDirect: false, reason: "its file system, or its size, does not take direct access")
    }
    // The application was promised sectors of 512 bytes.
    guard device.blockBytes == FileBlockDevice.fileBlockBytes else {
      return FileAccess(
        isDirect: false, reason: "its file system takes direct access in blocks of \(device.blockBytes) only")
    }
    return FileAccess(isDirect: true, reason: nil)
  }
}
