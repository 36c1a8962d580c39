package import MigrationModel
package import Planning

/// One `apply`: observes, diffs, acts, and again, until the target is reached or nothing more can be done now.
package final class ApplyRun: Sendable {
  let plan: MigrationPlan
  let gateways: Gateways
  let options: ApplyOptions
  let services: RunServices

  package init(plan: MigrationPlan, gateways: Gateways, options: ApplyOptions, services: RunServices) {
    self.plan = plan
    self.gateways = gateways
    self.options = options
    self.services = services
  }

  /// Runs to the end. `first` is an observation that was just taken and shown (the approved plan); nil: takes one.
  package func run(from first: Observation? = nil) async -> ApplySummary {
    preconditionFailure("body follows")
  }

  /// First call: finish or park the running steps, release leases. Second: stop now. May be called from any thread.
  package func interrupt() {}
}
