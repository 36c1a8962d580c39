import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel

// MARK: - What is called otherwise by now

extension MigrationFacts {
  var halves: [SessionObservation] { [sourceSession, destinationSession].compactMap { $0 } }

  /// Whether an agent wasn't told yet.
  var isSessionRenamed: Bool { halves.contains(where: \.isRenamePending) }

  /// Former names and those of now, of the migration and then of its volumes, as far as anything still has them.
  var renames: [(old: String, new: String)] {
    var migrations: Set<MigrationName> = []
    var volumes: [VolumeName: VolumeName] = [:]
    for half in halves where half.isRenamePending {
      let stored = half.configuration.plannedAs
      migrations.insert(stored?.migration ?? half.heldAs?.migration ?? half.migration)
      for volume in half.configuration.volumes {
        let own = half.heldAs?.volumes.first { $0.planned == volume.name }?.name ?? volume.name
        let known = stored?.volumes[own.text] ?? own
        if known != volume.name { volumes[known] = volume.name }
      }
    }
    for (volume, disk) in disks where disk.isRenamed(in: plan) {
      guard let tagged = disk.taggedName, let own = tagged.volume else { continue }
      migrations.insert(tagged.migration)
      if own != volume { volumes[own] = volume }
    }
    migrations.remove(migration.name)
    return migrations.sorted().map { ($0.text, migration.name.text) }
      + volumes.sorted { $0.key < $1.key }.map { ($0.key.text, $0.value.text) }
  }
}

extension MigrationDiff {
  /// Everything else goes by the names of the plan already, whether this was done or not, so it may be done, or be
  /// interrupted, at any time.
  mutating func rename() {
    let sessions = facts.isSessionRenamed
    guard sessions || facts.disks.values.contains(where: { $0.isRenamed(in: facts.plan) }) else { return }
    let words = facts.renames.enumerated().map { index, rename in
      "\(index == 0 ? "" : "its volume ")\(rename.old) is renamed to \(rename.new)"
    }
    let isOfVolumes = !facts.renames.contains { $0.new == migration.name.text }
    let what = words.isEmpty ? "\(migration.name) has its former name again" : words.joined(separator: ", ")
    add(
      .rename(migration.name, sessions: sessions), towards: reached.phase ?? .prepared,
      "\(isOfVolumes && !words.isEmpty ? "volume " : "")\(what): nothing is copied again",
      why: "the plan says so" + (sessions ? "; an approval under the former name is void" : ""),
      precondition: sessions ? "its agents answer, their leases are free" : "Azure answers")
  }

  /// What a rename can't mean.
  mutating func refuseRename() {
    func refuse(_ code: String, _ message: String, _ advice: String) {
      result.diagnostics.append(
        Diagnostic(code: code, at: migration.position, "\(migration.name): \(message)", advice: advice))
    }
    if let other = facts.holderOfName {
      refuse(
        PlanningCode.nameTaken, "its name is still that of the session of \(other), which was renamed",
        "choose another name: on its hosts and in its records \(other) keeps this one for good")
    }
    for volume in migration.volumes {
      for half in facts.halves {
        guard let held = half.heldAs?.volumes.first(where: { $0.name == volume.name && $0.planned != volume.name }),
          !(half.heldAs?.volumes.contains { $0.planned == volume.name } ?? false)
        else { continue }
        refuse(
          PlanningCode.nameTaken, "volume \(volume.name) has the name that \(held.planned) keeps in the session",
          "choose another name for it")
        break
      }
    }
    for (former, what) in facts.rivals {
      refuse(
        PlanningCode.renameAmbiguous, "\(what) of \(former) and one of \(migration.name) are both there",
        "take 'from: \(former)' out of 'moved', or give up the one that isn't wanted, as an earlier plan names it")
    }
    if let source = facts.sourceSession, let destination = facts.destinationSession,
      source.heldSession != destination.heldSession
    {
      refuse(
        PlanningCode.renameAmbiguous,
        "its source has session \(source.heldSession), its destination \(destination.heldSession)",
        "take the rename out of 'moved', and give up the one that isn't wanted, as an earlier plan names it")
    } else if let former = facts.halfRenamed {
      refuse(
        PlanningCode.renameUnfinished, "its rename from \(former) reached one of its agents only",
        "write moved: [{from: \(former), to: \(migration.name)}] again, and apply")
    }
    refuseOldAgents()
    noteKeptRename()
  }

