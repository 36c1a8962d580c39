package import AgentProtocol
package import BlockModel
import Diagnostics
package import MigrationModel

/// One thing that has to hold before a migration can take its next move in its window.
package struct ReadinessCheck: Sendable, Equatable, Codable {
  /// Short and stable: "hold", "connected", "synchronized", "window", "approval".
  package var name: String
  package var isReady: Bool
  /// What was found, in words.
  package var finding: String
  /// What to do where it isn't ready; may be empty.
  package var advice: String
  package init(_ name: String, _ isReady: Bool, _ finding: String, advice: String = "") {
    self.name = name
    self.isReady = isReady
    self.finding = finding
    self.advice = isReady ? "" : advice
  }
}

/// Whether the migration's next swing or finalize could start, and would fit, in its window: asked before the window
/// opens, so that what is missing is found while there is time. Pure.
package func readiness(
  of migration: Migration, in plan: MigrationPlan, _ observation: Observation, options: PlanningOptions
) -> [ReadinessCheck] {
  let facts = MigrationFacts(migration, in: plan, observation)
  var only = options
  only.only = [migration.name]
  guard let entry = diff(plan, observation, options: only).migrations.first else { return [] }
  let builder = MigrationDiff(facts, shippedAgentDigest: observation.shippedAgentDigest, options: only)
  let errors = entry.diagnostics.filter { $0.severity == .error }
  var checks = [
    ReadinessCheck(
      "plan", errors.isEmpty, errors.first.map { "\($0.code): \($0.message)" } ?? "it can be planned",
      advice: errors.first?.advice ?? "")
  ]
  let hold = facts.sourceSession?.hold ?? facts.destinationSession?.hold
  checks.append(
    ReadinessCheck(
      "hold", hold == nil, hold.map { "held (\($0.cause.rawValue)) by \($0.who): \($0.why)" } ?? "nobody holds it",
      advice: "cmcplan resume \(migration.name), once the reason is gone"))
  checks += guardrailChecks(entry)
  // Gates of their own, each told even where an earlier one keeps everything back.
  if entry.reached == .reached(.cmotion), let missing = builder.missingConfirmation() {
    let until = facts.sourceSession?.confirmBy.map { ", by \(rendered($0))" } ?? ""
    checks.append(ReadinessCheck("confirmation", false, missing.message + until, advice: missing.advice))
  }
  let isDone = entry.isNoOp && errors.isEmpty
  if isDone {
    checks.append(ReadinessCheck("phase", true, "it is \(entry.reached.word), as planned: nothing is left to do"))
    return checks
  }
  checks += replicationChecks(facts, at: options.now)
  checks += windowChecks(migration, facts, options)
  checks += waveChecks(entry, in: plan)
  checks += groupChecks(entry, in: plan)
  if migration.cutover.phase.value >= .finalized, migration.cutover.approval == .manual, entry.reached != .pastFence {
    let missing = builder.missingApproval()
    checks.append(
      ReadinessCheck(
        "approval", missing == nil, missing?.message ?? "the one-way step is approved", advice: missing?.advice ?? ""))
  }
  return checks
}

/// What guardrails only warn of is in nobody's way, but is nobody's surprise either; what they deny is in the plan's check.
private func guardrailChecks(_ entry: MigrationChanges) -> [ReadinessCheck] {
  entry.diagnostics.filter { $0.severity == .warning && PlanningCode.guardrails.contains($0.code) }.map {
    ReadinessCheck("guardrails", true, $0.message + ($0.advice.isEmpty ? "" : "; \($0.advice)"))
  }
}

