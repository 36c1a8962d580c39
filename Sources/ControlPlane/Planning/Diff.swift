import AgentProtocol
package import BlockModel
import Diagnostics
package import MigrationModel

/// Answers a digest of a text, "SHA256:" and hexadecimal digits. Injected: no cryptography in the pure rooms.
package typealias DigestFunction = @Sendable (String) -> String

/// Where a change set comes from, for guardrails that ask.
package enum ChangeSetOrigin: Sendable {
  /// It is only shown, or saved.
  case planned
  /// It is carried out as it was computed.
  case applied
  /// It is carried out, and lies before us as it was saved and reviewed.
  case saved
}

/// What a person asked for beside the plan.
package struct PlanningOptions: Sendable {
  /// Only these migrations; nil: all.
  package var only: Set<MigrationName>?
  /// Volumes whose destination may be overwritten though it is neither blank nor ours.
  package var overwrite: Set<VolumeKey>
  /// Volumes that may get a new disk and a new session, where what changed can't be done otherwise.
  package var replace: Set<VolumeKey>
  /// At most so many migrations are moved, in the order of their names; nil: all.
  package var maxMoves: Int?
  /// What the run has begun in its earlier rounds.
  package var soFar: RunSoFar
  /// Migrations of which a step failed or was given up in this run, and why: their groups don't wait for them.
  package var stuck: [MigrationName: String]
  /// The steps that a saved change set lists, where one is applied: whatever else there is to do waits.
  package var reviewed: ReviewedSteps?
  /// Of a guardrails file; those of the plan itself are held beside them.
  package var guardrails: GuardrailLimits?
  package var origin: ChangeSetOrigin
  /// What the windows and expiries are compared with.
  package var now: WallTime
  package var digest: DigestFunction
  package init(
    only: Set<MigrationName>? = nil, overwrite: Set<VolumeKey> = [], replace: Set<VolumeKey> = [],
    maxMoves: Int? = nil, soFar: RunSoFar = RunSoFar(), stuck: [MigrationName: String] = [:],
    reviewed: ReviewedSteps? = nil,
    guardrails: GuardrailLimits? = nil,
    origin: ChangeSetOrigin = .planned, now: WallTime, digest: @escaping DigestFunction
  ) {
    self.only = only
    self.overwrite = overwrite
    self.replace = replace
    self.maxMoves = maxMoves
    self.soFar = soFar
    self.stuck = stuck
    self.reviewed = reviewed
    self.guardrails = guardrails
    self.origin = origin
    self.now = now
    self.digest = digest
  }
}

/// What differs between the plan and the world, and why. Pure.
package func diff(_ plan: MigrationPlan, _ observation: Observation, options: PlanningOptions) -> ChangeSet {
  var entries: [MigrationChanges] = []
  var facts: [MigrationName: MigrationFacts] = [:]
  let own = OwnDisks(plan, observation)
  for migration in plan.sortedMigrations where options.only?.contains(migration.name) ?? true {
    let seen = MigrationFacts(migration, in: plan, observation, own)
    guard !migration.hasLeft else {
      entries.append(departure(seen, observation, options))
      continue
    }
    var builder = MigrationDiff(seen, shippedAgentDigest: observation.shippedAgentDigest, options: options)
    entries.append(builder.build())
    if !plan.waves.isEmpty || !plan.groups.isEmpty { facts[migration.name] = builder.facts }
  }
  WaveDiff(plan, observation, options, facts, own).hold(&entries)
  options.reviewed?.hold(&entries)
  for limits in [plan.guardrails, options.guardrails].compactMap({ $0 }) {
    GuardrailDiff(plan: plan, limits: limits, options: options, observation: observation).hold(&entries)
  }
  // What may not go for its own sake takes no place of what may.
  RunLimits(plan: plan, options: options, observation: observation).hold(&entries)
  GroupDiff(plan, observation, options, facts, own).hold(&entries)
  addRemovals(to: &entries, plan, observation)
  options.reviewed?.hold(&entries)
  let unknown = (options.only ?? []).filter { plan.migrations[$0] == nil }.sorted()
  return ChangeSet(
    plan: plan.metadata.id, planName: plan.metadata.name, observedAt: observation.observedAt, migrations: entries,
    unmanaged: unmanaged(plan, observation),
    diagnostics: unknown.map { name in
      Diagnostic(
        code: PlanningCode.unknownMigration, "the plan has no migration \(name)",
        advice: "migrations: \(plan.sortedMigrations.map(\.name.text).joined(separator: ", "))")
    })
}

