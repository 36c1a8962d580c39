import AgentProtocol
import BlockModel
package import Diagnostics
import MigrationModel

/// Codes of planning's diagnostics. A code is never reused.
package enum PlanningCode {
  package static let operatingSystemNotAttested = "CMC2001"
  package static let applicationNotAttested = "CMC2002"
  package static let noIntegration = "CMC2003"
  package static let backwards = "CMC2010"
  package static let hostNotObserved = "CMC2020"
  package static let cloudNotObserved = "CMC2021"
  package static let noVirtualMachine = "CMC2022"
  package static let sourceDeviceMissing = "CMC2023"
  package static let systemDevice = "CMC2024"
  package static let destinationTooSmall = "CMC2025"
  package static let foreignDisk = "CMC2026"
  package static let diskDiffers = "CMC2027"
  package static let sourceChanged = "CMC2029"
  package static let trackingCannotSwing = "CMC2030"
  package static let destinationNotBlank = "CMC2031"
  package static let noListenerAddress = "CMC2032"
  package static let hookHost = "CMC2033"
  package static let unknownTimeZone = "CMC2034"
  package static let destinationMissing = "CMC2035"
  package static let machineWithoutUltra = "CMC2036"
  package static let diskStaysSmaller = "CMC2038"
  package static let nameTaken = "CMC2043"
  package static let renameAmbiguous = "CMC2044"
  package static let renameUnfinished = "CMC2045"
  package static let renameNotKnown = "CMC2046"
  package static let renameKept = "CMC2047"
  package static let sessionError = "CMC2040"
  package static let agentOutdated = "CMC2041"
  package static let sourceCopyLost = "CMC2042"
  package static let unknownMigration = "CMC2050"
  package static let replaceTooLate = "CMC2051"
  package static let replaceNotNeeded = "CMC2052"
  package static let replaceOverwrites = "CMC2053"
  package static let willNotConverge = "CMC2054"
  package static let pruneTooLate = "CMC2055"
  package static let prunePeerUnseen = "CMC2056"
  package static let sourceShrank = "CMC2058"
  package static let volumeStaysSmaller = "CMC2059"
  package static let guardrailLocation = "CMC2060"
  package static let guardrailSKU = "CMC2061"
  package static let guardrailSize = "CMC2062"
  package static let guardrailMoves = "CMC2063"
  package static let guardrailBytes = "CMC2064"
  package static let guardrailLevel = "CMC2065"
  package static let guardrailOwner = "CMC2066"
  package static let guardrailOneWay = "CMC2067"
  static let guardrails: Set = [
    guardrailLocation, guardrailSKU, guardrailSize, guardrailMoves, guardrailBytes, guardrailLevel, guardrailOwner,
    guardrailOneWay,
  ]
  package static let skuNotAvailable = "CMC2070"
  package static let quotaExceeded = "CMC2071"
  package static let cannotBeAttached = "CMC2072"
  package static let permissionMissing = "CMC2073"
  package static let diskImpossible = "CMC2074"
  package static let diskDetached = "CMC2075"
  package static let lunsNotNamed = "CMC2076"
  package static let clockOff = "CMC2077"
}

/// What can be told of devices and disks before anything is made or moved. Pure; every fault found.
/// What `replace` names isn't held to what its present disk is: it gets another.
package func preflight(
  _ facts: MigrationFacts, overwrite: Set<VolumeKey>, replace: Set<VolumeKey> = []
) -> [Diagnostic] {
  var found: [Diagnostic] = []
  for volume in facts.migration.volumes {
    let isReplaced = replace.contains(VolumeKey(facts.migration.name, volume.name))
    found += checkSource(volume, facts)
    found += checkDisk(volume, facts).filter { !isReplaced || $0.code != PlanningCode.diskDiffers }
    found += checkUltra(volume, facts) + checkAutoSize(volume, facts)
    found += checkDestination(volume, facts, overwrite: overwrite)
  }
  return found + checkNewDisks(facts)
}

