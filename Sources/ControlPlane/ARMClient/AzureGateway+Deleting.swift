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
    for _ in 0..<AzureLimits.attachRounds {
      guard let machine = try await readMachine(id, deadline) else { return }
      guard machine.isSettled else {
        try await settleMachine(id, deadline)
        continue
      }
      let there = machine.dataDisks.compactMap { $0.managedDisk?.id }.compactMap { ARMResourceID($0) }
      let left = wanted.filter { there.contains($0) }
      if left.isEmpty { return }
      let body = try encode(
        WireDetachment(dataDisksToDetach: left.map { WireDetachment.Disk(diskId: $0.description) }))
      try await changeDisks(of: id, body, deadline, while: action)
    }
    throw GatewayError(
      code: AzureFaultCode.attachContended,
      message: "could not \(action) in \(AzureLimits.attachRounds) attempts: something else changes it all the time",
      advice: "stop what else attaches and detaches disks of this machine, then run again",
      disposition: .retry(afterSeconds: 60))
  }

  /// Deletes a disk that `plan` made and that nobody has. Done where there is none.
  package func deleteDisk(_ resourceID: String, of plan: PlanID) async throws(GatewayError) {
    let id = try reference(resourceID, type: "disks")
    let action = "delete disk '\(id.name)'"
    let url = connection.url(id.path, version: APIVersion.disks)
    let deadline = newDeadline()
    for _ in 0..<AzureLimits.createRounds {
      guard let disk = try await readDisk(id, deadline) else { return }
      guard disk.isSettled else {
        try await settle(id, deadline)
        continue
      }
      try checkDeletable(disk, id, plan)
      let exchange = try await connection.exchange(.delete, url, deadline: deadline, while: action)
      if exchange.isSuccess {
        switch try await connection.finish(exchange, resourceURL: url, deadline: deadline, while: action) {
        case .succeeded, .preempted: continue
        case .failed(let fault): throw fault.gatewayError(while: action)
        case .deadlinePassed: throw Self.deadlinePassed(action)
        }
      }
      let fault = exchange.fault()
      guard fault.isContention else { throw fault.gatewayError(while: action) }
      try await connection.services.wait(seconds: contentionSeconds, why: "disk '\(id.name)' is being changed")
    }
    throw GatewayError(
      code: AzureFaultCode.operationFailed,
      message: "disk '\(id.name)' could not be deleted in \(AzureLimits.createRounds) attempts",
      advice: "look at the disk's activity log in Azure, then run again", disposition: .needsOperator)
  }

  private func checkDeletable(
    _ disk: WireDisk, _ id: ARMResourceID, _ plan: PlanID
  ) throws(GatewayError) {
    let tags = disk.tags ?? [:]
    guard OwnershipTag.value(OwnershipTag.plan, in: tags) == plan.text else { throw foreign(disk, id) }
    func stays(_ code: String, _ why: String, _ advice: String) -> GatewayError {
      GatewayError(
        code: code, message: "disk '\(id.name)' is not deleted: \(why)", advice: advice, disposition: .needsOperator)
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
