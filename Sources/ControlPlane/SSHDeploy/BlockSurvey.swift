/// The block devices of a host. Pure: read from the survey script's output; what can't be understood is left out.
package struct BlockSurvey: Sendable, Equatable {
  /// For how long the script watches the I/O rate, in seconds.
  package static let rateSeconds = 2
  /// Mounted there, a device belongs to the operating system.
  static let systemMounts: Set<String> = ["/", "/boot", "/boot/efi", "/efi", "/usr", "/var", "[SWAP]"]

  package struct Device: Sendable, Equatable {
    /// The kernel's name, as in "dm-0", and the name that stays, as in "/dev/mapper/vg-data".
    package var kernelName: String
    package var path: String
    /// Whether `path` still means this device after a reboot.
    package var isStable: Bool
    /// lsblk's type: "disk", "part", "lvm", "mpath", "loop", "rom", "raid1"….
    package var type: String
    package var sizeBytes: UInt64
    package var fileSystem: String
    package var label: String
    package var model: String
    package var serial: String
    package var isReadOnly: Bool
    package var mountedAt: [String]
    /// Kernel names of what stands on it.
    package var holders: [String]
    /// Holds the running system: mounted as such, or something on it is.
    package var isSystem: Bool
    package var readBytesPerSecond: Double
    package var writtenBytesPerSecond: Double
    /// Written since the host started, spread over a day; an upper bound of what changes in one.
    package var writtenBytesPerDay: Double
  }

  /// In the order of their names.
  package private(set) var devices: [Device] = []
  private var links: [String: [String]] = [:]
  /// Mount points by "MAJ:MIN": lsblk shows one of several only.
  private var mounts: [String: [String]] = [:]
  private var statistics: [[String: (read: Double, written: Double)]] = [[:], [:]]
  private var uptimeSeconds = 0.0
  private static let sectorBytes = 512.0

  package init(_ output: String) {
    var rows: [[String: String]] = []
    for line in output.split(separator: "\n") {
      let word = line.prefix { $0 != " " }
      let rest = line.dropFirst(word.count).drop { $0 == " " }
      switch word {
      case "block": rows.append(Self.pairs(rest))
      case "link":
        let parts = rest.split(separator: " ")
        if parts.count == 2 { links[String(parts[1]), default: []].append(String(parts[0])) }
      case "io0", "io1":
        let fields = rest.split(separator: " ")
        guard fields.count >= 10, let read = Double(fields[5]), let written = Double(fields[9]) else { continue }
        statistics[word == "io0" ? 0 : 1][String(fields[2])] = (read * Self.sectorBytes, written * Self.sectorBytes)
      case "mount":
        let parts = rest.split(separator: " ", maxSplits: 1)
        if parts.count == 2 { mounts[String(parts[0]), default: []].append(Self.mountPoint(parts[1])) }
      case "uptime": uptimeSeconds = rest.split(separator: " ").first.flatMap { Double($0) } ?? 0
      default: continue
      }
    }
    build(rows)
  }

  package static func == (left: BlockSurvey, right: BlockSurvey) -> Bool { left.devices == right.devices }

  private mutating func build(_ rows: [[String: String]]) {
    var byName: [String: Device] = [:]
    var children: [String: Set<String>] = [:]
    for row in rows {
      guard let name = row["KNAME"], !name.isEmpty else { continue }
      if let parent = row["PKNAME"], !parent.isEmpty { children[parent, default: []].insert(name) }
      var device = byName[name] ?? device(name, row)
      if let mount = row["MOUNTPOINT"], !mount.isEmpty, !device.mountedAt.contains(mount) {
        device.mountedAt.append(mount)
      }
      for mount in mounts[row["MAJ:MIN"] ?? "", default: []] where !device.mountedAt.contains(mount) {
        device.mountedAt.append(mount)
      }
      byName[name] = device
    }
    devices = byName.values.sorted { $0.kernelName < $1.kernelName }.map { device in
      var device = device
      device.holders = children[device.kernelName, default: []].sorted()
      device.isSystem = Self.holdsSystem(device.kernelName, byName, children, depth: 0)
      return device
    }
  }

  private func device(_ name: String, _ row: [String: String]) -> Device {
    let (path, isStable) = stablePath(name, row)
    let first = statistics[0][name]
    let second = statistics[1][name]
    let seconds = Double(Self.rateSeconds)
    func rate(_ part: KeyPath<(read: Double, written: Double), Double>) -> Double {
      guard let first, let second else { return 0 }
      return max(0, second[keyPath: part] - first[keyPath: part]) / seconds
    }
    return Device(
      kernelName: name, path: path, isStable: isStable, type: row["TYPE"] ?? "",
      sizeBytes: row["SIZE"].flatMap { UInt64($0) } ?? 0, fileSystem: row["FSTYPE"] ?? "", label: row["LABEL"] ?? "",
      model: row["MODEL"] ?? "", serial: row["SERIAL"] ?? "", isReadOnly: row["RO"] == "1", mountedAt: [],
      holders: [], isSystem: false, readBytesPerSecond: rate(\.read), writtenBytesPerSecond: rate(\.written),
      writtenBytesPerDay: uptimeSeconds > 0 ? (second?.written ?? 0) / uptimeSeconds * 86_400 : 0)
  }

  /// device-mapper's own name; else what udev derives from the hardware, best first; else the kernel's, which may move.
  private func stablePath(_ name: String, _ row: [String: String]) -> (String, Bool) {
    if name.hasPrefix("dm-"), let mapped = row["NAME"], !mapped.isEmpty { return ("/dev/mapper/\(mapped)", true) }
    let all = links[name, default: []]
    let kinds = ["by-id/wwn-", "by-id/nvme-eui", "by-id/nvme-", "by-id/scsi-", "by-id/virtio-", "by-id/", "by-path/"]
    for kind in kinds {
      if let link = all.filter({ $0.hasPrefix("/dev/disk/\(kind)") }).min() { return (link, true) }
    }
    return ("/dev/\(name)", false)
  }

  private static func holdsSystem(
    _ name: String, _ all: [String: Device], _ children: [String: Set<String>], depth: Int
  ) -> Bool {
    // Deeper stacks than this are taken for a loop.
    guard depth < 16, let device = all[name] else { return false }
    if device.mountedAt.contains(where: systemMounts.contains) { return true }
    return children[name, default: []].contains { holdsSystem($0, all, children, depth: depth + 1) }
  }

  /// lsblk's `KEY="value"` pairs; a byte that it doesn't print as it is comes as `\xNN`.
  static func pairs(_ text: Substring) -> [String: String] {
    var found: [String: String] = [:]
    var rest = Array(text.utf8)[...]
    while let equals = rest.firstIndex(of: UInt8(ascii: "=")) {
      let key = String(decoding: rest[..<equals], as: UTF8.self).filter { $0 != " " }
      rest = rest[(equals + 1)...]
      guard rest.first == UInt8(ascii: "\"") else { return found }
      rest = rest.dropFirst()
      guard let end = rest.firstIndex(of: UInt8(ascii: "\"")) else { return found }
      found[key] = unescaped(rest[..<end])
      rest = rest[(end + 1)...]
    }
    return found
  }

  /// The kernel writes white space and backslashes in a mount point as `\ooo`.
  private static func mountPoint(_ text: Substring) -> String {
    var plain: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let first = rest.first {
      let digits = rest.dropFirst().prefix(3)
      if first == UInt8(ascii: "\\"), digits.count == 3, digits.allSatisfy({ (48...55).contains($0) }) {
        plain.append(digits.reduce(0) { $0 &<< 3 | ($1 - 48) })
        rest = rest.dropFirst(4)
      } else {
        plain.append(first)
        rest = rest.dropFirst()
      }
    }
    return String(decoding: plain, as: UTF8.self)
  }

  private static func unescaped(_ bytes: ArraySlice<UInt8>) -> String {
    var plain: [UInt8] = []
    var rest = bytes
    while let first = rest.first {
      let digits = rest.dropFirst(2).prefix(2)
      if first == UInt8(ascii: "\\"), rest.dropFirst().first == UInt8(ascii: "x"), digits.count == 2,
        let byte = UInt8(String(decoding: digits, as: UTF8.self), radix: 16)
      {
        plain.append(byte)
        rest = rest.dropFirst(4)
      } else {
        plain.append(first)
        rest = rest.dropFirst()
      }
    }
    return String(decoding: plain, as: UTF8.self)
  }
}

extension BlockSurvey.Device {
  /// Why it can't be migrated; nil where it can.
  package var obstacle: String? {
    if isSystem { return "the operating system is on it" }
    if type == "rom" || isReadOnly { return "it is read-only" }
    if sizeBytes == 0 { return "it has no size" }
    if type == "loop" { return "migrate the file behind it" }
    if !holders.isEmpty { return "\(holders.joined(separator: ", ")) \(holders.count == 1 ? "is" : "are") on it" }
    return nil
  }

  /// Which tracking it could have, and why.
  package var tracking: String {
    switch type {
    case "lvm": "tap, put under the mounted volume by device-mapper where the agent can; checksum"
    case _ where mountedAt.isEmpty: "tap: nothing uses it now; checksum"
    default: "tap, with one short remount; checksum"
    }
  }
}
