import AgentProtocol
import BlockModel
import Diagnostics
package import MigrationModel
package import Planning

/// One table of migrations, and like `iostat` one of where the application's I/O goes.
package func renderStatus(
  _ plan: MigrationPlan, _ observation: Observation, options: PlanningOptions, style: TextStyle
) -> String {
  let changes = diff(plan, observation, options: options)
  var text = style.paint("Migration plan \(safe(plan.metadata.name))", .bold)
  text += ", observed \(rendered(observation.observedAt))\n\n"
  let own = OwnDisks(plan, observation)
  var rows = [["MIGRATION", "PHASE", "PLANNED", "REPLICATION", "SWINGS", "GENERATION"]]
  for entry in changes.migrations {
    guard let migration = plan.migrations[entry.migration] else { continue }
    let facts = MigrationFacts(migration, in: plan, observation, own)
    let session = facts.sourceSession ?? facts.destinationSession
    rows.append([
      entry.migration.text, entry.reached.word, entry.target.rawValue,
      entry.health.map { safe(healthText($0)) } ?? "-", session.map { String($0.swings) } ?? "-",
      session?.generation.description ?? facts.tombstone?.generation.description ?? "-",
    ])
  }
  text += table(rows, style)
  for entry in changes.migrations { text += renderPace(entry, plan, observation, own, style) }
  for entry in changes.migrations { text += renderRemarks(entry, plan, observation, style) }
  text += renderCounters(plan, observation, own, options, style)
  let faults = notSeen(in: observation)
  if !faults.isEmpty { text += "\n" }
  for fault in faults {
    text += style.folded(style.paint("not seen", .bad) + ": ", leadWidth: 10, safe(fault), indent: 4)
  }
  return text
}

/// What holds copying back now, and what compression does for it.
private func renderPace(
  _ entry: MigrationChanges, _ plan: MigrationPlan, _ observation: Observation, _ own: OwnDisks, _ style: TextStyle
) -> String {
  guard let migration = plan.migrations[entry.migration],
    let source = MigrationFacts(migration, in: plan, observation, own).sourceSession
  else { return "" }
  var parts: [String] = []
  if let cause = source.heldBackBy { parts.append("held back by " + heldBackText(cause)) }
  if let text = source.compression.flatMap(compressionText) { parts.append(text) }
  guard !parts.isEmpty else { return "" }
  return "\n"
    + style.folded(
      "\(entry.migration): ", leadWidth: entry.migration.text.count + 2, parts.joined(separator: "; "), indent: 4)
}

func heldBackText(_ cause: HoldBack) -> String {
  switch cause {
  case .sourceDisk: "the source's disk"
  case .destinationDisk: "the destination's disk"
  case .network: "the network"
  case .iqos: "iQoS: the share of its level"
  case .networkLimit: "iQoS: networkLimit"
  case .latencyBound: "iQoS: latencyBound, for the application's I/O got slower"
  case .compression: "compression"
  }
}

/// Nil where there is nothing to say.
func compressionText(_ report: CompressionReport) -> String? {
  let ratio = report.ratio.map { "compression \(Quantity.ratio($0))" }
  switch report.state {
  case .on: return ratio
  case .incompressible: return "compression off: the data hardly shrinks"
  case .tooSlow: return "compression off: it saves no time"
  case .measuring, .unsupported: return ratio
  }
}

private func renderRemarks(
  _ entry: MigrationChanges, _ plan: MigrationPlan, _ observation: Observation, _ style: TextStyle
) -> String {
  var text = ""
  for waiting in entry.waiting {
    text += style.folded(
      "\(entry.migration) " + style.paint("waits", .change) + ": ", leadWidth: entry.migration.text.count + 8,
      safe(waitingText(waiting) + (waiting.advice.isEmpty ? "" : "; \(waiting.advice)")), indent: 4)
  }
  for diagnostic in entry.diagnostics where diagnostic.severity != .note {
    let word = diagnostic.severity.rawValue
    text += style.folded(
      style.paint(word, diagnostic.severity == .error ? .bad : .change) + ": ", leadWidth: word.count + 2,
      safe(diagnostic.message), indent: 4)
  }
  return text.isEmpty ? "" : "\n" + text
}

