/// Making, changing, removing machines, and their power.
extension EmulatedCloud {
  mutating func putMachine(_ request: EmulatorRequest, name: String, now: Double) throws(Refusal) -> EmulatorResponse {
    let body = try body(request)
    try OpenAPIRules.check(body, as: .machine, version: request.query["api-version"] ?? "")
    return try changeMachine(request, body, name: name, isPatch: false, now: now)
  }

  mutating func patchMachine(
    _ request: EmulatorRequest, name: String, now: Double
  ) throws(Refusal) -> EmulatorResponse {
    guard state.machines[name.lowercased()] != nil else { throw missingMachine(name) }
    let body = try body(request)
    try OpenAPIRules.check(body, as: .machineUpdate, version: request.query["api-version"] ?? "")
    return try changeMachine(request, body, name: name, isPatch: true, now: now)
  }

  private mutating func changeMachine(
    _ request: EmulatorRequest, _ body: JSONObject, name: String, isPatch: Bool, now: Double
  ) throws(Refusal) -> EmulatorResponse {
    let key = name.lowercased()
    let old = state.machines[key]
    if let old {
      try checkMatch(request, old)
      if old.isUpdating { throw busyMachine }
    }
    let header = try takeCompute(Throttle.Rule.machineWrite(key), now: now)
    var machine = try readMachine(body, name: name, old: old, isPatch: isPatch, now: now)
    var disks = DataDiskChanges()
    if let wanted = body["properties"]?["storageProfile"]?["dataDisks"]?.items {
      disks = try readDataDisks(wanted, &machine, now: now)
      try checkCount(machine)
    }
    for disk in disks.new { state.disks[diskKey(disk.name)] = disk }
    return changing(
      machine, attach: disks.attach, detach: disks.detach, request, now: now, status: old == nil ? 201 : 200
    ) { cloud, machine in cloud.machineBody(machine, withView: false) }.with(header.name, header.value)
  }

  /// `If-Match` and `If-None-Match`: an update that rests on an older picture is refused.
  private func checkMatch(_ request: EmulatorRequest, _ machine: StoredMachine) throws(Refusal) {
    let current = "\"\(machine.etag)\""
    let wanted = request.headers["if-match"]
    guard wanted == nil || wanted == "*" || wanted == current, request.headers["if-none-match"] != "*" else {
      throw Refusal(
        412, "ConditionNotMet",
        "The precondition given in the request headers evaluates to false: the etag of '\(machine.name)' is \(current)."
      )
    }
  }

  private static let ownMembers: Set<String> = [
    "name", "id", "type", "location", "tags", "zones", "properties", "etag", "resources",
  ]
  private static let readOnlyProperties: Set<String> = [
    "provisioningstate", "vmid", "instanceview", "timecreated",
  ]

  private func readMachine(
    _ body: JSONObject, name: String, old: StoredMachine?, isPatch: Bool, now: Double
  ) throws(Refusal) -> StoredMachine {
    guard AzureName.isMachine(name) else {
      throw Refusal.invalid("vmName", "The entity name 'vmName' is invalid according to its validation rule.")
    }
    guard let location = body["location"]?.text.map(DiskReader.plainLocation) ?? old?.location else {
      throw Refusal(400, "LocationRequired", "The location property is required for this definition.")
    }
    if let old, old.location != location {
      throw Refusal(
        409, "InvalidResourceLocation",
        "The resource '\(name)' already exists in location '\(old.location)' in resource group "
          + "'\(configuration.resourceGroup)'. A resource with the same name cannot be created in location "
          + "'\(location)'. Please select a new resource name.")
    }
    let properties = body["properties"]?.object ?? JSONObject()
    let size = properties["hardwareProfile"]?["vmSize"]?.text ?? old?.size ?? "Standard_DS1_v2"
    guard MachineSizes.all[size] != nil else {
      throw Refusal.invalid(
        "vmSize",
        "The value \(size) provided for the VM size is not valid. The valid sizes in the current region are: "
          + "\(MachineSizes.all.keys.sorted().joined(separator: ", ")). Find out more on the valid VM sizes in each "
          + "region at https://aka.ms/azure-regions.")
    }
    var machine =
      old
      ?? StoredMachine(
        name: name, location: location, size: size, identifier: makeUUID(), timeCreated: Self.timestamp(now),
        isNew: true)
    machine.size = size
    if let zones = body["zones"]?.items?.compactMap(\.text), old == nil { machine.zones = zones.isEmpty ? nil : zones }
    if let tags = body["tags"]?.strings { machine.tags = tags }
    machine.profile = Self.withoutSecrets(.object(Self.merged(machine.profile.object ?? JSONObject(), properties)))
    var extras = machine.extras.object ?? JSONObject()
    for member in body.members where !Self.ownMembers.contains(member.name.lowercased()) {
      extras[member.name] = member.value
    }
    machine.extras = .object(extras)
    return machine
  }

