import AgentProtocol
import BlockModel
import Diagnostics
package import MigrationModel

// MARK: What of a volume only a new disk or a new session can change

extension MigrationFacts {
  /// Disks that this volume had and that were replaced: kept, and nobody's.
  func orphans(of volume: Volume) -> [CloudDisk] {
    let key = VolumeKey(migration.name, volume.name)
    return (cloud?.disks ?? []).filter { $0.isOrphaned && $0.taggedVolume(in: plan) == key }
  }

  /// Its old disk was tagged, and then the run died: the session still has it.
  func isReplacementBegun(of volume: Volume) -> Bool {
    guard case .disk = volume.destination, destinationSession != nil || sourceSession != nil else { return false }
    return disks[volume.name] == nil && !orphans(of: volume).isEmpty
  }

  /// Why the volume can't become what the plan says with the disk and the session that it has; nil where it can.
  package func replacementReason(of volume: Volume) -> String? {
    if isReplacementBegun(of: volume) { return "its former disk is orphaned already" }
    if let changed = changedDevice(of: volume) { return changed }
    guard case .disk(let wanted) = volume.destination, let disk = disks[volume.name] else { return nil }
    if let id = wanted.existingID {
      return disk.isSame(as: id) ? nil : "the plan names disk \(id), it has \(disk.name)"
    }
    if let name = wanted.otherName(than: disk) { return "it has disk \(disk.name), the plan names it \(name)" }
    if disk.sku != wanted.sku.rawValue, !canConvert(disk, to: wanted.sku) {
      return "disk \(disk.name) is \(disk.sku), the plan says \(wanted.sku.rawValue)"
    }
    if let zone = wanted.zone, disk.zone != zone {
      return "disk \(disk.name) is in \(disk.zone.map { "zone \($0)" } ?? "no zone"), the plan says zone \(zone)"
    }
    if case .bytes(let size) = wanted.size, size < disk.sizeBytes {
      return "disk \(disk.name) has \(disk.sizeBytes) bytes, the plan says \(size)"
    }
    return nil
  }

  /// Another device than the one whose data was moved, or onto which it was.
  func changedDevice(of volume: Volume) -> String? {
    guard let stage = sourceStage, stage != .prepared, stage != .cancelled else { return nil }
    func configured(_ session: SessionObservation?) -> VolumeConfiguration? {
      session?.configuration.volumes.first { $0.name == volume.name }
    }
    if let old = configured(sourceSession) {
      if old.devicePath != volume.device {
        return "the source device of \(volume.name) changed from \(old.devicePath) to \(volume.device)"
      }
      let changed = otherIdentity(than: old, now: source?.device(volume.device))
      if let changed { return "\(volume.device) on \(migration.source) \(changed)" }
    }
    guard case .device(let path) = volume.destination, let old = configured(destinationSession) else { return nil }
    if old.devicePath != path {
      return "the destination device of \(volume.name) changed from \(old.devicePath) to \(path)"
    }
    let changed = otherIdentity(than: old, now: destination?.device(path))
    return changed.map { "\(path) on \(migration.destination) \($0)" }
  }

  /// Only of block devices: a file's identity is not the same after its host was started anew.
  private func otherIdentity(than old: VolumeConfiguration, now report: DeviceReport?) -> String? {
    guard let report, report.kind == .block, let now = report.identity, let before = old.deviceIdentity,
      now != before
    else { return nil }
    return "is another device (\(now)) than the one that was copied (\(before))"
  }

  /// Whether giving the copy up can't touch anybody's I/O: nothing swung, nothing is about to.
  var mayReplace: Bool {
    if isPastFence { return false }
    switch sourceStage {
    case .standIn, .swinging, .tapClosed, .proving, .proven, .fenced, .released: return false
    case .prepared, .synchronizing, .tracking, .cancelled: return sourceSession?.authority == .source
    case nil: return destinationSession?.stage != .standIn
    }
  }

  /// What `--replace` would do about it, for the end of another advice.
  func replacingAdvice(of volume: Volume) -> String {
    let option = "--replace \(migration.name)/\(volume.name)"
    return mayReplace
      ? "; or \(option): a new disk and a full synchronization, the old disk is kept"
      : "; \(option) makes a new disk, and only after a revert"
  }

  /// As it will be once these volumes' disks are orphaned and the session is given up.
  func replacing(_ volumes: [Volume]) -> MigrationFacts {
    var facts = self
    facts.sourceSession = nil
    facts.destinationSession = nil
    for volume in volumes {
      if let old = facts.disks.removeValue(forKey: volume.name),
        let index = facts.cloud?.disks.firstIndex(where: { $0.isSame(as: old.resourceID) })
      {
        facts.cloud?.disks[index].tags[DiskTag.state] = DiskTag.orphaned
      }
      guard case .disk(let wanted) = volume.destination, let id = wanted.existingID,
        let named = cloud?.namedDisks[id], !named.isOrphaned
      else { continue }
      facts.disks[volume.name] = named
    }
    return facts
  }
}

extension ManagedDisk {
  /// The name that the plan says, where the volume's disk has another one.
  func otherName(than disk: CloudDisk) -> String? {
    guard existingID == nil, let name, !isReplacementName(disk.name, of: name) else { return nil }
    return name
  }
}

