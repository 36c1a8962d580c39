import Foundation

extension EmulatedCloud {
  func diskKey(_ name: String) -> String { "\(configuration.resourceGroup.lowercased())/\(name.lowercased())" }

  func diskID(_ disk: StoredDisk) -> String {
    "/subscriptions/\(configuration.subscription)/resourceGroups/\(disk.resourceGroup)/providers/Microsoft.Compute/disks/"
      + disk.name
  }

  func missingDisk(_ name: String) -> Refusal {
    Refusal(
      404, "ResourceNotFound",
      "The Resource 'Microsoft.Compute/disks/\(name)' under resource group '\(configuration.resourceGroup)' was not "
        + "found. For more details please go to https://aka.ms/ARMResourceNotFoundFix")
  }

  // MARK: Reading

  static let pageSize = 1000

  mutating func listDisks(
    _ request: EmulatorRequest, group: String?, now: Double
  ) throws(Refusal) -> EmulatorResponse {
    let header = try takeCompute(Throttle.Rule.diskList, now: now)
    let keys = state.disks.keys.sorted()
    let after = request.query["$skiptoken"] ?? ""
    let page = keys.filter { $0 > after }.prefix(Self.pageSize)
    var body = JSONObject([("value", .array(page.compactMap { state.disks[$0].map { diskBody($0) } }))])
    if let last = page.last, last != keys.last {
      // Kept plain: what a key may hold needs no encoding but its slash.
      let token = last.replacingOccurrences(of: "/", with: "%2F")
      let path = request.rawPath.split(separator: "?").first.map(String.init) ?? ""
      body["nextLink"] = .string(
        "\(request.baseURL)\(path)?api-version=\(request.query["api-version"] ?? "")&$skiptoken=\(token)")
    }
    return EmulatorResponse(200, .object(body), headers: [header])
  }

  mutating func getDisk(_ request: EmulatorRequest, name: String, now: Double) throws(Refusal) -> EmulatorResponse {
    guard let disk = state.disks[diskKey(name)] else { throw missingDisk(name) }
    let header = try takeCompute(Throttle.Rule.diskRead, now: now)
    return EmulatorResponse(200, diskBody(disk), headers: [header])
  }

  /// A disk as the service writes it (recordings: test_disk_bursting, test_vm_ultra_ssd_disk_update).
  func diskBody(_ disk: StoredDisk) -> JSONValue {
    var sku: JSONValue = ["name": .string(disk.sku)]
    var properties = JSONObject([("creationData", disk.creationData)])
    if !disk.awaitsUpload, disk.isMade || !disk.isSizeImplied { properties["diskSizeGB"] = .int(disk.sizeGiB) }
    if disk.isMade {
      let kind = DiskKinds.all[disk.sku]
      sku = ["name": .string(disk.sku), "tier": .string(kind?.tier ?? "Standard")]
      addMade(disk, to: &properties)
    } else {
      if let iops = disk.iops { properties["diskIOPSReadWrite"] = .int(iops) }
      if let rate = disk.megabytesPerSecond { properties["diskMBpsReadWrite"] = .int(rate) }
    }
    for member in disk.otherProperties.object?.members ?? [] where member.name.lowercased() != "encryption" {
      properties[member.name] = member.value
    }
    if !disk.isMade, disk.sku == "UltraSSD_LRS", properties["maxShares"] != nil { properties["readOnly"] = false }
    if !disk.isMade, let encryption = disk.otherProperties["encryption"] { properties["encryption"] = encryption }
    properties["provisioningState"] = .string(disk.provisioning.rawValue)
    if disk.isMade { addState(disk, to: &properties) }
    var body = JSONObject([
      ("name", .string(disk.name)), ("id", .string(diskID(disk))), ("type", "Microsoft.Compute/disks"),
      ("location", .string(disk.location)),
    ])
    if let place = disk.extendedLocation { body["extendedLocation"] = place }
    if let tags = disk.tags { body["tags"] = .strings(tags) }
    // The first answer to a PUT doesn't have them (recording: test_vm_disk_create_zones).
    if let zones = disk.zones, disk.isMade { body["zones"] = .array(zones.map { .string($0) }) }
    if let machine = disk.machine.flatMap({ state.machines[$0] }) { body["managedBy"] = .string(machineID(machine)) }
    body["sku"] = sku
    body["properties"] = .object(properties)
    return .object(body)
  }

