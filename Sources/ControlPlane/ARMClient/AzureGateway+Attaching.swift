import BlockModel
import Foundation
package import MigrationModel
package import Planning
package import Reconciling
import Seams

extension AzureGateway {
  package func attach(
    _ disks: [(diskID: String, caching: ManagedDisk.Caching)], to machineID: String
  ) async throws(GatewayError) -> [CloudAttachment] {
    let id = try reference(machineID, type: "virtualMachines")
    var wanted: [WantedDisk] = []
    for disk in disks {
      wanted.append(WantedDisk(id: try reference(disk.diskID, type: "disks"), caching: disk.caching))
    }
    let deadline = newDeadline()
    var last: String?
    for _ in 0..<AzureLimits.attachRounds {
      let reading = try await readMachine(id, deadline)
      guard let machine = reading.value else { throw missing("virtual machine", id, reading.answer) }
      let attached = Self.attachments(of: wanted, to: machine)
      if attached.count == wanted.count, machine.isSettled { return attached }
      if !machine.isSettled {
        try await settleMachine(id, deadline)
      } else {
        let there = Set(attached.compactMap { ARMResourceID($0.diskID) })
        last = try await attachMissing(wanted.filter { !there.contains($0.id) }, machine, id, deadline)
      }
    }
    throw Self.contended("attach \(disks.count) disks to virtual machine '\(id.name)'", last)
  }

  /// `last`: what Azure said to the last attempt, where it said anything.
  static func contended(_ action: String, _ last: String?) -> GatewayError {
    let isHeld = last?.contains("AttachDiskWhileBeingDetached") == true
    return GatewayError(
      code: AzureFaultCode.attachContended,
      message: "could not \(action) in \(AzureLimits.attachRounds) attempts: "
        + (last ?? "something else changes it all the time"),
      advice: isHeld
        ? "the machine's guest hasn't let go of a disk: unmount it there, detach it again (az vm disk detach), then run again"
        : "stop what else attaches and detaches disks of this machine, then run again",
      disposition: .retry(afterSeconds: 60))
  }

  struct WantedDisk: Sendable {
    var id: ARMResourceID
    var caching: ManagedDisk.Caching
  }

  /// Those of `wanted` that are attached, in its order.
  private static func attachments(of wanted: [WantedDisk], to machine: WireMachine) -> [CloudAttachment] {
    wanted.compactMap { disk in
      machine.attachments.first { ARMResourceID($0.diskID) == disk.id }
    }
  }

  /// Free LUNs of a machine, lowest first. One that is being detached still holds its own.
  static func freeLUNs(_ taken: [Int]) -> [Int] {
    let taken = Set(taken)
    return (0...63).filter { !taken.contains($0) }
  }

  /// One call for all of them. Returns when the machine should be looked at again, whatever came of it: nil where it was
  /// done, or what was in the way.
  private func attachMissing(
    _ disks: [WantedDisk], _ machine: WireMachine, _ id: ARMResourceID, _ deadline: MonotonicTime
  ) async throws(GatewayError) -> String? {
    let names = disks.map { "'\($0.id.name)'" }.joined(separator: ", ")
    let action = "attach \(names) to virtual machine '\(id.name)'"
    let luns = Self.freeLUNs(machine.dataDisks.map(\.lun))
    guard luns.count >= disks.count else {
      throw GatewayError(
        code: AzureFaultCode.noFreeLUN,
        message: "could not \(action): it has \(luns.count) free LUNs for \(disks.count) disks",
        advice: "detach what isn't used", disposition: .needsOperator, field: .machine)
    }
    let body = try encode(
      WireAttachment(
        dataDisksToAttach: zip(disks, luns).map { disk, lun in
          WireAttachment.Disk(diskId: disk.id.description, lun: lun, caching: disk.caching.wireName)
        }))
    return try await changeDisks(of: id, body, deadline, while: action)
  }

  /// One call for all; returns when the machine should be looked at again, whatever came of it: nil where it was done, or
  /// what was in the way.
  func changeDisks(
    of id: ARMResourceID, _ body: [UInt8], _ deadline: MonotonicTime, while action: String
  ) async throws(GatewayError) -> String? {
    let path = id.path + "/attachDetachDataDisks"
    let exchange: ARMConnection.Exchange
    do throws(GatewayError) {
      // Not safe to send twice: after a doubt the machine is looked at instead.
      exchange = try await connection.exchange(
        .post, connection.url(path, version: APIVersion.machines), body: body, safe: false, deadline: deadline,
        while: action)
    } catch {
      guard error.code == AzureFaultCode.unreachable, case .retry = error.disposition else { throw error }
      return try await pauseForContention(error.message)
    }
    guard exchange.isSuccess else {
      let fault = exchange.fault()
      guard fault.isContention || fault.status >= 500 || fault.status == 408 else {
        throw fault.gatewayError(while: action)
      }
      return try await pauseForContention(fault)
    }
    let resourceURL = connection.url(id.path, version: APIVersion.machines)
    switch try await connection.finish(exchange, resourceURL: resourceURL, deadline: deadline, while: action) {
    case .succeeded: return nil
    case .preempted: return try await pauseForContention("another operation took the machine over")
    case .failed(let fault):
      guard fault.isContention else { throw fault.gatewayError(while: action) }
      return try await pauseForContention(fault)
    case .deadlinePassed: throw Self.deadlinePassed(action)
    }
  }

  private func pauseForContention(_ why: String) async throws(GatewayError) -> String {
    try await connection.services.wait(seconds: contentionSeconds, why: why)
    return why
  }

  private func pauseForContention(_ fault: ARMFault) async throws(GatewayError) -> String {
    _ = try await pauseForContention("\(fault.code): \(fault.message)")
    return fault.summary
  }

  /// Waits until no operation runs on the machine.
  func settleMachine(_ id: ARMResourceID, _ deadline: MonotonicTime) async throws(GatewayError) {
    let url = connection.url(id.path, version: APIVersion.machines)
    let action = "wait for virtual machine '\(id.name)'"
    let exchange = try await connection.exchange(.get, url, deadline: deadline, while: action)
    guard exchange.isSuccess else { throw exchange.fault().gatewayError(while: action) }
    if case .deadlinePassed = try await connection.finish(
      exchange, resourceURL: url, deadline: deadline, while: action)
    {
      throw Self.deadlinePassed(action)
    }
  }

  package func machineReading(_ reference: String) async throws(GatewayError) -> CloudReading<CloudMachine> {
    let id = try self.reference(reference, type: "virtualMachines")
    let reading = try await readMachine(id, newDeadline())
    return CloudReading(reading.value?.cloudMachine, reading.answer)
  }

  func readMachine(
    _ id: ARMResourceID, _ deadline: MonotonicTime
  ) async throws(GatewayError) -> CloudReading<WireMachine> {
    try await connection.read(
      WireMachine.self, connection.url(id.path, version: APIVersion.machines), deadline: deadline,
      while: "read virtual machine '\(id.name)'")
  }
}
