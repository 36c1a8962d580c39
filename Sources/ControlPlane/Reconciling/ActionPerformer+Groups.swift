import AgentProtocol
import BlockModel
import MigrationModel
import Planning
import Seams

/// By when the swings of each group have to be confirmed, on the clock of this run.
actor GroupDeadlines {
  private var all: [String: MonotonicTime] = [:]
  func deadline(of group: String) -> MonotonicTime? { all[group] }
  func set(_ deadline: MonotonicTime?, of group: String) { all[group] = deadline }
}

// MARK: Groups

extension ActionPerformer {
  /// Looks at every migration of the group right before all of them take the step: one that can't now keeps them all.
  func checkGroup(_ name: String, _ barrier: GroupBarrier) async throws(GatewayError) {
    guard let group = plan.groups.first(where: { $0.name == name }) else { return }
    var pairs: [(migration: Migration, pair: SessionPair)] = []
    for member in group.migrations.sorted() {
      let migration = try migration(member)
      pairs.append((migration, try await sessions(of: migration)))
    }
    let isCommitted = pairs.contains { Self.isPastFence($0.pair) }
    for (migration, pair) in pairs where !Self.isPastFence(pair) {
      switch barrier {
      case .swing: try await checkSwing(migration, pair, group)
      case .finalize: try await checkFinalize(migration, pair, group)
      case .fence: try await checkFence(migration, pair, group, isCommitted: isCommitted)
      }
    }
    if barrier == .swing { await groupDeadlines.set(try await deadline(pairs), of: name) }
  }

  /// One deadline for all, which each agent then keeps by itself. It counts from here, before the first of them swings, or
  /// is that of those that an earlier run sent ahead: what is left is read off the clock of the agent that says so, for
  /// clocks differ. Nil where nothing has to be confirmed.
  private func deadline(
    _ pairs: [(migration: Migration, pair: SessionPair)]
  ) async throws(GatewayError) -> MonotonicTime? {
    guard var seconds = pairs.compactMap(\.migration.cutover.confirmWithinSeconds).min() else { return nil }
    let now = services.time.monotonicNow()
    for (migration, pair) in pairs where pair.source?.swingConfirmed == false {
      guard pair.source?.confirmBy != nil else { continue }
      let seen = try await pool.observation(of: migration.source)
      let source = seen.sessions.first { $0.session == session(migration) && $0.role == .source }
      guard let until = source?.confirmBy else { continue }
      seconds = min(seconds, until.secondsSince1970 - seen.observedAt.secondsSince1970)
    }
    return now.adding(seconds: max(0, seconds))
  }

  /// With what is left of its group's time, where it has one.
  func swing(_ migration: Migration) async throws(GatewayError) {
    guard let group = plan.group(of: migration.name),
      let deadline = await groupDeadlines.deadline(of: group.name)
    else {
      return try await command(.swing, .source, migration)
    }
    let left = deadline.seconds(since: services.time.monotonicNow())
    guard left > 0 else {
      throw closed(migration, group, "would swing after the time in which the others have to be confirmed")
    }
    try await command(.swing, .source, migration, confirmWithinSeconds: left)
  }

  private static func isPastFence(_ pair: SessionPair) -> Bool {
    pair.source?.stage == .fenced || pair.source?.stage == .released || pair.destination?.stage == .released
  }

  private func closed(_ migration: Migration, _ group: SwingGroup, _ why: String) -> GatewayError {
    GatewayError(
      code: ApplyCode.groupClosed, message: "group '\(group.name)' goes together: \(migration.name) \(why)",
      advice: "see cmcplan status", disposition: .needsOperator)
  }

  private func stage(
    _ migration: Migration, _ pair: SessionPair, _ group: SwingGroup
  ) throws(GatewayError) -> SessionStage {
    guard let source = pair.source else { throw closed(migration, group, "has no session with its source any more") }
    return source.stage
  }

  private func checkSwing(
    _ migration: Migration, _ pair: SessionPair, _ group: SwingGroup
  ) async throws(GatewayError) {
    switch try stage(migration, pair, group) {
    case .swinging, .standIn, .tapClosed, .proving, .proven: return
    case .tracking: break
    case let stage: throw closed(migration, group, "is at \(stage.rawValue), and can't swing from there")
    }
    guard pair.source?.connected == true else { throw closed(migration, group, "has agents that are not connected") }
    try await checkGates(migration, for: .swing)
  }

  private func checkFinalize(
    _ migration: Migration, _ pair: SessionPair, _ group: SwingGroup
  ) async throws(GatewayError) {
    let source = try stage(migration, pair, group)
    switch source {
    case .tapClosed, .proving, .proven: return
    case .standIn: break
    case .tracking where pair.source?.configuration.volumes.contains { $0.tracking == "checksum" } == true: break
    default: throw closed(migration, group, "is at \(source.rawValue), and can't be finalized from there")
    }
    try await checkGates(migration, for: .finalize)
  }

  /// What was approved is looked at here for all of them, and not again at each fence: one that ran out in between would
  /// part them.
  private func checkFence(
    _ migration: Migration, _ pair: SessionPair, _ group: SwingGroup, isCommitted: Bool
  ) async throws(GatewayError) {
    guard try stage(migration, pair, group) == .proven else { throw closed(migration, group, "is not proven") }
    if isCommitted {
      if let hold = pair.hold { throw heldError(migration, hold) }
    } else {
      try await checkGates(migration, for: .fence)
    }
  }

  /// Before a fence: by itself as ever. In a group what `checkFence` looked at a moment ago is not looked at again, but that
  /// this run still has every migration that it began this round with, and that none of them was taken back. Those that it
  /// doesn't have are past the fence, or the change set would have waited for them.
  func checkBeforeFence(_ migration: Migration) async throws(GatewayError) {
    guard let group = plan.group(of: migration.name) else {
      try await checkGates(migration, for: .fence)
      return
    }
    if let hold = try await sessions(of: migration).hold { throw heldError(migration, hold) }
    for name in group.migrations.sorted() where await leases.held(of: name) != nil {
      let other = try self.migration(name)
      let pair = try await sessions(of: other, ageSeconds: limits.urgentPollSeconds)
      // Only what is past the fence is retired.
      guard let stage = pair.source?.stage, !Self.isPastFence(pair) else { continue }
      guard stage == .proven else { throw closed(other, group, "is not proven any more") }
      try await renewLease(name)
    }
  }

  /// Its group can't follow: the hold first, as ever, then back. A swing whose record is just being written can't be
  /// taken back at that moment: it is asked for again.
  func revertWithGroup(_ migration: Migration, _ why: String) async throws(GatewayError) {
    try await holdAfterFailure(migration, why)
    do throws(GatewayError) {
      try await command(.revert, .source, migration)
    } catch {
      let stage = try await sessions(of: migration).source?.stage
      guard error.disposition == .needsOperator, stage == .swinging || stage == .standIn else { throw error }
      throw GatewayError(
        code: error.code, message: error.message, advice: error.advice,
        disposition: .retry(afterSeconds: limits.firstBackoffSeconds))
    }
    try await reopenTap(migration)
  }
}
