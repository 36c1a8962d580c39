import AgentProtocol
import BlockModel
import Diagnostics
package import MigrationModel
package import Planning

/// Status in the Prometheus text exposition format 0.0.4, for node_exporter's textfile collector: write it to a file
/// beside the one that is read, and rename it.
package func renderPrometheus(_ plan: MigrationPlan, _ observation: Observation, options: PlanningOptions) -> String {
  var page = MetricsPage()
  page.add(
    "cmcplan_observed_timestamp_seconds", "When the world was looked at.", [("plan", plan.metadata.name)],
    observation.observedAt.secondsSince1970)
  let changes = diff(plan, observation, options: options)
  let own = OwnDisks(plan, observation)
  for entry in changes.migrations {
    guard let migration = plan.migrations[entry.migration] else { continue }
    let facts = MigrationFacts(migration, in: plan, observation, own)
    page.addMigration(entry, facts, plan: plan.metadata.name)
  }
  page.add(
    "cmcplan_unmanaged", "Sessions and disks of this plan's id that are not in the document.",
    [("plan", plan.metadata.name)], Double(changes.unmanaged.count))
  let unseen = observation.hosts.values.flatMap(\.faults).count + observation.clouds.values.flatMap(\.allFaults).count
  page.add(
    "cmcplan_unseen", "Parts of the world that could not be looked at.", [("plan", plan.metadata.name)], Double(unseen))
  return page.text
}

private struct MetricsPage {
  private var families: [(name: String, help: String, lines: [String])] = []
  private var index: [String: Int] = [:]

  mutating func add(_ name: String, _ help: String, _ labels: [(String, String)], _ value: Double) {
    let at: Int
    if let known = index[name] {
      at = known
    } else {
      at = families.count
      index[name] = at
      families.append((name, help, []))
    }
    let list = labels.map { "\($0.0)=\"\(escaped($0.1))\"" }.joined(separator: ",")
    families[at].lines.append("\(name){\(list)} \(number(value))")
  }

  mutating func addMigration(_ entry: MigrationChanges, _ facts: MigrationFacts, plan: String) {
    let labels = [("plan", plan), ("migration", entry.migration.text)]
    func label(_ more: (String, String)) -> [(String, String)] { labels + [more] }
    // Past the fence is on the way to finalized, not there.
    let reached = entry.reached.phase
    for phase in Phase.allCases {
      add(
        "cmcplan_phase", "1 for the phase that the migration is in.", label(("phase", phase.rawValue)),
        phase == reached ? 1 : 0)
    }
    add(
      "cmcplan_at_target", "1 where the migration is where the plan wants it.", labels, entry.isNoOp ? 1 : 0)
    add(
      "cmcplan_errors", "Errors that keep the migration from being planned.", labels,
      Double(entry.diagnostics.count { $0.severity == .error }))
    for reason in ["window", "approval", "hold", "confirmation", "moves", "saved"] {
      add(
        "cmcplan_waiting", "1 where the migration waits for this.", label(("for", reason)),
        entry.waiting.contains { word($0.reason) == reason } ? 1 : 0)
    }
    guard let source = facts.sourceSession else { return }
    add("cmcplan_connected", "1 where both agents are connected.", labels, source.connected ? 1 : 0)
    add("cmcplan_swings_total", "cMotions of the migration so far.", labels, Double(source.swings))
    addHealth(source.health, labels)
    if source.heldBackBy != nil {
      for cause in HoldBack.allCases {
        add(
          "cmcplan_held_back", "1 for what keeps copying from going faster now.", label(("by", cause.rawValue)),
          cause == source.heldBackBy ? 1 : 0)
      }
    }
    if let packed = source.compression {
      add("cmcplan_compressed_bytes_total", "Bytes that went compressed.", labels, Double(packed.packedBytes))
      add("cmcplan_compressed_wire_bytes_total", "What they took of the link.", labels, Double(packed.wireBytes))
    }
    for volume in source.volumes {
      let own = label(("volume", volume.name.text))
      add(
        "cmcplan_differs_bytes", "Bytes that may differ between source and destination.", own, Double(volume.dirtyBytes)
      )
      add("cmcplan_copied_bytes_total", "Bytes copied to the destination.", own, Double(volume.copiedBytes))
      add(
        "cmcplan_wire_bytes_total", "Bytes that crossed the link for it, as compressed.", own, Double(volume.wireBytes))
      add("cmcplan_longest_pause_seconds", "Longest pause that the application saw.", own, volume.longestPauseSeconds)
    }
    for (role, session) in [(Role.source, facts.sourceSession), (.destination, facts.destinationSession)] {
      for volume in session?.volumes ?? [] {
        let own = labels + [("volume", volume.name.text), ("copy", role.rawValue)]
        let io = volume.applicationIO
        add("cmcplan_application_reads_total", "Reads of the application that this copy served.", own, Double(io.reads))
        add("cmcplan_application_writes_total", "Writes of the application to this copy.", own, Double(io.writes))
        add("cmcplan_application_read_bytes_total", "Bytes of those reads.", own, Double(io.readBytes))
        add("cmcplan_application_written_bytes_total", "Bytes of those writes.", own, Double(io.writeBytes))
      }
    }
  }

  private mutating func addHealth(_ health: ReplicationHealth, _ labels: [(String, String)]) {
    let words = ["idle", "initializing", "synchronizing", "tracking", "stalled", "disconnected", "degraded"]
    let now: String
    switch health {
    case .idle: now = "idle"
    case .initializing: now = "initializing"
    case .synchronizing(let percent, let rate, _):
      now = "synchronizing"
      add("cmcplan_synchronized_ratio", "Share of the volumes that is copied, 0 to 1.", labels, percent / 100)
      add("cmcplan_rate_bytes_per_second", "Rate of copying now.", labels, rate)
    case .tracking(let bytes, let seconds):
      now = "tracking"
      add("cmcplan_lag_bytes", "How far the destination is behind.", labels, Double(bytes))
      add("cmcplan_lag_seconds", "The same in time.", labels, seconds)
    case .stalled: now = "stalled"
    case .disconnected: now = "disconnected"
    case .degraded: now = "degraded"
    }
    for word in words {
      add("cmcplan_health", "1 for how replication does.", labels + [("health", word)], word == now ? 1 : 0)
    }
  }

  private func word(_ reason: Waiting.Reason) -> String {
    switch reason {
    case .window: "window"
    case .approval: "approval"
    case .hold: "hold"
    case .confirmation: "confirmation"
    case .moves: "moves"
    case .saved: "saved"
    case .guardrail: "guardrail"
    case .unreviewed: "unreviewed"
    case .wave: "wave"
    case .group: "group"
    }
  }

  private func escaped(_ text: String) -> String {
    safeLines(text).replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
  }

  private func number(_ value: Double) -> String {
    value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : "\(value)"
  }

  /// All lines of one metric stand together, as the format wants it.
  var text: String {
    families.map { family in
      let kind = family.name.hasSuffix("_total") ? "counter" : "gauge"
      return "# HELP \(family.name) \(family.help)\n# TYPE \(family.name) \(kind)\n"
        + family.lines.joined(separator: "\n")
    }.joined(separator: "\n") + "\n"
  }
}
