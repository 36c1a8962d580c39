package import AgentProtocol
package import BlockModel
import MigrationModel

/// What a verification of one migration found; one of `report`, `skipped` and `error` is set.
package struct VerificationResult: Sendable {
  package var migration: MigrationName
  /// Where the report's receipt is.
  package var source: HostName
  package var report: VerificationReport?
  /// Why there was nothing to compare: only where all migrations were meant.
  package var skipped: String?
  package var error: GatewayError?
  package init(migration: MigrationName, source: HostName) {
    self.migration = migration
    self.source = source
  }
}

extension MigrationOperations {
  /// Compares both copies of these migrations, or of all that are synchronized (empty), and returns when that ended. What
  /// goes on is reported as `.replication`. The agents go on by themselves where nobody watches any more; the same words
  /// again watch on.
  package func verify(
    _ chosen: [MigrationName], scope: VerificationScope, repairs: Bool
  ) async -> [VerificationResult] {
    var results: [VerificationResult] = []
    await fanOut(
      chosen.isEmpty ? plan.sortedMigrations.map(\.name) : chosen, parallelism: performer.limits.observeParallelism
    ) { name -> VerificationResult? in
      guard let target = plan.migrations[name] else { return nil }
      var result = VerificationResult(migration: name, source: target.source)
      do throws(GatewayError) {
        if chosen.isEmpty { result.skipped = try await reasonToSkip(target) }
        if result.skipped == nil {
          result.report = try await watch(
            VerifyCall(session: performer.session(target), scope: scope, repairs: repairs), target)
        }
      } catch {
        result.error = error
      }
      return result
    } report: { _, result in
      if let result { results.append(result) }
    }
    await performer.pool.closeAll()
    return results.sorted { $0.migration < $1.migration }
  }

  /// Nil where there are two copies to compare.
  private func reasonToSkip(_ target: Migration) async throws(GatewayError) -> String? {
    guard let session = try await sourceSession(of: target) else { return "it has no session" }
    switch session.stage {
    case .tracking, .standIn: return nil
    default: return "it is not synchronized (\(session.stage.rawValue))"
    }
  }

  private func watch(_ call: VerifyCall, _ target: Migration) async throws(GatewayError) -> VerificationReport {
    var session = try await performer.pool.call(call, on: target.source)
    let startedAt = session.verification?.startedAt
    var failures = 0
    while true {
      guard let report = session.verification, report.startedAt == startedAt else {
        throw lost(target, "another verification took its place, or the agent on \(target.source) was started anew")
      }
      services.report(.replication(target.name, source: session, destination: nil))
      if report.endedAt != nil { return report }
      if Task.isCancelled { throw lost(target, "watching it was given up; the agents go on") }
      await services.pause(performer.limits.pollSeconds)
      do throws(GatewayError) {
        guard let next = try await sourceSession(of: target) else {
          throw lost(target, "its session on \(target.source) is gone")
        }
        session = next
        failures = 0
      } catch {
        failures += 1
        guard case .retry = error.disposition, failures < performer.limits.pollFailures else { throw error }
      }
    }
  }

  private func sourceSession(of target: Migration) async throws(GatewayError) -> SessionObservation? {
    let id = performer.session(target)
    return try await performer.pool.observation(of: target.source).sessions.first {
      $0.session == id && $0.role == .source
    }
  }

  private func lost(_ target: Migration, _ why: String) -> GatewayError {
    GatewayError(
      code: ApplyCode.verificationLost, message: "the end of the verification of \(target.name) was not seen: \(why)",
      advice: "cmcplan verify \(target.name)", disposition: .needsOperator)
  }
}
