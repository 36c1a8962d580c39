import AgentProtocol
package import BlockModel
import Diagnostics

/// A change set as `plan --out` saves it: with the observation that it rests on, so that `apply` can tell what moved.
/// It holds no secret: neither a plan nor an observation has one.
package struct SavedChangeSet: Codable, Sendable, Equatable {
  package static let currentVersion = 1
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
  package var changes: ChangeSet
  package var observation: Observation
  package init(
    program: String, savedAt: WallTime, savedBy: String, only: Set<MigrationName>?, maxMoves: Int?,
    overwrite: Set<VolumeKey>, changes: ChangeSet,
    observation: Observation
  ) {
    self.program = program
    self.savedAt = savedAt
    self.savedBy = savedBy
    noChanges = changes.isNoOp
    self.only = only?.sorted()
    self.maxMoves = maxMoves
    self.overwrite = overwrite.sorted()
    self.changes = changes
    self.observation = observation
  }

  /// Every step that it lists, also those that waited for a gate: a gate that opened since is no surprise.
  package var listed: [MigrationName: Set<Action>] {
    var steps: [MigrationName: Set<Action>] = [:]
    for entry in changes.migrations { steps[entry.migration] = Set(entry.changes.map(\.action)) }
    return steps
  }

  /// What is otherwise now, one line each; empty where the saved change set is still exactly what there is to do.
  /// `fresh` was made with the same limits. Pure.
  package func moved(_ fresh: ChangeSet, _ now: Observation) -> [String] {
    guard changes.plan == fresh.plan else { return ["it was made for plan \(changes.plan), this one is \(fresh.plan)"] }
    var lines: [String] = []
    let old = Dictionary(changes.migrations.map { ($0.migration, $0) }) { first, _ in first }
    let new = Dictionary(fresh.migrations.map { ($0.migration, $0) }) { first, _ in first }
    for name in Set(old.keys).union(new.keys).sorted() {
      switch (old[name], new[name]) {
      case (let before?, let after?): lines += Self.differences(before, after).map { "\(name): \($0)" }
      case (nil, _?): lines.append("\(name): it is new in the plan")
      case (_?, nil): lines.append("\(name): it is not in the plan any more")
      case (nil, nil): continue
      }
    }
    return lines + worldDifferences(now)
  }

  private static func differences(_ before: MigrationChanges, _ after: MigrationChanges) -> [String] {
    var lines: [String] = []
    if before.target != after.target {
      lines.append("the plan says \(after.target.rawValue), it said \(before.target.rawValue)")
    }
    if before.configurationDigest != after.configurationDigest { lines.append("its configuration in the plan changed") }
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

  /// Devices and disks that the change set's migrations rest on: another one under the same name is a surprise.
  private func worldDifferences(_ now: Observation) -> [String] {
    var lines: [String] = []
    for (host, before) in observation.hosts.sorted(by: { $0.key < $1.key }) {
      for old in before.devices {
        guard let new = now.hosts[host]?.device(old.path) else { continue }
        if old.identity != new.identity {
          lines.append(
            "\(old.path) on \(host) was \(old.identity ?? "without identity"), is \(new.identity ?? "without one")")
        } else if old.sizeBytes != new.sizeBytes || old.kind != new.kind {
          lines.append(
            "\(old.path) on \(host) was \(old.kind.rawValue) of \(old.sizeBytes) bytes, is \(new.kind.rawValue) of \(new.sizeBytes)"
          )
        }
      }
    }
    for (integration, before) in observation.clouds.sorted(by: { $0.key < $1.key }) {
      guard let after = now.clouds[integration] else { continue }
      for old in before.disks {
        guard let new = after.disks.first(where: { $0.resourceID.lowercased() == old.resourceID.lowercased() }) else {
          lines.append("disk \(old.name) of \(integration) is gone")
          continue
        }
        if new.sizeBytes != old.sizeBytes || new.attachedTo?.lowercased() != old.attachedTo?.lowercased() {
          lines.append("disk \(old.name) of \(integration) was changed or attached elsewhere")
        }
      }
      for new in after.disks
      where !before.disks.contains(where: { $0.resourceID.lowercased() == new.resourceID.lowercased() }) {
        lines.append("disk \(new.name) of \(integration) is new")
      }
    }
    return lines
  }
}
