/// A resource id of the form that this room needs:
/// `/subscriptions/S/resourceGroups/G/providers/Microsoft.Compute/TYPE/NAME`. Azure compares them without case.
package struct ARMResourceID: Sendable, Hashable, CustomStringConvertible {
  package let subscription: String
  package let resourceGroup: String
  /// "disks" or "virtualMachines".
  package let type: String
  package let name: String

  package init(subscription: String, resourceGroup: String, type: String, name: String) {
    self.subscription = subscription
    self.resourceGroup = resourceGroup
    self.type = type
    self.name = name
  }

  /// Nil where `text` is no such id.
  package init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 9, parts[0].isEmpty, !parts[2...].contains(where: \.isEmpty),
      parts[1].lowercased() == "subscriptions", parts[3].lowercased() == "resourcegroups",
      parts[5].lowercased() == "providers", parts[6].lowercased() == "microsoft.compute"
    else { return nil }
    self.init(subscription: parts[2], resourceGroup: parts[4], type: parts[7], name: parts[8])
  }

  package var description: String {
    "/subscriptions/\(subscription)/resourceGroups/\(resourceGroup)/providers/Microsoft.Compute/\(type)/\(name)"
  }

  /// The path of a URL.
  var path: String {
    let (subscription, group) = (URLText.encoded(subscription), URLText.encoded(resourceGroup))
    return "/subscriptions/\(subscription)/resourceGroups/\(group)/providers/Microsoft.Compute/\(type)/"
      + URLText.encoded(name)
  }

  package static func == (left: ARMResourceID, right: ARMResourceID) -> Bool { left.folded == right.folded }
  package func hash(into hasher: inout Hasher) { hasher.combine(folded) }
  private var folded: String { description.lowercased() }

  /// Whether two texts name the same resource.
  static func same(_ left: String, _ right: String) -> Bool { left.lowercased() == right.lowercased() }
}
