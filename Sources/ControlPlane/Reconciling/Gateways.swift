package import AgentProtocol
package import BlockModel
package import Diagnostics
package import MigrationModel
package import Planning

/// What the reconciler needs to know of an error: may it be tried again, is it final, or must a person act.
package enum Disposition: Sendable, Equatable {
  case retry(afterSeconds: Double)
  case terminal
  case needsOperator
}

/// How a gateway fails. `message` says what happened to what, `advice` what to do next; neither holds a secret.
package struct GatewayError: Error, Sendable, Equatable, CustomStringConvertible {
  /// A diagnostic's code, "CMC3104".
  package var code: String
  package var message: String
  package var advice: String
  package var disposition: Disposition
  /// The value of the document that is to blame, where one is.
  package var field: PlanField?
  /// Where the document says it; the reconciler knows, gateways don't.
  package var position: SourcePosition?
  package init(
    code: String, message: String, advice: String, disposition: Disposition, field: PlanField? = nil,
    position: SourcePosition? = nil
  ) {
    self.code = code
    self.message = message
    self.advice = advice
    self.disposition = disposition
    self.field = field
    self.position = position
  }
  package var description: String { advice.isEmpty ? message : "\(message); \(advice)" }
}

/// What a read showed, and by which answer. No value: there is none of that name.
package struct CloudReading<Value: Sendable>: Sendable {
  package var value: Value?
  /// Nil where the cloud has no ids for its answers.
  package var answer: CloudAnswer?
  package init(_ value: Value?, _ answer: CloudAnswer?) {
    self.value = value
    self.answer = answer
  }
}

/// Azure, as far as a reconciler needs it. One gateway an integration. Every call may be repeated: it finds what an
/// earlier one did. Long-running operations are waited for, within the caller's task (cancel it to stop waiting).
package protocol CloudGateway: Sendable {
  /// `reference` is a name in the integration's resource group, or a resource id.
  func machineReading(_ reference: String) async throws(GatewayError) -> CloudReading<CloudMachine>
  /// The integration's disks that carry the tag `cmcplan-id` with this plan's id.
  func disks(of plan: PlanID) async throws(GatewayError) -> [CloudDisk]
  func diskReading(_ resourceID: String) async throws(GatewayError) -> CloudReading<CloudDisk>
  /// What the subscription may have at the integration's location: asked where disks are to be made. Nil where this
  /// cloud has no such limits.
  func limits() async throws(GatewayError) -> CloudLimits?
  /// Creates the disk or adopts the one of this name that carries the same cmcplan tags; refuses anybody else's. One that
  /// is there gets the SKU, the size and the performance asked for, as far as Azure changes them with its data and its
  /// users where they are.
  func ensureDisk(_ request: DiskRequest) async throws(GatewayError) -> CloudDisk
  func setTags(_ tags: [String: String], ofDisk resourceID: String) async throws(GatewayError) -> CloudDisk
  /// Attaches all that aren't attached yet in one call, at free LUNs, and waits. Answers the LUN of each.
  func attach(
    _ disks: [(diskID: String, caching: ManagedDisk.Caching)], to machineID: String
  ) async throws(GatewayError) -> [CloudAttachment]
}

extension CloudGateway {
  /// Nil where there is none.
  package func machine(_ reference: String) async throws(GatewayError) -> CloudMachine? {
    try await machineReading(reference).value
  }
  /// Nil where there is none.
  package func disk(_ resourceID: String) async throws(GatewayError) -> CloudDisk? {
    try await diskReading(resourceID).value
  }
}

/// One host's agent, deployed and spoken to. Calls may come at once; each has its own time limit.
package protocol AgentGateway: Sendable {
  func call<Call: AgentCall>(_ call: Call) async throws(GatewayError) -> Call.Answer
  func close() async
}

/// Hosts: what is there, deploying and removing agents, and the way to a running one.
package protocol HostGateway: Sendable {
  func state(of host: Host) async throws(GatewayError) -> HostState
  /// Digest of the agent that `deploy` would install.
  func shippedAgentDigest() async throws(GatewayError) -> String
  /// Installs (by digest) and starts the agent; nothing happens where the same one runs already. Whether anything did.
  @discardableResult
  func deploy(to host: Host) async throws(GatewayError) -> Bool
  /// Stops and removes the agent and its files, but for tombstones and the fence. Refused while a session is on the host,
  /// whether its agent runs or not, unless they are given up; and always while a tap is there.
  func remove(from host: Host, givingUpSessions: Bool) async throws(GatewayError)
  /// A connection to the host's running agent. Throws where none runs.
  func agent(on host: Host) async throws(GatewayError) -> any AgentGateway
  /// Numeric address of `name`, resolved on `host`.
  func resolve(_ name: String, on host: Host) async throws(GatewayError) -> String
  /// The path of the disk at a LUN on this host.
  func devicePath(ofLUN lun: Int, on host: Host) async throws(GatewayError) -> String
  /// Runs a command of the plan with `/bin/sh -c`, as whoever deploys there, to its end or for so long at most. Throws
  /// where it could not be run; one that fails is an outcome.
  func run(_ command: String, on host: Host, timeoutSeconds: Double) async throws(GatewayError) -> HostCommandOutcome
}

/// How a command on a host ended.
package struct HostCommandOutcome: Sendable, Equatable {
  /// Nil: it was ended because its time was up.
  package var exitCode: Int?
  /// The end of what it wrote to both of its outputs, a few KiB at most.
  package var output: String
  package init(exitCode: Int?, output: String) {
    self.exitCode = exitCode
    self.output = output
  }
}

/// Every way to the world that a run has: a cloud gateway for each integration by its name, the hosts, and the archive
/// where the plan names one.
package struct Gateways: Sendable {
  package var clouds: [String: any CloudGateway]
  package var hosts: any HostGateway
  package var archive: (any ArchiveGateway)?
  package init(
    clouds: [String: any CloudGateway], hosts: any HostGateway, archive: (any ArchiveGateway)? = nil
  ) {
    self.clouds = clouds
    self.hosts = hosts
    self.archive = archive
  }
}
