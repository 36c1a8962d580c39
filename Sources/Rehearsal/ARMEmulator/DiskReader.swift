/// Reads what a client says of a disk and holds it against the service's rules (FACTS: disks).
struct DiskReader {
  let configuration: EmulatorConfiguration
  let old: StoredDisk?
  let body: JSONObject
  let name: String

  init(_ configuration: EmulatorConfiguration, old: StoredDisk?, body: JSONObject, name: String) {
    self.configuration = configuration
    self.old = old
    self.body = body
    self.name = name
  }

  /// Properties that are kept elsewhere or that only the service writes.
  private static let ownProperties: Set<String> = [
    "creationdata", "disksizegb", "diskiopsreadwrite", "diskmbpsreadwrite", "provisioningstate", "diskstate",
    "disksizebytes", "uniqueid", "timecreated", "lastownershipupdatetime",
  ]

  private var properties: JSONObject { body["properties"]?.object ?? JSONObject() }

  /// The whole disk of a PUT.
  func read() throws(Refusal) -> StoredDisk {
    guard let location = body["location"]?.text.map(Self.plainLocation) ?? old?.location, !location.isEmpty else {
      throw Refusal(400, "LocationRequired", "The location property is required for this definition.")
    }
    if let old, Self.plainLocation(old.location) != location {
      throw Refusal(
        409, "InvalidResourceLocation",
        "The resource '\(name)' already exists in location '\(old.location)' in resource group "
          + "'\(old.resourceGroup)'. A resource with the same name cannot be created in location '\(location)'. "
          + "Please select a new resource name.")
    }
    let sku = body["sku"]?["name"]?.text ?? old?.sku ?? "Standard_LRS"
    let creationData = try readCreationData()
    guard let size = properties["diskSizeGB"]?.integer ?? old?.sizeGiB ?? Self.impliedSize(creationData, properties)
    else {
      throw Refusal.missing("disk.diskSizeGB")
    }
    guard let region = AzureRegions.all[location] else {
      throw Refusal(
        400, "LocationNotAvailableForResourceType",
        "The provided location '\(location)' is not available for resource type 'Microsoft.Compute/disks'. List of "
          + "available regions for the resource type is '\(AzureRegions.all.keys.sorted().joined(separator: ","))'.")
    }
    let zones = try readZones(region, sku)
    var disk = StoredDisk(
      name: old?.name ?? name, resourceGroup: old?.resourceGroup ?? configuration.resourceGroup, location: location,
      zones: zones, tags: try readTags(), sku: sku, sizeGiB: size,
      iops: properties["diskIOPSReadWrite"]?.integer ?? old?.iops,
      megabytesPerSecond: properties["diskMBpsReadWrite"]?.integer ?? old?.megabytesPerSecond,
      creationData: creationData, otherProperties: otherProperties(), provisioning: .updating,
      timeCreated: old?.timeCreated ?? "", uniqueID: old?.uniqueID ?? "", machine: old?.machine,
      ownershipSince: old?.ownershipSince, isMade: old?.isMade ?? false,
      extendedLocation: body["extendedLocation"] ?? old?.extendedLocation)
    disk.isSizeImplied = old == nil && properties["diskSizeGB"] == nil
    disk.burstingSince = old?.burstingSince
    try check(&disk)
    return disk
  }

  /// What a PATCH makes of `old`: only what is there changes, and tags are replaced as a whole.
  func patched(_ old: StoredDisk) throws(Refusal) -> StoredDisk {
    var disk = old
    if body["tags"] != nil { disk.tags = try readTags() }
    if let sku = body["sku"]?["name"]?.text { disk.sku = sku }
    if let size = properties["diskSizeGB"]?.integer { disk.sizeGiB = size }
    if let iops = properties["diskIOPSReadWrite"]?.integer { disk.iops = iops }
    if let rate = properties["diskMBpsReadWrite"]?.integer { disk.megabytesPerSecond = rate }
    var others = old.otherProperties.object ?? JSONObject()
    for member in otherProperties().object?.members ?? [] { others[member.name] = member.value }
    disk.otherProperties = .object(others)
    disk.provisioning = .updating
    try check(&disk)
    return disk
  }

  private func otherProperties() -> JSONValue {
    .object(
      JSONObject(
        properties.members.filter { !Self.ownProperties.contains($0.name.lowercased()) && !$0.value.isNull }
          .map { ($0.name, $0.value) }))
  }

  static func plainLocation(_ text: String) -> String { text.lowercased().filter { $0 != " " } }

