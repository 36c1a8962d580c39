/// What `stat` says of a path, as far as device inspection needs it.
package struct PathStatus: Sendable, Equatable {
  package enum Kind: Sendable, Equatable {
    case file
    case block
    case other
  }
  package var kind: Kind
  /// "major:minor" of the device itself (block) or of the file system that holds the file.
  package var device: String
  package var inode: UInt64
  package var sizeBytes: UInt64
  package init(kind: Kind, device: String, inode: UInt64, sizeBytes: UInt64) {
    self.kind = kind
    self.device = device
    self.inode = inode
    self.sizeBytes = sizeBytes
  }
}

/// The host's own files under /proc and /sys, so that what is concluded from them can be tested with none of them.
package protocol HostView: Sendable {
  /// Nil where there is none or it can't be read; at most `limitBytes` of it.
  func text(_ path: String, limitBytes: Int) -> String?
  /// Names in a directory, sorted; empty where there is none.
  func names(in path: String) -> [String]
  /// Follows symbolic links; nil where there is nothing.
  func status(_ path: String) -> PathStatus?
}

/// One line of /proc/self/mountinfo (proc(5)).
package struct Mount: Sendable, Equatable {
  package var device: String
  package var mountPoint: String

  /// Lines that can't be understood are left out.
  package static func parse(mountInfo text: String) -> [Mount] {
    text.split(separator: "\n").compactMap { line in
      let fields = line.split(separator: " ")
      guard fields.count >= 6 else { return nil }
      return Mount(device: String(fields[2]), mountPoint: unescape(fields[4]))
    }
  }

  /// The kernel writes space, tab, line feed and backslash as `\ooo`.
  package static func unescape(_ text: some StringProtocol) -> String {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let first = rest.first {
      let digits = rest.dropFirst().prefix(3)
      if first == UInt8(ascii: "\\"), digits.count == 3, digits.allSatisfy({ (48...55).contains($0) }) {
        bytes.append(digits.reduce(0) { $0 &<< 3 | ($1 - 48) })
        rest = rest.dropFirst(4)
      } else {
        bytes.append(first)
        rest = rest.dropFirst()
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}

/// How block devices stand on each other, and what uses them: from mountinfo, swaps and /sys/dev/block.
package struct DeviceTopology {
  private let host: any HostView
  private let mounts: [Mount]
  private let swapDevices: Set<String>
  private let swapFiles: Set<String>
  /// Devices below which nothing may be replicated: `/`, /usr, /boot, /var and the agent's own files.
  private let systemDevices: Set<String>
  private let loops: [(device: String, backingFile: String)]
  private static let textLimitBytes = 4 << 20
  /// Deeper stacks than this are taken for a loop in /sys and not followed.
  private static let depthLimit = 16

  package init(host: any HostView, agentRoot: String) {
    self.host = host
    mounts = Mount.parse(mountInfo: host.text("/proc/self/mountinfo", limitBytes: Self.textLimitBytes) ?? "")
    var devices: Set<String> = []
    var files: Set<String> = []
    let swaps = host.text("/proc/swaps", limitBytes: Self.textLimitBytes) ?? ""
    for line in swaps.split(separator: "\n").dropFirst() {
      let path = Mount.unescape(line.prefix { $0 != " " && $0 != "\t" })
      guard let status = host.status(path) else { continue }
      if status.kind == .block { devices.insert(status.device) } else { files.insert(Self.fileID(status)) }
    }
    swapDevices = devices
    swapFiles = files
    let systemPaths = ["/", "/usr", "/boot", "/var", agentRoot]
    systemDevices = Set(systemPaths.compactMap { host.status($0)?.device })
    loops = host.names(in: "/sys/block").filter { $0.hasPrefix("loop") }.compactMap { name in
      guard let file = host.text("/sys/block/\(name)/loop/backing_file", limitBytes: 8192)?.trimmedLine,
        let device = host.text("/sys/block/\(name)/dev", limitBytes: 64)?.trimmedLine
      else { return nil }
      return (device, file)
    }
  }

  package static func fileID(_ status: PathStatus) -> String { "file \(status.device) \(status.inode)" }

  /// Where the device or file, a partition of it or something stacked upon it is mounted or otherwise in use.
  package func users(of status: PathStatus, path: String) -> [String] {
    var found: [String] = []
    for device in stack(on: status, path: path) {
      found += mounts.filter { $0.device == device }.map(\.mountPoint)
    }
    return Array(Set(found)).sorted()
  }

  package func isSystem(_ status: PathStatus, path: String) -> Bool {
    if status.kind == .file, swapFiles.contains(Self.fileID(status)) { return true }
    return stack(on: status, path: path).contains { systemDevices.contains($0) || swapDevices.contains($0) }
  }

  /// What tells this device from another under the same name: dm uuid, WWN or serial; device and inode of a file.
  package func identity(of status: PathStatus, path: String) -> String? {
    guard status.kind == .block else { return status.kind == .file ? Self.fileID(status) : nil }
    let base = "/sys/dev/block/\(status.device)"
    let places = [
      ("dm", "dm/uuid"), ("wwn", "wwid"), ("wwn", "device/wwid"), ("serial", "serial"), ("serial", "device/serial"),
    ]
    for (kind, file) in places {
      if let text = host.text("\(base)/\(file)", limitBytes: 4096)?.trimmedLine, !text.isEmpty {
        return "\(kind) \(text)"
      }
    }
    if let file = host.text("\(base)/loop/backing_file", limitBytes: 8192)?.trimmedLine { return "loop \(file)" }
    // A partition is told by its parent and its number.
    if let number = host.text("\(base)/partition", limitBytes: 64)?.trimmedLine,
      let parent = host.text("\(base)/../dev", limitBytes: 64)?.trimmedLine
    {
      let whole = PathStatus(kind: .block, device: parent, inode: 0, sizeBytes: 0)
      return identity(of: whole, path: path).map { "\($0) partition \(number)" }
    }
    return nil
  }

  package func logicalBlockBytes(of status: PathStatus) -> UInt32 {
    let base = "/sys/dev/block/\(status.device)"
    let text =
      host.text("\(base)/queue/logical_block_size", limitBytes: 64)
      ?? host.text("\(base)/../queue/logical_block_size", limitBytes: 64)
    return (text?.trimmedLine).flatMap { UInt32($0) } ?? 512
  }

  /// The device itself, its partitions, and all that device-mapper, md or loop devices stack upon them.
  private func stack(on status: PathStatus, path: String) -> [String] {
    var found: [String] = []
    var open: [(device: String, depth: Int)] = []
    switch status.kind {
    case .block: open = [(status.device, 0)]
    case .file:
      for loop in loops where host.status(loop.backingFile).map(Self.fileID) == Self.fileID(status) {
        open.append((loop.device, 0))
      }
    case .other: break
    }
    while let (device, depth) = open.popLast() {
      guard !found.contains(device), depth < Self.depthLimit else { continue }
      found.append(device)
      let base = "/sys/dev/block/\(device)"
      for holder in host.names(in: "\(base)/holders") {
        if let above = host.text("\(base)/holders/\(holder)/dev", limitBytes: 64)?.trimmedLine {
          open.append((above, depth + 1))
        }
      }
      for name in host.names(in: base) where host.text("\(base)/\(name)/partition", limitBytes: 64) != nil {
        if let partition = host.text("\(base)/\(name)/dev", limitBytes: 64)?.trimmedLine {
          open.append((partition, depth + 1))
        }
      }
    }
    return found
  }
}

extension String {
  /// The text with no white space at its ends.
  var trimmedLine: String {
    var view = self[...]
    while view.first?.isWhitespace == true { view.removeFirst() }
    while view.last?.isWhitespace == true { view.removeLast() }
    return String(view)
  }
}
