package import MigrationModel
package import Planning

/// Import blocks and resources of the azurerm provider for the plan's disks and their attachments, so that the Terraform
/// that owns the virtual machine takes them over instead of detaching what it doesn't know. Written to be planned with no
/// change: what Azure has is what is written.
///
/// Source: registry.terraform.io/providers/hashicorp/azurerm, `managed_disk` and
/// `virtual_machine_data_disk_attachment`.
package func renderTerraform(_ plan: MigrationPlan, _ observation: Observation) -> String {
  var text = """
    # Disks of the migration plan \(safe(plan.metadata.name)), as Azure has them at \(rendered(observation.observedAt)).
    # Terraform 1.5 or newer imports them with the next apply. cmcplan keeps its marks in their tags until a migration is
    # retired: their changes are ignored.

    """
  var names = TerraformNames()
  let own = OwnDisks(plan, observation)
  for migration in plan.sortedMigrations {
    let facts = MigrationFacts(migration, in: plan, observation, own)
    for volume in migration.volumes {
      guard case .disk(let wanted) = volume.destination else { continue }
      guard let disk = facts.disks[volume.name] else {
        text += "\n# \(safe("\(migration.name)/\(volume.name)")): no disk was seen, so there is nothing to import.\n"
        continue
      }
      let name = names.name(for: "\(migration.name)_\(volume.name)")
      text += diskText(disk, wanted, name, location: facts.machine?.location)
      guard let machine = facts.machine, let lun = facts.lun(of: disk) else {
        text += "\n# \(name) is not attached to its machine: there is no attachment to import.\n"
        continue
      }
      text += attachmentText(disk, wanted, name, machine, lun: lun)
    }
  }
  return text
}

private func diskText(_ disk: CloudDisk, _ wanted: ManagedDisk, _ name: String, location: String?) -> String {
  let group = resourceGroup(of: disk.resourceID) ?? wanted.resourceGroup ?? ""
  var lines = [
    ("name", quoted(disk.name)), ("resource_group_name", quoted(group)),
    ("storage_account_type", quoted(disk.sku)), ("create_option", quoted("Empty")),
    ("disk_size_gb", String(disk.sizeBytes >> 30)),
  ]
  if let location { lines.insert(("location", quoted(location)), at: 2) }
  if let zone = disk.zone { lines.append(("zone", quoted(zone))) }
  if ManagedDisk.SKU(rawValue: disk.sku)?.hasOwnPerformance == true {
    if let iops = disk.iops { lines.append(("disk_iops_read_write", String(iops))) }
    if let megabytes = disk.megabytesPerSecond { lines.append(("disk_mbps_read_write", String(megabytes))) }
  }
  if let set = wanted.encryptionSet { lines.append(("disk_encryption_set_id", quoted(set))) }
  if let access = wanted.networkAccess { lines.append(("network_access_policy", quoted(access))) }
  return block("import", [("to", "azurerm_managed_disk.\(name)"), ("id", quoted(disk.resourceID))])
    + block(
      "resource \"azurerm_managed_disk\" \"\(name)\"", lines,
      closing: "\n  lifecycle {\n    prevent_destroy = true\n    ignore_changes  = [tags]\n  }\n")
}

private func attachmentText(
  _ disk: CloudDisk, _ wanted: ManagedDisk, _ name: String, _ machine: CloudMachine, lun: Int
) -> String {
  let caching =
    switch wanted.caching {
    case .none: "None"
    case .readOnly: "ReadOnly"
    case .readWrite: "ReadWrite"
    }
  return block(
    "import",
    [
      ("to", "azurerm_virtual_machine_data_disk_attachment.\(name)"),
      ("id", quoted("\(machine.resourceID)/dataDisks/\(disk.name)")),
    ])
    + block(
      "resource \"azurerm_virtual_machine_data_disk_attachment\" \"\(name)\"",
      [
        ("managed_disk_id", "azurerm_managed_disk.\(name).id"), ("virtual_machine_id", quoted(machine.resourceID)),
        ("lun", String(lun)), ("caching", quoted(caching)),
      ])
}

/// Aligned as `terraform fmt` does.
private func block(_ head: String, _ lines: [(String, String)], closing: String = "") -> String {
  let width = lines.map(\.0.count).max() ?? 0
  let body = lines.map { "  \($0.0)\(String(repeating: " ", count: width - $0.0.count)) = \($0.1)\n" }.joined()
  return "\n\(head) {\n\(body)\(closing)}\n"
}

/// A string of HCL in which nothing is a template.
private func quoted(_ text: String) -> String {
  var result = ""
  for character in safe(text) {
    switch character {
    case "\"", "\\": result += "\\\(character)"
    case "$", "%": result += "\(character)"
    case "{" where result.hasSuffix("$") || result.hasSuffix("%"): result += "\(result.last ?? "$"){"
    default: result.append(character)
    }
  }
  return "\"\(result)\""
}

private func resourceGroup(of resourceID: String) -> String? {
  let parts = resourceID.split(separator: "/", omittingEmptySubsequences: false)
  guard let index = parts.firstIndex(where: { $0.lowercased() == "resourcegroups" }), index + 1 < parts.count else {
    return nil
  }
  return String(parts[index + 1])
}

/// Names of resources: letters, digits, dashes and underscores, not beginning with a digit or a dash; no two alike.
private struct TerraformNames {
  private var taken: Set<String> = []

  mutating func name(for text: String) -> String {
    var name = String(text.map { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-" || $0 == "_") ? $0 : "_" })
    if name.first?.isLetter != true { name = "_" + name }
    var unique = name
    var number = 2
    while !taken.insert(unique).inserted {
      unique = "\(name)_\(number)"
      number += 1
    }
    return unique
  }
}