/// An agent goes when every migration that uses its host is retired or pruned, or will be at the end of this change set,
/// and nobody else's session is on it. The last of them by name carries the step. Whose sessions nobody could see stays; one
/// that doesn't run is started, so that it can be asked before it goes.
private func addRemovals(to entries: inout [MigrationChanges], _ plan: MigrationPlan, _ observation: Observation) {
  var users: [HostName: [MigrationName]] = [:]
  for migration in plan.sortedMigrations {
    for host in Set([migration.source, migration.destination]) { users[host, default: []].append(migration.name) }
  }
  var position: [MigrationName: Int] = [:]
  for (index, entry) in entries.enumerated() { position[entry.migration] = index }
  for (host, names) in users.sorted(by: { $0.key < $1.key }) {
    guard let seen = observation.hosts[host] else { continue }
    // Also one that this very change set installs.
    let willBeThere = names.contains { name in
      position[name].map { entries[$0].changes.contains { $0.action == .deployAgent(host) } } ?? false
    }
    guard seen.state?.agentDigest != nil || willBeThere else { continue }
    let willBeRetired = names.allSatisfy { name in
      guard let index = position[name] else { return false }
      let entry = entries[index]
      if entry.isPruned == true { return !entry.diagnostics.hasErrors && entry.waiting.isEmpty }
      guard entry.target == .retired, !entry.diagnostics.hasErrors, entry.waiting.isEmpty else { return false }
      return entry.reached == .tombstoned(.retired) || !entry.changes.isEmpty
    }
    let own = Set(names.map { SessionID(plan: plan.metadata.id, migration: $0) })
    let others = (seen.agent?.sessions ?? []).contains { !own.contains($0.session) }
    guard willBeRetired, !others, let last = names.last, let index = position[last] else { continue }
    if seen.agent == nil, !willBeThere {
      guard seen.state?.agentRunning == false else { continue }
      entries[index].changes.insert(
        Change(
          action: .deployAgent(host), towards: .retired, summary: "start the agent on \(host)",
          why: "it doesn't run, so nobody sees whether a session is left", precondition: "host \(host) answers",
          reversibility: .reversible), at: 0)
    }
    let change = Change(
      action: .removeAgent(host), towards: .retired, summary: "remove the agent from \(host)",
      why: "no other migration uses it", precondition: "its sessions are deleted", reversibility: .reversible)
    let changes = entries[index].changes
    // The tag that says "retired" comes last: with it set, the hosts aren't looked at any more.
    let place = changes.firstIndex { if case .tagDisks(_, .retired) = $0.action { true } else { false } }
    entries[index].changes.insert(change, at: place ?? changes.count)
  }
}

/// What carries this plan's id but isn't in the document.
private func unmanaged(_ plan: MigrationPlan, _ observation: Observation) -> [UnmanagedItem] {
  var items: [UnmanagedItem] = []
  for (host, seen) in observation.hosts {
    for session in seen.agent?.sessions ?? [] where session.plan == plan.metadata.id {
      guard plan.migrations[session.migration] == nil else { continue }
      items.append(
        UnmanagedItem(
          kind: .session, name: session.session.text, migration: session.migration,
          detail: "\(session.role.rawValue) on \(host), \(session.stage.rawValue)"))
    }
  }
  for (integration, cloud) in observation.clouds {
    for disk in cloud.disks {
      if let key = disk.volume(in: plan), plan.migrations[key.migration]?.volume(key.volume) != nil { continue }
      let migration = disk.tags[DiskTag.migration].map { MigrationName($0) }
      items.append(
        UnmanagedItem(
          kind: .disk, name: disk.name, migration: migration,
          detail: "in \(integration), \(disk.attachedTo == nil ? "not attached" : "attached")"
            + (disk.tags[DiskTag.state].map { ", \($0)" } ?? "")))
    }
  }
  return items.sorted()
}
