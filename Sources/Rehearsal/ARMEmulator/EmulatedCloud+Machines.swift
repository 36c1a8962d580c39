extension EmulatedCloud {
  func machineID(_ machine: StoredMachine) -> String {
    "/subscriptions/\(configuration.subscription)/resourceGroups/\(configuration.resourceGroup)/providers/"
      + "Microsoft.Compute/virtualMachines/\(machine.name)"
  }

  private func missingMachine(_ name: String) -> Refusal {
    Refusal(
      404, "ResourceNotFound",
      "The Resource 'Microsoft.Compute/virtualMachines/\(name)' under resource group "
        + "'\(configuration.resourceGroup)' was not found. For more details please go to "
        + "https://aka.ms/ARMResourceNotFoundFix")
  }

  /// The machines that the command line names exist; those of earlier runs stay with what they had.
  mutating func enterMachines(now: Double) {
    for machine in configuration.machines {
      let key = machine.name.lowercased()
      if state.machines[key] == nil {
        state.machines[key] = StoredMachine(
          name: machine.name, size: machine.size, zone: machine.zone, root: machine.root, identifier: makeUUID(),
          timeCreated: Self.timestamp(now))
      } else {
        state.machines[key]?.size = machine.size
        state.machines[key]?.zone = machine.zone
        state.machines[key]?.root = machine.root
      }
    }
  }

  func listMachines(_ request: EmulatorRequest) -> EmulatorResponse {
    let machines = state.machines.sorted { $0.key < $1.key }.map { machineBody($0.value, withView: false) }
    return EmulatorResponse(200, ["value": .array(machines)])
  }

  mutating func getMachine(
    _ request: EmulatorRequest, name: String, now: Double
  ) throws(Refusal) -> EmulatorResponse {
    guard let machine = state.machines[name.lowercased()] else { throw missingMachine(name) }
    let header = try takeCompute(Throttle.Rule.machineRead(name.lowercased()), now: now)
    let withView = request.query["$expand"]?.lowercased() == "instanceview"
    return EmulatorResponse(
      200, machineBody(machine, withView: withView), headers: [header, ("ETag", "\"\(machine.etag)\"")])
  }

  private func storageProfile(_ machine: StoredMachine) -> JSONValue {
    let disks = machine.dataDisks.sorted { $0.lun < $1.lun }.compactMap { data -> JSONValue? in
      guard let disk = state.disks[data.disk] else { return nil }
      var object = JSONObject([
        ("lun", .int(data.lun)), ("name", .string(disk.name)), ("createOption", "Attach"),
        ("caching", .string(data.caching)), ("writeAcceleratorEnabled", .bool(data.writeAccelerator)),
        ("managedDisk", ["storageAccountType": .string(disk.sku), "id": .string(diskID(disk))]),
        ("deleteOption", .string(data.deleteOption)), ("diskSizeGB", .int(disk.sizeGiB)),
        ("toBeDetached", .bool(data.toBeDetached)),
      ])
      if let option = data.detachOption { object["detachOption"] = .string(option) }
      return .object(object)
    }
    return [
      "imageReference": [
        "publisher": "Debian", "offer": "debian-12", "sku": "12-gen2", "version": "latest",
        "exactVersion": "0.20241004.1890",
      ],
      "osDisk": [
        "osType": "Linux", "name": .string("\(machine.name)_OsDisk_1"), "createOption": "FromImage",
        "caching": "ReadWrite",
        "managedDisk": [
          "storageAccountType": "Premium_LRS",
          "id": .string(
            "/subscriptions/\(configuration.subscription)/resourceGroups/\(configuration.resourceGroup)/providers/"
              + "Microsoft.Compute/disks/\(machine.name)_OsDisk_1"),
        ], "deleteOption": "Detach", "diskSizeGB": 30,
      ], "dataDisks": .array(disks), "diskControllerType": "SCSI",
    ]
  }

  private func machineBody(_ machine: StoredMachine, withView: Bool) -> JSONValue {
    var properties = JSONObject([
      ("hardwareProfile", ["vmSize": .string(machine.size)]),
      ("provisioningState", machine.isUpdating ? "Updating" : "Succeeded"), ("vmId", .string(machine.identifier)),
    ])
    if machine.zone != nil { properties["additionalCapabilities"] = ["ultraSSDEnabled": true] }
    properties["storageProfile"] = storageProfile(machine)
    properties["osProfile"] = [
      "computerName": .string(machine.name), "adminUsername": "azureuser",
      "linuxConfiguration": ["disablePasswordAuthentication": true, "provisionVMAgent": true], "secrets": [],
      "allowExtensionOperations": true,
    ]
    properties["networkProfile"] = ["networkInterfaces": []]
    properties["timeCreated"] = .string(machine.timeCreated)
    if withView {
      properties["instanceView"] = [
        "computerName": .string(machine.name), "osName": "debian", "osVersion": "12",
        "statuses": [
          [
            "code": "ProvisioningState/succeeded", "level": "Info", "displayStatus": "Provisioning succeeded",
            "time": .string(machine.timeCreated),
          ], ["code": "PowerState/running", "level": "Info", "displayStatus": "VM running"],
        ],
      ]
    }
    var body = JSONObject([
      ("name", .string(machine.name)), ("id", .string(machineID(machine))),
      ("type", "Microsoft.Compute/virtualMachines"), ("location", .string(configuration.location)),
      ("tags", .strings(machine.tags)),
    ])
    if let zone = machine.zone { body["zones"] = [.string(zone)] }
    body["properties"] = .object(properties)
    body["etag"] = .string("\"\(machine.etag)\"")
    return .object(body)
  }

  // MARK: Attaching

  mutating func attachDetach(
    _ request: EmulatorRequest, name: String, now: Double
  ) throws(Refusal) -> EmulatorResponse {
    let key = name.lowercased()
    guard var machine = state.machines[key] else { throw missingMachine(name) }
    let header = try takeCompute(Throttle.Rule.machineAttach(key), now: now)
    guard let body = JSONValue.parse(request.body)?.object else {
      throw Refusal(400, "InvalidRequestContent", "The request content was invalid: the body is no JSON object.")
    }
    let attach = body["dataDisksToAttach"]?.items ?? []
    let detach = body["dataDisksToDetach"]?.items ?? []
    guard !attach.isEmpty || !detach.isEmpty else { throw Refusal.missing("dataDisksToAttach") }
    if machine.isUpdating {
      throw Refusal(
        409, "Conflict",
        "The request failed due to conflict with a concurrent request. To resolve it, please refer to "
          + "https://aka.ms/activitylog to get more details on the conflicting requests.")
    }
    var detached: [String] = []
    for item in detach { detached.append(try markDetached(item, &machine)) }
    var attached: [String] = []
    for item in attach {
      if let disk = try enter(item, &machine, key: key) { attached.append(disk) }
    }
    let limit = MachineSizes.all[machine.size]?.maxDataDisks ?? 64
    guard machine.dataDisks.filter({ !$0.toBeDetached }).count <= limit else {
      throw Refusal(
        409, "OperationNotAllowed",
        "The maximum number of data disks allowed to be attached to a VM of this size is \(limit).",
        target: "dataDisks")
    }
    machine.isUpdating = true
    machine.etag += 1
    state.machines[key] = machine
    for disk in attached { state.disks[disk]?.machine = key }
    let operation = begin(
      .attachDetach(machine: key, attach: attached, detach: detached),
      seconds: detached.isEmpty ? Durations.attach : Durations.detach, request, now: now)
    let url = operationURL(operation, request, folder: "operations", isMonitor: false)
    return EmulatorResponse(
      200, storageProfile(machine),
      headers: [
        header, ("Azure-AsyncOperation", url), ("azure-asyncnotification", "Enabled"),
        ("ETag", "\"\(machine.etag)\""),
      ] + retryAfter(scaled(Durations.machinePoll)))
  }

  /// Key of the disk that a resource id names.
  private func diskKey(id: String) throws(Refusal) -> String {
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
  private func enter(
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
    try check(disk, caching, machine)
    machine.dataDisks.append(
      StoredMachine.DataDisk(
        lun: lun, disk: key, caching: caching, deleteOption: item["deleteOption"]?.text ?? "Detach",
        writeAccelerator: item["writeAcceleratorEnabled"]?.flag ?? false, toBeDetached: false))
    return key
  }

  private func check(_ disk: StoredDisk, _ caching: String, _ machine: StoredMachine) throws(Refusal) {
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
    if disk.sku == "UltraSSD_LRS", machine.zone == nil {
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