extension CloudDisk {
  /// Resource ids compare without regard to case.
  func isSame(as id: String) -> Bool { isSameResource(resourceID, id) }
}

// MARK: The way with `--replace`

extension MigrationDiff {
  /// Volumes that get a new disk or session: asked for and needed, or begun by an earlier run.
  var replaced: [Volume] {
    migration.volumes.filter { volume in
      facts.isReplacementBegun(of: volume)
        || isReplaceAsked(volume) && facts.replacementReason(of: volume) != nil
    }
  }

  func isReplaceAsked(_ volume: Volume) -> Bool {
    options.replace.contains(VolumeKey(migration.name, volume.name))
  }

  /// What `--replace` can't do now, and where it has nothing to do.
  mutating func refuseReplacing() {
    for volume in migration.volumes {
      let key = VolumeKey(migration.name, volume.name)
      guard isReplaceAsked(volume) || facts.isReplacementBegun(of: volume) else { continue }
      guard let why = facts.replacementReason(of: volume) else {
        result.diagnostics.append(
          Diagnostic(
            .note, code: PlanningCode.replaceNotNeeded, at: volume.position,
            "\(key): --replace has nothing to do: its disk and its session are, or can become, what the plan says"))
        continue
      }
      guard facts.mayReplace else {
        result.diagnostics.append(
          Diagnostic(
            code: PlanningCode.replaceTooLate, at: volume.position,
            "\(key): \(why); but \(migration.name) is swung, swinging or being finalized, and --replace would give up a copy that I/O lives on",
            advice:
              "revert first (cmcplan revert \(migration.name), then cmcplan resume \(migration.name)), with phase: synchronized; then plan again with --replace \(key)"
          ))
        continue
      }
      refuseOverwriting(volume, key, why)
    }
  }

  /// Nothing is looked up any more: the word alone is a mistake.
  mutating func refuseReplacingFinished() {
    for volume in migration.volumes where isReplaceAsked(volume) {
      result.diagnostics.append(
        Diagnostic(
          code: PlanningCode.replaceTooLate, at: volume.position,
          "\(migration.name)/\(volume.name): \(migration.name) is \(reached.word), and what is finalized isn't replaced",
          advice: "leave --replace out"))
    }
  }

  /// A destination that the plan names can't be kept beside a new one of the same name.
  private mutating func refuseOverwriting(_ volume: Volume, _ key: VolumeKey, _ why: String) {
    guard !options.overwrite.contains(key), let place = keptPlace(of: volume) else { return }
    result.diagnostics.append(
      Diagnostic(
        code: PlanningCode.replaceOverwrites, at: volume.position,
        "\(key): \(why), and what was copied lies on \(place), which --replace would write over",
        advice: "name another destination; or, if what is there may be lost, add --overwrite \(key)"))
  }

  /// What holds the copy and, by the plan, will hold the next one; nil where they are two.
  private func keptPlace(of volume: Volume) -> String? {
    switch volume.destination {
    case .device(let path):
      let old = facts.destinationSession?.configuration.volumes.first { $0.name == volume.name }
      return old?.devicePath == path ? "\(path) on \(migration.destination)" : nil
    case .disk(let wanted):
      guard let id = wanted.existingID, let disk = facts.disks[volume.name], disk.isSame(as: id) else { return nil }
      return "disk \(disk.name)"
    }
  }

  /// Disks first, so that a run that dies in between is seen to have begun: with the session gone nobody could tell any
  /// more that the old disk was to be kept.
  mutating func addReplacing() {
    let volumes = replaced
    let names = volumes.map { "\(migration.name)/\($0.name)" }
    holdBack()
    rename()
    deploy()
    let rest = facts.replacing(volumes)
    result.diagnostics += preflight(rest, overwrite: options.overwrite)
    add(
      .checkDevices(migration.name), towards: .prepared,
      migration.isWithinHost ? "check the devices on \(migration.source)" : "check the devices on both hosts",
      why: "nothing is given up for a source that can't be migrated")
    for volume in volumes {
      guard let disk = facts.disks[volume.name], case .disk(let wanted) = volume.destination,
        wanted.existingID.map({ !disk.isSame(as: $0) }) ?? true
      else { continue }
      add(
        .orphanDisk(VolumeKey(migration.name, volume.name)), towards: .prepared,
        "--replace \(volume.name): keep disk \(disk.name), tagged orphaned",
        why:
          "\(facts.replacementReason(of: volume) ?? ""); nothing on it is touched, and it is billed until it is deleted",
        precondition: "no swing is under way", .oneWay)
    }
    if facts.sourceSession != nil || facts.destinationSession != nil {
      add(
        .giveUpSession(migration.name), towards: .prepared,
        "--replace \(volumes.map(\.name.text).joined(separator: ", ")): give the session up, with approvals and what it tracked",
        why:
          "a session keeps its devices; \(names.joined(separator: ", ")) gets \(names.count == 1 ? "another" : "others")",
        precondition: "I/O lives on \(migration.source), nobody holds it",
        price: Price(note: "all volumes of \(migration.name) are synchronized anew"), .oneWay)
    }
    var way = MigrationDiff(rest, shippedAgentDigest: shippedAgentDigest, options: options)
    way.isReplacing = true
    way.result = result
    way.gate = gate
    way.addWayForward()
    result = way.result
    gate = way.gate
  }
}
