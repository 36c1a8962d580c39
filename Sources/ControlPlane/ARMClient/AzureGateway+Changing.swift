import BlockModel
import MigrationModel
import Planning
import Reconciling
import Seams

/// Changing disks that exist: SKU, size, performance.
extension AzureGateway {
  /// What of `request` the disk, which is there and well, has not got yet, as far as it can have it with its data and its
  /// users where they are: performance of its own (Ultra and PremiumV2), more space where Azure grows it in use, another
  /// SKU while nobody has it attached. Empty: nothing is to be sent.
  func changes(of disk: WireDisk, to request: DiskRequest) -> WireDiskChange {
    let properties = disk.properties
    var patch = WireDiskChange()
    guard let sku = ManagedDisk.SKU(rawValue: disk.sku?.name ?? "") else { return patch }
    let isFree =
      disk.managedBy == nil && (properties.diskState == nil || properties.diskState == "Unattached")
    // The SKU goes first and alone: what else may be asked for depends on it.
    if let wanted = ManagedDisk.SKU(rawValue: request.sku), wanted != sku {
      guard isFree, sku.conversion(to: wanted, zone: disk.zones?.first) == .whileDetached else { return patch }
      patch.sku = WireDiskChange.SKU(name: wanted.rawValue)
      return patch
    }
    if let size = properties.diskSizeGB, size < request.sizeGiB,
      isFree || sku.growth(fromGiB: size, toGiB: request.sizeGiB) == .live
    {
      patch.properties.diskSizeGB = request.sizeGiB
    }
    guard sku.hasOwnPerformance else { return patch }
    if let iops = request.iops, iops != properties.diskIOPSReadWrite { patch.properties.diskIOPSReadWrite = iops }
    if let rate = request.megabytesPerSecond, rate != properties.diskMBpsReadWrite {
      patch.properties.diskMBpsReadWrite = rate
    }
    return patch
  }

  /// One attempt to change or delete a disk; returns when it should be looked at again: what was asked for is done, or
  /// somebody else is changing it and was left alone for a while. Then the answer is what Azure said.
  func attempt(
    _ method: HTTPRequest.Method, _ id: ARMResourceID, _ body: [UInt8]?, _ deadline: MonotonicTime,
    while action: String
  ) async throws(GatewayError) -> String? {
    let url = connection.url(id.path, version: APIVersion.disks)
    let exchange = try await connection.exchange(method, url, body: body, deadline: deadline, while: action)
    guard exchange.isSuccess else {
      let fault = exchange.fault()
      guard fault.isContention else { throw fault.gatewayError(while: action) }
      try await connection.services.wait(seconds: contentionSeconds, why: "disk '\(id.name)' is being changed")
      return fault.summary
    }
    switch try await connection.finish(exchange, resourceURL: url, deadline: deadline, while: action) {
    case .succeeded: return nil
    case .preempted: return "another operation took the disk over"
    case .failed(let fault): throw fault.gatewayError(while: action)
    case .deadlinePassed: throw Self.deadlinePassed(action)
    }
  }

  /// Behind a message that attempts were given up.
  static func because(_ last: String?) -> String { last.map { "; the last one: \($0)" } ?? "" }
}
