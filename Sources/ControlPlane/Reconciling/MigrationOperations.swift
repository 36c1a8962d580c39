import AgentProtocol
package import BlockModel
package import MigrationModel
import Planning
import Seams

/// What a person does beside `apply`: each is stored with, or done by, both agents.
package struct MigrationOperations: Sendable {
  let plan: MigrationPlan
  let services: RunServices
  let who: String
  private let performer: ActionPerformer

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
    try await closingPool { () async throws(GatewayError) in
      let target = try performer.migration(migration)
      try await requireSession(target)
      let now = services.time.wallNow()
      let approval = Approval(
        phase: phase, who: who, at: now, expiresAt: expiresInSeconds.map { now.adding(seconds: $0) },
        configurationDigest: configurationDigest(of: target, in: plan, digest: services.digest))
      try await both(target) { StoreApprovalCall(session: $0, approval: approval) }
    }
  }

  /// Sets a hold with both agents: apply does nothing more for it. Replication that runs goes on.
  package func pause(_ migration: MigrationName, why: String) async throws(GatewayError) {
    try await closingPool { () async throws(GatewayError) in
      try await setHold(.paused, why: why, on: try performer.migration(migration))
    }
  }

  /// Clears the hold, whatever set it.
  package func resume(_ migration: MigrationName) async throws(GatewayError) {
    try await closingPool { () async throws(GatewayError) in
      let target = try performer.migration(migration)
      try await requireSession(target)
      try await both(target) { SetHoldCall(session: $0, hold: nil) }
    }
  }

  /// Revert cMotion, and a hold so that the next apply doesn't swing again. Returns once I/O is back at the source.
  package func revert(_ migration: MigrationName, why: String) async throws(GatewayError) {
    try await closingPool { () async throws(GatewayError) in
      let target = try performer.migration(migration)
      try await setHold(.reverted, why: why, on: target)
      try await leased(target) { () async throws(GatewayError) in
        try await performer.command(.revert, .source, target)
        try await reach(Milestone(of: .revert(migration), limits: performer.limits), target)
      }
    }
  }

  /// Confirms the current swing (`confirmWithin`).
  package func confirm(_ migration: MigrationName) async throws(GatewayError) {
    try await closingPool { () async throws(GatewayError) in
      let target = try performer.migration(migration)
      try await requireSession(target)
      try await leased(target) { () async throws(GatewayError) in
        try await performer.command(.confirmSwing, .source, target)
      }
    }
  }

  // MARK: Parts

  private func closingPool(_ body: () async throws(GatewayError) -> Void) async throws(GatewayError) {
    do throws(GatewayError) {
      try await body()
    } catch {
      await performer.pool.closeAll()
      throw error
    }
    await performer.pool.closeAll()
  }

  private func leased(
    _ migration: Migration, _ body: () async throws(GatewayError) -> Void
  ) async throws(GatewayError) {
    try await performer.acquireLease(migration)
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

  private func setHold(_ cause: Hold.Cause, why: String, on migration: Migration) async throws(GatewayError) {
    try await requireSession(migration)
    let hold = Hold(cause: cause, who: who, why: why, at: services.time.wallNow())
    try await both(migration) { SetHoldCall(session: $0, hold: hold) }
  }

  private func both<Call: AgentCall>(
    _ migration: Migration, _ call: (SessionID) -> Call
  ) async throws(GatewayError) {
    let request = call(performer.session(migration))
    for host in Set([migration.source, migration.destination]).sorted() {
      _ = try await performer.pool.call(request, on: host)
    }
  }

  private func reach(_ milestone: Milestone?, _ migration: Migration) async throws(GatewayError) {
    guard let milestone else { return }
    let start = services.time.monotonicNow()
    while services.time.monotonicNow().seconds(since: start) < milestone.limitSeconds, !Task.isCancelled {
      if milestone.isReached(try await performer.sessions(of: migration)) { return }
      await services.pause(performer.limits.pollSeconds)
    }
    throw GatewayError(
      code: ApplyCode.timedOut, message: "\(migration.name) did not get where it should in time",
      advice: "see cmcplan status", disposition: .needsOperator)
  }
}
