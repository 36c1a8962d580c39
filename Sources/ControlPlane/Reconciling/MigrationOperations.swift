package import BlockModel
package import MigrationModel

/// What a person does beside `apply`: each is stored with, or done by, both agents.
package struct MigrationOperations: Sendable {
  let plan: MigrationPlan
  let gateways: Gateways
  let services: RunServices
  let who: String

  /// `who` is recorded with everything: "user@host".
  package init(plan: MigrationPlan, gateways: Gateways, services: RunServices, who: String) {
    self.plan = plan
    self.gateways = gateways
    self.services = services
    self.who = who
  }

  /// Stores an approval, bound to the migration's configuration as the plan has it now, with both agents.
  package func approve(
    _ migration: MigrationName, phase: Phase, expiresInSeconds: Double?
  ) async throws(GatewayError) {}
  /// Sets a hold with both agents: apply does nothing more for it. Replication that runs goes on.
  package func pause(_ migration: MigrationName, why: String) async throws(GatewayError) {}
  /// Clears the hold, whatever set it.
  package func resume(_ migration: MigrationName) async throws(GatewayError) {}
  /// Revert cMotion, and a hold so that the next apply doesn't swing again.
  package func revert(_ migration: MigrationName, why: String) async throws(GatewayError) {}
  /// Confirms the current swing (`confirmWithin`).
  package func confirm(_ migration: MigrationName) async throws(GatewayError) {}
}