  private static let createOptions: Set<String> = [
    "Empty", "Attach", "FromImage", "Import", "Copy", "Restore", "Upload", "CopyStart", "ImportSecure",
    "UploadPreparedSecure", "CopyFromSanSnapshot",
  ]

  /// GiB of a disk whose request leaves it to where its bytes come from. What this emulator can't look at (an image, a
  /// blob, a snapshot) is taken for a small system disk.
  private static func impliedSize(_ creationData: JSONValue, _ properties: JSONObject) -> Int? {
    switch creationData["createOption"]?.text {
    case "Empty", nil: nil
    case "Upload", "UploadPreparedSecure":
      // A footer of 512 bytes comes with the bytes themselves.
      creationData["uploadSizeBytes"]?.double.map { max(1, Int((($0 - 512) / 1_073_741_824).rounded(.up))) }
    default: properties["osType"]?.text == "Windows" ? 127 : 30
    }
  }

  private func readCreationData() throws(Refusal) -> JSONValue {
    guard let data = properties["creationData"] ?? old?.creationData else {
      throw Refusal.missing("disk.creationData")
    }
    guard let option = data["createOption"]?.text else { throw Refusal.missing("disk.creationData.createOption") }
    guard Self.createOptions.contains(option) else {
      throw Refusal.invalid(
        "disk.creationData.createOption",
        "The value '\(option)' of parameter 'disk.creationData.createOption' is invalid. The allowed values are "
          + "\(Self.createOptions.sorted().joined(separator: ", ")).")
    }
    if let old, old.creationData["createOption"] != data["createOption"] {
      throw Refusal(
        409, "PropertyChangeNotAllowed", "Changing property 'creationData.createOption' is not allowed.",
        target: "creationData.createOption")
    }
    return data
  }

  private func readZones(_ region: AzureRegion, _ sku: String) throws(Refusal) -> [String]? {
    guard let zones = body["zones"], !zones.isNull else { return old?.zones }
    let names = zones.items?.compactMap(\.text) ?? []
    guard names.count == 1, region.zones.contains(names[0]), !sku.hasSuffix("_ZRS") else {
      throw Refusal(
        400, "InvalidAvailabilityZone",
        "The zone(s) '\(names.joined(separator: ","))' for resource 'Microsoft.Compute/disks/\(name)' is not "
          + "supported. The supported zones for location '\(region.name)' are "
          + "'\(sku.hasSuffix("_ZRS") ? "" : region.zones.joined(separator: ","))'")
    }
    if let old, old.zones ?? [] != names {
      throw Refusal(
        409, "PropertyChangeNotAllowed", "Changing property 'zones' is not allowed.", target: "zones")
    }
    return names
  }

  private func readTags() throws(Refusal) -> [String: String]? {
    guard let value = body["tags"], !value.isNull else { return nil }
    guard let tags = value.strings else {
      throw Refusal(400, "InvalidRequestContent", "The tags of a resource are names with strings.")
    }
    guard tags.count <= 50 else {
      throw Refusal(
        400, "InvalidTagCount", "The resource has '\(tags.count)' tags; at most '50' are allowed.")
    }
    for (name, value) in tags {
      guard !name.isEmpty, name.utf16.count <= 512, !name.contains(where: { "<>%&\\?/".contains($0) }) else {
        throw Refusal(
          400, "InvalidTagNameCharacters",
          "The tag names '\(name.prefix(80))' have reserved characters '<,>,%,&,\\,?,/' or control characters.")
      }
      guard value.utf16.count <= 256 else {
        throw Refusal(400, "InvalidTagValueLength", "The value of tag '\(name)' is longer than 256 characters.")
      }
    }
    return tags
  }