private func checkSource(_ volume: Volume, _ facts: MigrationFacts) -> [Diagnostic] {
  var subject: String { "\(facts.migration.name)/\(volume.name)" }
  let host = facts.migration.source
  guard let report = facts.source?.device(volume.device) else { return [] }
  if let error = report.error {
    return [
      Diagnostic(
        code: PlanningCode.sourceDeviceMissing, at: volume.position,
        "\(subject): \(volume.device) on \(host) can't be read: \(error)", advice: "check the path and its permissions")
    ]
  }
  switch report.kind {
  case .missing, .other:
    return [
      Diagnostic(
        code: PlanningCode.sourceDeviceMissing, at: volume.position,
        report.kind == .missing
          ? "\(subject): there is no \(volume.device) on \(host)"
          : "\(subject): \(volume.device) on \(host) is neither a block device nor a file",
        advice: "name the device that the application uses")
    ]
  case .file, .block:
    guard !report.isSystemDevice else {
      return [
        Diagnostic(
          code: PlanningCode.systemDevice, at: volume.position,
          "\(subject): \(volume.device) on \(host) holds the running system",
          advice: "operating system disks aren't migrated; put application data on a device of its own")
      ]
    }
    return []
  }
}

private func checkDisk(_ volume: Volume, _ facts: MigrationFacts) -> [Diagnostic] {
  guard case .disk(let wanted) = volume.destination else { return [] }
  var subject: String { "\(facts.migration.name)/\(volume.name)" }
  let shrinking = checkWantedSize(wanted, of: volume, facts)
  guard let disk = facts.disks[volume.name] else {
    guard shrinking.isEmpty else { return shrinking }
    guard let id = wanted.existingID, facts.isCloudSeen else { return [] }
    return [
      Diagnostic(
        code: PlanningCode.destinationMissing, at: facts.position(.diskID, volume),
        "\(subject): there is no disk \(id)\(facts.diskAnswer(volume))",
        advice: "correct the id, or leave it out to have a disk made")
    ]
  }
  var found = shrinking
  let owner = disk.tags[DiskTag.plan]
  let isOurs =
    owner == facts.plan.metadata.id.text
    && disk.volume(in: facts.plan) == VolumeKey(facts.migration.name, volume.name)
  // A disk that the plan names by id may be anybody's but another plan's; a name we would have made may not be.
  if !isOurs, wanted.existingID == nil || owner != nil {
    let whose = owner.map { "plan \($0)" } ?? "somebody else (it carries no cmcplan tags)"
    found.append(
      Diagnostic(
        code: PlanningCode.foreignDisk, at: facts.position(wanted.existingID == nil ? .diskName : .diskID, volume),
        "\(subject): disk \(disk.name) belongs to \(whose)\(facts.diskAnswer(volume))",
        advice: "give the volume's disk another name; a disk that isn't ours is never touched"))
    return found
  }
  if let bytes = facts.bytesWithoutGrowth(of: volume), disk.sizeBytes < bytes {
    found.append(
      Diagnostic(
        code: PlanningCode.destinationTooSmall, at: facts.position(.size, volume),
        "\(subject): disk \(disk.name) has \(disk.sizeBytes) bytes, its source \(bytes)\(facts.diskAnswer(volume))",
        advice: "enlarge the disk to at least \(gibibytes(holding: bytes)) GiB"))
  }
  if let id = wanted.existingID, !disk.isSame(as: id) {
    found.append(
      Diagnostic(
        code: PlanningCode.diskDiffers, at: facts.position(.diskID, volume),
        "\(subject): it has disk \(disk.name), the plan says \(id)",
        advice: "write id: \(disk.resourceID)" + facts.replacingAdvice(of: volume)))
  }
  if let name = wanted.otherName(than: disk) {
    found.append(
      Diagnostic(
        code: PlanningCode.diskDiffers, at: facts.position(.diskName, volume),
        "\(subject): it has disk \(disk.name), the plan names it \(name)",
        advice: "write name: \(disk.name), for Azure renames no disk" + facts.replacingAdvice(of: volume)))
  }
  found += checkConversion(wanted, disk, of: volume, facts)
  if let zone = wanted.zone, disk.zone != zone {
    found.append(
      Diagnostic(
        code: PlanningCode.diskDiffers, at: facts.position(.zone, volume),
        "\(subject): disk \(disk.name) is in \(disk.zone.map { "zone \($0)" } ?? "no zone"), the plan says zone \(zone)"
          + facts.diskAnswer(volume),
        advice: "a disk can't change its zone; correct the plan" + facts.replacingAdvice(of: volume)))
  }
  if let holder = disk.attachedTo, let machine = facts.machine, !isSameResource(holder, machine.resourceID),
    !facts.isAttached(disk)
  {
    found.append(
      Diagnostic(
        code: PlanningCode.foreignDisk, at: facts.position(.machine),
        "\(subject): disk \(disk.name) is attached to \(holder), not to \(machine.name)\(facts.diskAnswer(volume))",
        advice: "detach it there, or correct the destination's azureVirtualMachine"))
  }
  return found
}