private func renderCounters(
  _ plan: MigrationPlan, _ observation: Observation, _ own: OwnDisks, _ options: PlanningOptions, _ style: TextStyle
) -> String {
  var rows = [["VOLUME", "COPY", "READS", "READ", "WRITES", "WRITTEN", "FLUSHES", "DIFFERS", "LONGEST PAUSE"]]
  for migration in plan.sortedMigrations where options.only?.contains(migration.name) ?? true {
    let facts = MigrationFacts(migration, in: plan, observation, own)
    for volume in migration.volumes {
      for (role, session) in [(Role.source, facts.sourceSession), (.destination, facts.destinationSession)] {
        guard let seen = session?.volumes.first(where: { $0.name == volume.name }) else { continue }
        let counters = seen.applicationIO
        rows.append([
          "\(migration.name)/\(volume.name)", role.rawValue, String(counters.reads), Quantity.bytes(counters.readBytes),
          String(counters.writes), Quantity.bytes(counters.writeBytes), String(counters.flushes),
          role == .source ? Quantity.bytes(seen.dirtyBytes) : "-",
          seen.longestPauseSeconds > 0 ? Quantity.duration(seen.longestPauseSeconds) : "-",
        ])
      }
    }
  }
  guard rows.count > 1 else { return "" }
  return "\nWhere the application's I/O goes (since the agents started)\n\n" + table(rows, style)
}

/// Columns as wide as their widest cell, two blanks between; the first row is the head. Lines aren't folded: a table
/// that is wider than the terminal is easier to read cut by it than broken.
func table(_ rows: [[String]], _ style: TextStyle) -> String {
  guard let columns = rows.map(\.count).max(), columns > 0 else { return "" }
  let rows = rows.map { $0.map(safe) }
  let widths = (0..<columns).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
  var text = ""
  for (index, row) in rows.enumerated() {
    var line = ""
    for (column, cell) in row.enumerated() {
      line += cell
      if column < row.count - 1 { line += String(repeating: " ", count: widths[column] - cell.count + 2) }
    }
    text += (index == 0 ? style.paint(line, .bold) : line) + "\n"
  }
  return text
}

/// One versioned JSON object on one line: per migration its phase, health and both halves as the agents tell them.
package func renderStatusJSON(_ plan: MigrationPlan, _ observation: Observation, options: PlanningOptions) -> String {
  encoded(StatusDocument(plan, observation, options: options)) + "\n"
}

private struct StatusDocument: Encodable {
  struct Entry: Encodable {
    var summary: ChangeSetDocument.Entry
    var source: SessionObservation?
    var destination: SessionObservation?
    var tombstone: Tombstone?
  }
  var kind = "Status"
  var formatVersion = 1
  var plan: String
  var planName: String
  var observedAt: Double
  var migrations: [Entry]
  var faults: [ObservationFault]

  init(_ plan: MigrationPlan, _ observation: Observation, options: PlanningOptions) {
    self.plan = plan.metadata.id.text
    planName = plan.metadata.name
    observedAt = observation.observedAt.secondsSince1970
    let own = OwnDisks(plan, observation)
    migrations = diff(plan, observation, options: options).migrations.compactMap { entry in
      guard let migration = plan.migrations[entry.migration] else { return nil }
      let facts = MigrationFacts(migration, in: plan, observation, own)
      return Entry(
        summary: ChangeSetDocument.Entry(entry), source: facts.sourceSession, destination: facts.destinationSession,
        tombstone: facts.tombstone)
    }
    faults =
      observation.hosts.sorted { $0.key < $1.key }.flatMap(\.value.faults)
      + observation.clouds.sorted { $0.key < $1.key }.flatMap(\.value.allFaults)
  }
}
