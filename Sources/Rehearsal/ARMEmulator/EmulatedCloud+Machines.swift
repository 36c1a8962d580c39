/// Virtual machines as the service shows them.
extension EmulatedCloud {
  func machineID(_ machine: StoredMachine) -> String {
    "/subscriptions/\(configuration.subscription)/resourceGroups/\(configuration.resourceGroup)/providers/"
      + "Microsoft.Compute/virtualMachines/\(machine.name)"
  }

  func missingMachine(_ name: String) -> Refusal {
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
      var stored =
        state.machines[key]
        ?? StoredMachine(
          name: machine.name, location: configuration.location, size: machine.size, identifier: makeUUID(),
          timeCreated: Self.timestamp(now), profile: Self.plainProfile(machine))
      stored.size = machine.size
      stored.zones = machine.zone.map { [$0] }
      stored.root = machine.root
      stored.device = machine.device
      stored.monitorSocket = machine.monitorSocket
      state.machines[key] = stored
    }
  }

  /// What a machine of the command line looks like: as one that somebody made with a Debian image.
  private static func plainProfile(_ machine: EmulatorConfiguration.Machine) -> JSONValue {
    var profile = JSONObject([
      (
        "storageProfile",
        [
          "imageReference": [
            "publisher": "Debian", "offer": "debian-12", "sku": "12-gen2", "version": "latest",
            "exactVersion": "0.20241004.1890",
          ], "osDisk": ["osType": "Linux", "createOption": "FromImage", "caching": "ReadWrite"],
          "diskControllerType": "SCSI",
        ]
      ),
      (
        "osProfile",
        [
          "computerName": .string(machine.name), "adminUsername": "azureuser",
          "linuxConfiguration": ["disablePasswordAuthentication": true, "provisionVMAgent": true], "secrets": [],
          "allowExtensionOperations": true,
        ]
      ), ("networkProfile", ["networkInterfaces": []]),
    ])
    // In a zone a machine can have Ultra disks; outside of one it can't.
    if machine.zone != nil { profile["additionalCapabilities"] = ["ultraSSDEnabled": true] }
    return .object(profile)
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
    let tag: [(name: String, value: String)] = withView ? [] : [("ETag", "\"\(machine.etag)\"")]
    return EmulatorResponse(200, machineBody(machine, withView: withView), headers: [header] + tag)
  }

  mutating func getInstanceView(name: String, now: Double) throws(Refusal) -> EmulatorResponse {
    guard let machine = state.machines[name.lowercased()] else { throw missingMachine(name) }
    let header = try takeCompute(Throttle.Rule.machineRead(name.lowercased()), now: now)
    return EmulatorResponse(200, instanceView(machine), headers: [header])
  }

  func storageProfile(_ machine: StoredMachine) -> JSONValue {
    var profile = machine.profile["storageProfile"]?.object ?? JSONObject()
    profile["osDisk"] = osDisk(machine, profile["osDisk"]?.object ?? JSONObject())
    profile["dataDisks"] = .array(
      machine.dataDisks.sorted { $0.lun < $1.lun }.compactMap { data in
        state.disks[data.disk].map { dataDisk(data, $0, machine) }
      })
    return .object(profile)
  }

  private func dataDisk(_ data: StoredMachine.DataDisk, _ disk: StoredDisk, _ machine: StoredMachine) -> JSONValue {
    var object = JSONObject([
      ("lun", .int(data.lun)), ("name", .string(disk.name)), ("createOption", .string(data.createOption)),
      ("caching", .string(data.caching)),
    ])
    if let accelerated = data.writeAccelerator { object["writeAcceleratorEnabled"] = .bool(accelerated) }
    var managed = JSONObject([("storageAccountType", .string(disk.sku)), ("id", .string(diskID(disk)))])
    // A disk that comes with the machine's change has no id until it is there.
    if !disk.isMade, data.createOption != "Attach" { managed["id"] = nil }
    if let set = disk.otherProperties["encryption"]?["diskEncryptionSetId"] {
      managed["diskEncryptionSet"] = ["id": set]
    }
    object["managedDisk"] = .object(managed)
    object["deleteOption"] = .string(data.deleteOption)
    object["diskSizeGB"] = .int(disk.sizeGiB)
    object["toBeDetached"] = .bool(data.toBeDetached)
    if let option = data.detachOption { object["detachOption"] = .string(option) }
    return .object(object)
  }

  /// While a machine is deallocated the service tells less of its disk.
  private func osDisk(_ machine: StoredMachine, _ asked: JSONObject) -> JSONValue {
    var disk = asked
    let name = asked["name"]?.text ?? "\(machine.name)_OsDisk_1_\(machine.identifier.filter { $0 != "-" })"
    disk["name"] = .string(name)
    if disk["osType"] == nil { disk["osType"] = "Linux" }
    if disk["createOption"] == nil { disk["createOption"] = "FromImage" }
    if disk["caching"] == nil { disk["caching"] = "ReadWrite" }
    if disk["deleteOption"] == nil { disk["deleteOption"] = "Detach" }
    if disk["vhd"] == nil {
      var managed = asked["managedDisk"]?.object ?? JSONObject()
      if managed["id"] == nil {
        managed["id"] = .string(
          "/subscriptions/\(configuration.subscription)/resourceGroups/\(configuration.resourceGroup)/providers/"
            + "Microsoft.Compute/disks/\(name)")
      }
      if managed["storageAccountType"] == nil { managed["storageAccountType"] = "Premium_LRS" }
      if !machine.isRunning { managed["storageAccountType"] = nil }
      disk["managedDisk"] = .object(managed)
    }
    if disk["diskSizeGB"] == nil { disk["diskSizeGB"] = 30 }
    if !machine.isRunning { disk["diskSizeGB"] = nil }
    return .object(disk)
  }

  /// What Azure takes and never shows again. It is not kept either: the state is a plain file.
  private static let secrets: Set<String> = ["adminpassword", "customdata", "userdata", "additionalunattendcontent"]

  static func withoutSecrets(_ value: JSONValue) -> JSONValue {
    switch value {
    case .object(let object):
      .object(
        JSONObject(
          object.members.filter { !secrets.contains($0.name.lowercased()) }
            .map { ($0.name, withoutSecrets($0.value)) }))
    case .array(let items): .array(items.map(withoutSecrets))
    default: value
    }
  }

  func machineBody(_ machine: StoredMachine, withView: Bool) -> JSONValue {
    let provisioning = machine.isUpdating ? machine.isNew ? "Creating" : "Updating" : nil
    var properties = JSONObject([
      ("hardwareProfile", machine.profile["hardwareProfile"] ?? [:]),
      ("provisioningState", .string(provisioning ?? (machine.hasFailed ? "Failed" : "Succeeded"))),
      ("vmId", .string(machine.identifier)),
    ])
    var hardware = properties["hardwareProfile"]?.object ?? JSONObject()
    hardware["vmSize"] = .string(machine.size)
    properties["hardwareProfile"] = .object(hardware)
    for member in machine.profile.object?.members ?? [] {
      guard !["hardwareprofile", "storageprofile"].contains(member.name.lowercased()) else { continue }
      properties[member.name] = member.value
    }
    properties["storageProfile"] = storageProfile(machine)
    properties["timeCreated"] = .string(machine.timeCreated)
    if withView { properties["instanceView"] = instanceView(machine) }
    var body = JSONObject([
      ("name", .string(machine.name)), ("id", .string(machineID(machine))),
      ("type", "Microsoft.Compute/virtualMachines"), ("location", .string(machine.location)),
      ("tags", .strings(machine.tags)),
    ])
    if let zones = machine.zones { body["zones"] = .array(zones.map { .string($0) }) }
    for member in machine.extras.object?.members ?? [] { body[member.name] = member.value }
    body["properties"] = .object(properties)
    body["etag"] = .string("\"\(machine.etag)\"")
    return .object(body)
  }

  /// The code, in the words of the portal.
  private func status(_ code: String, _ text: String, at time: String?) -> JSONValue {
    var object = JSONObject([("code", .string(code)), ("level", "Info"), ("displayStatus", .string(text))])
    if let time { object["time"] = .string(time) }
    return .object(object)
  }

  private func instanceView(_ machine: StoredMachine) -> JSONValue {
    let provisioned = status("ProvisioningState/succeeded", "Provisioning succeeded", at: machine.timeCreated)
    let power =
      machine.isRunning
      ? status("PowerState/running", "VM running", at: nil)
      : status("PowerState/deallocated", "VM deallocated", at: nil)
    var view = JSONObject()
    if machine.isRunning {
      let name = machine.profile["osProfile"]?["computerName"]?.text ?? machine.name
      view["computerName"] = .string(name)
      view["osName"] = "debian"
      view["osVersion"] = "12"
      var agent = JSONObject([("code", "ProvisioningState/succeeded"), ("level", "Info")])
      agent["displayStatus"] = "Ready"
      agent["message"] = "Guest Agent is running"
      agent["time"] = .string(String(machine.timeCreated.prefix(19)) + "+00:00")
      view["vmAgent"] = ["vmAgentVersion": "2.12.0.2", "statuses": [.object(agent)], "extensionHandlers": []]
    }
    let names =
      [storageProfile(machine)["osDisk"]?["name"]?.text].compactMap { $0 }
      + machine.dataDisks.sorted { $0.lun < $1.lun }.compactMap { state.disks[$0.disk]?.name }
    view["disks"] = .array(names.map { ["name": .string($0), "statuses": [provisioned]] })
    view["hyperVGeneration"] = "V1"
    view["statuses"] = [provisioned, power]
    return .object(view)
  }
}
