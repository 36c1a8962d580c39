package import BlockModel
import Foundation
import MigrationModel
package import Planning
package import Reconciling
import Seams

/// The tags that say whose a disk is.
enum OwnershipTag {
  static let plan = "cmcplan-id"
  private static let owner = ["cmcplan-id", "cmcplan-migration", "cmcplan-volume"]

  /// Whether a disk with `tags` is the one that `wanted` tags would make. Azure's tag names have no case.
  static func same(_ tags: [String: String], _ wanted: [String: String]) -> Bool {
    guard value(plan, in: wanted) != nil else { return false }
    return owner.allSatisfy { value($0, in: tags) == value($0, in: wanted) }
  }

  static func value(_ name: String, in tags: [String: String]) -> String? {
    tags[name] ?? tags.first { $0.key.lowercased() == name }?.value
  }
}

extension AzureGateway {
  /// Looks in the whole subscription, because a disk may have a resource group of its own; a credential that may read
  /// only its resource group is asked for that.
  package func disks(of plan: PlanID) async throws(GatewayError) -> [CloudDisk] {
    let action = "list the disks of plan \(plan.text)"
    let deadline = newDeadline()
    let subscription = "/subscriptions/\(URLText.encoded(integration.subscriptionID))"
    let suffix = "/providers/Microsoft.Compute/disks"
    var found: [CloudDisk] = []
    let group = subscription + "/resourceGroups/\(URLText.encoded(integration.resourceGroup))" + suffix
    var url: String? = connection.url(subscription + suffix, version: APIVersion.disks)
    for page in 0..<AzureLimits.pages {
      guard let current = url else { return found.sorted { $0.resourceID < $1.resourceID } }
      var exchange = try await connection.exchange(.get, current, deadline: deadline, while: action)
      if page == 0, exchange.response.status == 403 {
        let narrower = connection.url(group, version: APIVersion.disks)
        exchange = try await connection.exchange(.get, narrower, deadline: deadline, while: action)
      }
      let body = try connection.decode(WireDiskPage.self, exchange, while: action)
      found += body.value.lazy.map(\.cloudDisk).filter {
        OwnershipTag.value(OwnershipTag.plan, in: $0.tags) == plan.text
      }
      url = body.nextLink.flatMap { $0.isEmpty ? nil : $0 }
    }
    throw GatewayError(
      code: AzureFaultCode.notUnderstood, message: "the list of disks has more than \(AzureLimits.pages) pages",
      advice: "check the integration's cloud", disposition: .terminal)
  }

  package func diskReading(_ resourceID: String) async throws(GatewayError) -> CloudReading<CloudDisk> {
    let id = try reference(resourceID, type: "disks")
    let reading = try await readDisk(id, newDeadline())
    return CloudReading(reading.value?.cloudDisk, reading.answer)
  }

  func readDisk(
    _ id: ARMResourceID, _ deadline: MonotonicTime
  ) async throws(GatewayError) -> CloudReading<WireDisk> {
    try await connection.read(
      WireDisk.self, connection.url(id.path, version: APIVersion.disks), deadline: deadline,
      while: "read disk '\(id.name)'")
  }

  package func ensureDisk(_ request: DiskRequest) async throws(GatewayError) -> CloudDisk {
    let id = ARMResourceID(
      subscription: integration.subscriptionID, resourceGroup: request.resourceGroup, type: "disks",
      name: request.name)
    let deadline = newDeadline()
    var last: String?
    for _ in 0..<AzureLimits.createRounds {
      let reading = try await readDisk(id, deadline)
      if let existing = reading.value {
        guard OwnershipTag.same(existing.tags ?? [:], request.tags) else {
          throw foreign(existing, id, reading.answer)
        }
        if !existing.isSettled {
          try await settle(id, deadline)
          continue
        }
        if existing.isWell {
          let change = changes(of: existing, to: request)
          if change.isEmpty { return existing.cloudDisk }
          last = try await attempt(.patch, id, try encode(change), deadline, while: "change disk '\(id.name)'")
          continue
        }
        // A creation that failed half-way: the same request again mends it.
      }
      if let disk = try await create(request, id, deadline) { return disk }
      try await connection.services.wait(seconds: contentionSeconds, why: "disk '\(id.name)' is being changed")
    }
    throw GatewayError(
      code: AzureFaultCode.operationFailed,
      message: "disk '\(id.name)' could not be made or changed in \(AzureLimits.createRounds) attempts"
        + Self.because(last),
      advice: "look at the disk's activity log in Azure, then run again", disposition: .needsOperator)
  }

