internal import BlockModel
internal import Diagnostics
internal import MigrationModel
internal import YAMLTree

/// What is known of a volume, even if not all of it could be read.
struct VolumeDraft {
  var name: String
  var volume: Volume?
  var tracking: Tracking?
  var trackingPosition: SourcePosition
  var hasDisk: Bool
}

/// Which volume uses which device of a host.
struct DeviceUses {
  struct Key: Hashable {
    var host: String
    var path: String
  }
  struct Use {
    var migration: String
    var volume: String
    var role: Role
    var spelling: String
  }
  private var uses: [Key: Use] = [:]

  /// The use that was there before.
  mutating func add(host: String, path: String, _ use: Use) -> Use? {
    let key = Key(host: host, path: path)
    if let other = uses[key] { return other }
    uses[key] = use
    return nil
  }
}

extension PlanBuilder {
  func readVolumes(_ node: YAMLNode, _ context: MigrationContext, migration: ObjectReading) -> [VolumeDraft] {
    let entries = reading.namedEntries(of: node, what: "volumes", maximum: Self.maximumVolumes)
    if node.isMapping, entries.isEmpty, node.count == 0 {
      reading.report(
        "CMC1212", at: node.position, "migration '\(context.name)' has no volume", "name at least one under 'volumes:'")
    }
    let drafts = entries.map { readVolume($0.value, name: $0.name, position: $0.key.position, context) }
    if drafts.contains(where: \.hasDisk) {
      checkDestinationOfDisks(context, migration: migration, disks: drafts.count { $0.hasDisk })
    }
    return drafts
  }

  private func readVolume(
    _ node: YAMLNode, name: String, position: SourcePosition, _ context: MigrationContext
  ) -> VolumeDraft {
    let shape = VolumeShape.the
    var draft = VolumeDraft(
      name: name, volume: nil, tracking: nil, trackingPosition: position, hasDisk: false)
    guard let object = ObjectReading(node, shape.shape, reading, label: name) else { return draft }
    let device = object.value(shape.device)
    if let device, let host = context.source {
      checkDevice(device, host: host, role: .source, volume: name, context, at: object.position(shape.device))
    }
    draft.tracking = object.value(shape.tracking, inherited: defaults.tracking)
    if object.has(shape.tracking) { draft.trackingPosition = object.position(shape.tracking) }
    draft.hasDisk = object.has(shape.disk)
    var destination: Volume.Destination?
    if let node = object.node(shape.disk) {
      destination = readDisk(node, volume: name, context).map { .disk($0) }
    } else if let node = object.node(shape.destination) {
      destination = readDestination(node, volume: name, context)
    }
    guard let device, let tracking = draft.tracking, let destination else { return draft }
    var volume = Volume(
      name: VolumeName(name), device: device, tracking: tracking, destination: destination, position: position)
    if let node = object.node(shape.disk) { volume.places = diskPlaces(node) }
    draft.volume = volume
    return draft
  }

  private func readDestination(_ node: YAMLNode, volume: String, _ context: MigrationContext) -> Volume.Destination? {
    let shape = VolumeShape.the
    guard let object = ObjectReading(node, shape.destinationShape, reading),
      let device = object.value(shape.destinationDevice)
    else { return nil }
    if let host = context.destination {
      let position = object.position(shape.destinationDevice)
      checkDevice(device, host: host, role: .destination, volume: volume, context, at: position)
    }
    return .device(device)
  }