  /// What the service decides when it makes a disk.
  private func addMade(_ disk: StoredDisk, to properties: inout JSONObject) {
    let performance = Self.performance(disk)
    properties["diskIOPSReadWrite"] = .int(performance.iops)
    properties["diskMBpsReadWrite"] = .int(performance.megabytesPerSecond)
    var encryption = disk.otherProperties["encryption"]?.object ?? JSONObject()
    if encryption["type"] == nil {
      encryption["type"] =
        encryption["diskEncryptionSetId"] == nil
        ? "EncryptionAtRestWithPlatformKey" : "EncryptionAtRestWithCustomerKey"
    }
    properties["encryption"] = .object(encryption)
    properties["networkAccessPolicy"] = "AllowAll"
    properties["publicNetworkAccess"] = "Enabled"
    properties["timeCreated"] = .string(disk.timeCreated)
    if let since = disk.burstingSince { properties["burstingEnabledTime"] = .string(since) }
    guard disk.sku == "UltraSSD_LRS" || disk.sku == "PremiumV2_LRS" else { return }
    properties["readOnly"] = false
    properties["maxShares"] = 1
    if disk.sku == "UltraSSD_LRS" {
      properties["diskIOPSReadOnly"] = .int(Self.smallestUltra.iops)
      properties["diskMBpsReadOnly"] = .int(Self.smallestUltra.megabytesPerSecond)
    }
    guard disk.creationData["logicalSectorSize"] == nil, var data = disk.creationData.object else { return }
    data["logicalSectorSize"] = 4096
    properties["creationData"] = .object(data)
  }

  private func addState(_ disk: StoredDisk, to properties: inout JSONObject) {
    let machine = disk.machine.flatMap { state.machines[$0] }
    let word = machine.map { $0.isRunning ? "Attached" : "Reserved" } ?? "Unattached"
    properties["diskState"] = .string(disk.awaitsUpload ? "ReadyToUpload" : word)
    if !disk.awaitsUpload { properties["diskSizeBytes"] = .number(Double(disk.sizeGiB) * 1_073_741_824) }
    properties["uniqueId"] = .string(disk.uniqueID)
    if disk.sku.hasPrefix("Premium_"), properties["tier"] == nil,
      let tier = DiskKinds.premiumTier(sizeGiB: disk.sizeGiB)
    {
      properties["tier"] = .string(tier.name)
    }
    if let since = disk.ownershipSince { properties["LastOwnershipUpdateTime"] = .string(since) }
  }

  /// What an Ultra disk has where nobody says (recordings: test_vm_disk_max_shares_etc, test_vm_ultra_ssd_disk_update).
  static let smallestUltra = (iops: 100, megabytesPerSecond: 13)

  /// What the service gives a disk (FACTS: disks).
  static func performance(_ disk: StoredDisk) -> (iops: Int, megabytesPerSecond: Int) {
    switch disk.sku {
    case "Premium_LRS", "Premium_ZRS":
      let tier = DiskKinds.premiumTier(sizeGiB: disk.sizeGiB)
      return (tier?.iops ?? 20000, tier?.megabytesPerSecond ?? 900)
    case "PremiumV2_LRS": return (disk.iops ?? 3000, disk.megabytesPerSecond ?? 125)
    case "UltraSSD_LRS":
      return (
        disk.iops ?? smallestUltra.iops,
        disk.megabytesPerSecond ?? min(smallestUltra.megabytesPerSecond, max(1, (disk.iops ?? 100) / 4))
      )
    default: return (500, 60)
    }
  }

  // MARK: Writing

  func body(_ request: EmulatorRequest) throws(Refusal) -> JSONObject {
    guard let body = JSONValue.parse(request.body)?.object else {
      throw Refusal(
        400, "InvalidRequestContent",
        "The request content was invalid and could not be deserialized: the body is no JSON object.")
    }
    return body
  }

