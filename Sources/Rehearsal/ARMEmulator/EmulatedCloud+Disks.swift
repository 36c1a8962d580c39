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
    var properties = JSONObject([("creationData", disk.creationData), ("diskSizeGB", .int(disk.sizeGiB))])
    if disk.isMade {
      let kind = DiskKinds.all[disk.sku]
      sku = ["name": .string(disk.sku), "tier": .string(kind?.tier ?? "Standard")]
      let performance = Self.performance(disk)
      properties["diskIOPSReadWrite"] = .int(performance.iops)
      properties["diskMBpsReadWrite"] = .int(performance.megabytesPerSecond)
      properties["encryption"] = ["type": "EncryptionAtRestWithPlatformKey"]
      properties["networkAccessPolicy"] = "AllowAll"
      properties["publicNetworkAccess"] = "Enabled"
      properties["timeCreated"] = .string(disk.timeCreated)
    } else {
      if let iops = disk.iops { properties["diskIOPSReadWrite"] = .int(iops) }
      if let rate = disk.megabytesPerSecond { properties["diskMBpsReadWrite"] = .int(rate) }
    }
    for member in disk.otherProperties.object?.members ?? [] { properties[member.name] = member.value }
    properties["provisioningState"] = .string(disk.provisioning.rawValue)
    if disk.isMade {
      properties["diskState"] = disk.machine == nil ? "Unattached" : "Attached"
      properties["diskSizeBytes"] = .number(Double(disk.sizeGiB) * 1_073_741_824)
      properties["uniqueId"] = .string(disk.uniqueID)
      if disk.sku.hasPrefix("Premium_"), let tier = DiskKinds.premiumTier(sizeGiB: disk.sizeGiB) {
        properties["tier"] = .string(tier.name)
      }
      if let since = disk.ownershipSince { properties["LastOwnershipUpdateTime"] = .string(since) }
    }
    var body = JSONObject([
      ("name", .string(disk.name)), ("id", .string(diskID(disk))), ("type", "Microsoft.Compute/disks"),
      ("location", .string(disk.location)),
    ])
    if let tags = disk.tags { body["tags"] = .strings(tags) }
    if let zones = disk.zones { body["zones"] = .array(zones.map { .string($0) }) }
    if let machine = disk.machine.flatMap({ state.machines[$0] }) { body["managedBy"] = .string(machineID(machine)) }
    body["sku"] = sku
    body["properties"] = .object(properties)
    return .object(body)
  }

  /// What the service gives a disk (FACTS: disks).
  static func performance(_ disk: StoredDisk) -> (iops: Int, megabytesPerSecond: Int) {
    switch disk.sku {
    case "Premium_LRS", "Premium_ZRS":
      let tier = DiskKinds.premiumTier(sizeGiB: disk.sizeGiB)
      return (tier?.iops ?? 20000, tier?.megabytesPerSecond ?? 900)
    case "PremiumV2_LRS": return (disk.iops ?? 3000, disk.megabytesPerSecond ?? 125)
    case "UltraSSD_LRS":
      let iops = disk.iops ?? min(400_000, max(100, disk.sizeGiB * 4))
      return (iops, disk.megabytesPerSecond ?? max(1, min(10_000, iops / 4)))
    default: return (500, 60)
    }
  }

  // MARK: Writing

  private func body(_ request: EmulatorRequest) throws(Refusal) -> JSONObject {
    guard let body = JSONValue.parse(request.body)?.object else {
      throw Refusal(
        400, "InvalidRequestContent",
        "The request content was invalid and could not be deserialized: the body is no JSON object.")
    }
    return body
  }

  mutating func putDisk(_ request: EmulatorRequest, name: String, now: Double) throws(Refusal) -> EmulatorResponse {
    let body = try body(request)
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
    if let old, old.machine != nil, disk.sizeGiB != old.sizeGiB, old.sku.hasPrefix("Standard_") {
      var refusal = Refusal(
        409, "OperationNotAllowed", "Cannot resize disk \(name) while it is attached to running VM.")
      refusal.target = "disk.diskSizeGB"
      throw refusal
    }
    if old == nil {
      disk.uniqueID = makeUUID()
      disk.timeCreated = Self.timestamp(now)
    }
    let header = try takeCompute(Throttle.Rule.diskWrite, now: now)
    state.disks[key] = disk
    let operation = begin(.makeDisk(disk: key), seconds: Durations.disk, request, now: now)
    // The body echoes what was asked for.
    var echo = disk
    echo.isMade = false
    return accepted(operation, request, folder: "DiskOperations", diskBody(echo)).with(header.name, header.value)
  }

  mutating func patchDisk(_ request: EmulatorRequest, name: String, now: Double) throws(Refusal) -> EmulatorResponse {
    let body = try body(request)
    let key = diskKey(name)
    guard let old = state.disks[key] else { throw missingDisk(name) }
    if old.provisioning == .updating { throw busy(name) }
    let disk = try DiskReader(configuration, old: old, body: body, name: name).patched(old)
    let header = try takeCompute(Throttle.Rule.diskWrite, now: now)
    state.disks[key] = disk
    let operation = begin(.makeDisk(disk: key), seconds: Durations.disk, request, now: now)
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
    let operation = begin(.deleteDisk(disk: key), seconds: Durations.disk, request, now: now)
    return accepted(operation, request, folder: "DiskOperations", nil).with(header.name, header.value)
  }

  private func busy(_ name: String) -> Refusal {
    Refusal(
      409, "Conflict",
      "The request failed due to conflict with a concurrent request. To resolve it, please refer to "
        + "https://aka.ms/activitylog to get more details on the conflicting requests. (disk '\(name)')")
  }
}
