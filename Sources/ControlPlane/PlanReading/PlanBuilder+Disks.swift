internal import BlockModel
internal import Diagnostics
internal import MigrationModel
internal import YAMLTree

extension PlanBuilder {
  func readDisk(_ node: YAMLNode, volume: String, _ context: MigrationContext) -> ManagedDisk? {
    let shape = DiskShape.the
    guard let object = ObjectReading(node, shape.shape, reading) else { return nil }
    let inherited = defaults.disk
    let sku = object.value(shape.sku, inherited: inherited.sku)
    if sku == nil, !object.has(shape.sku) {
      reading.report(
        "CMC1252", at: node.position, "the disk of volume '\(volume)' lacks 'sku'",
        "add 'sku: Premium_LRS' here or under 'defaults: disk:'; the kinds are "
          + ManagedDisk.SKU.allCases.map(\.rawValue).joined(separator: ", "))
    }
    let size = object.value(shape.size)
    let zone = object.value(shape.zone, inherited: inherited.zone)
    let iops = object.value(shape.iops)
    let throughput = object.value(shape.throughput)
    let caching = object.value(shape.caching, inherited: inherited.caching)
    let name = object.value(shape.name)
    let existingID = object.value(shape.existingID)
    let group = object.value(shape.resourceGroup, inherited: existingID == nil ? inherited.resourceGroup : nil)
    let encryption = object.value(shape.encryptionSet, inherited: existingID == nil ? inherited.encryptionSet : nil)
    let access = object.value(shape.networkAccess, inherited: existingID == nil ? inherited.networkAccess : nil)
    let tags = object.value(shape.tags)
    if object.has(shape.existingID) { checkExisting(object) }
    if let name { checkDiskName(name, group: group, context, volume: volume, at: object.position(shape.name)) }
    guard let sku else { return nil }
    // The rules hold whatever else is wrong: what could not be read counts as its default.
    let disk = ManagedDisk(
      sku: sku, size: size ?? .auto, zone: zone, iops: iops, throughputBytesPerSecond: throughput,
      caching: caching ?? .none, name: name,
      existingID: existingID, resourceGroup: group, encryptionSet: encryption, networkAccess: access,
      tags: inherited.tags.merging(tags ?? [:]) { _, written in written })
    DiskRules(disk: disk, object: object, reading: reading).check()
    return size == nil || caching == nil ? nil : disk
  }

  private func checkExisting(_ object: ObjectReading) {
    let shape = DiskShape.the
    let decided = [shape.name, shape.resourceGroup, shape.encryptionSet, shape.networkAccess]
    for field in decided where object.has(field) {
      reading.report(
        "CMC1241", at: object.position(field), "'\(field.name)' can't be said of an existing disk ('id')",
        "remove it, or remove 'id' to have a disk created")
    }
  }

  private func checkDiskName(
    _ name: String, group: String?, _ context: MigrationContext, volume: String, at position: SourcePosition
  ) {
    // Azure compares names without regard to case.
    let key = "\(context.integration ?? "")/\(group?.lowercased() ?? "")/\(name.lowercased())"
    if let other = diskNames[key] {
      reading.report(
        "CMC1242", at: position, "the disk '\(name)' already belongs to volume '\(other)'",
        "give each disk its own name")
    } else {
      diskNames[key] = "\(context.name)/\(volume)"
    }
  }
}

/// What Azure allows of each kind of disk (azure-specs/FACTS.md, "Disks";
/// https://learn.microsoft.com/azure/virtual-machines/disks-types).
struct DiskRules {
  static let gibibyte: UInt64 = 1 << 30
  /// From here on there is no host caching.
  static let cachingLimitGiB = 4_096

  let disk: ManagedDisk
  let object: ObjectReading
  let reading: Reading

  private var isProvisioned: Bool { disk.sku == .premiumV2 || disk.sku == .ultra }

  private var smallestGiB: Int { disk.sku == .ultra ? 4 : 1 }
  private var largestGiB: Int { isProvisioned ? 65_536 : 32_767 }
  private var sizeGiB: Int? {
    guard case .bytes(let bytes) = disk.size else { return nil }
    return Int((bytes + Self.gibibyte - 1) / Self.gibibyte)
  }

  func check() {
    checkSize()
    checkCaching()
    checkZone()
    checkPerformance()
  }

