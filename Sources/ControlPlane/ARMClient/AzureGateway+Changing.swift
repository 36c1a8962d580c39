package import BlockModel
import Foundation
import MigrationModel
package import Planning
package import Reconciling
import Seams

/// Changing disks that exist: growing, performance, detaching, deleting.
extension AzureGateway {
  /// What a disk can be changed to while it keeps its data. Nil: as it is.
  package struct DiskChange: Sendable, Equatable {
    /// Grows only.
    package var sizeGiB: Int?
    /// Ultra and PremiumV2 only.
    package var iops: Int?
    package var megabytesPerSecond: Int?
    package init(sizeGiB: Int? = nil, iops: Int? = nil, megabytesPerSecond: Int? = nil) {
      self.sizeGiB = sizeGiB
      self.iops = iops
      self.megabytesPerSecond = megabytesPerSecond
    }
  }

  /// Brings a disk to at least this size and to this performance. Nothing is sent where it is there already.
  package func change(_ resourceID: String, to wanted: DiskChange) async throws(GatewayError) -> CloudDisk {
    let id = try reference(resourceID, type: "disks")
    let action = "change disk '\(id.name)'"
    let deadline = newDeadline()
    for _ in 0..<AzureLimits.createRounds {
      guard let disk = try await readDisk(id, deadline) else { throw missing("disk", id) }
      guard disk.isSettled else {
        try await settle(id, deadline)
        continue
      }
      let properties = disk.properties
      var patch = WireDiskChange()
      if let size = wanted.sizeGiB, size > properties.diskSizeGB ?? 0 { patch.properties.diskSizeGB = size }
      if let iops = wanted.iops, iops != properties.diskIOPSReadWrite { patch.properties.diskIOPSReadWrite = iops }
      if let rate = wanted.megabytesPerSecond, rate != properties.diskMBpsReadWrite {
        patch.properties.diskMBpsReadWrite = rate
      }
      if patch.isEmpty { return disk.cloudDisk }
      try await send(patch, to: id, deadline, action)
    }
    throw Self.tooContended("disk '\(id.name)' could not be changed")
  }

  /// One attempt; returns when the disk should be looked at again.
  private func send(
    _ patch: WireDiskChange, to id: ARMResourceID, _ deadline: MonotonicTime, _ action: String
  ) async throws(GatewayError) {
    let url = connection.url(id.path, version: APIVersion.disks)
    let exchange = try await connection.exchange(
      .patch, url, body: try encode(patch), deadline: deadline, while: action)
    guard exchange.isSuccess else {
      let fault = exchange.fault()
      guard fault.isContention, fault.status == 409 || fault.status == 412 else {
        throw fault.gatewayError(while: action)
      }
      try await connection.services.wait(seconds: contentionSeconds, why: "disk '\(id.name)' is being changed")
      return
    }
    switch try await connection.finish(exchange, resourceURL: url, deadline: deadline, while: action) {
    case .succeeded, .preempted: return
    case .failed(let fault): throw fault.gatewayError(while: action)
    case .deadlinePassed: throw Self.deadlinePassed(action)
    }
  }

  /// Detaches all of these that are attached to the machine, in one call, and waits until they are free.
  package func detach(_ diskIDs: [String], from machineID: String) async throws(GatewayError) {
    let id = try reference(machineID, type: "virtualMachines")
    var wanted: Set<ARMResourceID> = []
    for disk in diskIDs { wanted.insert(try reference(disk, type: "disks")) }
    let deadline = newDeadline()
    for _ in 0..<AzureLimits.attachRounds {
      guard let machine = try await readMachine(id, deadline) else { return }
      guard machine.isSettled else {
        try await settleMachine(id, deadline)
        continue
      }
      let attached = machine.dataDisks.compactMap { $0.managedDisk?.id.flatMap { ARMResourceID($0) } }
        .filter(wanted.contains)
      if attached.isEmpty { return }
      let names = attached.map { "'\($0.name)'" }.sorted().joined(separator: ", ")
      let body = try encode(WireDetachment(dataDisksToDetach: attached.map { .init(diskId: $0.description) }))
      try await changeDisks(of: id, body, deadline, while: "detach \(names) from virtual machine '\(id.name)'")
    }
    throw Self.tooContended("\(diskIDs.count) disks could not be detached from virtual machine '\(id.name)'")
  }

  /// Deletes a disk, for good. Refused here, whatever Azure would do: a disk that is attached, and one whose tags don't
  /// say that it is this plan's. One that isn't there is no fault. For an explicit demand of a person only.
  package func delete(_ resourceID: String, of plan: PlanID) async throws(GatewayError) {
    let id = try reference(resourceID, type: "disks")
    let action = "delete disk '\(id.name)'"
    let deadline = newDeadline()
    for _ in 0..<AzureLimits.createRounds {
      guard let disk = try await readDisk(id, deadline) else { return }
      guard OwnershipTag.value(OwnershipTag.plan, in: disk.tags ?? [:]) == plan.text else { throw foreign(disk, id) }
      guard disk.managedBy == nil, disk.properties.diskState != "Attached", disk.properties.diskState != "Reserved"
      else {
        throw GatewayError(
          code: AzureFaultCode.diskElsewhere,
          message: "disk '\(id.name)' is attached to \(disk.managedBy ?? "a virtual machine"): it isn't deleted",
          advice: "detach it first", disposition: .needsOperator)
      }
      let url = connection.url(id.path, version: APIVersion.disks)
      let exchange = try await connection.exchange(.delete, url, deadline: deadline, while: action)
      guard exchange.isSuccess else {
        let fault = exchange.fault()
        guard fault.isContention else { throw fault.gatewayError(while: action) }
        try await connection.services.wait(seconds: contentionSeconds, why: "disk '\(id.name)' is being changed")
        continue
      }
      switch try await connection.finish(exchange, resourceURL: url, deadline: deadline, while: action) {
      case .succeeded, .preempted: continue
      case .failed(let fault): throw fault.gatewayError(while: action)
      case .deadlinePassed: throw Self.deadlinePassed(action)
      }
    }
    throw Self.tooContended("disk '\(id.name)' could not be deleted")
  }

  private static func tooContended(_ what: String) -> GatewayError {
    GatewayError(
      code: AzureFaultCode.operationFailed, message: "\(what): something else changes it all the time",
      advice: "look at its activity log in Azure, then run again", disposition: .retry(afterSeconds: 60))
  }
}
