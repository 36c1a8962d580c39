import AgentProtocol
import BlockModel
package import MigrationModel

/// What `destroy` would do with one disk that carries a plan's id, and why not.
package struct DiskDeletion: Sendable, Equatable {
  package enum Verdict: Sendable, Equatable {
    case delete
    /// This machine has it, and nothing of ours uses it there.
    case detachFirst(machine: String)
    case keep(why: String)
  }
  package var integration: String
  package var disk: CloudDisk
  package var verdict: Verdict
}

extension DiskDeletion {
  /// What `prune` is about: disks that another one took the place of, and those of what left the document.
  package func isLeftOver(of plan: MigrationPlan) -> Bool {
    if disk.isOrphaned { return true }
    guard let key = disk.volume(in: plan) else { return false }
    return plan.migrations[key.migration]?.volume(key.volume) == nil
  }
}

/// The disks of a plan, in the order of integrations and names. A disk is deleted only where we surely made it and it
/// surely holds nothing that anybody needs: no migration is further than prepared with it, no agent that could be seen has
/// a session over it, every host that may have one was seen. `detaches`: also those that a machine still has.
package func diskDeletions(_ plan: MigrationPlan, _ observation: Observation, detaches: Bool) -> [DiskDeletion] {
  observation.clouds.sorted { $0.key < $1.key }.flatMap { name, cloud in
    let named = cloud.namedDisks.values.filter { disk in !cloud.disks.contains { $0.resourceID == disk.resourceID } }
    return (cloud.disks + named).filter { $0.tags[DiskTag.plan] == plan.metadata.id.text }
      .sorted { $0.name < $1.name }
      .map { DiskDeletion(integration: name, disk: $0, verdict: verdict($0, plan, observation, detaches: detaches)) }
  }
}

private func verdict(
  _ disk: CloudDisk, _ plan: MigrationPlan, _ observation: Observation, detaches: Bool
) -> DiskDeletion.Verdict {
  guard let migrationText = disk.tags[DiskTag.migration], let volumeText = disk.tags[DiskTag.volume] else {
    return .keep(why: "its tags don't say whose volume it is")
  }
  let (migrationName, volumeName) = (MigrationName(migrationText), VolumeName(volumeText))
  let migration = plan.migrations[migrationName]
  guard wasMade(disk, migrationName, volumeName, plan) else {
    return .keep(why: "cmcplan can't tell that it made it; delete it by hand if nobody needs it")
  }
  if disk.isOrphaned {
    if let why = orphanIsNeeded(migration, migrationName, volumeName, plan, observation) { return .keep(why: why) }
    return releaseVerdict(disk, detaches: detaches)
  }
  guard disk.tags[DiskTag.state] == Phase.prepared.rawValue else {
    return .keep(why: "its migration is \(disk.tags[DiskTag.state] ?? "of an unknown phase")")
  }
  // A rename may have reached the agents and not yet the disk, or the other way round.
  let names = [migrationName, plan.renames.name(of: migrationName)]
  let sessions = Set(names.map { SessionID(plan: plan.metadata.id, migration: $0) })
  for (host, seen) in observation.hosts.sorted(by: { $0.key < $1.key })
  where seen.agent?.sessions.contains(where: { sessions.contains($0.session) || sessions.contains($0.heldSession) })
    ?? false
  {
    return .keep(
      why: "the agent on \(host) has a session of \(migrationName); cmcplan agent remove \(host) --force ends it")
  }
  if let why = unseen(migration, sessions, plan, observation) { return .keep(why: why) }
  return releaseVerdict(disk, detaches: detaches)
}

private func releaseVerdict(_ disk: CloudDisk, detaches: Bool) -> DiskDeletion.Verdict {
  guard let machine = disk.attachedTo else {
    return disk.state == .unattached ? .delete : .keep(why: "somebody reads or writes it")
  }
  return detaches
    ? .detachFirst(machine: machine) : .keep(why: "it is attached to \(machine); --detach detaches it first")
}

/// Why an orphaned disk may still be somebody's: the session that it was taken from goes after it was tagged. Nil where it
/// is nobody's: another disk took its place.
private func orphanIsNeeded(
  _ migration: Migration?, _ name: MigrationName, _ volumeName: VolumeName, _ plan: MigrationPlan,
  _ observation: Observation
) -> String? {
  let key = plan.renames.name(of: Move.Name(migration: name, volume: volumeName))
  guard let migration = plan.migrations[key.migration] ?? migration, let volume = key.volume.flatMap(migration.volume)
  else {
    return unseen(nil, [SessionID(plan: plan.metadata.id, migration: name)], plan, observation)
  }
  let facts = MigrationFacts(migration, in: plan, observation)
  if facts.isReplacementBegun(of: volume) { return "a session has it until its replacement is finished; apply again" }
  if !facts.mayReplace || facts.taggedPhase != nil || facts.tombstone != nil {
    return "its migration is in cMotion or beyond, where no disk is deleted; delete it in Azure once nobody needs it"
  }
  return facts.unseenHosts.first.map { "host \($0.0), whose agent may have a session over it, could not be seen" }
}

/// Whether the disk is one that we would make for this volume: not one that the plan took as it was.
private func wasMade(
  _ disk: CloudDisk, _ migrationName: MigrationName, _ volumeName: VolumeName, _ plan: MigrationPlan
) -> Bool {
  let made = diskName(plan: plan.metadata.id, migration: migrationName, volume: volumeName)
  if disk.name == made || disk.isReplacement(of: made) { return true }
  guard let migration = plan.migrations[migrationName], let volume = migration.volume(volumeName),
    case .disk(let wanted) = volume.destination, wanted.existingID == nil
  else { return false }
  if let name = wanted.name, disk.isReplacement(of: name) { return true }
  return expectedDiskID(for: volume, in: migration, of: plan)?.lowercased() == disk.resourceID.lowercased()
}

extension CloudDisk {
  /// Whether it has a name that `replacementName` gives.
  fileprivate func isReplacement(of base: String) -> Bool {
    let (own, base) = (name.lowercased(), base.lowercased() + "-")
    guard own.hasPrefix(base) else { return false }
    let number = own.dropFirst(base.count)
    return !number.isEmpty && number.allSatisfy { $0.isASCII && $0.isNumber }
  }
}

/// Why a session may be there that nobody saw; nil where none can be.
private func unseen(
  _ migration: Migration?, _ sessions: Set<SessionID>, _ plan: MigrationPlan, _ observation: Observation
) -> String? {
  let hosts = migration.map { [$0.source, $0.destination] } ?? Array(plan.hosts.keys)
  for host in Set(hosts).sorted() {
    guard let seen = observation.hosts[host], let state = seen.state else {
      return "host \(host), whose agent may have a session over it, could not be seen"
    }
    if state.agentDigest != nil, seen.agent == nil {
      return "the agent on \(host), which may have a session over it, does not answer"
    }
    if seen.agent?.sessions.contains(where: { sessions.contains($0.session) }) ?? false {
      return "the agent on \(host) has a session of its migration"
    }
    let stones = (seen.agent?.tombstones ?? []) + state.tombstones
    if stones.contains(where: { sessions.contains($0.session) || sessions.contains($0.heldSession) }) {
      return "host \(host) keeps a tombstone of its migration"
    }
  }
  return nil
}