  private func check(_ disk: inout StoredDisk) throws(Refusal) {
    guard let kind = DiskKinds.all[disk.sku] else {
      throw Refusal.invalid(
        "sku.name",
        "The value '\(disk.sku)' of parameter 'sku.name' is invalid. Supported: "
          + DiskKinds.all.keys.sorted().joined(separator: ","))
    }
    guard kind.sizesGiB.contains(disk.sizeGiB) else {
      throw Refusal.invalid(
        "disk.diskSizeGB",
        "The value '\(disk.sizeGiB)' of parameter 'disk.diskSizeGB' is out of range. The value must be between "
          + "'\(kind.sizesGiB.lowerBound)' and '\(kind.sizesGiB.upperBound)', inclusive.")
    }
    guard !configuration.restrictedSKUs.contains(disk.sku.lowercased()) || old?.sku == disk.sku else {
      throw Refusal(
        409, "SkuNotAvailable",
        "The requested disk SKU '\(disk.sku)' is currently not available in location '\(disk.location)' for "
          + "subscription '\(configuration.subscription)'. Please try another location or another SKU.",
        target: "sku.name")
    }
    if let set = disk.otherProperties["encryption"]?["diskEncryptionSetId"]?.text { try checkEncryptionSet(set) }
    if let old, disk.sizeGiB < old.sizeGiB {
      throw Refusal(
        409, "OperationNotAllowed",
        "Disk size reduction is not supported. Current size is \(old.sizeGiB) GB, requested size is "
          + "\(disk.sizeGiB) GB.", target: "disk.diskSizeGB")
    }
    if let old { try checkChange(old, to: disk) }
    guard kind.performanceSettable else {
      let sent = properties["diskIOPSReadWrite"] != nil || properties["diskMBpsReadWrite"] != nil
      // A PUT of what a GET answered carries the tier's own numbers: they change nothing.
      if sent, old == nil {
        throw Refusal.invalid(
          "disk.diskIOPSReadWrite",
          "The parameters 'disk.diskIOPSReadWrite' and 'disk.diskMBpsReadWrite' can only be set for UltraSSD_LRS "
            + "and PremiumV2_LRS disks.")
      }
      (disk.iops, disk.megabytesPerSecond) = (nil, nil)
      return
    }
    try checkPerformance(disk)
  }

  /// What becomes of a disk that is there (learn.microsoft.com/azure/virtual-machines: linux/expand-disks,
  /// disks-convert-types). The words of these refusals aren't recorded.
  private func checkChange(_ old: StoredDisk, to disk: StoredDisk) throws(Refusal) {
    if disk.sizeGiB > old.sizeGiB, old.machine != nil, DiskKinds.all[old.sku]?.performanceSettable == false,
      old.sizeGiB <= 4096, disk.sizeGiB > 4096
    {
      var refusal = Refusal(
        409, "OperationNotAllowed",
        "Cannot resize disk \(name) past 4096 GB while it is attached to running VM.", target: "disk.diskSizeGB")
      refusal.innerCode = "ChangeDiskSizeWhileAttachedNotAllowed"
      throw refusal
    }
    guard old.sku != disk.sku else { return }
    if old.machine != nil {
      throw Refusal(
        409, "OperationNotAllowed", "Cannot change the account type of disk \(name) while it is attached.",
        target: "sku.name")
    }
    let neverLeft = ["UltraSSD_LRS", "PremiumV2_LRS"].contains(old.sku)
    let isAcrossZones =
      disk.sku == "PremiumV2_LRS" ? old.sku.hasSuffix("_ZRS") : disk.sku.hasSuffix("_ZRS") && old.zones != nil
    guard !neverLeft, disk.sku != "UltraSSD_LRS", !isAcrossZones else {
      throw Refusal(
        409, "OperationNotAllowed",
        "Changing the account type of disk \(name) from \(old.sku) to \(disk.sku) is not allowed.",
        target: "sku.name")
    }
  }

  private func checkEncryptionSet(_ id: String) throws(Refusal) {
    let name = id.split(separator: "/").last.map { $0.lowercased() } ?? ""
    guard id.lowercased().contains("/diskencryptionsets/"), configuration.encryptionSets.contains(name) else {
      throw Refusal(
        404, "NotFound", "DiskEncryptionSet \(id) is not found.", target: "disk.encryption.diskEncryptionSetId")
    }
  }

  private func checkPerformance(_ disk: StoredDisk) throws(Refusal) {
    let iops: ClosedRange<Int>
    let rate: ClosedRange<Int>
    let chosen = EmulatedCloud.performance(disk).iops
    if disk.sku == "UltraSSD_LRS" {
      iops = 100...min(400_000, max(100, disk.sizeGiB * 1000))
      rate = 1...max(1, min(10_000, chosen / 4))
    } else {
      iops = 3000...min(80_000, 3000 + max(0, disk.sizeGiB - 6) * 500)
      rate = 125...max(125, min(2000, chosen / 4))
    }
    for (parameter, value, range) in [
      ("disk.diskIOPSReadWrite", disk.iops, iops), ("disk.diskMBpsReadWrite", disk.megabytesPerSecond, rate),
    ] {
      guard let value, !range.contains(value) else { continue }
      throw Refusal.invalid(
        parameter,
        "The value '\(value)' of parameter '\(parameter)' is out of range. The value must be between "
          + "'\(range.lowerBound)' and '\(range.upperBound)', inclusive.")
    }
  }
}
