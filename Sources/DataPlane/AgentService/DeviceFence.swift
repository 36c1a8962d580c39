package import AgentProtocol
package import BlockModel
internal import LinuxPlatform
package import Seams

/// How a block device is fenced; decided by what it is.
enum DeviceFenceKind: Sendable, Equatable {
  /// LVM's own metadata says read-only and never to be activated by itself; a tag says why.
  case logicalVolume(path: String)
  /// A udev rule by what identifies the device, so that it is read-only and not ready at every boot. `match` is the
  /// rule's condition.
  case rule(match: String)
}

/// The fence of a block device (DESIGN section 8.10): durable on the host, and lifted by `cmcagent rescue` only. The
/// device's data is never touched. Idempotent; blocks on LVM's tools.
package struct DeviceFence: Sendable {
  static let tag = "cmcplan-fenced"
  static let rulesDirectory = "/etc/udev/rules.d"
  /// There while udev runs.
  private static let udevControl = "/run/udev/control"
  private static let commandSeconds = 30.0
  private static let searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

  private let host: any HostView
  private let children: any ChildProcesses
  private let rules: String

  package init(host: any HostView, children: any ChildProcesses, rulesDirectory: String = Self.rulesDirectory) {
    self.host = host
    self.children = children
    rules = rulesDirectory
  }

  /// What fences the device; throws where nothing lasting tells it from another. A fenced logical volume is not there
  /// after a new start of its host: LVM knows it by its path all the same.
  private func kind(of path: String, _ status: PathStatus?) throws(AgentFault) -> DeviceFenceKind {
    if let status { return try kind(of: path, status) }
    _ = try volume(path)
    return .logicalVolume(path: path)
  }

  func kind(of path: String, _ status: PathStatus) throws(AgentFault) -> DeviceFenceKind {
    let base = "/sys/dev/block/\(status.device)"
    if let uuid = uuid(of: status) {
      if uuid.hasPrefix("LVM-"), let name = host.text("\(base)/dm/name", limitBytes: 4096)?.trimmedLine {
        return .logicalVolume(path: "/dev/mapper/\(name)")
      }
      return .rule(match: Self.condition("ATTR{dm/uuid}", uuid))
    }
    // A partition is told by its disk and its number.
    let number = host.text("\(base)/partition", limitBytes: 64)?.trimmedLine
    let whole = number == nil ? base : "\(base)/.."
    let part = number.map { ", " + Self.condition("ATTR{partition}", $0) } ?? ""
    for (file, own) in [("wwid", "ATTR{wwid}"), ("device/wwid", "ATTR{device/wwid}"), ("serial", "ATTR{serial}")] {
      guard let text = host.text("\(whole)/\(file)", limitBytes: 4096)?.trimmedLine, !text.isEmpty else { continue }
      // Of a partition, and of what belongs to the device beneath, udev looks in the parents.
      let key =
        number == nil && file != "device/wwid" ? own : "ATTRS{\(file.split(separator: "/").last ?? "")}"
      return .rule(match: Self.condition(key, text) + part)
    }
    if let file = host.text("\(whole)/loop/backing_file", limitBytes: 8192)?.trimmedLine {
      return .rule(
        match: Self.condition(number == nil ? "ATTR{loop/backing_file}" : "ATTRS{loop/backing_file}", file) + part)
    }
    throw AgentFault(
      .refused,
      "\(path) has neither WWN, serial nor uuid, so no fence could tell it from another device after a reboot; put it under LVM, or migrate a file"
    )
  }

  /// Device-mapper's.
  private func uuid(of status: PathStatus) -> String? {
    let text = host.text("/sys/dev/block/\(status.device)/dm/uuid", limitBytes: 4096)?.trimmedLine
    return text.flatMap { $0.isEmpty ? nil : $0 }
  }

  /// One condition of a udev rule. What its patterns would read as more than itself matches any character.
  static func condition(_ key: String, _ value: String) -> String {
    let pattern = String(value.map { "*?[]|\"\\$%".contains($0) || !$0.isASCII ? "?" : $0 })
    return "\(key)==\"\(pattern)\""
  }

  static func rule(for match: String, session: SessionID) -> String {
    """
    # Fence of cmcplan session \(session): the volume moved away; its copy here is old. Lifted by: cmcagent rescue --unfence
    SUBSYSTEM=="block", \(match), ENV{SYSTEMD_READY}="0", ENV{UDISKS_IGNORE}="1", RUN+="/sbin/blockdev --setro $devnode"

    """
  }

  private func rulePath(_ match: String) -> String {
    "\(rules)/99-cmcplan-fence-\(String(StableHash.of(match), radix: 16)).rules"
  }

  // MARK: Hiding its ids

  /// The new copy carries the same UUIDs and labels: what looks for one of them must find that one, after every start of
  /// the host. `isDevice`: what LVM, MD and btrfs would put together by themselves is left alone, too, and so are the
  /// device's partitions; a logical volume is not there after a start. Between udev's 60, which finds ids, and 64 to 69,
  /// which act on them.
  static func hidingRule(for match: String, isDevice: Bool, session: SessionID) -> String {
    let cleared = (isDevice ? hiddenIDs : []).map { ", ENV{\($0)}=\"\"" }.joined()
    // Of a whole disk its partitions as well: udev looks in the parents.
    let wide = match.contains("partition}") ? match : (match.hasPrefix("ATTR{") ? "ATTRS{" + match.dropFirst(5) : match)
    return """
      # Ids of the old copy of cmcplan session \(session). Lifted by: cmcagent rescue --unfence
      SUBSYSTEM=="block", \(wide), OPTIONS+="link_priority=-1000"\(cleared)

      """
  }

  private static let hiddenIDs = [
    "ID_FS_TYPE", "ID_FS_USAGE", "ID_FS_UUID", "ID_FS_UUID_ENC", "ID_FS_LABEL", "ID_FS_LABEL_ENC",
  ]

  private func hidingPath(_ key: String) -> String {
    "\(rules)/61-cmcplan-hidden-\(String(StableHash.of(key), radix: 16)).rules"
  }

  /// Where no udev is there are no links to hide from.
  private func hide(
    _ path: String, key: String, match: String, isDevice: Bool, session: SessionID
  ) throws(AgentFault) {
    guard Files.exists(rules) else { return }
    do throws(SystemError) {
      let rule = Self.hidingRule(for: match, isDevice: isDevice, session: session)
      try Files.replace(hidingPath(key), with: Array(rule.utf8), mode: 0o644)
      try Files.flushDirectory(rules)
    } catch {
      throw AgentFault(.failed, "the ids of \(path) can't be hidden: \(error)")
    }
    try announce(path)
  }

  private func unhide(_ path: String, key: String) throws(AgentFault) {
    guard Files.exists(hidingPath(key)) else { return }
    do throws(SystemError) { try Files.remove(hidingPath(key)) } catch {
      throw AgentFault(.failed, "the ids of \(path) can't be shown again: \(error)")
    }
    try announce(path)
  }

  /// Lets udev judge the device anew, now.
  private func announce(_ path: String) throws(AgentFault) {
    guard Files.exists(path), Files.exists(Self.udevControl) else { return }
    _ = try run(["udevadm", "trigger", "--action=change", "--name-match=\(path)"])
  }

  // MARK: Raising and lifting

  package func check(_ path: String, _ status: PathStatus) throws(AgentFault) {
    switch try kind(of: path, status) {
    case .logicalVolume(let path): _ = try volume(path)
    case .rule:
      guard Files.exists(rules) else {
        throw AgentFault(.refused, "\(path) would be fenced by a udev rule, and this host has no \(rules)")
      }
    }
  }

  /// `status`: nil where the device isn't there now.
  package func raise(_ path: String, _ status: PathStatus?, session: SessionID) throws(AgentFault) {
    switch try kind(of: path, status) {
    case .logicalVolume(let path):
      let volume = try volume(path)
      if let status, let uuid = uuid(of: status) {
        try hide(
          path, key: volume.name, match: Self.condition("ENV{DM_UUID}", uuid), isDevice: false, session: session)
      }
      if volume.isWritable { _ = try run(["lvchange", "--permission", "r", volume.name]) }
      _ = try run(["lvchange", "--setactivationskip", "y", volume.name])
      _ = try run(["lvchange", "--addtag", Self.tag, volume.name])
      try flushMetadata(of: volume)
    case .rule(let match):
      try hide(path, key: match, match: match, isDevice: true, session: session)
      do throws(SystemError) {
        try Files.replace(rulePath(match), with: Array(Self.rule(for: match, session: session).utf8), mode: 0o644)
        try Files.flushDirectory(rules)
        try DeviceUse.setReadOnly(path, true)
      } catch {
        throw AgentFault(.failed, "\(path) can't be fenced: \(error)")
      }
    }
  }

  /// Makes the device usable here again; nothing happens to one that isn't fenced. `status`: nil where it isn't there now.
  package func lift(_ path: String, _ status: PathStatus?) throws(AgentFault) {
    switch try kind(of: path, status) {
    case .logicalVolume(let volumePath):
      let volume = try volume(volumePath)
      if !volume.isWritable { _ = try run(["lvchange", "--permission", "rw", volume.name]) }
      _ = try run(["lvchange", "--setactivationskip", "n", volume.name])
      if !volume.isActive { _ = try run(["lvchange", "--activate", "y", volume.name]) }
      // What closed it for the proof, where the host was not started anew since.
      if status != nil, Files.exists(path) {
        do throws(SystemError) { try DeviceUse.setReadOnly(path, false) } catch {
          throw AgentFault(.failed, "the fence of \(path) can't be lifted: \(error)")
        }
      }
      try unhide(volumePath, key: volume.name)
      // Last: as long as it is there, a lifting that failed half-way can be repeated.
      _ = try run(["lvchange", "--deltag", Self.tag, volume.name])
    case .rule(let match):
      try unhide(path, key: match)
      do throws(SystemError) {
        try Files.remove(rulePath(match))
        try DeviceUse.setReadOnly(path, false)
      } catch {
        throw AgentFault(.failed, "the fence of \(path) can't be lifted: \(error)")
      }
    }
  }

  /// Whether the fence stands.
  package func isRaised(_ path: String, _ status: PathStatus?) throws(AgentFault) -> Bool {
    switch try kind(of: path, status) {
    case .logicalVolume(let path): try volume(path).isTagged
    case .rule(let match): Files.exists(rulePath(match))
    }
  }

  // MARK: LVM

  private struct LogicalVolume {
    var group: String
    /// "group/volume".
    var name: String
    var isWritable: Bool
    var isTagged: Bool
    var isActive: Bool
  }

  private func volume(_ path: String) throws(AgentFault) -> LogicalVolume {
    let text = try run([
      "lvs", "--noheadings", "--separator", " ", "-o", "vg_name,lv_name,lv_attr,lv_tags", path,
    ])
    let fields = text.split { $0 == " " || $0 == "\n" }
    guard fields.count >= 3, fields[2].count > 1 else {
      throw AgentFault(.failed, "lvs does not say which logical volume \(path) is: \(text.trimmedLine)")
    }
    let permission = fields[2].dropFirst().first
    let tags = fields.count > 3 ? fields[3].split(separator: ",").map(String.init) : []
    return LogicalVolume(
      group: String(fields[0]), name: "\(fields[0])/\(fields[1])", isWritable: permission == "w" || permission == "R",
      isTagged: tags.contains(Self.tag), isActive: fields[2].dropFirst(4).first == "a")
  }

  /// LVM writes its metadata past the page cache and leaves it in the disks' own caches, where a power cut would take the
  /// fence back.
  private func flushMetadata(of volume: LogicalVolume) throws(AgentFault) {
    let disks = try run(["vgs", "--noheadings", "-o", "pv_name", volume.group]).split { $0 == " " || $0 == "\n" }
    guard !disks.isEmpty else {
      throw AgentFault(.failed, "vgs names no physical volume of \(volume.group), so its fence can't be made durable")
    }
    _ = try run(["sync"] + disks.map(String.init))
  }

  /// By way of env(1), which looks the tool up; there is no shell.
  private func run(_ command: [String]) throws(AgentFault) -> String {
    let line = command.joined(separator: " ")
    do throws(ChildError) {
      let result = try children.run(
        ChildCommand(
          executable: "/usr/bin/env", arguments: command,
          environment: ["PATH": Self.searchPath, "LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1"],
          timeoutSeconds: Self.commandSeconds))
      guard result.succeeded else {
        let said = String(decoding: result.errorOutput.prefix(1000), as: UTF8.self).trimmedLine
        throw ChildError("\(line) failed (\(result.ending)): \(said)")
      }
      return String(decoding: result.output, as: UTF8.self)
    } catch {
      throw AgentFault(.failed, error.message)
    }
  }
}