  private func checkDevice(
    _ device: String, host: String, role: Role, volume: String, _ context: MigrationContext, at position: SourcePosition
  ) {
    let path = DevicePath(device)
    let isLocal = hosts[host]?.isLocal ?? false
    if !device.hasPrefix("/") {
      if !isLocal {
        let isName = device.hasPrefix("sd") || device.hasPrefix("dev/") || device.hasPrefix("nvme")
        reading.report(
          "CMC1225", at: position, "the device '\(device.shortened())' is no absolute path",
          isName ? "write '/\(device.hasPrefix("dev/") ? device : "dev/" + device)'" : "write it from '/' on")
      } else if path.escapes {
        reading.report(
          "CMC1225", at: position, "the device '\(device.shortened())' is outside of the local host's root",
          "write a path below the root, or an absolute one")
      }
    } else if path.normalized.utf8.count(where: { $0 == UInt8(ascii: "/") }) < 2 || device.hasSuffix("/") {
      reading.report(
        "CMC1225", at: position, "'\(device.shortened())' is a directory, not a device", "write /dev/… of one device")
    }
    if let name = Self.unstableName(path.normalized), !isLocal {
      reading.warn(
        "CMC1213", at: position, "'\(name)' may be another disk after the next boot",
        "write its name below /dev/disk/by-id/ ('ls -l /dev/disk/by-id')")
    }
    if let what = Self.systemDevice(path.normalized), !isLocal {
      reading.report(
        "CMC1214", at: position, "'\(device.shortened())' is \(what)",
        "name a device of application data; an operating system is installed at the destination, not moved")
    }
    let use = DeviceUses.Use(migration: context.name, volume: volume, role: role, spelling: device)
    guard let other = uses.add(host: host, path: path.normalized, use) else { return }
    let spelling = other.spelling == device ? "" : ", there written '\(other.spelling.shortened())'"
    reading.report(
      "CMC1203", at: position,
      "the device '\(device.shortened())' of host '\(host)' is the \(other.role.rawValue) of volume "
        + "'\(other.migration)/\(other.volume)' already\(spelling)",
      "each volume needs a device of its own")
  }

  /// `/dev/sda`, `/dev/nvme0n1` and the like, whose numbers follow the order of discovery.
  private static func unstableName(_ path: String) -> String? {
    let parts = path.utf8.drop { $0 == UInt8(ascii: "/") }
    guard parts.starts(with: "dev/".utf8) else { return nil }
    let name = parts.dropFirst("dev/".utf8.count)
    guard !name.contains(UInt8(ascii: "/")) else { return nil }
    return numberedNames.contains { name.starts(with: $0.utf8) } ? path : nil
  }

  private static let numberedNames = ["sd", "vd", "xvd", "hd", "nvme", "dm-"]

  /// Names that always mean a disk of the operating system, or one whose content Azure throws away. What else holds the
  /// running system only the host can tell: planning asks it.
  private static func systemDevice(_ path: String) -> String? {
    if path == "/dev/root" { return "the root file system" }
    guard path.hasPrefix("/dev/disk/") else { return nil }
    let name = path.utf8.dropFirst("/dev/disk/".utf8.count)
    if systemNames.contains(where: { name.starts(with: $0.utf8) }) { return "the disk of the operating system" }
    if temporaryNames.contains(where: { name.starts(with: $0.utf8) }) { return "the virtual machine's temporary disk" }
    for kind in ["by-label/", "by-partlabel/"] where name.starts(with: kind.utf8) {
      if bootLabels.contains(String(Substring(name.dropFirst(kind.utf8.count)))) { return "a boot or root file system" }
    }
    return nil
  }

  private static let systemNames = ["azure/root", "azure/os", "azure/scsi0/lun0", "cloud/azure_root"]
  private static let temporaryNames = ["azure/resource", "azure/local", "cloud/azure_resource", "azure/scsi0/lun1"]
  private static let bootLabels: Set = [
    "cloudimg-rootfs", "UEFI", "EFI", "boot", "BOOT", "EFI\\x20System\\x20Partition",
  ]

  private func checkDestinationOfDisks(_ context: MigrationContext, migration: ObjectReading, disks: Int) {
    if context.integration == nil, !migration.has(MigrationShape.the.integration) {
      reading.report(
        "CMC1211", at: migration.node.position, "migration '\(context.name)' needs disks and names no integration",
        integrationNames.isEmpty
          ? "describe an Azure subscription under 'integrations:'"
          : "add 'integration:' with \(alternatives(integrationNames))")
    }
    guard let name = context.destination, let host = hosts[name] else { return }
    if !host.hasVirtualMachine {
      reading.report(
        "CMC1231", at: host.position,
        "host '\(name)' gets disks from migration '\(context.name)', and its virtual machine is not named",
        "add 'azureVirtualMachine:' with the VM's name")
    }
    let before = disksPerHost[name] ?? 0
    disksPerHost[name] = before + disks
    if before <= Self.maximumVolumes, before + disks > Self.maximumVolumes {
      reading.report(
        "CMC1249", at: migration.node.position,
        "host '\(name)' gets more than \(Self.maximumVolumes) disks in this plan",
        "no virtual machine has LUNs beyond 63; use a second one, or larger volumes")
    }
  }
}
