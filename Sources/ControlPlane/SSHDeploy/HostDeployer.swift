package import AgentProtocol
package import BlockModel
import FoundationEssentials
package import LinuxPlatform
package import MigrationModel
package import Planning
package import Reconciling
package import Seams

/// Installs, starts, reaches, upgrades and removes agents, on local hosts and over SSH.
package final class HostDeployer: HostGateway {
  /// How a control connection is made of the channel to a started `cmcagent rpc`: AgentClient's part, injected so that
  /// the two rooms need not know each other.
  package typealias Connector =
    @Sendable (HostName, RunningChild) async throws(GatewayError) -> (gateway: any AgentGateway, hello: AgentHello)

  /// How long a started agent may take until it answers, in seconds.
  package static let startLimitSeconds = 15.0
  /// How long a script may run on a host; copying the agent has its own limit.
  static let scriptLimitSeconds = 20.0
  /// The same where systemd does the work: it reads all of its units again, or waits for the agent's taps.
  static let serviceLimitSeconds = 60.0
  static let copyLimitSeconds = 600.0
  /// How often a copy that was cut off is continued before the step fails.
  static let copyAttempts = 3
  /// How long an agent may take to end in order, in seconds, before removal gives up.
  static let exitLimitSeconds = 20.0

  private let children: any ChildProcesses
  let time: any TimeSource
  let pausing: any Pausing
  private let connect: Connector
  let shipped: ShippedAgent
  private let ssh: SSHConnections

  /// `shippedAgentPath` is the static binary that `deploy` installs.
  package init(
    shippedAgentPath: String, children: any ChildProcesses, time: any TimeSource, pausing: any Pausing,
    ssh: SSHConnections, connect: @escaping Connector
  ) {
    self.children = children
    self.time = time
    self.pausing = pausing
    self.connect = connect
    self.ssh = ssh
    shipped = ShippedAgent(path: shippedAgentPath, children: children)
  }

  func transport(to host: Host) async throws(GatewayError) -> any HostTransport {
    switch host.reach {
    case .local(let root):
      return LocalTransport(host: host.name, root: root, children: children)
    case .ssh(let access):
      return try await SSHTransport(
        connection: ssh.connection(to: host.name, address: host.address ?? host.name.text, access: access))
    }
  }

  package func shippedAgentDigest() async throws(GatewayError) -> String { try await shipped.digest() }

  package func state(of host: Host) async throws(GatewayError) -> HostState {
    let found = try await probe(transport(to: host), host)
    let ahead = found.clockAhead(of: time.wallNow().secondsSince1970)
    var state = HostState(
      agentDigest: found.agentDigest, agentRunning: found.isServed, tombstones: found.tombstones)
    // A local host's disks get their names from whoever attaches them.
    if case .ssh = host.reach { state.namesLUNs = found.namesLUNs }
    if let ahead, ahead.magnitude > HostState.clockToleranceSeconds { state.clockAheadSeconds = Int(saturating: ahead) }
    return state
  }

  package func remove(from host: Host, givingUpSessions: Bool) async throws(GatewayError) {
    let transport = try await transport(to: host)
    let extent = [transport.supervision == .none ? "agent" : "all", givingUpSessions ? "given-up" : "kept"]
    // Once before the agent is ended, and again in the script that removes: a session may come in between.
    try await run(HostScripts.refuseUsed, extent, on: transport, host, what: "remove the agent")
    let found = try await probe(transport, host)
    if let running = found.running { try await stop(transport, host, processID: running.processID) }
    do throws(GatewayError) {
      try await run(
        HostScripts.remove, extent, on: transport, host, what: "remove the agent's files",
        limitSeconds: Self.serviceLimitSeconds)
    } catch {
      if error.code == DeployCode.stays, found.isServed {
        // Nothing was removed: whoever needs it has it back. Where that fails the refusal still is what counts.
        try? await restart(nil, transport, host, service(on: transport, found))
      }
      throw error
    }
  }

  package func agent(on host: Host) async throws(GatewayError) -> any AgentGateway {
    try await hello(transport(to: host), host).gateway
  }

  /// Less than what a child of ours may print.
  private static let logEndBytes = 512 << 10

  /// The end of the agent's log, whether it runs or not; empty where there is none.
  package func agentLog(of host: Host) async throws(GatewayError) -> [UInt8] {
    Array(
      try await run(
        HostScripts.logEnd, ["\(Self.logEndBytes)"], on: transport(to: host), host, what: "read the agent's log"
      ).utf8)
  }

  package func resolve(_ name: String, on host: Host) async throws(GatewayError) -> String {
    let output = try await run(
      HostScripts.resolve, [name], on: transport(to: host), host, what: "resolve \(name)",
      advice: "check name resolution on that host (getent ahosts), then run again")
    guard let first = output.split(separator: "\n").first else {
      throw GatewayError(
        code: "CMC3205", message: "host \(host.name): it finds no address for \(name)",
        advice: "check connection.address, and name resolution on that host", disposition: .needsOperator)
    }
    return String(first)
  }

  package func devicePath(ofLUN lun: Int, on host: Host) async throws(GatewayError) -> String {
    try await transport(to: host).devicePath(ofLUN: lun)
  }
}

