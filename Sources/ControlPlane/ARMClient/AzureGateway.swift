package import BlockModel
package import MigrationModel
package import Reconciling
package import Seams

/// What a wait for Azure is about, for the operator to see: "waiting for Azure: 40 s (throttled: …)".
package struct AzureWait: Sendable, Equatable, CustomStringConvertible {
  package var seconds: Double
  package var why: String
  package init(seconds: Double, why: String) {
    self.seconds = seconds
    self.why = why
  }
  package var description: String {
    let shown = seconds < 10 ? (seconds * 10).rounded() / 10 : seconds.rounded()
    let number = shown == shown.rounded() ? String(Int(shown)) : String(shown)
    return "waiting for Azure: \(number) s (\(why))"
  }
}

/// Azure Resource Manager as the reconciler needs it, for one integration of a plan.
package final class AzureGateway: CloudGateway {
  /// `environment` is where credentials and `{env: NAME}` secrets are looked up; `children` runs the az CLI, and where
  /// it is nil that source is left out. `onWait` may be called from any thread, before each wait of a second or more.
  /// Makes no request: a wrong credential shows at the first call.
  package init(
    integration: AzureIntegration, time: any TimeSource, random: any RandomSource, environment: [String: String],
    children: (any ChildProcesses)? = nil, onWait: @escaping @Sendable (AzureWait) -> Void = { _ in }
  ) throws(GatewayError) {
  }

  package func machine(_ reference: String) async throws(GatewayError) -> CloudMachine? { throw Self.unfinished }
  package func disks(of plan: PlanID) async throws(GatewayError) -> [CloudDisk] { throw Self.unfinished }
  package func disk(_ resourceID: String) async throws(GatewayError) -> CloudDisk? { throw Self.unfinished }
  package func ensureDisk(_ request: DiskRequest) async throws(GatewayError) -> CloudDisk { throw Self.unfinished }
  package func setTags(
    _ tags: [String: String], ofDisk resourceID: String
  ) async throws(GatewayError) -> CloudDisk { throw Self.unfinished }
  package func attach(
    _ disks: [(diskID: String, caching: ManagedDisk.Caching)], to machineID: String
  ) async throws(GatewayError) -> [CloudAttachment] { throw Self.unfinished }

  private static let unfinished = GatewayError(
    code: "CMC3100", message: "this build can't reach Azure yet", advice: "", disposition: .terminal)
}
