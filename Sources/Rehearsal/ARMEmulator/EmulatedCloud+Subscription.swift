/// What a subscription may do and has: versions, permissions, usages, regions, SKUs.
extension EmulatedCloud {
  func checkVersion(_ request: EmulatorRequest) throws(Refusal) {
    guard let version = request.query["api-version"], !version.isEmpty else {
      throw Refusal(
        400, "MissingApiVersionParameter",
        "The api-version query parameter (?api-version=) is required for all requests.")
    }
    let parts = version.split(separator: "-")
    let isDate =
      parts.count >= 3 && parts.count <= 4 && parts[0].count == 4 && parts[1].count == 2 && parts[2].count == 2
      && parts[0...2].allSatisfy { Int($0) != nil } && (parts.count == 3 || parts[3] == "preview")
    guard isDate else {
      throw Refusal(400, "InvalidApiVersionParameter", "The api-version '\(version)' is invalid.")
    }
    guard let supported = APIVersions.supported(request.folded), !supported.versions.contains(version) else { return }
    throw Refusal(
      400, "NoRegisteredProviderFound",
      "No registered resource provider found for location '\(configuration.location)' and API version '\(version)' for "
        + "type '\(supported.type)'. The supported api-versions are '\(supported.versions.joined(separator: ", "))'.")
  }

  // MARK: Permissions

  /// The role's action that a request needs; nil where none does.
  private static func action(_ request: EmulatorRequest) -> String? {
    let path = request.folded
    guard path.contains("microsoft.compute") else { return nil }
    let verb = ["GET": "read", "DELETE": "delete"][request.method] ?? "write"
    if path.last == "attachdetachdatadisks" { return "Microsoft.Compute/virtualMachines/attachDetachDataDisks/action" }
    if request.method == "POST", path.contains("virtualmachines"), let last = path.last {
      return "Microsoft.Compute/virtualMachines/\(last)/action"
    }
    if path.contains("disks") { return "Microsoft.Compute/disks/\(verb)" }
    if path.contains("diskencryptionsets") { return "Microsoft.Compute/diskEncryptionSets/\(verb)" }
    if path.contains("virtualmachines") { return "Microsoft.Compute/virtualMachines/\(verb)" }
    if path.contains("skus") { return "Microsoft.Compute/skus/read" }
    if path.contains("usages") { return "Microsoft.Compute/locations/usages/read" }
    if path.contains("diskoperations") { return "Microsoft.Compute/locations/diskOperations/read" }
    if path.contains("operations") { return "Microsoft.Compute/locations/operations/read" }
    return nil
  }

  func checkPermission(_ request: EmulatorRequest) throws(Refusal) {
    guard let action = Self.action(request), configuration.deniedActions.contains(action.lowercased()) else { return }
    let scope = "/" + request.path.joined(separator: "/")
    throw Refusal(
      403, "AuthorizationFailed",
      "The client '\(configuration.clientID)' with object id '33333333-3333-3333-3333-333333333333' does not have "
        + "authorization to perform action '\(action)' over scope '\(scope)' or the scope is invalid. If access was "
        + "recently granted, please refresh your credentials.")
  }

  var permissions: JSONValue {
    [
      "value": [
        [
          "actions": ["*"], "notActions": .array(configuration.deniedActions.sorted().map { .string($0) }),
          "dataActions": [], "notDataActions": [],
        ]
      ]
    ]
  }

  // MARK: Usages

  /// Names of usages aren't in the OpenAPI files; these are what `az vm list-usage` shows.
  private static let diskUsages: [(sku: String, name: String, text: String)] = [
    ("Standard_LRS", "StandardDiskCount", "Standard Storage Managed Disks"),
    ("Premium_LRS", "PremiumDiskCount", "Premium Storage Managed Disks"),
    ("StandardSSD_LRS", "StandardSSDDiskCount", "StandardSSD Storage Managed Disks"),
    ("StandardSSD_ZRS", "StandardSSDZRSDiskCount", "StandardSSD ZRS Storage Managed Disks"),
    ("Premium_ZRS", "PremiumZRSDiskCount", "Premium ZRS Storage Managed Disks"),
    ("PremiumV2_LRS", "PremiumV2DiskCount", "PremiumV2 Storage Managed Disks"),
    ("UltraSSD_LRS", "UltraSSDDiskCount", "UltraSSD Storage Managed Disks"),
  ]
  private static let usualDiskLimit = 50_000

