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

/// What came of one migration of `revert --all`: one of the two is nil.
package struct RevertResult: Sendable {
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
  /// to stop every apply, so it is refused only where neither could be told.
  package func pause(_ migration: MigrationName, why: String) async throws(GatewayError) -> OperationOutcome {
    try await closingPool { () async throws(GatewayError) -> OperationOutcome in
      let target = try performer.migration(migration)
      var outcome = OperationOutcome()
      try await setHold(.paused, why: why, on: try await reachable(target), of: target, &outcome)
      return outcome
    }
  }

  /// Clears the hold, whatever set it. Both agents must be reached: one that keeps it keeps apply from going on.
  package func resume(_ migration: MigrationName) async throws(GatewayError) -> OperationOutcome {
    try await closingPool { () async throws(GatewayError) -> OperationOutcome in
      let target = try performer.migration(migration)
      let seen = try await reachable(target)
      var outcome = OperationOutcome()
      outcome.missed += seen.missed
      for half in seen.halves {
        guard let hold = half.session.hold else { continue }
        _ = try await performer.pool.call(SetHoldCall(session: performer.session(target), hold: nil), on: half.host)
        outcome.done.append(
          "cleared the hold on \(half.host) (\(hold.cause.rawValue), by \(hold.who) at \(rendered(hold.at)): \(hold.why))"
        )
      }
      return outcome
    }
  }

  /// Revert cMotion, and a hold so that the next apply doesn't swing again. Returns once I/O is back at the source, or
  /// says that the source could not be told.
  package func revert(_ migration: MigrationName, why: String) async throws(GatewayError) -> OperationOutcome {
    try await closingPool { () async throws(GatewayError) -> OperationOutcome in
      try await revertWithOpenPool(try performer.migration(migration), why: why)
    }
  }

  /// Reverts every migration that is anywhere between the beginning of a swing and the fence, many at once. Answers what
  /// came of each; those that had nothing to revert are left out, those that could not be seen are not.
  package func revertAll(why: String) async -> [RevertResult] {
    let answers = await withTaskGroup(of: RevertResult?.self) { group in
      for migration in plan.sortedMigrations { group.addTask { await revertIfSwung(migration, why: why) } }
      var found: [RevertResult] = []
      for await result in group { if let result { found.append(result) } }
      return found
    }
    await performer.pool.closeAll()
    return answers.sorted { $0.migration < $1.migration }
  }

  /// Nil where there is nothing to revert, and that could be seen.
  private func revertIfSwung(_ migration: Migration, why: String) async -> RevertResult? {
    var result = RevertResult(migration: migration.name)
    do throws(GatewayError) {
      let seen = try await reachable(migration)
      let isSwung = seen.halves.contains { Self.isSwung($0.session) }
      guard isSwung || !seen.missed.isEmpty else { return nil }
      result.outcome = try await revertWithOpenPool(migration, why: why)
    } catch {
      guard error.code != ApplyCode.sessionMissing else { return nil }
      result.error = error
    }
    return result
  }

  /// Confirms the current swing (`confirmWithin`).
  package func confirm(_ migration: MigrationName) async throws(GatewayError) {
    try await closingPool { () async throws(GatewayError) -> Void in
      let target = try performer.migration(migration)
      try await requireSession(target)
      try await leased(target, by: nil) { () async throws(GatewayError) -> Void in
        try await performer.command(.confirmSwing, .source, target)
      }
    }
  }

  // MARK: Parts

  /// One agent that answers, and its half of the session.
  private struct Half: Sendable {
    var host: HostName
    var role: Role
    var session: SessionObservation
  }

  private struct Reachable: Sendable {
    var halves: [Half] = []
    var missed: [String] = []
  }

  private func hosts(of migration: Migration) -> [HostName] { Set([migration.source, migration.destination]).sorted() }

  /// Throws where no agent that answers has a session: then there is nothing to hold or to revert with.
  private func reachable(_ migration: Migration) async throws(GatewayError) -> Reachable {
    let id = performer.session(migration)
    var found = Reachable()
    var failure: GatewayError?
    for role in [Role.source, .destination] {
      let host = migration.host(role)
      do throws(GatewayError) {
        let sessions = try await performer.pool.observation(of: host).sessions
        if let session = sessions.first(where: { $0.session == id && $0.role == role }) {
          found.halves.append(Half(host: host, role: role, session: session))
        } else {
          found.missed.append("\(host) has no session of \(migration.name)")
        }
      } catch {
        failure = error
        found.missed.append("\(role.rawValue) \(host) does not answer: \(error.message)")
      }
    }
    if found.halves.isEmpty {
      throw failure
        ?? GatewayError(
          code: ApplyCode.sessionMissing, message: "\(migration.name) has no session with either agent",
          advice: "apply it to prepared first", disposition: .needsOperator)
    }
    return found
  }

  private static func isSwung(_ session: SessionObservation) -> Bool {
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
      do throws(GatewayError) {
        _ = try await performer.pool.call(SetHoldCall(session: half.session.session, hold: hold), on: half.host)
        outcome.done.append("set a hold on \(half.host)")
        isSet = true
      } catch {
        failure = error
        outcome.missed.append("no hold on \(half.host): \(error.message)")
      }
    }
    if !isSet, let failure { throw failure }
  }

  private func revertWithOpenPool(_ migration: Migration, why: String) async throws(GatewayError) -> OperationOutcome {
    let seen = try await reachable(migration)
    var outcome = OperationOutcome()
    // The hold first: should the rest fail, no apply swings again by mistake.
    try await setHold(.reverted, why: why, on: seen, of: migration, &outcome)
    guard seen.halves.contains(where: { $0.role == .source }) else {
      throw GatewayError(
        code: ApplyCode.sourceSilent,
        message: "\(migration.name) is held on \(migration.destination), but its I/O was not moved: "
          + seen.missed.joined(separator: "; "),
        advice:
          "only the agent on \(migration.source) can give it back; once that host lives: cmcplan revert \(migration.name)",
        disposition: .needsOperator)
    }
    let lessors = Set(seen.halves.map(\.host)).sorted { left, _ in left == migration.source }
    try await leased(migration, by: lessors) { () async throws(GatewayError) -> Void in
      try await performer.command(.revert, .source, migration)
      try await awaitSource(migration, Milestone(of: .revert(migration.name), limits: performer.limits))
    }
    outcome.done.append("reverted \(migration.name): its I/O is on \(migration.source)")
    return outcome
  }

  private func closingPool<Value: Sendable>(
    _ body: () async throws(GatewayError) -> Value
  ) async throws(GatewayError) -> Value {
    let value: Value
    do throws(GatewayError) {
      value = try await body()
    } catch {
      await performer.pool.closeAll()
      throw error
    }
    await performer.pool.closeAll()
    return value
  }

  /// `by`: the hosts whose agents give the lease; nil: both must.
  private func leased(
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

  private func requireSession(_ migration: Migration) async throws(GatewayError) {
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
