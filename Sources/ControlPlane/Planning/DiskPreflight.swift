import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel

/// Another SKU than the disk has: Azure turns some into others while no machine has the disk, and once a session uses it
/// we keep our hands off it.
func checkConversion(
  _ wanted: ManagedDisk, _ disk: CloudDisk, of volume: Volume, _ facts: MigrationFacts
) -> [Diagnostic] {
  guard wanted.existingID == nil, disk.sku != wanted.sku.rawValue, !facts.canConvert(disk, to: wanted.sku) else {
    return []
  }
  let isPossible =
    ManagedDisk.SKU(rawValue: disk.sku).map { $0.conversion(to: wanted.sku, zone: disk.zone) != .never } ?? false
  return [
    Diagnostic(
      code: PlanningCode.diskDiffers, at: facts.position(.sku, volume),
      "\(facts.migration.name)/\(volume.name): disk \(disk.name) is \(disk.sku), the plan says \(wanted.sku.rawValue)"
        + facts.diskAnswer(volume),
      advice: (isPossible
        ? "write sku: \(disk.sku); Azure changes it only while no virtual machine has the disk: detach it before a session "
          + "uses it, or change it after finalize with the machine deallocated"
        : "write sku: \(disk.sku); Azure doesn't turn it into \(wanted.sku.rawValue): that needs another disk")
        + facts.replacingAdvice(of: volume))
  ]
}

extension MigrationFacts {
  /// Nobody has the disk, and no session knows it.
  func isUnused(_ disk: CloudDisk) -> Bool {
    disk.attachedTo == nil && disk.state == .unattached && sourceSession == nil && destinationSession == nil
  }

  func canConvert(_ disk: CloudDisk, to sku: ManagedDisk.SKU) -> Bool {
    guard let now = ManagedDisk.SKU(rawValue: disk.sku) else { return false }
    return now.conversion(to: sku, zone: disk.zone) == .whileDetached && isUnused(disk)
  }
}

/// What only the source's size decides where the plan says `size: auto`: whether there are such disks at all, and what
/// performance they may have. A size that is written was held against the same rules when the plan was read.
func checkAutoSize(_ volume: Volume, _ facts: MigrationFacts) -> [Diagnostic] {
  guard case .disk(let wanted) = volume.destination, wanted.existingID == nil, case .auto = wanted.size,
    let bytes = facts.sourceBytes(of: volume)
  else { return [] }
  let sku = wanted.sku
  let disk = facts.disks[volume.name]
  let gib = max(
    gibibytes(holding: bytes), sku.sizesGiB.lowerBound, disk.map { Int(clamping: $0.sizeBytes >> 30) } ?? 0)
  let subject = "\(facts.migration.name)/\(volume.name)"
  func impossible(_ field: PlanField, _ what: String, _ advice: String) -> Diagnostic {
    Diagnostic(
      code: PlanningCode.diskImpossible, at: facts.position(field, volume), "\(subject): \(what)", advice: advice)
  }
  guard gib <= sku.sizesGiB.upperBound else {
    return [
      impossible(
        .sku, "its source has \(gib) GiB, and \(sku.rawValue) disks have at most \(sku.sizesGiB.upperBound)",
        gib <= ManagedDisk.SKU.premiumV2.sizesGiB.upperBound
          ? "use PremiumV2_LRS or UltraSSD_LRS, which go to 65536 GiB" : "split it over several volumes")
    ]
  }
  var found: [Diagnostic] = []
  if wanted.caching != .none, gib >= ManagedDisk.SKU.cachingLimitGiB {
    found.append(
      impossible(
        .caching, "its source has \(gib) GiB, and there is no host caching on disks of 4 TiB and more",
        "write caching: none"))
  }
  // What Azure gave already is possible, whatever the table says.
  if let iops = wanted.iops, disk?.iops != iops, let possible = sku.iopsRange(gib: gib), !possible.contains(iops) {
    let needed = sku == .ultra ? (iops + 999) / 1000 : (iops + 499) / 500
    found.append(
      impossible(
        .iops, "a \(sku.rawValue) disk of \(gib) GiB, as its source has, can't have \(iops) IOPS",
        "write iops: \(possible.lowerBound) to \(possible.upperBound)"
          + (iops > possible.upperBound ? ", or size: \(needed) GiB" : "")))
  }
  return found
}

/// A host that gives Azure's disks no name by their LUN: what is attached there couldn't be told apart.
func noteUnnamedLUNs(_ facts: MigrationFacts) -> [Diagnostic] {
  guard facts.destination?.state?.namesLUNs == false,
    facts.migration.diskVolumes.contains(where: { facts.disks[$0.name].map { !facts.isAttached($0) } ?? true })
  else { return [] }
  return [
    Diagnostic(
      .warning, code: PlanningCode.lunsNotNamed, at: facts.plan.hosts[facts.migration.destination]?.position,
      "\(facts.migration.name): udev on \(facts.migration.destination) names no Azure disks by their LUN "
        + "(/dev/disk/azure), so a disk that is attached would not be found there",
      advice: "install azure-vm-utils, or the Azure Linux agent (walinuxagent), on it; then run udevadm trigger")
  ]
}

/// Hosts whose clock is not everybody's. Nothing that is copied goes by it; people and windows do.
func noteClocks(_ facts: MigrationFacts) -> [Diagnostic] {
  let hosts = [(facts.migration.source, facts.source), (facts.migration.destination, facts.destination)]
  return hosts.compactMap { host, seen in
    guard let ahead = seen?.state?.clockAheadSeconds else { return nil }
    return Diagnostic(
      .warning, code: PlanningCode.clockOff, at: facts.plan.hosts[host]?.position,
      "\(facts.migration.name): the clock of \(host) is \(ahead.magnitude / 60) min "
        + "\(ahead > 0 ? "ahead of" : "behind") this machine's",
      advice: "set it by NTP (chrony, systemd-timesyncd): windows, approvals and reported times go by it")
  }
}

/// A disk that a session uses and the machine lost.
func noteDetached(_ facts: MigrationFacts) -> [Diagnostic] {
  guard let session = facts.destinationSession, let machine = facts.machine, facts.isCloudSeen,
    facts.sourceStage != .cancelled
  else { return [] }
  return facts.migration.diskVolumes.compactMap { volume in
    guard session.configuration.volumes.contains(where: { $0.name == volume.name }),
      let disk = facts.disks[volume.name],
      !facts.isAttached(disk), case .disk(let wanted) = volume.destination
    else { return nil }
    return Diagnostic(
      .warning, code: PlanningCode.diskDetached,
      at: facts.position(wanted.existingID == nil ? .diskName : .diskID, volume),
      "\(facts.migration.name)/\(volume.name): somebody detached disk \(disk.name) from virtual machine \(machine.name), "
        + "and the session needs it (Azure: \(disk.attachedTo.map { "attached to \($0)" } ?? "Unattached"))"
        + facts.machineAnswer,
      advice:
        "apply attaches it again; az monitor activity-log list --resource-id \(machine.resourceID) tells who it was"
    )
  }
}