  /// What a request leaves out stays; data disks and what only the service writes are kept elsewhere.
  private static func merged(_ old: JSONObject, _ new: JSONObject) -> JSONObject {
    var result = old
    for member in new.members where !readOnlyProperties.contains(member.name.lowercased()) && !member.value.isNull {
      guard member.name.lowercased() == "storageprofile" else {
        result[member.name] = member.value
        continue
      }
      var storage = old["storageProfile"]?.object ?? JSONObject()
      for inner in member.value.object?.members ?? [] where inner.name.lowercased() != "datadisks" {
        storage[inner.name] = inner.value
      }
      result["storageProfile"] = .object(storage)
    }
    return result
  }

  // MARK: The data disks of a PUT

  /// What a whole list of data disks changes.
  private struct DataDiskChanges {
    var attach: [String] = []
    var detach: [String] = []
    /// Disks that don't exist yet.
    var new: [StoredDisk] = []
  }

  private func readDataDisks(
    _ wanted: [JSONValue], _ machine: inout StoredMachine, now: Double
  ) throws(Refusal) -> DataDiskChanges {
    var changes = DataDiskChanges()
    var luns: Set<Int> = []
    var kept: Set<String> = []
    for item in wanted {
      guard let lun = item["lun"]?.integer else { throw Refusal.missing("dataDisk.lun") }
      guard luns.insert(lun).inserted else {
        throw Refusal.invalid("dataDisk.lun", "A disk at LUN \(lun) already exists.")
      }
      if let key = currentDisk(item, lun, machine) {
        kept.insert(key)
        if item["toBeDetached"]?.flag == true { changes.detach.append(key) }
        continue
      }
      guard let key = try newDisk(item, machine, &changes.new, now: now) else { continue }
      kept.insert(key)
      changes.attach.append(key)
    }
    changes.detach += machine.dataDisks.map(\.disk).filter { !kept.contains($0) }
    for index in machine.dataDisks.indices where changes.detach.contains(machine.dataDisks[index].disk) {
      machine.dataDisks[index].toBeDetached = true
    }
    for item in wanted {
      guard let key = changes.attach.first(where: { Self.names(item, $0) }) else { continue }
      try enterNew(item, key, &machine, changes.new)
    }
    return changes
  }

  /// Whether an item of the list is about the disk of this key.
  private static func names(_ item: JSONValue, _ key: String) -> Bool {
    let name = item["managedDisk"]?["id"]?.text.flatMap { $0.split(separator: "/").last }.map(String.init)
    return key.split(separator: "/").last.map(String.init) == (name ?? item["name"]?.text ?? "").lowercased()
  }

  /// The attached disk that an item speaks of.
  private func currentDisk(_ item: JSONValue, _ lun: Int, _ machine: StoredMachine) -> String? {
    machine.dataDisks.first { data in
      if let id = item["managedDisk"]?["id"]?.text, let disk = state.disks[data.disk] {
        return diskID(disk).lowercased() == id.lowercased()
      }
      return data.lun == lun && state.disks[data.disk]?.name.lowercased() == item["name"]?.text?.lowercased()
    }?.disk
  }

