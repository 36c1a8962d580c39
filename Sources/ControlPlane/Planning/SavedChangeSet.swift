import AgentProtocol
package import BlockModel
import Diagnostics
package import MigrationModel

/// A change set as `plan --out` saves it: with the observation that it rests on, so that `apply` can tell what moved.
/// It holds no secret: neither a plan nor an observation has one.
package struct SavedChangeSet: Codable, Sendable, Equatable {
  package static let currentVersion = 2
  package var version = SavedChangeSet.currentVersion
  /// Version of the program that made it: another one may plan other steps.
  package var program: String
  package var savedAt: WallTime
  /// "user@host".
  package var savedBy: String
  /// Nothing would be done.
  package var noChanges: Bool
  /// The migrations that it was limited to; nil: all.
  package var only: [MigrationName]?
  package var maxMoves: Int?
  package var overwrite: [VolumeKey]
  /// Nil in files of versions that knew of no replacing.
  package var replace: [VolumeKey]?
  /// Whether it ends what left the document. Nil in files of versions that didn't.
  package var prune: Bool?
  package var changes: ChangeSet
  package var observation: Observation
  /// Digests of the hosts and integrations of its migrations, as the document said them.
  package var surroundings: [String: String]
  package init(
    program: String, savedAt: WallTime, savedBy: String, only: Set<MigrationName>?, maxMoves: Int?,
    overwrite: Set<VolumeKey>, replace: Set<VolumeKey> = [], prune: Bool = false, changes: ChangeSet,
    observation: Observation, surroundings: [String: String]
  ) {
    self.program = program
    self.savedAt = savedAt
    self.savedBy = savedBy
    noChanges = changes.isNoOp
    self.only = only?.sorted()
    self.maxMoves = maxMoves
    self.overwrite = overwrite.sorted()
    self.replace = replace.sorted()
    self.prune = prune
    self.changes = changes
    self.observation = observation
    self.surroundings = surroundings
  }

  /// What is otherwise now, one line each; empty where the saved change set is still exactly what there is to do.
  /// `fresh` was made with the same limits of `plan`, whose hosts and integrations are `surroundings` now.
  ///
  /// The document has to be the reviewed one. Of the world only what the set's steps touch is compared: what else is to
  /// do by now waits for the next plan. Pure.
  package func moved(
    _ fresh: ChangeSet, _ now: Observation, plan: MigrationPlan, surroundings: [String: String]
  ) -> [String] {
    guard changes.plan == fresh.plan else { return ["it was made for plan \(changes.plan), this one is \(fresh.plan)"] }
    var lines: [String] = []
    let old = Dictionary(changes.migrations.map { ($0.migration, $0) }) { first, _ in first }
    let new = Dictionary(fresh.migrations.map { ($0.migration, $0) }) { first, _ in first }
    for name in Set(old.keys).union(new.keys).sorted() {
      switch (old[name], new[name]) {
      case (let before?, let after?):
        lines += Self.documentDifferences(before, after).map { "\(name): \($0)" }
        guard !before.changes.isEmpty else { continue }
        lines += Self.differences(before, after).map { "\(name): \($0)" }
        if let migration = plan.migrations[name] { lines += worldDifferences(migration, plan, now) }
      case (nil, _?): lines.append("\(name): it is new in the plan")
      case (_?, nil): lines.append("\(name): it is not in the plan any more")
      case (nil, nil): continue
      }
    }
    for part in Set(self.surroundings.keys).union(surroundings.keys).sorted()
    where self.surroundings[part] != surroundings[part] {
      lines.append(PlanSurrounding.change(of: part, from: self.surroundings[part], to: surroundings[part]))
    }
    var said: Set<String> = []
    return lines.filter { said.insert($0).inserted }
  }

  private static func documentDifferences(_ before: MigrationChanges, _ after: MigrationChanges) -> [String] {
    var lines: [String] = []
    if before.target != after.target {
      lines.append("the plan says \(after.target.rawValue), it said \(before.target.rawValue)")
    }
    if before.configurationDigest != after.configurationDigest { lines.append("its configuration in the plan changed") }
    return lines
  }

  private static func differences(_ before: MigrationChanges, _ after: MigrationChanges) -> [String] {
    var lines: [String] = []
    if before.reached != after.reached { lines.append("it was \(before.reached.word), it is \(after.reached.word)") }
    for diagnostic in after.diagnostics
    where diagnostic.severity == .error && !before.diagnostics.contains(where: { $0.code == diagnostic.code }) {
      lines.append("\(diagnostic.code): \(diagnostic.message)")
    }
    let old = before.changes.map { described($0) }
    let new = after.changes.map { described($0) }
    for step in old where !new.contains(step) { lines.append("no longer to do: \(step)") }
    for step in new where !old.contains(step) { lines.append("also to do now: \(step)") }
    if lines.isEmpty, old != new { lines.append("its steps have another order now") }
    return lines
  }

  /// A step by what it would do, without what only grows while replication runs.
  private static func described(_ change: Change) -> String {
    switch change.action {
    case .synchronize, .checkDevices: "\(change.action.kind) \(change.action.subject)"
    default: change.summary
    }
  }

  /// The migration's devices and disks: another one under the same name is a surprise.
  private func worldDifferences(_ migration: Migration, _ plan: MigrationPlan, _ now: Observation) -> [String] {
    let before = MigrationFacts(migration, in: plan, observation)
    let after = MigrationFacts(migration, in: plan, now)
    var lines: [String] = []
    for volume in migration.volumes {
      lines += Self.differences(before.source, after.source, at: volume.device, on: migration.source)
      if let path = before.destinationPath(of: volume) {
        lines += Self.differences(before.destination, after.destination, at: path, on: migration.destination)
      }
      switch (before.disks[volume.name], after.disks[volume.name]) {
      case (let old?, let new?):
        guard new.resourceID.lowercased() == old.resourceID.lowercased() else {
          lines.append("\(migration.name)/\(volume.name) had disk \(old.name), it has \(new.name)")
          continue
        }
        if new.sizeBytes != old.sizeBytes || new.attachedTo?.lowercased() != old.attachedTo?.lowercased() {
          lines.append("disk \(old.name) of \(migration.name)/\(volume.name) was changed or attached elsewhere")
        }
      case (let old?, nil): lines.append("disk \(old.name) of \(migration.name)/\(volume.name) is gone")
      case (nil, let new?): lines.append("disk \(new.name) of \(migration.name)/\(volume.name) is new")
      case (nil, nil): continue
      }
    }
    return lines
  }

  private static func differences(
    _ before: HostObservation?, _ after: HostObservation?, at path: String, on host: HostName
  ) -> [String] {
    guard let old = before?.device(path), let new = after?.device(path) else { return [] }
    if old.identity != new.identity {
      return ["\(path) on \(host) was \(old.identity ?? "without identity"), is \(new.identity ?? "without one")"]
    }
    guard old.sizeBytes != new.sizeBytes || old.kind != new.kind else { return [] }
    return [
      "\(path) on \(host) was \(old.kind.rawValue) of \(old.sizeBytes) bytes, is \(new.kind.rawValue) of \(new.sizeBytes)"
    ]
  }
}
