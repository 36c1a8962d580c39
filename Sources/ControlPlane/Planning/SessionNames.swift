package import AgentProtocol
package import BlockModel
package import MigrationModel

// A session keeps the names that it was made with, for labels, files and records carry them; the plan may call it
// otherwise by now. This is the one place where the two meet: what agents say is shown under the plan's names, and what
// they are told (`HeldSessions`) goes out under theirs.

/// Shows what agents and hosts say under the names that a plan has for it: those that the agents were told at a rename,
/// followed by the plan's `moved`. What was shown so already may be shown anew, for another plan. Pure.
package struct SessionNames: Sendable {
  private let plan: MigrationPlan
  private var id: PlanID { plan.metadata.id }

  package init(_ plan: MigrationPlan) { self.plan = plan }

  package func named(_ observation: AgentObservation) -> AgentObservation {
    let shown = shownNames(observation.sessions, observation.tombstones)
    var result = observation
    result.sessions = observation.sessions.map { named($0, shown) }
    result.tombstones = observation.tombstones.map { named($0, shown) }
    for index in result.leases.indices {
      // Also of a run whose session isn't there yet.
      let session = result.leases[index].session
      guard let own = ownName(session) else { continue }
      result.leases[index].session = SessionID(plan: id, migration: shown[session] ?? plan.renames.name(of: own))
    }
    return result
  }

  /// `agent`: of the same host, as it was shown by this.
  package func named(_ state: HostState, beside agent: AgentObservation?) -> HostState {
    let shown = shownNames(agent?.sessions ?? [], state.tombstones + (agent?.tombstones ?? []))
    var result = state
    result.tombstones = state.tombstones.map { named($0, shown) }
    return result
  }

  /// By the session's own id; only this plan's. Two that would get one name keep those that they have: nobody knows
  /// which of them is meant.
  private func shownNames(_ sessions: [SessionObservation], _ stones: [Tombstone]) -> [SessionID: MigrationName] {
    var stored: [SessionID: MigrationName] = [:]
    for stone in stones {
      guard let own = ownName(stone.heldSession) else { continue }
      stored[stone.heldSession] = stone.plannedAs?.migration ?? stored[stone.heldSession] ?? own
    }
    for session in sessions where session.plan == id {
      stored[session.heldSession] =
        session.configuration.plannedAs?.migration ?? session.heldAs?.migration ?? session.migration
    }
    var users: [MigrationName: Int] = [:]
    for name in stored.values { users[plan.renames.name(of: name), default: 0] += 1 }
    return stored.mapValues { name in
      let target = plan.renames.name(of: name)
      return users[target] == 1 ? target : name
    }
  }

  /// The migration's name in the id of a session of this plan.
  private func ownName(_ session: SessionID) -> MigrationName? {
    let prefix = id.text + "/"
    guard session.text.hasPrefix(prefix) else { return nil }
    return MigrationName(String(session.text.dropFirst(prefix.count)))
  }

  private func named(_ stone: Tombstone, _ shown: [SessionID: MigrationName]) -> Tombstone {
    let own = stone.heldSession
    guard let name = shown[own] else { return stone }
    var result = stone
    result.session = SessionID(plan: id, migration: name)
    result.heldAs = result.session == own ? nil : own
    return result
  }

  private func named(_ session: SessionObservation, _ shown: [SessionID: MigrationName]) -> SessionObservation {
    guard session.plan == id, let name = shown[session.heldSession] else { return session }
    let raw = session.asHeld()
    let names = raw.configuration.volumes.map(\.name)
    let planned = plannedVolumes(of: raw, as: name)
    guard name != raw.migration || planned != names else { return raw }
    var result = raw
    let held = HeldNames(
      session: raw.session, migration: raw.migration,
      volumes: zip(names, planned).map { HeldVolume(name: $0, planned: $1) })
    let known = plan.migrations[name]?.volumes.map(\.name) ?? []
    result.rename(
      session: SessionID(plan: id, migration: name), migration: name,
      volumes: Dictionary(zip(names, planned)) { first, _ in first },
      // As the plan lists them, so that the two can be compared.
      order: known.filter(planned.contains) + planned.filter { !known.contains($0) })
    result.heldAs = held
    return result
  }

  private func plannedVolumes(of raw: SessionObservation, as name: MigrationName) -> [VolumeName] {
    let stored = raw.configuration.plannedAs
    let storedMigration = stored?.migration ?? raw.migration
    let own = raw.configuration.volumes.map { stored?.volumes[$0.name.text] ?? $0.name }
    guard name == plan.renames.name(of: storedMigration) else { return own }
    let planned = own.map { volume -> VolumeName in
      let target = plan.renames.name(of: Move.Name(migration: storedMigration, volume: volume))
      return target.migration == name ? target.volume ?? volume : volume
    }
    return Set(planned).count == planned.count ? planned : own
  }
}

extension SessionObservation {
  /// What its agent should keep of the plan's names; nil: nothing, for they are the session's own.
  package var plannedNames: PlannedNames? { heldAs.map { $0.plannedNames(as: migration) } }

  /// Whether the agent wasn't told yet what the plan calls the session.
  package var isRenamePending: Bool { configuration.plannedAs != plannedNames }

