import BlockModel
import Foundation
import MigrationModel
package import Planning
package import Reconciling

/// One entry of the list of SKUs; only what is used here.
private struct WireSKU: Decodable {
  struct Place: Decodable {
    var location: String?
    var zones: [String]?
  }
  struct Capability: Decodable {
    var name: String?
    var value: String?
  }
  struct Restriction: Decodable {
    var type: String?
    var reasonCode: String?
  }
  var resourceType: String?
  var name: String?
  var locationInfo: [Place]?
  var capabilities: [Capability]?
  var restrictions: [Restriction]?
}

private struct WireUsage: Decodable {
  struct Name: Decodable {
    var value: String?
  }
  var limit: Int
  var currentValue: Int
  var name: Name
}

private struct WirePermission: Decodable {
  var actions: [String]?
  var notActions: [String]?
}

private struct WirePage<Item: Decodable>: Decodable {
  var value: [Item]
  var nextLink: String?
}

extension AzureGateway {
  /// Names of usages aren't in the service's OpenAPI files: one that isn't found isn't checked.
  private static let usageNames = [
    "Standard_LRS": "StandardDiskCount", "Premium_LRS": "PremiumDiskCount", "StandardSSD_LRS": "StandardSSDDiskCount",
    "UltraSSD_LRS": "UltraSSDDiskCount", "PremiumV2_LRS": "PremiumV2DiskCount",
  ]

  package func limits() async throws(GatewayError) -> CloudLimits? {
    let deadline = newDeadline()
    let subscription = "/subscriptions/\(URLText.encoded(integration.subscriptionID))"
    let location = integration.location.lowercased()
    let compute = "\(subscription)/providers/Microsoft.Compute"
    let skus = try await all(
      WireSKU.self,
      connection.url("\(compute)/skus", version: APIVersion.skus)
        + "&$filter=location%20eq%20%27\(URLText.encoded(location))%27", deadline, while: "list the SKUs of \(location)"
    )
    let usages = try await all(
      WireUsage.self,
      connection.url("\(compute)/locations/\(URLText.encoded(location))/usages", version: APIVersion.machines),
      deadline,
      while: "list the usages of \(location)")
    let group = "\(subscription)/resourceGroups/\(URLText.encoded(integration.resourceGroup))"
    let permissions = try await all(
      WirePermission.self,
      connection.url("\(group)/providers/Microsoft.Authorization/permissions", version: APIVersion.permissions),
      deadline,
      while: "list the permissions on resource group \(integration.resourceGroup)")
    var result = CloudLimits(
      disks: [:], dataDisks: [:], disksLeft: [:],
      missingActions: permissions.value.map { Self.missing(CloudLimits.neededActions, $0) } ?? [])
    result.answers = CloudLimits.Answers(
      skus: skus.answer, usages: usages.answer, permissions: permissions.answer)
    let lists = [
      ("SKUs", skus.value == nil), ("quota", usages.value == nil), ("permissions", permissions.value == nil),
    ]
    for (what, isUnchecked) in lists where isUnchecked { result.unchecked.append(what) }
    for sku in skus.value ?? [] { Self.note(sku, location, &result) }
    for (sku, name) in Self.usageNames {
      guard let usage = usages.value?.first(where: { $0.name.value?.lowercased() == name.lowercased() }) else {
        continue
      }
      result.disksLeft[sku] = max(0, usage.limit - usage.currentValue)
    }
    return result
  }

  /// A whole list, by its last answer; none where the credential may not read it, or this cloud doesn't have it.
  private func all<Item: Decodable>(
    _ type: Item.Type, _ first: String, _ deadline: MonotonicTime, while action: String
  ) async throws(GatewayError) -> CloudReading<[Item]> {
    var found: [Item] = []
    var url: String? = first
    var answer: CloudAnswer?
    for _ in 0..<AzureLimits.pages {
      guard let current = url else { break }
      let exchange = try await connection.exchange(.get, current, deadline: deadline, while: action)
      if exchange.response.status == 403 || exchange.response.status == 404 {
        return CloudReading(nil, exchange.answer)
      }
      answer = exchange.answer
      let page = try connection.decode(WirePage<Item>.self, exchange, while: action)
      found += page.value
      url = page.nextLink.flatMap { $0.isEmpty ? nil : $0 }
    }
    return CloudReading(found, answer)
  }

  private static func note(_ sku: WireSKU, _ location: String, _ limits: inout CloudLimits) {
    guard let name = sku.name else { return }
    switch sku.resourceType?.lowercased() {
    case "disks":
      let zones = sku.locationInfo?.first { $0.location?.lowercased() == location }?.zones ?? []
      let restriction = sku.restrictions?.first { $0.type != "Zone" }?.reasonCode
      limits.disks[name] = CloudLimits.DiskKind(zones: zones.sorted(), restriction: restriction)
    case "virtualmachines":
      let most = sku.capabilities?.first { $0.name == "MaxDataDiskCount" }?.value.flatMap(Int.init)
      if let most { limits.dataDisks[name] = most }
    default: break
    }
  }

  /// Those of `needed` that no permission grants. In a pattern `*` is any text, and what `notActions` takes away of one
  /// permission another may give.
  private static func missing(_ needed: [String], _ permissions: [WirePermission]) -> [String] {
    needed.filter { action in
      !permissions.contains { permission in
        (permission.actions ?? []).contains { matches(action, $0) }
          && !(permission.notActions ?? []).contains { matches(action, $0) }
      }
    }.sorted()
  }

  private static func matches(_ action: String, _ pattern: String) -> Bool {
    let parts = pattern.lowercased().split(separator: "*", omittingEmptySubsequences: false)
    var rest = Substring(action.lowercased())
    for (index, part) in parts.enumerated() {
      if index == 0 {
        guard rest.hasPrefix(part) else { return false }
        rest = rest.dropFirst(part.count)
      } else if index == parts.count - 1 {
        return rest.hasSuffix(part)
      } else if let found = part.isEmpty ? rest.startIndex..<rest.startIndex : rest.firstRange(of: part) {
        rest = rest[found.upperBound...]
      } else {
        return false
      }
    }
    return rest.isEmpty
  }
}