private func replicationChecks(_ facts: MigrationFacts, at now: WallTime) -> [ReadinessCheck] {
  guard let source = facts.sourceSession else {
    return [
      ReadinessCheck("synchronized", false, "there is no session yet", advice: "cmcplan apply, to synchronized first")
    ]
  }
  var checks = [
    ReadinessCheck(
      "connected", source.connected, source.connected ? "both agents are connected" : "the agents are not connected",
      advice: "see cmcplan status; check the port between the hosts"),
    ReadinessCheck(
      "synchronized", source.initialSynchronizationAt != nil,
      source.initialSynchronizationAt.map { "initial synchronization finished \(rendered($0))" }
        ?? "initial synchronization is not finished", advice: "wait for it: cmcplan apply --wait"),
  ]
  let isWell: Bool
  let finding: String
  switch source.health {
  case .idle: (isWell, finding) = (true, "idle")
  case .initializing: (isWell, finding) = (false, "it starts up")
  case .synchronizing(let percent, _, _): (isWell, finding) = (true, "synchronizing, \(Int(saturating: percent)) %")
  case .tracking(let bytes, let seconds):
    (isWell, finding) = (true, "\(bytes) bytes (\(Int(saturating: seconds)) s) behind")
  case .stalled(let why): (isWell, finding) = (false, "stalled: \(why)")
  case .disconnected(let since): (isWell, finding) = (false, "disconnected since \(rendered(since))")
  case .degraded(let copy, let why): (isWell, finding) = (false, "the \(copy.rawValue) is degraded: \(why)")
  }
  checks.append(ReadinessCheck("health", isWell, finding, advice: "see cmcplan status"))
  if let forecast = facts.forecast(at: now) {
    let rest = forecast.secondsToConverge.map {
      ": what differs is copied in about \(Int(saturating: $0.rounded(.up))) s"
    }
    checks.append(
      ReadinessCheck(
        "forecast", forecast.converges,
        (forecast.converges ? "it converges" : "it will not converge") + (rest ?? "") + "; \(forecast.text)",
        advice: "raise its iQoS level or networkLimit, or choose a quieter hour"))
  }
  if let error = source.lastError ?? facts.destinationSession?.lastError {
    checks.append(ReadinessCheck("agents", false, "an agent reports: \(error.message)", advice: "mend it first"))
  }
  return checks
}

private func windowChecks(
  _ migration: Migration, _ facts: MigrationFacts, _ options: PlanningOptions
) -> [ReadinessCheck] {
  let windows = migration.cutover.windows
  guard !windows.isEmpty else { return [ReadinessCheck("window", true, "it has no window: it may start at any time")] }
  guard let opening = WindowOpening.currentOrNext(of: windows, at: options.now) else {
    return [ReadinessCheck("window", false, "none of its windows opens", advice: "check cutover.windows")]
  }
  let isOpen = opening.from <= options.now
  var checks = [
    ReadinessCheck(
      "window", true,
      isOpen
        ? "it is open until \(rendered(opening.to))"
        : "it opens \(rendered(opening.from)), until \(rendered(opening.to))"
    )
  ]
  let start = max(opening.from.secondsSince1970, options.now.secondsSince1970)
  let room = opening.to.secondsSince1970 - start
  let need = drainSeconds(migration, facts.sourceSession, at: options.now)
  checks.append(
    ReadinessCheck(
      "fit", need.map { $0 <= room } ?? false,
      need.map { need in
        "what differs now takes about \(Int(saturating: need.rounded(.up))) s; the window has \(Int(saturating: room)) s"
      }
        ?? "how much differs is not known",
      advice: "let it catch up first, raise its iQoS level, or widen the window"))
  return checks
}

/// How long what differs now takes to move, in seconds, at the measured bandwidth (or 100 MB/s) and the level that holds
/// then; nil while it isn't known what differs.
package func drainSeconds(_ migration: Migration, _ session: SessionObservation?, at now: WallTime) -> Double? {
  guard let source = session else { return nil }
  let bytes = source.volumes.reduce(0.0) { $0 + Double($1.dirtyBytes) }
  var rate = source.connectionProof?.bytesPerSecond ?? MigrationDiff.assumedBytesPerSecond
  rate *= migration.iqos.level(at: now).share ?? 1
  if let limit = migration.iqos.networkLimitBytesPerSecond { rate = min(rate, Double(limit)) }
  return rate > 0 ? bytes / rate : nil
}
