import AgentProtocol
import BlockModel
import Diagnostics
package import MigrationModel
package import Planning
package import Reconciling

/// A run and what its journal says.
package struct RunRecord: Sendable {
  package let name: String
  package let entries: [JournalEntry]
  package init(name: String, entries: [JournalEntry]) {
    self.name = name
    self.entries = entries
  }
}

/// A document in its parts, before anybody has decided how it looks. Text is plain: each renderer escapes it.
package enum ReportBlock: Sendable, Equatable {
  /// `level` 1 is the title.
  case heading(level: Int, String)
  case paragraph(String)
  case list([String])
  /// The first row is the head.
  case table([[String]])
}

/// What a plan's migrations moved, when, by whom, how long the application waited, and what proves it: for whoever has to
/// sign that it is done. Rests on what the agents and Azure say now; what only the journals beside the plan still know is
/// told as theirs.
package func report(
  of plan: MigrationPlan, _ observation: Observation, runs: [RunRecord], options: PlanningOptions
) -> [ReportBlock] {
  let changes = diff(plan, observation, options: options)
  var blocks: [ReportBlock] = [
    .heading(level: 1, "Migration plan \(plan.metadata.name)"),
    .paragraph("Plan \(plan.metadata.id), as of \(rendered(observation.observedAt))."),
  ]
  let own = OwnDisks(plan, observation)
  var rows = [["migration", "from", "to", "is", "planned", "proof"]]
  for entry in changes.migrations {
    guard let migration = plan.migrations[entry.migration] else { continue }
    let facts = MigrationFacts(migration, in: plan, observation, own)
    rows.append([
      entry.migration.text, migration.source.text, migration.destination.text, entry.reached.word,
      entry.target.rawValue, facts.receiptDigest == nil ? "none yet" : "receipt",
    ])
  }
  blocks.append(.table(rows))
  let unseen = notSeen(in: observation)
  if !unseen.isEmpty { blocks += [.paragraph("Not seen, so not told of here:"), .list(unseen)] }
  for entry in changes.migrations {
    guard let migration = plan.migrations[entry.migration] else { continue }
    let facts = MigrationFacts(migration, in: plan, observation, own)
    blocks.append(.heading(level: 2, "\(migration.name): \(entry.reached.word)"))
    blocks.append(.table(volumeRows(facts)))
    blocks.append(.list(remarks(facts, entry)))
    let events = eventRows(migration, runs)
    if events.count > 1 { blocks += [.heading(level: 3, "What happened"), .table(events)] }
  }
  return blocks
}

extension MigrationFacts {
  /// Of the proof that came before the fence.
  fileprivate var receiptDigest: String? { sourceSession?.receipt?.digest ?? tombstone?.receiptDigest }
}

private func volumeRows(_ facts: MigrationFacts) -> [[String]] {
  var rows = [["volume", "source", "destination", "size", "copied", "on the wire", "longest pause"]]
  for volume in facts.migration.volumes {
    let seen = facts.sourceSession?.volumes.first { $0.name == volume.name }
    let pauses = [facts.sourceSession, facts.destinationSession].compactMap {
      $0?.volumes.first { $0.name == volume.name }?.longestPauseSeconds
    }
    rows.append([
      volume.name.text, volume.device, destinationText(volume, facts),
      (seen?.sizeBytes ?? facts.sourceBytes(of: volume)).map(Quantity.bytes) ?? "unknown",
      seen.map { Quantity.bytes($0.copiedBytes) } ?? "unknown", seen.map { Quantity.bytes($0.wireBytes) } ?? "unknown",
      pauses.max().map { $0 > 0 ? Quantity.duration($0) : "none" } ?? "unknown",
    ])
  }
  return rows
}

private func destinationText(_ volume: Volume, _ facts: MigrationFacts) -> String {
  switch volume.destination {
  case .device(let path): return path
  case .disk:
    guard let disk = facts.disks[volume.name] else { return "no disk yet" }
    let place = facts.lun(of: disk).map { ", LUN \($0)" } ?? ", not attached"
    return "\(disk.name) (\(disk.sku), \(Quantity.bytes(disk.sizeBytes))\(place))"
  }
}

private func remarks(_ facts: MigrationFacts, _ entry: MigrationChanges) -> [String] {
  var lines: [String] = []
  let session = facts.sourceSession ?? facts.destinationSession
  if let at = session?.initialSynchronizationAt { lines.append("First synchronized at \(rendered(at)).") }
  if let session, session.swings > 0 {
    let pause = session.lastSwingPauseSeconds.map { ", the last one paused I/O for \(Quantity.duration($0))" } ?? ""
    lines.append("\(Quantity.count(session.swings, "swing"))\(pause).")
  }
  if let health = entry.health { lines.append("Replication: \(healthText(health)).") }
  for approval in session?.approvals ?? [] {
    lines.append("\(approval.phase.rawValue) was approved by \(approval.who) at \(rendered(approval.at)).")
  }
  if let hold = session?.hold {
    lines.append("Held since \(rendered(hold.at)) by \(hold.who): \(hold.why).")
  }
  if let receipt = facts.sourceSession?.receipt {
    lines.append(
      "Proof (\(receipt.verify)): \(Quantity.bytes(receipt.comparedBytes)) compared and equal at \(rendered(receipt.at)); receipt \(receipt.digest), on \(facts.migration.source) at \(receipt.path). Check it with: cmcagent verify-receipt FILE"
    )
  } else if let digest = facts.tombstone?.receiptDigest {
    lines.append("Proof: receipt \(digest). Check the file with: cmcagent verify-receipt FILE")
  } else {
    lines.append("No proof yet: it comes with finalize, before the source is fenced.")
  }
  if let stone = facts.tombstone {
    lines.append("\(stone.phase.rawValue) at \(rendered(stone.at)), generation \(stone.generation).")
    if let rescued = stone.rescued { lines.append("Rescued by hand: \(rescued)") }
  }
  lines += entry.waiting.map { "Waits: \(waitingText($0))." }
  lines += entry.diagnostics.filter { $0.severity != .note }.map { "\($0.severity.rawValue) \($0.code): \($0.message)" }
  return lines
}

/// The steps that somebody will be asked about, and everything that failed.
private let toldSteps: Set<String> = [
  "configureSession", "growVolumes", "proveConnection", "synchronize", "swing", "revert", "closeTap", "prove", "fence",
  "release",
  "archive", "retire",
]
/// The newest so many are told of a migration.
private let mostEvents = 200

private func eventRows(_ migration: Migration, _ runs: [RunRecord]) -> [[String]] {
  var rows: [[String]] = []
  for run in runs {
    for entry in run.entries where entry.subject == migration.name.text {
      guard let step = entry.step, let at = entry.at else { continue }
      switch entry.kind {
      case .stepSucceeded where toldSteps.contains(step): rows.append([rendered(at), step, "done", run.name])
      case .stepFailed:
        let code = entry.code.map { "\($0): " } ?? ""
        rows.append([rendered(at), step, "failed: \(code)\(entry.message ?? "")", run.name])
      default: continue
      }
    }
  }
  return [["when", "step", "how it ended", "run"]] + rows.suffix(mostEvents)
}

/// Every part of the world that could not be observed, and why, a line each.
package func notSeen(in observation: Observation) -> [String] {
  observation.hosts.sorted { $0.key < $1.key }.flatMap { host, seen in
    seen.faults.map { "host \(host), \($0.part): \($0.message)" }
  }
    + observation.clouds.sorted { $0.key < $1.key }.flatMap { name, cloud in
      cloud.allFaults.map { "integration \(name), \($0.part): \($0.message)" }
    }
}