  private func limit(_ name: String) -> Int { configuration.quotas[name.lowercased()] ?? Self.usualDiskLimit }

  private func count(sku: String, in location: String) -> Int {
    state.disks.values.filter { $0.sku == sku && $0.location == location }.count
  }

  func usages(location: String) throws(Refusal) -> EmulatorResponse {
    let location = DiskReader.plainLocation(location)
    guard AzureRegions.all[location] != nil else {
      throw Refusal(400, "InvalidParameter", "The location '\(location)' is unknown.", target: "location")
    }
    func usage(_ name: String, _ text: String, _ current: Int, _ limit: Int) -> JSONValue {
      [
        "limit": .int(limit), "unit": "Count", "currentValue": .int(current),
        "name": ["value": .string(name), "localizedValue": .string(text)],
      ]
    }
    let machines = state.machines.values.filter { $0.location == location }
    let cores = machines.map { MachineSizes.all[$0.size]?.cores ?? 0 }.reduce(0, +)
    let values =
      [
        usage("cores", "Total Regional vCPUs", cores, 350),
        usage("virtualMachines", "Virtual Machines", machines.count, 25_000),
      ]
      + Self.diskUsages.map { usage($0.name, $0.text, count(sku: $0.sku, in: location), limit($0.name)) }
    return EmulatorResponse(200, ["value": .array(values)])
  }

  /// A new disk within the quota of its kind.
  func checkQuota(_ disk: StoredDisk) throws(Refusal) {
    guard let usage = Self.diskUsages.first(where: { $0.sku == disk.sku }) else { return }
    let current = count(sku: disk.sku, in: disk.location)
    guard current + 1 > limit(usage.name) else { return }
    throw Refusal(
      409, "OperationNotAllowed",
      "Operation could not be completed as it results in exceeding approved \(usage.name) quota. Additional details - "
        + "Location: \(disk.location), Current Limit: \(limit(usage.name)), Current Usage: \(current), Additional "
        + "Required: 1, (Minimum) New Limit Required: \(current + 1).")
  }

  func getEncryptionSet(name: String) throws(Refusal) -> EmulatorResponse {
    guard configuration.encryptionSets.contains(name.lowercased()) else {
      throw Refusal(
        404, "ResourceNotFound",
        "The Resource 'Microsoft.Compute/diskEncryptionSets/\(name)' under resource group "
          + "'\(configuration.resourceGroup)' was not found. For more details please go to "
          + "https://aka.ms/ARMResourceNotFoundFix")
    }
    let group = "/subscriptions/\(configuration.subscription)/resourceGroups/\(configuration.resourceGroup)"
    return EmulatorResponse(
      200,
      [
        "name": .string(name), "id": .string("\(group)/providers/Microsoft.Compute/diskEncryptionSets/\(name)"),
        "type": "Microsoft.Compute/diskEncryptionSets", "location": .string(configuration.location),
        "properties": ["encryptionType": "EncryptionAtRestWithCustomerKey", "provisioningState": "Succeeded"],
      ])
  }

  // MARK: Regions and SKUs

  var locations: JSONValue {
    let regions = AzureRegions.all.values.sorted { $0.name < $1.name }.map { region -> JSONValue in
      var object = JSONObject([
        ("id", .string("/subscriptions/\(configuration.subscription)/locations/\(region.name)")),
        ("name", .string(region.name)), ("type", "Region"), ("displayName", .string(region.displayName)),
        ("regionalDisplayName", .string("(\(region.geography)) \(region.displayName)")),
        (
          "metadata",
          [
            "regionType": "Physical", "regionCategory": .string(region.zones.isEmpty ? "Other" : "Recommended"),
            "geographyGroup": .string(region.geography),
          ]
        ),
      ])
      if !region.zones.isEmpty {
        object["availabilityZoneMappings"] = .array(
          region.zones.map {
            ["logicalZone": .string($0), "physicalZone": .string("\(region.name)-az\($0)")]
          })
      }
      return .object(object)
    }
    return ["value": .array(regions)]
  }

