/// What a subscription may have at a location, as far as new disks need it.
package struct CloudLimits: Sendable, Equatable, Codable {
  package struct DiskKind: Sendable, Equatable, Codable {
    /// Zones where it is sold; empty: it isn't sold by zone here.
    package var zones: [String]
    /// Why the subscription may not have it ("NotAvailableForSubscription"); nil: it may.
    package var restriction: String?
    package init(zones: [String], restriction: String?) {
      self.zones = zones
      self.restriction = restriction
    }
  }
  /// By SKU. One that is missing isn't sold there.
  package var disks: [String: DiskKind]
  /// By machine size: the most data disks. A size that is missing isn't sold there.
  package var dataDisks: [String: Int]
  /// By SKU: how many more disks the quota allows; a SKU that is missing has none that is known.
  package var disksLeft: [String: Int]
  /// Actions of a role that the credential lacks on the resource group, sorted.
  package var missingActions: [String]
  /// What the credential may not look at, and so nobody checked: "SKUs", "quota", "permissions".
  package var unchecked: [String] = []
  /// The lists that it was read from.
  package struct Answers: Sendable, Equatable, Codable {
    package var skus: CloudAnswer?
    package var usages: CloudAnswer?
    package var permissions: CloudAnswer?
    package init(skus: CloudAnswer?, usages: CloudAnswer?, permissions: CloudAnswer?) {
      self.skus = skus
      self.usages = usages
      self.permissions = permissions
    }
  }
  package var answers: Answers?
  package init(
    disks: [String: DiskKind], dataDisks: [String: Int], disksLeft: [String: Int], missingActions: [String]
  ) {
    self.disks = disks
    self.dataDisks = dataDisks
    self.disksLeft = disksLeft
    self.missingActions = missingActions
  }

  /// What creating and attaching disks needs (examples/azure/role.json has them all).
  package static let neededActions = [
    "Microsoft.Compute/disks/read", "Microsoft.Compute/disks/write",
    "Microsoft.Compute/virtualMachines/attachDetachDataDisks/action", "Microsoft.Compute/virtualMachines/read",
    "Microsoft.Compute/virtualMachines/write",
  ]
}