  /// Key of a disk to attach; made with the machine's change where the request has it so.
  private func newDisk(
    _ item: JSONValue, _ machine: StoredMachine, _ new: inout [StoredDisk], now: Double
  ) throws(Refusal) -> String? {
    if let id = item["managedDisk"]?["id"]?.text { return try diskKey(id: id) }
    // Disks in a storage account of the owner's are none that this emulator keeps.
    if item["vhd"] != nil { return nil }
    let lun = item["lun"]?.integer ?? 0
    let name = item["name"]?.text ?? "\(machine.name)_disk\(lun + 2)_\(makeUUID().filter { $0 != "-" })"
    if item["createOption"]?.text == "Attach" { return try diskKey(id: diskID(named: name)) }
    guard state.disks[diskKey(name)] == nil else {
      throw Refusal(409, "Conflict", "Disk \(name) already exists in resource group \(configuration.resourceGroup).")
    }
    guard let size = item["diskSizeGB"]?.integer ?? (item["createOption"]?.text == "Empty" ? nil : 30) else {
      throw Refusal.missing("dataDisk.diskSizeGB")
    }
    let sku = item["managedDisk"]?["storageAccountType"]?.text ?? "Premium_LRS"
    var body = JSONObject([
      ("location", .string(machine.location)), ("sku", ["name": .string(sku)]),
      ("properties", ["creationData": ["createOption": "Empty"], "diskSizeGB": .int(size)]),
    ])
    if let zone = machine.zone, !sku.hasSuffix("_ZRS") { body["zones"] = [.string(zone)] }
    var disk = try DiskReader(configuration, old: nil, body: body, name: name).read()
    disk.uniqueID = makeUUID()
    disk.timeCreated = Self.timestamp(now)
    new.append(disk)
    return diskKey(name)
  }

  func diskID(named name: String) -> String {
    "/subscriptions/\(configuration.subscription)/resourceGroups/\(configuration.resourceGroup)/providers/"
      + "Microsoft.Compute/disks/\(name)"
  }

  private func enterNew(
    _ item: JSONValue, _ key: String, _ machine: inout StoredMachine, _ new: [StoredDisk]
  ) throws(Refusal) {
    guard let disk = new.first(where: { diskKey($0.name) == key }) else {
      var asked = item.object ?? JSONObject()
      asked["diskId"] = state.disks[key].map { .string(diskID($0)) }
      _ = try enter(.object(asked), &machine, key: machine.name.lowercased())
      return
    }
    let caching = item["caching"]?.text ?? "None"
    let lun = item["lun"]?.integer ?? 0
    guard (0...63).contains(lun) else {
      throw Refusal.invalid("dataDisk.lun", "The value '\(lun)' of parameter 'dataDisk.lun' is out of range.")
    }
    guard !machine.dataDisks.contains(where: { $0.lun == lun }) else {
      throw Refusal.invalid("dataDisk.lun", "A disk at LUN \(lun) already exists.")
    }
    try check(disk, caching, machine)
    machine.dataDisks.append(
      StoredMachine.DataDisk(
        lun: lun, disk: key, createOption: item["createOption"]?.text ?? "Empty", caching: caching,
        deleteOption: item["deleteOption"]?.text ?? "Detach",
        writeAccelerator: item["writeAcceleratorEnabled"]?.flag, toBeDetached: false))
  }

  // MARK: Removing, and power

  mutating func deleteMachine(
    _ request: EmulatorRequest, name: String, now: Double
  ) throws(Refusal) -> EmulatorResponse {
    let key = name.lowercased()
    guard let machine = state.machines[key] else { return EmulatorResponse(204) }
    let header = try takeCompute(Throttle.Rule.machineDelete(key), now: now)
    state.machines[key]?.isUpdating = true
    let operation = begin(
      .deleteMachine(machine: key), location: machine.location, seconds: Durations.detach, request, now: now)
    return accepted(operation, request, folder: "operations", nil)
      .with("azure-asyncnotification", "Enabled").with(header.name, header.value)
  }

  mutating func power(
    _ request: EmulatorRequest, name: String, isRunning: Bool, now: Double
  ) throws(Refusal) -> EmulatorResponse {
    let key = name.lowercased()
    guard let machine = state.machines[key] else { throw missingMachine(name) }
    if machine.isUpdating { throw busyMachine }
    let header = try takeCompute(Throttle.Rule.machineDelete(key), now: now)
    state.machines[key]?.isUpdating = true
    state.machines[key]?.etag += 1
    let operation = begin(
      .power(machine: key, isRunning: isRunning), location: machine.location, seconds: Durations.detach, request,
      now: now)
    return accepted(operation, request, folder: "operations", nil)
      .with("azure-asyncnotification", "Enabled").with(header.name, header.value)
  }
}
