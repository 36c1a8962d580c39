import Diagnostics
import MigrationModel

/// What can be told of disks that don't exist yet, before anything is made: whether the subscription may have them, and
/// whether they can be attached to the machine. Every fault found.
func checkNewDisks(_ facts: MigrationFacts) -> [Diagnostic] {
  let new = facts.migration.diskVolumes.filter { volume in
    guard case .disk(let wanted) = volume.destination else { return false }
    return wanted.existingID == nil && facts.disks[volume.name] == nil
  }
  guard !new.isEmpty, let integration = facts.migration.integration(in: facts.plan) else { return [] }
  var found = new.flatMap { checkMachine($0, facts, integration) }
  if let fault = facts.cloud?.limitsFault {
    found.append(
      Diagnostic(
        code: PlanningCode.cloudNotObserved, at: fault.field.flatMap { facts.position($0) } ?? integration.position,
        "\(facts.migration.name): it needs \(new.count == 1 ? "a new disk" : "\(new.count) new disks"), and whether integration "
          + "\(integration.name) may have them could not be asked: \(fault.message)",
        advice: fault.advice))
  }
  guard let limits = facts.cloud?.limits else { return found }
  if !limits.disks.isEmpty { found += new.flatMap { checkKind($0, facts, integration, limits) } }
  found += checkCounts(new, facts, integration, limits)
  if !limits.missingActions.isEmpty {
    found.append(
      Diagnostic(
        code: PlanningCode.permissionMissing, at: facts.position(.credential),
        "\(facts.migration.name): the credential of integration \(integration.name) lacks "
          + "\(limits.missingActions.joined(separator: ", ")) on resource group \(integration.resourceGroup)"
          + note(limits.answers?.permissions),
        advice: "give it a role that has them; examples/azure/role.json is the smallest"))
  }
  if !limits.unchecked.isEmpty {
    found.append(
      Diagnostic(
        .note, code: PlanningCode.permissionMissing, at: facts.position(.credential),
        "\(facts.migration.name): \(limits.unchecked.joined(separator: ", ")) of \(integration.location) were not checked: "
          + "the credential may not read them",
        advice: "give it the role of examples/azure/role.json to have them checked before disks are made"))
  }
  return found
}

private func note(_ answer: CloudAnswer?) -> String { answer?.note ?? "" }

private func disk(_ volume: Volume) -> ManagedDisk? {
  if case .disk(let disk) = volume.destination { disk } else { nil }
}

/// Location and zone of machine and disk.
private func checkMachine(
  _ volume: Volume, _ facts: MigrationFacts, _ integration: AzureIntegration
) -> [Diagnostic] {
  guard let machine = facts.machine, let wanted = disk(volume) else { return [] }
  let subject = "\(facts.migration.name)/\(volume.name)"
  if machine.location.lowercased() != integration.location.lowercased() {
    return [
      Diagnostic(
        code: PlanningCode.cannotBeAttached, at: facts.position(.location),
        "\(subject): its disk would be made in \(integration.location), virtual machine \(machine.name) is in "
          + machine.location + facts.machineAnswer,
        advice: "write location: \(machine.location) in integration \(integration.name)")
    ]
  }
  if let zone = wanted.zone, zone != machine.zone {
    return [
      Diagnostic(
        code: PlanningCode.cannotBeAttached, at: facts.position(.zone, volume),
        "\(subject): a disk in zone \(zone) can't be attached to virtual machine \(machine.name), which is in "
          + (machine.zone.map { "zone \($0)" } ?? "no zone") + facts.machineAnswer,
        advice: machine.zone.map { "write zone: \"\($0)\"" } ?? "leave zone: out")
    ]
  }
  if let zone = machine.zone, wanted.zone == nil, !wanted.sku.isZoneRedundant {
    return [
      Diagnostic(
        code: PlanningCode.cannotBeAttached, at: facts.position(.zone, volume),
        "\(subject): a disk without a zone can't be attached to virtual machine \(machine.name), which is in zone "
          + zone + facts.machineAnswer, advice: "write zone: \"\(zone)\"")
    ]
  }
  return []
}

private func checkKind(
  _ volume: Volume, _ facts: MigrationFacts, _ integration: AzureIntegration, _ limits: CloudLimits
) -> [Diagnostic] {
  guard let wanted = disk(volume) else { return [] }
  let subject = "\(facts.migration.name)/\(volume.name)"
  let sku = wanted.sku.rawValue
  guard let kind = limits.disks[sku] else {
    return [
      Diagnostic(
        code: PlanningCode.skuNotAvailable, at: facts.position(.sku, volume),
        "\(subject): \(sku) isn't sold in \(integration.location)\(note(limits.answers?.skus))",
        advice: "choose one of \(limits.disks.keys.sorted().joined(separator: ", ")), or another location")
    ]
  }
  if let restriction = kind.restriction {
    return [
      Diagnostic(
        code: PlanningCode.skuNotAvailable, at: facts.position(.sku, volume),
        "\(subject): subscription \(integration.subscriptionID) may not have \(sku) in \(integration.location) "
          + "(\(restriction))\(note(limits.answers?.skus))",
        advice: "choose another SKU, or ask Azure's support to allow it")
    ]
  }
  if let zone = wanted.zone, !kind.zones.contains(zone) {
    let zones = kind.zones.isEmpty ? "none" : kind.zones.joined(separator: ", ")
    return [
      Diagnostic(
        code: PlanningCode.skuNotAvailable, at: facts.position(.zone, volume),
        "\(subject): \(sku) isn't sold in zone \(zone) of \(integration.location); its zones there: \(zones)"
          + note(limits.answers?.skus),
        advice: "write one of these zones, or leave zone: out")
    ]
  }
  return []
}

/// Quota, and how many disks the machine takes.
private func checkCounts(
  _ new: [Volume], _ facts: MigrationFacts, _ integration: AzureIntegration, _ limits: CloudLimits
) -> [Diagnostic] {
  var found: [Diagnostic] = []
  var wanted: [String: Int] = [:]
  for volume in new { if let sku = disk(volume)?.sku.rawValue { wanted[sku, default: 0] += 1 } }
  for (sku, count) in wanted.sorted(by: { $0.key < $1.key }) {
    guard let left = limits.disksLeft[sku], count > left else { continue }
    found.append(
      Diagnostic(
        code: PlanningCode.quotaExceeded,
        at: new.first { disk($0)?.sku.rawValue == sku }.flatMap { facts.position(.sku, $0) },
        "\(facts.migration.name): \(count) more \(sku) disks are needed, the quota of subscription "
          + "\(integration.subscriptionID) in \(integration.location) has room for \(left)"
          + note(limits.answers?.usages),
        advice: "ask Azure to raise the quota, or use another SKU"))
  }
  if let machine = facts.machine, let most = limits.dataDisks[machine.size],
    machine.attachments.count + new.count > most
  {
    found.append(
      Diagnostic(
        code: PlanningCode.cannotBeAttached, at: facts.position(.machine),
        "\(facts.migration.name): virtual machine \(machine.name) (\(machine.size)) takes \(most) data disks; it has "
          + "\(machine.attachments.count), and \(new.count) would be attached\(facts.machineAnswer)",
        advice: "choose a larger machine size, or detach what isn't used"))
  }
  return found
}
