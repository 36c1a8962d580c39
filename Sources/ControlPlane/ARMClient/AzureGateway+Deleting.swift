package import BlockModel
import MigrationModel
import Planning
package import Reconciling

/// What only `destroy` asks for, on explicit demand. The rules are held here once more, by what Azure shows at that moment:
/// whoever asks, a disk that isn't this plan's, that is attached, or whose migration is finished stays.
extension AzureGateway {
  /// Takes disks off a machine, all in one call, and waits until it has let go of them. Done where they are off already.
  package func detach(_ diskIDs: [String], from machineID: String) async throws(GatewayError) {
    let id = try reference(machineID, type: "virtualMachines")
    var wanted: [ARMResourceID] = []
    for disk in diskIDs { wanted.append(try reference(disk, type: "disks")) }
    let names = wanted.map { "'\($0.name)'" }.joined(separator: ", ")
    let action = "detach \(names) from virtual machine '\(id.name)'"
    let deadline = newDeadline()
    var last: String?
    for _ in 0..<AzureLimits.attachRounds {
      guard let machine = try await readMachine(id, deadline).value else { return }
      guard machine.isSettled else {
        try await settleMachine(id, deadline)
        continue
      }
      let there = machine.dataDisks.compactMap { $0.managedDisk?.id }.compactMap { ARMResourceID($0) }
      let left = wanted.filter { there.contains($0) }
      if left.isEmpty { return }
      let body = try encode(
        WireDetachment(dataDisksToDetach: left.map { WireDetachment.Disk(diskId: $0.description) }))
      last = try await changeDisks(of: id, body, deadline, while: action)
    }
    throw Self.contended(action, last)
  }

  /// Deletes a disk that `plan` made and that nobody has. Done where there is none.
  package func deleteDisk(_ resourceID: String, of plan: PlanID) async throws(GatewayError) {
    let id = try reference(resourceID, type: "disks")
    let action = "delete disk '\(id.name)'"
    let deadline = newDeadline()
    var last: String?
    for _ in 0..<AzureLimits.createRounds {
      let reading = try await readDisk(id, deadline)
      guard let disk = reading.value else { return }
      guard disk.isSettled else {
        try await settle(id, deadline)
        continue
      }
      try checkDeletable(disk, id, plan, reading.answer)
      last = try await attempt(.delete, id, nil, deadline, while: action)
    }
    throw GatewayError(
      code: AzureFaultCode.operationFailed,
      message: "disk '\(id.name)' could not be deleted in \(AzureLimits.createRounds) attempts" + Self.because(last),
      advice: "look at the disk's activity log in Azure, then run again", disposition: .needsOperator)
  }

  private func checkDeletable(
    _ disk: WireDisk, _ id: ARMResourceID, _ plan: PlanID, _ answer: CloudAnswer?
  ) throws(GatewayError) {
    let tags = disk.tags ?? [:]
    guard OwnershipTag.value(OwnershipTag.plan, in: tags) == plan.text else { throw foreign(disk, id, answer) }
    func stays(_ code: String, _ why: String, _ advice: String) -> GatewayError {
      GatewayError(
        code: code, message: "disk '\(id.name)' is not deleted: \(why)\(answer?.note ?? "")", advice: advice,
        disposition: .needsOperator)
    }
    let state = OwnershipTag.value("cmcplan-state", in: tags)
    if state != Phase.prepared.rawValue, state != DiskTag.orphaned {
      throw stays(AzureFaultCode.foreignDisk, "its migration is finished, an application lives on it", "leave it alone")
    }
    if disk.managedBy != nil || disk.cloudDisk.state != .unattached {
      throw stays(
        AzureFaultCode.diskElsewhere,
        "it is in use (\(disk.managedBy ?? disk.properties.diskState ?? "Azure says so"))",
        "detach it first: cmcplan destroy --delete-disks --detach")
    }
  }
}