  private mutating func refuseOldAgents() {
    for (host, seen, half) in [
      (migration.source, facts.source, facts.sourceSession),
      (migration.destination, facts.destination, facts.destinationSession),
    ] {
      guard let half, half.isRenamePending, let hello = seen?.agent?.hello,
        !hello.capabilities.contains(AgentCapability.rename)
      else { continue }
      result.diagnostics.append(
        Diagnostic(
          code: PlanningCode.renameNotKnown, at: facts.plan.hosts[host]?.position,
          "\(migration.name): the agent on \(host) is older, and can't take over another name",
          advice: "cmcplan agent upgrade \(host), then apply again; or keep the former name"))
    }
  }

  /// Tombstones of files and devices have no agent any more that could be told.
  private mutating func noteKeptRename() {
    guard reached.isTombstoned, migration.diskVolumes.isEmpty,
      let stone = facts.tombstone, let held = stone.heldAs, stone.plannedAs?.migration != migration.name
    else { return }
    result.diagnostics.append(
      Diagnostic(
        .note, code: PlanningCode.renameKept, at: migration.position,
        "\(migration.name) was finished as \(held); only 'moved' tells that the two are one",
        advice: "keep that line as long as the migration is in the plan"))
  }
}

extension MigrationFacts {
  /// The migration whose session, or what is left of it, has this one's name as its own.
  fileprivate var holderOfName: MigrationName? {
    guard halves.isEmpty else { return nil }
    for host in [source, destination].compactMap({ $0 }) {
      for other in host.agent?.sessions ?? [] where other.heldSession == session && other.session != session {
        return other.migration
      }
      for stone in (host.agent?.tombstones ?? []) + (host.state?.tombstones ?? []) where stone.heldAs == session {
        return Self.migration(of: stone.session)
      }
    }
    return nil
  }

  /// What still has a former name though something has the migration's own: (former name, what it is).
  fileprivate var rivals: [(String, String)] {
    var found: [(String, String)] = []
    for host in [source, destination].compactMap({ $0 }) {
      let sessions = (host.agent?.sessions ?? []).filter { $0.plan == plan.metadata.id }
      for other in sessions where other.migration != migration.name {
        if plan.renames.name(of: other.migration) == migration.name {
          found.append((other.migration.text, "a session"))
        }
      }
      for stone in (host.agent?.tombstones ?? []) + (host.state?.tombstones ?? []) {
        guard let name = Self.migration(of: stone.session), stone.session.text.hasPrefix(plan.metadata.id.text + "/"),
          name != migration.name, plan.renames.name(of: name) == migration.name
        else { continue }
        found.append((name.text, "what is left of a session"))
      }
    }
    for half in halves {
      for volume in half.configuration.volumes {
        let name = Move.Name(migration: migration.name, volume: volume.name)
        if plan.renames.name(of: name) != name { found.append(("\(name)", "a volume")) }
      }
    }
    for (_, disks) in rivalDisks.sorted(by: { $0.key < $1.key }) {
      for disk in disks where disk.isRenamed(in: plan) {
        if let tagged = disk.taggedName { found.append(("\(tagged)", "disk \(disk.name)")) }
      }
    }
    var said: Set<String> = []
    return found.filter { said.insert($0.0).inserted }
  }

  /// The former name, where one half goes by the plan's name and the other's host has the same session under another.
  fileprivate var halfRenamed: String? {
    guard halves.count == 1, let half = halves.first else { return nil }
    let other = half.role == .source ? destination : source
    let sessions = other?.agent?.sessions ?? []
    return sessions.first {
      $0.heldSession == half.heldSession && $0.role != half.role && $0.migration != migration.name
    }?.migration.text
  }

  private static func migration(of session: SessionID) -> MigrationName? {
    session.text.split(separator: "/", maxSplits: 1).last.map { MigrationName(String($0)) }
  }
}
