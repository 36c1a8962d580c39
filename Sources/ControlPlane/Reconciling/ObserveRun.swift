import Seams
package import MigrationModel
package import Planning

/// Takes an observation through the gateways: everything at once, each part with its own failure.
package struct ObserveRun: Sendable {
  let plan: MigrationPlan
  let gateways: Gateways
  let services: RunServices

  package init(plan: MigrationPlan, gateways: Gateways, services: RunServices) {
    self.plan = plan
    self.gateways = gateways
    self.services = services
  }

  /// Never throws: what could not be seen is a fault in the observation.
  package func observe() async -> Observation {
    Observation(
      plan: plan.metadata.id, observedAt: services.time.wallNow(), shippedAgentDigest: nil, clouds: [:], hosts: [:])
  }
}
