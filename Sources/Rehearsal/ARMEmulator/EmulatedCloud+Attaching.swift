/// Attaching and detaching data disks.
extension EmulatedCloud {
  // MARK: Attaching

  mutating func attachDetach(
    _ request: EmulatorRequest, name: String, now: Double
  ) throws(Refusal) -> EmulatorResponse {
    let key = name.lowercased()
    guard var machine = state.machines[key] else { throw missingMachine(name) }
    let header = try takeCompute(Throttle.Rule.machineAttach(key), now: now)
    let body = try self.body(request)
    try OpenAPIRules.check(body, as: .attachDetach, version: request.query["api-version"] ?? "")
    let attach = body["dataDisksToAttach"]?.items ?? []
    let detach = body["dataDisksToDetach"]?.items ?? []
    guard !attach.isEmpty || !detach.isEmpty else { throw Refusal.missing("dataDisksToAttach") }
    if machine.isUpdating { throw busyMachine }
    var detached: [String] = []
    for item in detach { detached.append(try markDetached(item, &machine)) }
    var attached: [String] = []
    for item in attach {
      if let disk = try enter(item, &machine, key: key) { attached.append(disk) }
    }
    try checkCount(machine)
    return changing(
      machine, attach: attached, detach: detached, request, now: now
    ) { cloud, machine in cloud.storageProfile(machine) }.with(header.name, header.value)
  }

  var busyMachine: Refusal {
    Refusal(
      409, "Conflict",
      "The request failed due to conflict with a concurrent request. To resolve it, please refer to "
        + "https://aka.ms/activitylog to get more details on the conflicting requests.")
  }

  func checkCount(_ machine: StoredMachine) throws(Refusal) {
    let limit = MachineSizes.all[machine.size]?.maxDataDisks ?? 64
    guard machine.dataDisks.filter({ !$0.toBeDetached }).count <= limit else {
      throw Refusal(
        409, "OperationNotAllowed",
        "The maximum number of data disks allowed to be attached to a VM of this size is \(limit).",
        target: "dataDisks")
    }
  }

  /// Begins the operation that changes `machine`; 200 with its status URL only, as the service has it (FACTS).
  mutating func changing(
    _ changed: StoredMachine, attach: [String], detach: [String], _ request: EmulatorRequest, now: Double,
    status: Int = 200, body: (EmulatedCloud, StoredMachine) -> JSONValue
  ) -> EmulatorResponse {
    var machine = changed
    let key = machine.name.lowercased()
    machine.isUpdating = true
    machine.etag += 1
    state.machines[key] = machine
    for disk in attach { state.disks[disk]?.machine = key }
    let operation = begin(
      .changeMachine(machine: key, attach: attach, detach: detach), location: machine.location,
      seconds: detach.isEmpty ? Durations.attach : Durations.detach, request, now: now)
    let url = operationURL(operation, request, folder: "operations", isMonitor: false)
    return EmulatorResponse(
      status, body(self, machine),
      headers: [
        ("Azure-AsyncOperation", url), ("azure-asyncnotification", "Enabled"), ("ETag", "\"\(machine.etag)\""),
      ] + retryAfter(scaled(Durations.machinePoll)))
  }

  /// Key of the disk that a resource id names.
  func diskKey(id: String) throws(Refusal) -> String {
    let parts = id.lowercased().split(separator: "/").map(String.init)
    guard parts.count == 8, parts[0] == "subscriptions", parts[2] == "resourcegroups", parts[6] == "disks" else {
      throw Refusal.invalid("dataDisk.managedDisk.id", "The value '\(id.prefix(300))' is no resource id of a disk.")
    }
    let key = "\(parts[3])/\(parts[7])"
    guard parts[1] == configuration.subscription.lowercased(), state.disks[key] != nil else {
      throw Refusal(404, "NotFound", "Disk \(id) is not found.")
    }
    return key
  }

  private func markDetached(_ item: JSONValue, _ machine: inout StoredMachine) throws(Refusal) -> String {
    guard let id = item["diskId"]?.text else { throw Refusal.missing("dataDisksToDetach.diskId") }
    let key = try diskKey(id: id)
    guard let index = machine.dataDisks.firstIndex(where: { $0.disk == key }) else {
      throw Refusal.invalid(
        "dataDisksToDetach.diskId", "Disk \(id) is not attached to VM '\(machine.name)'.")
    }
    machine.dataDisks[index].toBeDetached = true
    machine.dataDisks[index].detachOption = item["detachOption"]?.text
    return key
  }

