/// A region as `locations` lists it.
package struct AzureRegion: Sendable, Equatable {
  package var name: String
  package var displayName: String
  package var geography: String
  package var zones: [String]
  /// SKUs of disks that aren't sold here.
  package var lacks: Set<String>
}

package enum AzureRegions {
  package static let all: [String: AzureRegion] = {
    let zoned = ["1", "2", "3"]
    let table: [(String, String, String, [String])] = [
      ("eastus", "East US", "US", zoned), ("eastus2", "East US 2", "US", zoned),
      ("centralus", "Central US", "US", zoned), ("southcentralus", "South Central US", "US", zoned),
      ("westus2", "West US 2", "US", zoned), ("westus3", "West US 3", "US", zoned), ("westus", "West US", "US", []),
      ("northcentralus", "North Central US", "US", []), ("westcentralus", "West Central US", "US", []),
      ("centraluseuap", "Central US EUAP", "US", zoned), ("canadacentral", "Canada Central", "Canada", zoned),
      ("brazilsouth", "Brazil South", "South America", zoned), ("northeurope", "North Europe", "Europe", zoned),
      ("westeurope", "West Europe", "Europe", zoned), ("uksouth", "UK South", "Europe", zoned),
      ("ukwest", "UK West", "Europe", []), ("francecentral", "France Central", "Europe", zoned),
      ("germanywestcentral", "Germany West Central", "Europe", zoned),
      ("swedencentral", "Sweden Central", "Europe", zoned),
      ("switzerlandnorth", "Switzerland North", "Europe", zoned), ("japaneast", "Japan East", "Asia Pacific", zoned),
      ("australiaeast", "Australia East", "Asia Pacific", zoned),
      ("southeastasia", "Southeast Asia", "Asia Pacific", zoned),
    ]
    let regions = table.map { name, display, geography, zones in
      AzureRegion(
        name: name, displayName: display, geography: geography, zones: zones,
        lacks: zones.isEmpty ? ["Premium_ZRS", "StandardSSD_ZRS"] : [])
    }
    return Dictionary(uniqueKeysWithValues: regions.map { ($0.name, $0) })
  }()
}

/// The versions of the API that each type of resource answers to.
enum APIVersions {
  private static let disks = words(
    """
    2016-04-30-preview 2017-03-30 2018-04-01 2018-06-01 2018-09-30 2019-03-01 2019-07-01 2019-11-01 2020-05-01 \
    2020-06-30 2020-09-30 2020-12-01 2021-04-01 2021-08-01 2021-12-01 2022-03-02 2022-07-02 2023-01-02 2023-04-02 \
    2023-10-02 2024-03-02 2025-01-02 2026-03-02
    """)
  private static let machines = words(
    """
    2015-06-15 2016-03-30 2016-04-30-preview 2017-03-30 2017-12-01 2018-04-01 2018-06-01 2018-10-01 2019-03-01 \
    2019-07-01 2019-12-01 2020-06-01 2020-12-01 2021-03-01 2021-04-01 2021-07-01 2021-11-01 2022-03-01 2022-08-01 \
    2022-11-01 2023-03-01 2023-07-01 2023-09-01 2024-03-01 2024-07-01 2024-11-01 2025-04-01 2025-11-01 2026-04-01
    """)
  private static let skus = ["2017-03-30", "2017-09-01", "2019-04-01", "2021-07-01"]
  private static let resources = words(
    """
    2016-06-01 2019-06-01 2019-10-01 2020-01-01 2020-06-01 2020-10-01 2021-01-01 2021-04-01 2022-09-01 2022-12-01 \
    2023-07-01 2024-03-01 2024-11-01 2025-04-01
    """)
  private static let authorization = ["2015-07-01", "2018-01-01-preview", "2018-07-01", "2022-04-01"]
  /// attachDetachDataDisks came with this one.
  private static let firstAttachDetach = "2024-03-01"

  private static func words(_ text: String) -> [String] { text.split(separator: " ").map(String.init) }

  /// Type of the resource, and the versions; nil where the path decides nothing here.
  static func supported(_ path: [String]) -> (type: String, versions: [String])? {
    // Operations of disks and of machines are found by either's version.
    if path.contains("operations") || path.contains("diskoperations") {
      return ("locations/operations", disks + machines)
    }
    if path.contains("usages") { return ("locations/usages", machines) }
    if path.contains("disks") { return ("disks", disks) }
    if path.contains("diskencryptionsets") { return ("diskEncryptionSets", disks) }
    if path.last == "attachdetachdatadisks" {
      return ("virtualMachines/attachDetachDataDisks", machines.filter { $0 >= firstAttachDetach })
    }
    if path.contains("virtualmachines") { return ("virtualMachines", machines) }
    if path.contains("skus") { return ("skus", skus) }
    if path.contains("permissions") { return ("permissions", authorization) }
    if path.first == "subscriptions", !path.contains("providers") { return ("subscriptions", resources) }
    return nil
  }
}