  private func checkSize() {
    guard case .bytes(let bytes) = disk.size, let sizeGiB else { return }
    let position = object.position(DiskShape.the.size)
    if bytes % Self.gibibyte != 0 {
      reading.report(
        "CMC1243", at: position, "a disk has whole GiB, and this is \(Quantities.bytes(Double(bytes)))",
        "write '\(sizeGiB) GiB'")
    }
    if sizeGiB < smallestGiB || sizeGiB > largestGiB {
      reading.report(
        "CMC1244", at: position, "\(disk.sku.rawValue) disks can't have \(Quantities.sizeText(bytes))",
        "they have \(smallestGiB) to \(Quantities.grouped(largestGiB)) GiB"
          + (sizeGiB > largestGiB && !isProvisioned ? "; PremiumV2_LRS and UltraSSD_LRS go to 65,536" : ""))
    }
  }

  private func checkCaching() {
    guard disk.caching != ManagedDisk.Caching.none else { return }
    let position = object.position(DiskShape.the.caching)
    if isProvisioned {
      reading.report(
        "CMC1245", at: position, "there is no host caching on \(disk.sku.rawValue) disks", "write 'caching: none'")
    } else if let sizeGiB, sizeGiB >= Self.cachingLimitGiB {
      reading.report(
        "CMC1245", at: position, "there is no host caching on disks of 4 TiB and more",
        "write 'caching: none', or a size of at most 4095 GiB")
    }
  }

  private func checkZone() {
    let position = object.position(DiskShape.the.zone)
    let isZoneRedundant = disk.sku == .premiumZoneRedundant || disk.sku == .standardSSDZoneRedundant
    if isZoneRedundant, disk.zone != nil {
      reading.report(
        "CMC1246", at: position, "\(disk.sku.rawValue) disks are in all zones, and one is named",
        "remove 'zone', or use \(disk.sku == .premiumZoneRedundant ? "Premium_LRS" : "StandardSSD_LRS")")
    }
    if isProvisioned, disk.zone == nil, disk.existingID == nil {
      reading.warn(
        "CMC1247", at: position, "in most regions \(disk.sku.rawValue) disks need a zone, and none is named",
        "add 'zone:' with the zone of the virtual machine")
    }
  }

  private func checkPerformance() {
    let shape = DiskShape.the
    let throughput = disk.throughputBytesPerSecond
    guard isProvisioned else {
      for (name, isWritten, position) in [
        ("iops", disk.iops != nil, object.position(shape.iops)),
        ("throughput", throughput != nil, object.position(shape.throughput)),
      ] where isWritten {
        reading.report(
          "CMC1248", at: position, "'\(name)' can't be chosen on \(disk.sku.rawValue) disks: their size decides",
          "remove it, or use PremiumV2_LRS or UltraSSD_LRS")
      }
      return
    }
    if let iops = disk.iops { checkIOPS(iops, at: object.position(shape.iops)) }
    if let throughput { checkThroughput(throughput, at: object.position(shape.throughput)) }
  }

  private func checkIOPS(_ iops: Int, at position: SourcePosition) {
    let (least, most, why): (Int, Int, String)
    if disk.sku == .ultra {
      (least, most) = (100, min(400_000, sizeGiB.map { $0 * 1_000 } ?? .max))
      why = "1,000 a GiB, at most 400,000"
    } else {
      (least, most) = (3_000, min(80_000, sizeGiB.map { max(3_000, $0 * 500) } ?? .max))
      why = "500 a GiB, at least 3,000 and at most 80,000"
    }
    guard iops < least || iops > most else { return }
    reading.report(
      "CMC1250", at: position, "\(disk.sku.rawValue) disks can't have \(Quantities.grouped(iops)) IOPS",
      "write \(least) to \(most) for this size (\(why))")
  }

  private func checkThroughput(_ bytesPerSecond: UInt64, at position: SourcePosition) {
    let megabytes = Int(bytesPerSecond / 1_000_000)
    if bytesPerSecond % 1_000_000 != 0 {
      reading.report(
        "CMC1251", at: position, "throughput is provisioned in whole MB/s", "write '\(megabytes + 1) MB/s'")
      return
    }
    let least = disk.sku == .ultra ? 1 : 125
    let cap = disk.sku == .ultra ? 10_000 : 2_000
    let iops = disk.iops ?? (disk.sku == .ultra ? nil : 3_000)
    let most = max(least, min(cap, iops.map { $0 / 4 } ?? cap))
    guard megabytes < least || megabytes > most else { return }
    let basis = iops.map { "0.25 MB/s for each of \(Quantities.grouped($0)) IOPS, at most \(cap)" } ?? "at most \(cap)"
    reading.report(
      "CMC1251", at: position, "\(disk.sku.rawValue) disks can't have \(Quantities.grouped(megabytes)) MB/s",
      "write '\(least) MB/s' to '\(most) MB/s' (\(basis))" + (megabytes <= cap ? ", or raise 'iops'" : ""))
  }
}