private func checkUltra(_ volume: Volume, _ facts: MigrationFacts) -> [Diagnostic] {
  guard case .disk(let wanted) = volume.destination, wanted.sku == .ultra, let machine = facts.machine,
    machine.ultraDisks == false
  else { return [] }
  return [
    Diagnostic(
      code: PlanningCode.machineWithoutUltra, at: facts.position(.sku, volume),
      "\(facts.migration.name)/\(volume.name): virtual machine \(machine.name) can't have UltraSSD_LRS disks"
        + facts.machineAnswer,
      advice: "enable it while the machine is deallocated (az vm update --ultra-ssd-enabled true), or use PremiumV2_LRS"
    )
  ]
}

/// A size that the plan names: never less than the source's, nor than the disk's own, for disks only grow.
private func checkWantedSize(_ wanted: ManagedDisk, of volume: Volume, _ facts: MigrationFacts) -> [Diagnostic] {
  guard wanted.existingID == nil, case .bytes(let size) = wanted.size else { return [] }
  var subject: String { "\(facts.migration.name)/\(volume.name)" }
  if let bytes = facts.sourceBytes(of: volume), size < bytes {
    return [
      Diagnostic(
        code: PlanningCode.destinationTooSmall, at: facts.position(.size, volume),
        "\(subject): the plan says a disk of \(size) bytes, its source has \(bytes)",
        advice: "write size: auto, or at least \(gibibytes(holding: bytes)) GiB")
    ]
  }
  guard let disk = facts.disks[volume.name], size < disk.sizeBytes else { return [] }
  return [
    Diagnostic(
      code: PlanningCode.diskDiffers, at: facts.position(.size, volume),
      "\(subject): disk \(disk.name) has \(disk.sizeBytes) bytes, the plan says \(size)",
      advice: "a disk can't shrink; write size: auto, or at least \(gibibytes(holding: disk.sizeBytes)) GiB"
        + facts.replacingAdvice(of: volume))
  ]
}

private func checkDestination(
  _ volume: Volume, _ facts: MigrationFacts, overwrite: Set<VolumeKey>
) -> [Diagnostic] {
  guard let path = facts.destinationPath(of: volume), let report = facts.destination?.device(path) else { return [] }
  var subject: String { "\(facts.migration.name)/\(volume.name)" }
  let host = facts.migration.destination
  guard report.kind == .file || report.kind == .block else {
    return [
      Diagnostic(
        code: PlanningCode.destinationMissing, at: volume.position,
        "\(subject): the destination \(path) on \(host) is \(report.kind == .missing ? "missing" : "no block device")",
        advice: "check the path, and that the disk arrived on the host")
    ]
  }
  if report.isSystemDevice || !report.mountedAt.isEmpty {
    let use =
      report.isSystemDevice ? "holds the running system" : "is mounted at \(report.mountedAt.joined(separator: ", "))"
    return [
      Diagnostic(
        code: PlanningCode.systemDevice, at: volume.position,
        "\(subject): the destination \(path) on \(host) \(use)", advice: "choose a device that nothing uses")
    ].filter { _ in !facts.isPastFence }
  }
  var found: [Diagnostic] = []
  if let bytes = facts.bytesWithoutGrowth(of: volume), report.sizeBytes < bytes {
    found.append(
      Diagnostic(
        code: PlanningCode.destinationTooSmall, at: volume.position,
        "\(subject): the destination \(path) on \(host) has \(report.sizeBytes) bytes, its source \(bytes)",
        advice: "enlarge the destination"))
  }
  let isOurs = report.labelledSession.map(facts.owns) ?? false
  if facts.destinationSession == nil, !report.looksBlank, !isOurs,
    !overwrite.contains(VolumeKey(facts.migration.name, volume.name))
  {
    let whose = report.labelledSession.map { "carries the label of session \($0)" } ?? "holds data that isn't ours"
    found.append(
      Diagnostic(
        code: PlanningCode.destinationNotBlank, at: volume.position,
        "\(subject): the destination \(path) on \(host) \(whose)",
        advice: "if it may be lost: --overwrite \(subject)"))
  }
  return found
}