  /// Nil where another operation was in the way and the disk should be looked at again.
  private func create(
    _ request: DiskRequest, _ id: ARMResourceID, _ deadline: MonotonicTime
  ) async throws(GatewayError) -> CloudDisk? {
    let action = "create disk '\(id.name)'"
    let url = connection.url(id.path, version: APIVersion.disks)
    let body = try encode(WireDiskRequest(request))
    let exchange = try await connection.exchange(.put, url, body: body, deadline: deadline, while: action)
    guard exchange.isSuccess else {
      let fault = exchange.fault()
      if fault.isContention, fault.status == 409 || fault.status == 412 { return nil }
      throw fault.gatewayError(while: action)
    }
    let (outcome, last) = try await connection.finishShowing(
      exchange, resourceURL: url, deadline: deadline, while: action)
    switch outcome {
    case .succeeded: break
    case .preempted: return nil
    case .failed(let fault): throw fault.gatewayError(while: action)
    case .deadlinePassed: throw Self.deadlinePassed(action)
    }
    // The status of a disk's operation shows the disk: one read less of a bucket that many disks share.
    let shown = try? JSONDecoder().decode(WireOperationStatus.self, from: Data(last.body))
    var made = shown?.properties?.output
    if made == nil { made = try await readDisk(id, deadline).value }
    guard let disk = made else { return nil }
    guard OwnershipTag.same(disk.tags ?? [:], request.tags) else { throw foreign(disk, id, exchange.answer) }
    return disk.isWell ? disk.cloudDisk : nil
  }

  /// Waits until nothing is being done to the disk.
  func settle(_ id: ARMResourceID, _ deadline: MonotonicTime) async throws(GatewayError) {
    let url = connection.url(id.path, version: APIVersion.disks)
    let action = "wait for disk '\(id.name)'"
    let exchange = try await connection.exchange(.get, url, deadline: deadline, while: action)
    guard exchange.isSuccess else { return }
    if case .deadlinePassed = try await connection.finish(
      exchange, resourceURL: url, deadline: deadline, while: action)
    {
      throw Self.deadlinePassed(action)
    }
  }

  func foreign(_ disk: WireDisk, _ id: ARMResourceID, _ answer: CloudAnswer?) -> GatewayError {
    let tags = disk.tags ?? [:]
    let owner =
      OwnershipTag.value(OwnershipTag.plan, in: tags).map { plan in
        "it belongs to plan \(plan), migration \(OwnershipTag.value("cmcplan-migration", in: tags) ?? "?"), "
          + "volume \(OwnershipTag.value("cmcplan-volume", in: tags) ?? "?")"
      } ?? "it wasn't made by cmcplan"
    return GatewayError(
      code: AzureFaultCode.foreignDisk,
      message: "disk '\(id.name)' exists in resource group '\(id.resourceGroup)' and is not this volume's: \(owner)"
        + (answer?.note ?? ""),
      advice: "give the volume's disk another name, or name this one by id to use it as it is",
      disposition: .needsOperator, field: .diskName)
  }

  /// Adds `tags` to those that are there and replaces values of the same name; others stay.
  package func setTags(
    _ tags: [String: String], ofDisk resourceID: String
  ) async throws(GatewayError) -> CloudDisk {
    let id = try reference(resourceID, type: "disks")
    let action = "tag disk '\(id.name)'"
    let deadline = newDeadline()
    var last: String?
    for _ in 0..<AzureLimits.createRounds {
      let reading = try await readDisk(id, deadline)
      guard let disk = reading.value else { throw missing("disk", id, reading.answer) }
      // A PATCH replaces all tags, so what others wrote goes along.
      let merged = (disk.tags ?? [:]).merging(tags) { _, new in new }
      if merged == disk.tags ?? [:] { return disk.cloudDisk }
      last = try await attempt(.patch, id, try encode(WireTags(tags: merged)), deadline, while: action)
    }
    throw GatewayError(
      code: AzureFaultCode.operationFailed,
      message: "disk '\(id.name)' could not be tagged in \(AzureLimits.createRounds) attempts" + Self.because(last),
      advice: "something else changes its tags; run again", disposition: .retry(afterSeconds: 30))
  }
}
