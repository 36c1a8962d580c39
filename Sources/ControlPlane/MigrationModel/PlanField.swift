package import Diagnostics

/// A value of the document that Azure or a host may object to, by its key: whoever reports the objection can show the
/// line to change.
package enum PlanField: String, Sendable, Codable, CaseIterable {
  case tenant = "tenantId"
  case subscription = "subscriptionId"
  case resourceGroup
  case location
  case credential
  case machine = "azureVirtualMachine"
  case diskName = "name"
  case diskID = "id"
  case sku
  case size
  case zone
  case iops
  case throughput
  case caching
  case encryptionSet
}

/// Where the document says values; one that is left out has no place.
package typealias PlanPlaces = [PlanField: SourcePosition]

extension MigrationPlan {
  /// The line to change, or the nearest one above it: of the disk of `volume` where it is given, of the integration and
  /// the destination of `migration` otherwise.
  package func position(
    of field: PlanField, for migration: Migration, volume: Volume? = nil
  ) -> SourcePosition? {
    if let place = volume?.places[field] { return place }
    let integration =
      migration.integration.flatMap { integrations[$0] }
      ?? (integrations.count == 1 ? integrations.values.first : nil)
    switch field {
    case .tenant, .subscription, .resourceGroup, .location, .credential:
      return integration?.places[field] ?? integration?.position
    case .machine:
      let host = hosts[migration.destination]
      return host?.machinePosition ?? host?.position
    case .diskName, .diskID, .sku, .size, .zone, .iops, .throughput, .caching, .encryptionSet:
      return volume?.position ?? migration.position
    }
  }
}