// MARK: A running agent

extension HostDeployer {
  func probe(_ transport: any HostTransport, _ host: Host) async throws(GatewayError) -> HostProbe {
    HostProbe(try await run(HostScripts.probe, [], on: transport, host, what: "look at the host"))
  }

  func hello(
    _ transport: any HostTransport, _ host: Host
  ) async throws(GatewayError) -> (gateway: any AgentGateway, hello: AgentHello) {
    try await connect(host.name, transport.openControl())
  }

  func answers(_ transport: any HostTransport, _ host: Host) async -> Bool {
    guard let connection = try? await hello(transport, host) else { return false }
    await connection.gateway.close()
    return true
  }

  /// Asks the agent to end in order. One that does not answer, or does not end in time, is ended by its process id:
  /// its sessions are on disk, and what an application has open is the tap's holder's, another process.
  func stop(_ transport: any HostTransport, _ host: Host, processID: Int) async throws(GatewayError) {
    try await run(HostScripts.unsupervise, [], on: transport, host, what: "end the agent")
    if let connection = try? await hello(transport, host) {
      let isEnding = (try? await connection.gateway.call(ShutdownCall())) != nil
      await connection.gateway.close()
      if isEnding, (try? await awaitExit(transport, host, processID)) != nil { return }
    }
    try await run(HostScripts.terminate, [String(processID)], on: transport, host, what: "end the agent")
    try await awaitExit(transport, host, processID)
  }

  private func awaitExit(_ transport: any HostTransport, _ host: Host, _ processID: Int) async throws(GatewayError) {
    try await run(
      HostScripts.awaitExit, [String(processID), String(Int(Self.exitLimitSeconds * 10))], on: transport, host,
      what: "see the agent (process \(processID)) end", limitSeconds: Self.exitLimitSeconds + 10,
      advice:
        "look on the host what process \(processID) waits for (cat /proc/\(processID)/stack; a device that hangs?),"
        + " then run again")
  }

  /// What the script printed. `advice`: what to do where it fails and its own words don't say.
  @discardableResult
  func run(
    _ script: String, _ arguments: [String], on transport: any HostTransport, _ host: Host, input: [UInt8] = [],
    what: String, limitSeconds: Double = HostDeployer.scriptLimitSeconds, advice: String? = nil
  ) async throws(GatewayError) -> String {
    let result = try await transport.run(script, arguments: arguments, input: input, timeoutSeconds: limitSeconds)
    guard !result.succeeded else { return String(decoding: result.output, as: UTF8.self) }
    throw ScriptFailure(result, what: what, limitSeconds: limitSeconds, advice: advice).error(
      host, root: transport.root)
  }
}

extension String {
  /// Without white space and line ends around it.
  var trimmed: String {
    var rest = self[...]
    while let last = rest.last, last.isWhitespace { rest.removeLast() }
    return String(rest.drop(while: \.isWhitespace))
  }
}
