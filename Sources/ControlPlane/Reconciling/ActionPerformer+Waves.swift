import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Seams

/// When the earlier waves were last looked at, and what kept them closed then.
actor WaveLooks {
  struct Look: Sendable {
    var at: MonotonicTime
    var closed: Waiting?
  }
  private var all: [Int: Look] = [:]
  func look(before wave: Int) -> Look? { all[wave] }
  func set(_ look: Look, before wave: Int) { all[wave] = look }
}

// MARK: Waves

extension ActionPerformer {
  /// How much of a check's output an error shows, in characters; the journal has all that the host sent.
  private static let shownCharacters = 400

  /// Looks at the earlier waves again, unless that was done a moment ago: a wave has many migrations.
  func checkWaves(before migration: Migration, _ pair: SessionPair) async throws(GatewayError) {
    guard let wave = plan.waveIndices[migration.name], wave > 0, !hasStopped(migration, pair) else { return }
    let now = services.time.monotonicNow()
    let look: WaveLooks.Look
    if let last = await waveLooks.look(before: wave), now.seconds(since: last.at) < limits.waveLookSeconds {
      look = last
    } else {
      let run = ObserveRun(plan: plan, gateways: gateways, services: services, limits: limits)
      let observation = await run.observe(with: pool, only: Set(plan.waves[..<wave].flatMap(\.migrations)))
      let options = PlanningOptions(now: services.time.wallNow(), digest: services.digest)
      look = WaveLooks.Look(
        at: now, closed: closedWave(before: migration.name, in: plan, observation, options: options))
      await waveLooks.set(look, before: wave)
    }
    guard let closed = look.closed else { return }
    throw GatewayError(
      code: ApplyCode.waveClosed, message: "\(migration.name): \(closed.message)", advice: closed.advice,
      disposition: .needsOperator)
  }

  /// The application is stopped for finalize: to wait now would be an outage.
  private func hasStopped(_ migration: Migration, _ pair: SessionPair) -> Bool {
    guard migration.cutover.hooks[.stopApplication] != nil,
      let generation = pair.source?.generation ?? pair.destination?.generation
    else { return false }
    let own = migration.role(ofHook: .stopApplication) == .source ? pair.source : pair.destination
    return hookProgress(
      .stopApplication, session: session(migration), generation: generation, runs: own?.hookRuns ?? [],
      digest: services.digest) == .succeeded
  }

  /// Runs the wave's health check. One that fails is not tried again in this run: it said no.
  func checkWave(_ name: String, on hostName: HostName) async throws(GatewayError) {
    guard let check = plan.waves.first(where: { $0.name == name })?.healthCheck else { return }
    let outcome = try await gateways.hosts.run(
      check.run, on: try host(hostName), timeoutSeconds: check.timeoutSeconds)
    let action = Action.checkWave(name, hostName)
    if !outcome.output.isEmpty { await services.record(JournalEntry(.stepOutput, action, message: outcome.output)) }
    guard outcome.exitCode != 0 else { return }
    let how =
      outcome.exitCode.map { "ended with exit code \($0)" } ?? "did not end within \(Int(check.timeoutSeconds)) s"
    let lines = outcome.output.split(whereSeparator: \.isNewline).suffix(5).joined(separator: " | ")
    throw GatewayError(
      code: ApplyCode.waveCheckFailed,
      message: "the health check of wave \(name) on \(hostName) \(how)"
        + (lines.isEmpty ? "" : ": \(lines.suffix(Self.shownCharacters))"),
      advice: "mend what it found, then apply again; the next wave waits until it succeeds", disposition: .terminal)
  }
}
