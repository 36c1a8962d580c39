/// A mounted file system, from /proc/self/mountinfo (proc_pid_mountinfo(5)).
package struct MountEntry: Sendable, Equatable {
  package var device: DeviceNumber
  /// The part of the file system that is mounted; "/" for all of it.
  package var root: String
  package var mountPoint: String
  package var fileSystem: String
  /// "/dev/sda1", "tmpfs" and so on.
  package var source: String
  package var isReadOnly: Bool
}

/// An active swap area, from /proc/swaps.
package struct SwapEntry: Sendable, Equatable {
  package var path: String
  package var isFile: Bool
  package init(path: String, isFile: Bool) {
    self.path = path
    self.isFile = isFile
  }
}

/// What is mounted and swapped on.
package enum MountTable {
  package static func mounts() throws(SystemError) -> [MountEntry] {
    parseMounts(try Files.readText("/proc/self/mountinfo"))
  }

  package static func swaps() throws(SystemError) -> [SwapEntry] {
    guard Files.exists("/proc/swaps") else { return [] }
    return parseSwaps(try Files.readText("/proc/swaps"))
  }

  /// The mounts whose file system lies directly on `device`. What is stacked on it (LVM, loop) has another number:
  /// follow /sys/dev/block/MAJ:MIN/holders.
  package static func mounts(on device: DeviceNumber) throws(SystemError) -> [MountEntry] {
    try mounts().filter { $0.device == device }
  }

  /// The mount that a path lies on: the one with the longest mount point above it; a later mount covers an earlier.
  package static func mount(holding path: String) throws(SystemError) -> MountEntry? {
    let resolved = try Files.resolve(path)
    let above = try mounts().filter { entry in
      entry.mountPoint == "/" || resolved == entry.mountPoint || resolved.hasPrefix(entry.mountPoint + "/")
    }
    let longest = above.map(\.mountPoint.utf8.count).max()
    return above.last { $0.mountPoint.utf8.count == longest }
  }

  /// Lines that don't parse are left out.
  package static func parseMounts(_ text: String) -> [MountEntry] {
    text.split(separator: "\n").compactMap { line in
      let fields = line.split(separator: " ")
      guard fields.count >= 9, let device = DeviceNumber(fields[2]), let dash = fields.firstIndex(of: "-"),
        fields.count > dash + 2
      else { return nil }
      return MountEntry(
        device: device, root: unescape(fields[3]), mountPoint: unescape(fields[4]),
        fileSystem: String(fields[dash + 1]), source: unescape(fields[dash + 2]),
        isReadOnly: fields[5].split(separator: ",").contains("ro"))
    }
  }

  package static func parseSwaps(_ text: String) -> [SwapEntry] {
    text.split(separator: "\n").dropFirst().compactMap { line in
      let fields = line.split { $0 == " " || $0 == "\t" }
      guard fields.count >= 2 else { return nil }
      return SwapEntry(path: unescape(fields[0]), isFile: fields[1] == "file")
    }
  }

  /// Space, tab, newline and backslash are written as three octal digits.
  private static func unescape(_ text: Substring) -> String {
    let raw = Array(text.utf8)
    var bytes: [UInt8] = []
    var index = 0
    while index < raw.count {
      if raw[index] == UInt8(ascii: "\\"), index + 3 < raw.count,
        let value = UInt8(String(decoding: raw[index + 1...index + 3], as: UTF8.self), radix: 8)
      {
        bytes.append(value)
        index += 4
      } else {
        bytes.append(raw[index])
        index += 1
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