  /// Nil where the disk is attached just so already.
  func enter(
    _ item: JSONValue, _ machine: inout StoredMachine, key machineKey: String
  ) throws(Refusal) -> String? {
    guard let id = item["diskId"]?.text else { throw Refusal.missing("dataDisksToAttach.diskId") }
    let key = try diskKey(id: id)
    guard let disk = state.disks[key] else { throw Refusal(404, "NotFound", "Disk \(id) is not found.") }
    let wanted = item["lun"]?.integer
    if let there = machine.dataDisks.first(where: { $0.disk == key }) {
      if there.toBeDetached {
        throw Refusal(
          409, "AttachDiskWhileBeingDetached",
          "Cannot attach data disk '\(disk.name)' to VM '\(machine.name)' because the disk is currently being detached "
            + "or the last detach operation failed. Please wait until the disk is completely detached and then try "
            + "again or delete/detach the disk explicitly again.")
      }
      if wanted == nil || wanted == there.lun { return nil }
      throw Refusal.invalid(
        "dataDisk.lun", "Disk '\(disk.name)' is attached to VM '\(machine.name)' at LUN \(there.lun) already.")
    }
    if let other = disk.machine, other != machineKey, let owner = state.machines[other] {
      throw Refusal(
        409, "ConflictingUserInput",
        "Cannot attach the disk \(disk.name) to VM \(machineID(machine)) because it is already attached to VM "
          + "\(machineID(owner)). A disk can be attached to only one VM at a time.")
    }
    if disk.provisioning != .succeeded {
      throw Refusal(
        409, "Conflict", "Disk '\(disk.name)' is being changed: its state is \(disk.provisioning.rawValue).")
    }
    let lun = wanted ?? (0...63).first { lun in !machine.dataDisks.contains { $0.lun == lun } } ?? 64
    guard (0...63).contains(lun) else {
      throw Refusal.invalid(
        "dataDisk.lun",
        "The value '\(lun)' of parameter 'dataDisk.lun' is out of range. Value '\(lun)' must be between '0' and '63', "
          + "inclusive.")
    }
    guard !machine.dataDisks.contains(where: { $0.lun == lun }) else {
      throw Refusal.invalid("dataDisk.lun", "A disk at LUN \(lun) already exists.")
    }
    let caching = item["caching"]?.text ?? "None"
    let accelerated = item["writeAcceleratorEnabled"]?.flag
    try check(disk, caching, machine)
    machine.dataDisks.append(
      StoredMachine.DataDisk(
        lun: lun, disk: key, caching: caching, deleteOption: item["deleteOption"]?.text ?? "Detach",
        writeAccelerator: accelerated, toBeDetached: false))
    return key
  }

  func check(_ disk: StoredDisk, _ caching: String, _ machine: StoredMachine) throws(Refusal) {
    guard ["None", "ReadOnly", "ReadWrite"].contains(caching) else {
      throw Refusal.invalid("dataDisk.caching", "The value '\(caching)' of parameter 'dataDisk.caching' is invalid.")
    }
    let kind = DiskKinds.all[disk.sku]
    if caching != "None", kind?.hostCaching == false || disk.sizeGiB >= 4096 {
      throw Refusal.invalid(
        "dataDisk.caching",
        "Caching mode '\(caching)' is not supported on disk '\(disk.name)' of type \(disk.sku) and "
          + "\(disk.sizeGiB) GiB; use 'None'.")
    }
    if disk.sku == "UltraSSD_LRS", !machine.isUltraEnabled {
      throw Refusal.invalid(
        "managedDisk.storageAccountType",
        "StorageAccountType UltraSSD_LRS can be used only when additionalCapabilities.ultraSSDEnabled is set.")
    }
    if let zones = disk.zones, zones != (machine.zone.map { [$0] } ?? []) {
      throw Refusal(
        400, "BadRequest",
        "Disk \(diskID(disk)) cannot be attached to the VM because it is not in zone '\(machine.zone ?? "")'.")
    }
  }
}
