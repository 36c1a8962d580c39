import AgentProtocol
package import BlockModel
import MigrationModel
import Planning

// MARK: What is said of one migration of a group, and holds for all of it

extension MigrationOperations {
  /// The migration, and those that swing with it.
  private func together(_ migration: MigrationName) -> [MigrationName] {
    plan.group(of: migration)?.migrations.sorted() ?? [migration]
  }

  /// Confirms the current swing (`confirmWithin`); of a group once all of it has swung. Answers what was confirmed: one
  /// that fails leaves the rest, which the agents revert unless it is said again.
  package func confirm(_ migration: MigrationName) async throws(GatewayError) -> OperationOutcome {
    try await closingPool { () async throws(GatewayError) -> OperationOutcome in
      var targets: [Migration] = []
      for name in together(migration) {
        let target = try performer.migration(name)
        try await requireSession(target)
        if let group = plan.group(of: migration),
          try await performer.sessions(of: target).source?.authority != .standIn
        {
          throw GatewayError(
            code: ApplyCode.notConfirmed,
            message: "group '\(group.name)' is confirmed when all of it has swung, and \(name) has not",
            advice: "cmcplan apply first; see cmcplan status", disposition: .needsOperator)
        }
        targets.append(target)
      }
      var outcome = OperationOutcome()
      for target in targets {
        do throws(GatewayError) {
          try await leased(target, by: nil) { () async throws(GatewayError) -> Void in
            try await performer.command(.confirmSwing, .source, target)
          }
          outcome.done.append("confirmed the swing of \(target.name)")
        } catch {
          guard targets.count > 1 else { throw error }
          throw GatewayError(
            code: error.code,
            message: "\(target.name): \(error.message)"
              + (outcome.done.isEmpty ? "" : "; \(outcome.done.joined(separator: ", ")) already"),
            advice: "cmcplan confirm \(migration) again before its time is over, or the agents revert what is left",
            disposition: error.disposition)
        }
      }
      return outcome
    }
  }

  /// Reverts one migration, and with it those of its group that have swung: all or none of them is at the destination.
  package func revertWithItsGroup(_ migration: MigrationName, why: String) async -> [OperationResult] {
    guard let group = plan.group(of: migration) else {
      return await on(migration) { operations, name throws(GatewayError) in try await operations.revert(name, why: why)
      }
    }
    let others = group.migrations.filter { $0 != migration }
    return await on([migration] + others, named: migration) { operations, name throws(GatewayError) in
      try await operations.refusePastFence(of: group, unless: name)
      if name == migration { return try await operations.revert(name, why: why) }
      return try await operations.revertIfSwung(name, why: "with \(migration), of group '\(group.name)': \(why)")
    }
  }

  /// One of the group that is past the fence stays at the destination for good: to take the others back would part them.
  private func refusePastFence(of group: SwingGroup, unless own: MigrationName) async throws(GatewayError) {
    for name in group.migrations.sorted() where name != own {
      let seen = await look(try performer.migration(name))
      let isPast = seen.halves.contains { $0.session.stage == .fenced || $0.session.stage == .released }
      guard isPast else { continue }
      throw GatewayError(
        code: ApplyCode.groupParted,
        message: "\(own) is not reverted: \(name), of the same group '\(group.name)', is past the fence",
        advice: "go forward: cmcplan apply; or take \(own) out of the group first, if it may be parted from it",
        disposition: .needsOperator)
    }
  }
}