  /// `$filter=location eq 'westeurope'` is all that the service takes.
  func listSKUs(_ request: EmulatorRequest) -> EmulatorResponse {
    let wanted = request.query["$filter"]?.split(separator: "'").dropFirst().first.map {
      DiskReader.plainLocation(String($0))
    }
    let regions = AzureRegions.all.values.filter { wanted == nil || $0.name == wanted }.sorted { $0.name < $1.name }
    let entries = regions.flatMap { region in
      DiskKinds.all.values.filter { !region.lacks.contains($0.name) }.sorted { $0.name < $1.name }.flatMap {
        diskSKUs($0, region)
      } + MachineSizes.all.sorted { $0.key < $1.key }.map { machineSKU($0.key, $0.value, region) }
    }
    return EmulatorResponse(200, ["value": .array(entries)])
  }

  private func entry(
    _ type: String, _ name: String, tier: String, size: String, _ region: AzureRegion, zoneDetails: [JSONValue] = [],
    _ capabilities: [(String, String)]
  ) -> JSONValue {
    let location = JSONValue.string(region.name)
    var restrictions: [JSONValue] = []
    if configuration.restrictedSKUs.contains(name.lowercased()) {
      restrictions = [
        [
          "type": "Location", "values": [location], "restrictionInfo": ["locations": [location]],
          "reasonCode": "NotAvailableForSubscription",
        ]
      ]
    }
    return [
      "resourceType": .string(type), "name": .string(name), "tier": .string(tier), "size": .string(size),
      "locations": [location],
      "locationInfo": [
        [
          "location": location, "zones": .array(region.zones.map { .string($0) }),
          "zoneDetails": .array(zoneDetails),
        ]
      ], "capabilities": .array(capabilities.map { ["name": .string($0.0), "value": .string($0.1)] }),
      "restrictions": .array(restrictions),
    ]
  }

  /// A disk's SKU: one entry for each tier where it has tiers, as the service lists them.
  private func diskSKUs(_ kind: DiskKind, _ region: AzureRegion) -> [JSONValue] {
    guard kind.name.hasPrefix("Premium_") else {
      let limits = kind.limits
      return [
        entry(
          "disks", kind.name, tier: kind.tier, size: kind.sizeLetter, region,
          [
            ("MaxSizeGiB", String(kind.sizesGiB.upperBound)), ("MinSizeGiB", String(kind.sizesGiB.lowerBound)),
            ("MaxIOps", String(limits.iops.upperBound)), ("MinIOps", String(limits.iops.lowerBound)),
            ("MaxBandwidthMBps", String(limits.rate.upperBound)), ("MinBandwidthMBps", String(limits.rate.lowerBound)),
          ])
      ]
    }
    var below = 0
    return DiskKinds.premiumTiers.map { tier in
      defer { below = tier.sizeGiB }
      return entry(
        "disks", kind.name, tier: kind.tier, size: tier.name, region,
        [
          ("MaxSizeGiB", String(tier.sizeGiB)), ("MinSizeGiB", String(below)), ("MaxIOps", String(tier.iops)),
          ("MinIOps", String(tier.iops)), ("MaxBandwidthMBps", String(tier.megabytesPerSecond)),
          ("MinBandwidthMBps", String(tier.megabytesPerSecond)),
        ])
    }
  }

  private func machineSKU(_ name: String, _ size: MachineSize, _ region: AzureRegion) -> JSONValue {
    var details: [JSONValue] = []
    if size.takesPremium, !region.zones.isEmpty {
      details = [
        [
          "name": .array(region.zones.map { .string($0) }),
          "capabilities": [["name": "UltraSSDAvailable", "value": "True"]],
        ]
      ]
    }
    return entry(
      "virtualMachines", name, tier: "Standard", size: String(name.dropFirst("Standard_".count)), region,
      zoneDetails: details,
      [
        ("vCPUs", String(size.cores)), ("HyperVGenerations", "V1,V2"), ("MemoryGB", String(size.memoryGiB)),
        ("MaxDataDiskCount", String(size.maxDataDisks)), ("CpuArchitectureType", "x64"),
        ("PremiumIO", size.takesPremium ? "True" : "False"), ("VMDeploymentTypes", "IaaS"),
        ("UncachedDiskIOPS", String(size.uncachedIOPS)),
        ("UncachedDiskBytesPerSecond", String(size.uncachedMegabytesPerSecond * 1_048_576)),
        ("EncryptionAtHostSupported", "True"), ("AcceleratedNetworkingEnabled", "True"),
      ])
  }
}
