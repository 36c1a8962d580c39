import AgentProtocol
package import BlockModel
package import MigrationModel
import Planning
import Seams

/// What came of an operator's word where not everything could be reached.
package struct OperationOutcome: Sendable, Equatable {
  /// One line each, in the order in which it was done.
  package var done: [String] = []
  /// What could not be done, and why; the rest holds all the same.
  package var missed: [String] = []
  package init() {}
}

/// What came of one migration of `--all`: one of the two is nil.
package struct OperationResult: Sendable {
  package var migration: MigrationName
  package var outcome: OperationOutcome?
  package var error: GatewayError?
}

/// What a person does beside `apply`: each is stored with, or done by, the agents.
///
/// Setting a hold and reverting are for emergencies: they do what can be done with one host alive, and say what was not.
package struct MigrationOperations: Sendable {
  let plan: MigrationPlan
  let services: RunServices
  let who: String
  let performer: ActionPerformer
  /// Set where many are worked on: they share the connections, and whoever began closes them.
  private var keepsPoolOpen = false

  /// `who` is recorded with everything: "user@host".
  package init(plan: MigrationPlan, gateways: Gateways, services: RunServices, who: String) {
    self.plan = plan
    self.services = services
    self.who = who
    // An operator's own word goes before a running apply: its lease is taken over, and it stops there.
    performer = ActionPerformer(
      plan: plan, gateways: gateways, options: ApplyOptions(stealLease: true, holder: who), services: services,
      limits: ReconcileLimits(), pool: AgentPool(plan: plan, hosts: gateways.hosts, time: services.time))
  }

  /// Stores an approval, bound to the migration's configuration as the plan has it now, with both agents.
  /// `expiresInSeconds`: nil for one that doesn't expire.
  package func approve(
    _ migration: MigrationName, phase: Phase, expiresInSeconds: Double?
  ) async throws(GatewayError) {
    try await closingPool { () async throws(GatewayError) -> Void in
      let target = try performer.migration(migration)
      try await requireSession(target)
      let now = services.time.wallNow()
      let approval = Approval(
        phase: phase, who: who, at: now, expiresAt: expiresInSeconds.map { now.adding(seconds: $0) },
        configurationDigest: configurationDigest(of: target, in: plan, digest: services.digest))
      let session = performer.session(target)
      for host in hosts(of: target) {
        _ = try await performer.pool.call(StoreApprovalCall(session: session, approval: approval), on: host)
      }
    }
  }

  /// Sets a hold: apply does nothing more for it. Replication that runs goes on. One agent that has the hold is enough
  /// to stop every apply, so it is refused only where neither could be told. A hold of another kind, which says more,
  /// stays instead.
  package func pause(_ migration: MigrationName, why: String) async throws(GatewayError) -> OperationOutcome {
    try await closingPool { () async throws(GatewayError) -> OperationOutcome in
      let target = try performer.migration(migration)
      var outcome = OperationOutcome()
      try await setHold(.paused, why: why, on: try await reachable(target), of: target, &outcome)
      outcome.done.append("\(migration) is on hold; cmcplan resume \(migration) clears it")
      return outcome
    }
  }

  /// Clears the hold, whatever set it; `onlyPauses`: one that a revert or a failure left stays, for it is about this one
  /// migration. Both agents must be reached: one that keeps it keeps apply from going on. What came after the look stays.
  package func resume(
    _ migration: MigrationName, onlyPauses: Bool = false
  ) async throws(GatewayError) -> OperationOutcome {
    try await closingPool { () async throws(GatewayError) -> OperationOutcome in
      let target = try performer.migration(migration)
      let seen = try await reachable(target)
      var outcome = OperationOutcome()
      // A host without a session keeps no hold either.
      outcome.missed += Role.allCases.compactMap { seen.silent[$0] }
      var isAnyKept = false
      for half in seen.halves {
        guard let hold = half.session.hold else { continue }
        let words = "(\(hold.cause.rawValue), by \(hold.who) at \(rendered(hold.at)): \(hold.why))"
        if onlyPauses, hold.cause != .paused {
          isAnyKept = true
          outcome.done.append("\(migration) stays held on \(half.host) \(words); cmcplan resume \(migration) clears it")
          continue
        }
        let call = SetHoldCall(session: performer.session(target), hold: nil, clearing: hold, role: half.role)
        _ = try await performer.pool.call(call, on: half.host)
        outcome.done.append("cleared the hold on \(half.host) \(words)")
      }
      if outcome.done.isEmpty, outcome.missed.isEmpty {
        outcome.done.append("\(migration) has no hold")
      } else if !isAnyKept, outcome.missed.isEmpty {
        outcome.done.append("cleared the hold of \(migration); the next apply goes on")
      }
      return outcome
    }
  }

  /// Revert cMotion, and a hold so that the next apply doesn't swing again. Returns once I/O is back at the source, or
  /// says that the source could not be told.
  package func revert(_ migration: MigrationName, why: String) async throws(GatewayError) -> OperationOutcome {
    try await closingPool { () async throws(GatewayError) -> OperationOutcome in
      let target = try performer.migration(migration)
      return try await revert(target, try await reachable(target), why: why)
    }
  }

  /// Reverts every migration that is anywhere between the beginning of a swing and the fence. Those that had nothing to
  /// revert are left out, those whose source could not be seen are not: they are held where an agent answers.
  package func revertAll(why: String) async -> [OperationResult] {
    await on(nil) { operations, name throws(GatewayError) in try await operations.revertIfSwung(name, why: why) }
  }

  /// Resumes one migration, or (nil) every pause, and starts agents that died: a hold that a dead agent caused is kept
  /// by both, and apply does not cross it to start the agent.
  package func resume(each chosen: MigrationName?) async -> [OperationResult] {
    let failed = await startAgents(of: chosen)
    return await on(chosen) { operations, name throws(GatewayError) in
      for host in operations.hosts(of: try operations.performer.migration(name)) {
        if let error = failed[host] { throw error }
      }
      return try await operations.resume(name, onlyPauses: chosen == nil)
    }
  }

  /// Each host once, however many migrations use it. Answers the hosts where that failed.
  private func startAgents(of chosen: MigrationName?) async -> [HostName: GatewayError] {
    let migrations = plan.sortedMigrations.filter { chosen == nil || $0.name == chosen }
    let names = Set(migrations.flatMap(hosts(of:))).sorted()
    var failed: [HostName: GatewayError] = [:]
    await fanOut(names, parallelism: performer.limits.observeParallelism) { [performer] name -> GatewayError? in
      do throws(GatewayError) {
        let host = try performer.host(name)
        let state = try await performer.gateways.hosts.state(of: host)
        if state.agentDigest != nil, !state.agentRunning { try await performer.gateways.hosts.deploy(to: host) }
        return nil
      } catch {
        return error
      }
    } report: { name, error in
      failed[name] = error
    }
    return failed
  }

  /// Does `body` for one migration, or (nil) for each, many at once over the same connections. Answers what came of them,
  /// in the order of their names. Of all, those without a session and those of which `body` has nothing to say are left
  /// out.
  package func on(
    _ chosen: MigrationName?,
    _ body: @escaping @Sendable (MigrationOperations, MigrationName) async throws(GatewayError) -> OperationOutcome?
  ) async -> [OperationResult] {
    await on(chosen.map { [$0] } ?? plan.sortedMigrations.map(\.name), named: chosen, body)
  }

  /// The same for these; only of the one that is `named` it is an error to have no session.
  func on(
    _ names: [MigrationName], named: MigrationName?,
    _ body: @escaping @Sendable (MigrationOperations, MigrationName) async throws(GatewayError) -> OperationOutcome?
  ) async -> [OperationResult] {
    var shared = self
    shared.keepsPoolOpen = true
    var results: [OperationResult] = []
    await fanOut(names, parallelism: performer.limits.observeParallelism) { [shared] name -> OperationResult? in
      do throws(GatewayError) {
        return try await body(shared, name).map { OperationResult(migration: name, outcome: $0) }
      } catch {
        guard name == named || error.code != ApplyCode.sessionMissing else { return nil }
        return OperationResult(migration: name, error: error)
      }
    } report: { _, result in
      if let result { results.append(result) }
    }
    await performer.pool.closeAll()
    return results.sorted { $0.migration < $1.migration }
  }

  /// Nil where there is nothing to revert, and that could be seen: a hold on those would only be in the way later.
  func revertIfSwung(_ name: MigrationName, why: String) async throws(GatewayError) -> OperationOutcome? {
    let migration = try performer.migration(name)
    let seen = await look(migration)
    guard seen.halves.contains(where: { Self.isSwung($0.session) }) || seen.mayHideSwing else { return nil }
    if seen.halves.isEmpty, let failure = seen.failure {
      throw GatewayError(
        code: failure.code,
        message: "\(name): neither host could be told, so nothing was reverted or held: "
          + seen.missed.joined(separator: "; "),
        advice:
          "reach \(migration.source) first, whose agent alone can give the I/O back, then cmcplan revert \(name)"
          + (failure.advice.isEmpty ? "" : "; \(failure.advice)"), disposition: failure.disposition)
    }
    return try await revert(migration, try withHalf(seen, migration), why: why)
  }

  // MARK: Parts

  /// One agent that answers, and its half of the session.
  struct Half: Sendable {
    var host: HostName
    var role: Role
    var session: SessionObservation
  }

  struct Reachable: Sendable {
    var halves: [Half] = []
    /// Agents that don't answer, by the role of their host, and why.
    var silent: [Role: String] = [:]
    /// Hosts that have no half, and say so.
    var absent: [String] = []
    /// Why the last of the silent ones is.
    var failure: GatewayError?

    /// One line each.
    var missed: [String] { Role.allCases.compactMap { silent[$0] } + absent }
    /// Whether the source, which alone would tell, can't be asked. Past the fence there is nothing that it could say.
    var mayHideSwing: Bool {
      silent[.source] != nil && !halves.contains { $0.session.stage == .released }
    }
  }

  func hosts(of migration: Migration) -> [HostName] { Set([migration.source, migration.destination]).sorted() }

  private func reachable(_ migration: Migration) async throws(GatewayError) -> Reachable {
    try withHalf(await look(migration), migration)
  }

  /// Throws where no agent that answers has a session: then there is nothing to hold or to revert with.
  func withHalf(_ seen: Reachable, _ migration: Migration) throws(GatewayError) -> Reachable {
    guard seen.halves.isEmpty else { return seen }
    throw seen.failure
      ?? GatewayError(
        code: ApplyCode.sessionMissing, message: "\(migration.name) has no session with either agent",
        advice: "apply it to prepared first", disposition: .needsOperator)
  }

  func look(_ migration: Migration) async -> Reachable {
    let id = performer.session(migration)
    var found = Reachable()
    for role in [Role.source, .destination] {
      let host = migration.host(role)
      do throws(GatewayError) {
        let sessions = try await performer.pool.observation(of: host).sessions
        if let session = sessions.first(where: { $0.session == id && $0.role == role }) {
          found.halves.append(Half(host: host, role: role, session: session))
        } else {
          found.absent.append("\(host) has no session of \(migration.name)")
        }
      } catch {
        // Asked only where it decides something: a dead host costs its time limit once more.
        let decides = role == .source || found.halves.isEmpty
        if decides, await hasNoAgent(host) {
          found.absent.append("\(host) has no agent, and so no session of \(migration.name)")
          continue
        }
        found.failure = error
        found.silent[role] = "\(role.rawValue) \(host) does not answer: \(error.message)"
      }
    }
    return found
  }

  /// Whether none is installed: not prepared yet, or retired. False where that can't be told.
  private func hasNoAgent(_ name: HostName) async -> Bool {
    do throws(GatewayError) {
      let state = try await performer.gateways.hosts.state(of: try performer.host(name))
      return state.agentDigest == nil && !state.agentRunning
    } catch {
      return false
    }
  }

  static func isSwung(_ session: SessionObservation) -> Bool {
    switch session.stage {
    case .swinging, .standIn, .tapClosed, .proving, .proven: true
    case .prepared, .synchronizing, .tracking, .fenced, .released, .cancelled: session.authority == .standIn
    }
  }

  private func setHold(
    _ cause: Hold.Cause, why: String, on seen: Reachable, of migration: Migration, _ outcome: inout OperationOutcome
  ) async throws(GatewayError) {
    let hold = Hold(cause: cause, who: who, why: why, at: services.time.wallNow())
    var failure: GatewayError?
    var isSet = false
    outcome.missed += seen.missed
    for half in seen.halves {
      if cause == .paused, let kept = half.session.hold, kept.cause != .paused {
        outcome.done.append("\(half.host) has a hold already (\(kept.cause.rawValue), by \(kept.who): \(kept.why))")
        isSet = true
        continue
      }
      do throws(GatewayError) {
        _ = try await performer.pool.call(
          SetHoldCall(session: half.session.session, hold: hold, role: half.role), on: half.host)
        outcome.done.append("set a hold on \(half.host)")
        isSet = true
      } catch {
        failure = error
        outcome.missed.append("no hold on \(half.host): \(error.message)")
      }
    }
    if !isSet, let failure { throw failure }
  }

  private func revert(
    _ migration: Migration, _ seen: Reachable, why: String
  ) async throws(GatewayError) -> OperationOutcome {
    var outcome = OperationOutcome()
    // The hold first: should the rest fail, no apply swings again by mistake.
    try await setHold(.reverted, why: why, on: seen, of: migration, &outcome)
    guard seen.halves.contains(where: { $0.role == .source }) else {
      let isSwung = seen.halves.contains { Self.isSwung($0.session) }
      let known =
        isSwung
        ? "its I/O is at \(migration.destination) and was not moved"
        : "whether it is in cMotion can't be seen, and nothing was moved"
      throw GatewayError(
        code: ApplyCode.sourceSilent,
        message:
          "\(migration.name) is held on \(migration.destination), so that no apply swings it again, but \(known): "
          + seen.missed.joined(separator: "; "),
        advice:
          "only the agent on \(migration.source) can give its I/O back: reach that host, start its agent where it died"
          + " (cmcplan agent upgrade \(migration.source)), then cmcplan revert \(migration.name)"
          + (isSwung ? "" : "; where it wasn't in cMotion, cmcplan resume \(migration.name) clears the hold"),
        disposition: .needsOperator)
    }
    let lessors = Set(seen.halves.map(\.host)).sorted { left, _ in left == migration.source }
    try await leased(migration, by: lessors) { () async throws(GatewayError) -> Void in
      try await performer.command(.revert, .source, migration)
      try await awaitSource(migration, Milestone(of: .revert(migration.name), limits: performer.limits))
      try await reopenTap(migration)
    }
    outcome.done += [
      "reverted \(migration.name): its I/O is on \(migration.source)",
      "it is on hold until cmcplan resume \(migration.name)",
    ]
    return outcome
  }

  /// Finalize closes the tap; an application that goes on at the source needs it.
  private func reopenTap(_ migration: Migration) async throws(GatewayError) {
    do throws(GatewayError) {
      try await performer.reopenTap(migration)
    } catch {
      throw GatewayError(
        code: error.code,
        message: "\(migration.name) is reverted and held, but the tap on \(migration.source) stays closed: "
          + error.message,
        advice: error.advice.isEmpty
          ? "the application can't start without it; once that is mended: cmcplan revert \(migration.name)"
          : error.advice, disposition: error.disposition)
    }
  }

  func closingPool<Value: Sendable>(
    _ body: () async throws(GatewayError) -> Value
  ) async throws(GatewayError) -> Value {
    let value: Value
    do throws(GatewayError) {
      value = try await body()
    } catch {
      if !keepsPoolOpen { await performer.pool.closeAll() }
      throw error
    }
    if !keepsPoolOpen { await performer.pool.closeAll() }
    return value
  }

  /// `by`: the hosts whose agents give the lease; nil: both must.
  func leased(
    _ migration: Migration, by hosts: [HostName]?, _ body: () async throws(GatewayError) -> Void
  ) async throws(GatewayError) {
    try await performer.acquireLease(migration, by: hosts)
    do throws(GatewayError) {
      try await body()
    } catch {
      await performer.releaseLease(migration)
      throw error
    }
    await performer.releaseLease(migration)
  }

  func requireSession(_ migration: Migration) async throws(GatewayError) {
    let pair = try await performer.sessions(of: migration)
    guard pair.source != nil, pair.destination != nil else {
      throw GatewayError(
        code: ApplyCode.sessionMissing, message: "\(migration.name) has no session with both agents yet",
        advice: "apply it to prepared first", disposition: .needsOperator)
    }
  }

  /// Looks at the source alone: the destination may be gone.
  private func awaitSource(_ migration: Migration, _ milestone: Milestone?) async throws(GatewayError) {
    guard let milestone else { return }
    let id = performer.session(migration)
    let start = services.time.monotonicNow()
    while services.time.monotonicNow().seconds(since: start) < milestone.limitSeconds, !Task.isCancelled {
      let seen = try await performer.pool.observation(of: migration.source).sessions
      let source = seen.first { $0.session == id && $0.role == .source }
      if milestone.isReached(SessionPair(source: source, destination: nil)) { return }
      await services.pause(performer.limits.pollSeconds)
    }
    throw GatewayError(
      code: ApplyCode.timedOut, message: "\(migration.name) did not get where it should in time",
      advice: "see cmcplan status", disposition: .needsOperator)
  }
}
