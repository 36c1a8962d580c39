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

  /// Where a disk that could be read says what Azure may object to.
  func diskPlaces(_ node: YAMLNode) -> PlanPlaces {
    var places: PlanPlaces = [:]
    places.reserveCapacity(node.count)
    for (key, value) in node.entries where key.isScalar {
      if let field = PlanField(rawValue: key.text) { places[field] = value.position }
    }
    return places
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

/// Holds a disk against what Azure allows of its kind, as far as the document says how large it is.
struct DiskRules {
  static let gibibyte: UInt64 = 1 << 30

  let disk: ManagedDisk
  let object: ObjectReading
  let reading: Reading

  private var isProvisioned: Bool { disk.sku.hasOwnPerformance }
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
    let possible = disk.sku.sizesGiB
    if !possible.contains(sizeGiB) {
      reading.report(
        "CMC1244", at: position, "\(disk.sku.rawValue) disks can't have \(Quantities.sizeText(bytes))",
        "they have \(possible.lowerBound) to \(Quantities.grouped(possible.upperBound)) GiB"
          + (sizeGiB > possible.upperBound && !isProvisioned ? "; PremiumV2_LRS and UltraSSD_LRS go to 65,536" : ""))
    }
  }

  private func checkCaching() {
    guard disk.caching != ManagedDisk.Caching.none else { return }
    let position = object.position(DiskShape.the.caching)
    if isProvisioned {
      reading.report(
        "CMC1245", at: position, "there is no host caching on \(disk.sku.rawValue) disks", "write 'caching: none'")
    } else if let sizeGiB, sizeGiB >= ManagedDisk.SKU.cachingLimitGiB {
      reading.report(
        "CMC1245", at: position, "there is no host caching on disks of 4 TiB and more",
        "write 'caching: none', or a size of at most 4095 GiB")
    }
  }

  private func checkZone() {
    let position = object.position(DiskShape.the.zone)
    if disk.sku.isZoneRedundant, disk.zone != nil {
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
    guard let possible = disk.sku.iopsRange(gib: sizeGiB), !possible.contains(iops) else { return }
    let why =
      disk.sku == .ultra ? "1,000 a GiB, at most 400,000" : "500 a GiB, at least 3,000 and at most 80,000"
    reading.report(
      "CMC1250", at: position, "\(disk.sku.rawValue) disks can't have \(Quantities.grouped(iops)) IOPS",
      "write \(possible.lowerBound) to \(possible.upperBound) for this size (\(why))")
  }

  private func checkThroughput(_ bytesPerSecond: UInt64, at position: SourcePosition) {
    let megabytes = Int(bytesPerSecond / 1_000_000)
    if bytesPerSecond % 1_000_000 != 0 {
      reading.report(
        "CMC1251", at: position, "throughput is provisioned in whole MB/s", "write '\(megabytes + 1) MB/s'")
      return
    }
    let cap = disk.sku == .ultra ? 10_000 : 2_000
    let iops = disk.iops ?? (disk.sku == .ultra ? nil : 3_000)
    guard let possible = disk.sku.throughputRange(iops: iops), !possible.contains(megabytes) else { return }
    let basis = iops.map { "0.25 MB/s for each of \(Quantities.grouped($0)) IOPS, at most \(cap)" } ?? "at most \(cap)"
    reading.report(
      "CMC1251", at: position, "\(disk.sku.rawValue) disks can't have \(Quantities.grouped(megabytes)) MB/s",
      "write '\(possible.lowerBound) MB/s' to '\(possible.upperBound) MB/s' (\(basis))"
        + (megabytes <= cap ? ", or raise 'iops'" : ""))
  }
}