  /// With the names that the agent has.
  fileprivate func asHeld() -> SessionObservation {
    guard let held = heldAs else { return self }
    var result = self
    result.heldAs = nil
    result.rename(
      session: held.session, migration: held.migration,
      volumes: Dictionary(held.volumes.map { ($0.planned, $0.name) }) { first, _ in first },
      order: held.volumes.map(\.name))
    return result
  }

  fileprivate mutating func rename(
    session: SessionID, migration: MigrationName, volumes names: [VolumeName: VolumeName], order: [VolumeName]
  ) {
    self.session = session
    self.migration = migration
    configuration.rename(session: session, migration: migration, volumes: names, order: order)
    for index in volumes.indices { volumes[index].name = names[volumes[index].name] ?? volumes[index].name }
    volumes = sorted(volumes, by: \.name, as: order)
  }
}

extension SessionConfiguration {
  fileprivate mutating func rename(
    session: SessionID, migration: MigrationName, volumes names: [VolumeName: VolumeName], order: [VolumeName]
  ) {
    self.session = session
    self.migration = migration
    for index in volumes.indices { volumes[index].name = names[volumes[index].name] ?? volumes[index].name }
    volumes = sorted(volumes, by: \.name, as: order)
  }
}

/// What `order` doesn't name comes last, as it was.
private func sorted<Item>(_ items: [Item], by name: (Item) -> VolumeName, as order: [VolumeName]) -> [Item] {
  let place = Dictionary(order.enumerated().map { ($1, $0) }) { first, _ in first }
  return items.enumerated().sorted { left, right in
    (place[name(left.element)] ?? order.count, left.offset) < (place[name(right.element)] ?? order.count, right.offset)
  }.map(\.element)
}

extension HeldNames {
  fileprivate func plannedNames(as migration: MigrationName) -> PlannedNames {
    let different = volumes.filter { $0.name != $0.planned }
    return PlannedNames(
      migration: migration, volumes: Dictionary(different.map { ($0.name.text, $0.planned) }) { first, _ in first })
  }
}

/// What was learned of agents' own names from what `SessionNames` showed of them, by host.
package struct HeldSessions: Sendable {
  private struct Known: Sendable {
    /// By the plan's id of the session; nil: its own.
    var sessions: [SessionID: HeldNames?] = [:]
    /// By the session's own id, what the plan calls it, where that is something else.
    var taken: [SessionID: SessionID] = [:]
    var capabilities: [String] = []
  }
  private var hosts: [HostName: Known] = [:]
  /// Of those sessions that have names of their own, by the plan's id: on which host, which ones.
  private var renamed: [SessionID: [HostName: HeldNames]] = [:]

  package init() {}

  package func knows(_ host: HostName) -> Bool { hosts[host] != nil }

  /// `observation` as it was shown.
  package mutating func learn(_ observation: AgentObservation, of host: HostName) {
    var known = Known()
    known.capabilities = observation.hello.capabilities
    for stone in observation.tombstones {
      known.sessions[stone.session] = stone.heldAs.map {
        HeldNames(session: $0, migration: MigrationName(""), volumes: [])
      }
      if let own = stone.heldAs { known.taken[own] = stone.session }
    }
    for session in observation.sessions {
      known.sessions[session.session] = .some(session.heldAs)
      if session.heldSession != session.session { known.taken[session.heldSession] = session.session }
    }
    for session in (hosts[host]?.sessions ?? [:]).keys { renamed[session]?[host] = nil }
    for (session, names) in known.sessions {
      if let names { renamed[session, default: [:]][host] = names }
    }
    hosts[host] = known
  }

  /// The session's own id on this host, or, where the host has none of it, on another; `taken`: who has the id that it
  /// would get.
  package func session(_ planned: SessionID, on host: HostName) -> (session: SessionID, taken: SessionID?) {
    let own = names(of: planned, on: host)?.session ?? planned
    let taken = own == planned ? hosts[host]?.taken[planned] : nil
    return (own, taken)
  }

  /// As the agent is to have it, with what the plan calls it.
  package func configuration(_ planned: SessionConfiguration, on host: HostName) -> SessionConfiguration {
    var result = planned
    result.plannedAs = nil
    guard let held = names(of: planned.session, on: host), !held.volumes.isEmpty else { return result }
    result.rename(
      session: held.session, migration: held.migration,
      volumes: Dictionary(held.volumes.map { ($0.planned, $0.name) }) { first, _ in first },
      order: held.volumes.map(\.name))
    result.plannedAs = held.plannedNames(as: planned.migration)
    return result
  }

  package func canRename(_ host: HostName) -> Bool {
    hosts[host]?.capabilities.contains(AgentCapability.rename) ?? false
  }

  private func names(of planned: SessionID, on host: HostName) -> HeldNames? {
    if let known = hosts[host]?.sessions[planned] { return known }
    return renamed[planned]?.min { $0.key < $1.key }?.value
  }
}

extension Observation {
  /// Under the names that this plan has: what was observed for an earlier document may speak of others.
  package func named(for plan: MigrationPlan) -> Observation {
    let names = SessionNames(plan)
    var result = self
    for (host, seen) in hosts {
      result.hosts[host]?.agent = seen.agent.map(names.named)
      result.hosts[host]?.state = seen.state.map { names.named($0, beside: seen.agent) }
    }
    return result
  }
}