  mutating func putDisk(_ request: EmulatorRequest, name: String, now: Double) throws(Refusal) -> EmulatorResponse {
    let body = try body(request)
    try OpenAPIRules.check(body, as: .disk, version: request.query["api-version"] ?? "")
    guard AzureName.isDisk(name) else {
      throw Refusal(
        400, "InvalidParameter",
        "The entity name 'disk.name' is invalid according to its validation rule: ^[^_\\W][\\w-._]{0,79}(?<![-.])$.",
        target: "disk.name")
    }
    let key = diskKey(name)
    let old = state.disks[key]
    if let old, old.provisioning == .updating { throw busy(name) }
    var disk = try DiskReader(configuration, old: old, body: body, name: name).read()
    if old == nil {
      try checkQuota(disk)
      disk.uniqueID = makeUUID()
      disk.timeCreated = Self.timestamp(now)
    }
    disk.burstingSince = Self.burstingSince(disk, old, now: now)
    disk.performanceSetAt = try performanceSetAt(disk, old, now: now)
    let header = try takeCompute(Throttle.Rule.diskWrite, now: now)
    state.disks[key] = disk
    let operation = begin(
      .makeDisk(disk: key), location: disk.location, seconds: Durations.disk, request, now: now)
    // The body echoes what was asked for.
    var echo = disk
    echo.isMade = false
    return accepted(operation, request, folder: "DiskOperations", diskBody(echo)).with(header.name, header.value)
  }

  private static func burstingSince(_ disk: StoredDisk, _ old: StoredDisk?, now: Double) -> String? {
    disk.otherProperties["burstingEnabled"]?.flag == true ? old?.burstingSince ?? timestamp(now) : nil
  }

  /// Ultra and PremiumV2 disks have their performance set so often in a day, their making included
  /// (learn.microsoft.com/azure/virtual-machines/disks-types). The words of the refusal aren't recorded.
  static let performanceSettingsADay = 4

  private func performanceSetAt(
    _ disk: StoredDisk, _ old: StoredDisk?, now: Double
  ) throws(Refusal) -> [Double]? {
    guard DiskKinds.all[disk.sku]?.performanceSettable == true else { return nil }
    let recent = (old?.performanceSetAt ?? []).filter { now - $0 < scaled(24 * 3600) }
    if let old, old.sku == disk.sku, Self.performance(old) == Self.performance(disk) { return recent }
    guard recent.count < Self.performanceSettingsADay else {
      throw Refusal(
        409, "OperationNotAllowed",
        "The performance of disk \(disk.name) can be changed \(Self.performanceSettingsADay) times within 24 hours, its "
          + "creation included.", target: "disk.diskIOPSReadWrite")
    }
    return recent + [now]
  }

  mutating func patchDisk(_ request: EmulatorRequest, name: String, now: Double) throws(Refusal) -> EmulatorResponse {
    let body = try body(request)
    let key = diskKey(name)
    guard let old = state.disks[key] else { throw missingDisk(name) }
    if old.provisioning == .updating { throw busy(name) }
    try OpenAPIRules.check(body, as: .diskUpdate, version: request.query["api-version"] ?? "")
    var disk = try DiskReader(configuration, old: old, body: body, name: name).patched(old)
    disk.burstingSince = Self.burstingSince(disk, old, now: now)
    disk.performanceSetAt = try performanceSetAt(disk, old, now: now)
    let header = try takeCompute(Throttle.Rule.diskWrite, now: now)
    state.disks[key] = disk
    let operation = begin(
      .makeDisk(disk: key), location: disk.location, seconds: Durations.disk, request, now: now)
    return accepted(operation, request, folder: "DiskOperations", diskBody(disk)).with(header.name, header.value)
  }

  mutating func deleteDisk(
    _ request: EmulatorRequest, name: String, now: Double
  ) throws(Refusal) -> EmulatorResponse {
    let key = diskKey(name)
    guard let disk = state.disks[key] else { return EmulatorResponse(204) }
    if let machine = disk.machine.flatMap({ state.machines[$0] }) {
      throw Refusal(
        409, "OperationNotAllowed",
        "Disk \(name) is attached to VM \(machineID(machine)).", target: nil)
    }
    if disk.provisioning == .updating { throw busy(name) }
    let header = try takeCompute(Throttle.Rule.diskDelete, now: now)
    state.disks[key]?.provisioning = .updating
    let operation = begin(
      .deleteDisk(disk: key), location: disk.location, seconds: Durations.disk, request, now: now)
    return accepted(operation, request, folder: "DiskOperations", nil).with(header.name, header.value)
  }

  private func busy(_ name: String) -> Refusal {
    Refusal(
      409, "Conflict",
      "The request failed due to conflict with a concurrent request. To resolve it, please refer to "
        + "https://aka.ms/activitylog to get more details on the conflicting requests. (disk '\(name)')")
  }
}
