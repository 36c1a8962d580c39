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
  static let copyLimitSeconds = 600.0
  /// How often a copy that was cut off is continued before the step fails.
  static let copyAttempts = 3
  /// How long an agent may take to end in order, in seconds, before removal gives up.
  static let exitLimitSeconds = 20.0

  private let children: any ChildProcesses
  let time: any TimeSource
  private let pausing: any Pausing
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
    return HostState(
      agentDigest: found.installedDigest, agentRunning: found.running != nil && !found.runningIsLost,
      tombstones: found.tombstones)
  }

  package func deploy(to host: Host) async throws(GatewayError) {
    let transport = try await transport(to: host)
    let digest = try await shipped.digest()
    let found = try await probe(transport, host)
    let service = service(on: transport, found)
    if found.running?.digest == digest, !found.runningIsLost, found.installedDigest == digest, service.isCurrent,
      await answers(transport, host)
    {
      return
    }
    let previous = ([found.running?.digest, found.installedDigest] + found.kept).compactMap { $0 }
      .first { $0 != digest && found.kept.contains($0) }
    if found.installedDigest != digest {
      if found.kept.contains(digest) {
        try await run(HostScripts.select, [digest], on: transport, host, what: "select the agent")
      } else {
        try await install(found, on: transport, host)
      }
    }
    // Another version runs, or this one does not answer: the new one takes over its sessions from its state.
    try await restart(found.running, transport, host, service)
    do throws(GatewayError) {
      try await awaitAnswer(transport, host)
    } catch {
      guard let previous else { throw error }
      throw try await rollBack(to: previous, because: error, transport, host, service)
    }
    try await run(HostScripts.prune, [digest], on: transport, host, what: "remove the agent's former version")
  }

  package func remove(from host: Host) async throws(GatewayError) {
    let transport = try await transport(to: host)
    if let running = try await probe(transport, host).running {
      try await stop(transport, host, processID: running.processID)
    }
    try await run(
      HostScripts.remove, [transport.supervision == .none ? "agent" : "all"], on: transport, host,
      what: "remove the agent's files")
  }

  package func agent(on host: Host) async throws(GatewayError) -> any AgentGateway {
    try await hello(transport(to: host), host).gateway
  }

  package func resolve(_ name: String, on host: Host) async throws(GatewayError) -> String {
    let output = try await run(
      HostScripts.resolve, [name], on: transport(to: host), host, what: "resolve \(name)")
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

// MARK: Installing and starting

/// How the agent of a host is started, and whether its unit is as it should be.
private struct Service: Sendable {
  enum Kind: Sendable {
    case process
    case supervised
    case systemd
  }
  var kind: Kind
  var isCurrent = true
}

extension HostDeployer {
  func probe(_ transport: any HostTransport, _ host: Host) async throws(GatewayError) -> HostProbe {
    HostProbe(try await run(HostScripts.probe, [], on: transport, host, what: "look at the host"))
  }

  private func service(on transport: any HostTransport, _ found: HostProbe) -> Service {
    switch transport.supervision {
    case .none: Service(kind: .process)
    case .supervisor: Service(kind: .supervised)
    case .serviceOrSupervisor:
      found.hasSystemd
        ? Service(kind: .systemd, isCurrent: found.unit == HostScripts.unit) : Service(kind: .supervised)
    }
  }

  /// Copies the agent, going on where an earlier copy was cut off.
  private func install(
    _ found: HostProbe, on transport: any HostTransport, _ host: Host
  ) async throws(GatewayError) {
    if let machine = found.machine, let ours = try await shipped.machine(), machine != ours {
      throw GatewayError(
        code: "CMC3208", message: "host \(host.name) is \(machine), and the agent to install is for \(ours)",
        advice: "name an agent built for \(machine) in CMCPLAN_AGENT", disposition: .needsOperator)
    }
    let digest = try await shipped.digest()
    let parcel = try await shipped.parcel(compressed: found.hasGzip && transport.supervision != .none)
    var offset = found.parts[parcel.digest] ?? 0
    for attempt in 1...Self.copyAttempts {
      if offset > parcel.bytes.count { offset = 0 }
      do throws(GatewayError) {
        try await run(
          HostScripts.install,
          [digest, parcel.encoding, parcel.digest, String(offset), String(parcel.bytes.count)], on: transport, host,
          input: Array(parcel.bytes[offset...]), what: "install the agent", limitSeconds: Self.copyLimitSeconds)
        return
      } catch {
        guard attempt < Self.copyAttempts, case .retry = error.disposition else { throw error }
        offset = try await probe(transport, host).parts[parcel.digest] ?? 0
      }
    }
  }

  private func restart(
    _ running: (processID: Int, digest: String)?, _ transport: any HostTransport, _ host: Host, _ service: Service
  ) async throws(GatewayError) {
    if let running { try await stop(transport, host, processID: running.processID) }
    switch service.kind {
    case .process: try await run(HostScripts.start, [], on: transport, host, what: "start the agent")
    case .supervised: try await run(HostScripts.startSupervised, [], on: transport, host, what: "start the agent")
    case .systemd:
      try await run(
        HostScripts.startService, [], on: transport, host, input: Array(HostScripts.unit.utf8),
        what: "start the agent's service", limitSeconds: Self.scriptLimitSeconds * 2)
    }
  }

  /// Puts the agent back that ran before; answers the error to throw, which says what runs now.
  private func rollBack(
    to previous: String, because failure: GatewayError, _ transport: any HostTransport, _ host: Host,
    _ service: Service
  ) async throws(GatewayError) -> GatewayError {
    let failed = try await shipped.digest()
    var error = GatewayError(
      code: "CMC3207",
      message: "host \(host.name): the new agent (\(failed.prefix(12))…) does not run: \(failure.message)",
      advice: failure.advice, disposition: .needsOperator)
    do throws(GatewayError) {
      let running = try await probe(transport, host).running
      try await run(HostScripts.select, [previous], on: transport, host, what: "select the former agent")
      try await restart(running, transport, host, service)
      try await awaitAnswer(transport, host)
      try await run(HostScripts.prune, [previous], on: transport, host, what: "remove the new agent")
      error.message += "; the former one (\(previous.prefix(12))…) runs again"
    } catch {
      throw GatewayError(
        code: "CMC3207",
        message: "host \(host.name): neither the new agent runs (\(failure.message)) nor the former"
          + " one again: \(error.message)", advice: error.advice, disposition: .needsOperator)
    }
    return error
  }
}

// MARK: A running agent

extension HostDeployer {
  private func hello(
    _ transport: any HostTransport, _ host: Host
  ) async throws(GatewayError) -> (gateway: any AgentGateway, hello: AgentHello) {
    try await connect(host.name, transport.openControl())
  }

  private func answers(_ transport: any HostTransport, _ host: Host) async -> Bool {
    guard let connection = try? await hello(transport, host) else { return false }
    await connection.gateway.close()
    return true
  }

  /// Waits for a started agent's first answer; shows the end of its log where none comes.
  private func awaitAnswer(_ transport: any HostTransport, _ host: Host) async throws(GatewayError) {
    let deadline = time.monotonicNow().adding(seconds: Self.startLimitSeconds)
    while true {
      do throws(GatewayError) {
        let connection = try await hello(transport, host)
        await connection.gateway.close()
        return
      } catch {
        guard error.disposition != .needsOperator, error.disposition != .terminal,
          time.monotonicNow() < deadline
        else {
          let log = (try? await run(HostScripts.logTail, [], on: transport, host, what: "read agent.log")) ?? ""
          throw GatewayError(
            code: "CMC3203", message: "host \(host.name): the agent was started but does not answer: \(error.message)",
            advice: log.isEmpty ? error.advice : "agent.log ends with: \(log.trimmed)",
            disposition: error.disposition)
        }
      }
      do {
        try await pausing.pause(seconds: 0.05)
      } catch {
        throw GatewayError(
          code: "CMC3212",
          message: "host \(host.name): the agent's start was not waited for, because this run is stopping",
          advice: "apply again continues", disposition: .terminal)
      }
    }
  }

  /// Asks the agent to end in order. One that does not answer, or does not end in time, is ended by its process id:
  /// its sessions are on disk, and what an application has open is the tap's holder's, another process.
  private func stop(_ transport: any HostTransport, _ host: Host, processID: Int) async throws(GatewayError) {
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
      what: "wait for the agent (process \(processID)) to end", limitSeconds: Self.exitLimitSeconds + 10)
  }

  @discardableResult
  func run(
    _ script: String, _ arguments: [String], on transport: any HostTransport, _ host: Host, input: [UInt8] = [],
    what: String, limitSeconds: Double = HostDeployer.scriptLimitSeconds
  ) async throws(GatewayError) -> String {
    let result = try await transport.run(script, arguments: arguments, input: input, timeoutSeconds: limitSeconds)
    guard !result.succeeded else { return String(decoding: result.output, as: UTF8.self) }
    throw failure(result, what, transport, host, limitSeconds)
  }

  private func failure(
    _ result: ChildResult, _ what: String, _ transport: any HostTransport, _ host: Host, _ limitSeconds: Double
  ) -> GatewayError {
    let said = String(decoding: result.errorOutput.suffix(1000), as: UTF8.self).trimmed
    let ending =
      switch result.ending {
      case .exited(let code): "exit \(code)"
      case .signalled(let signal): "signal \(signal)"
      case .timedOut: "no end within \(Int(limitSeconds)) s"
      }
    let message = "host \(host.name): can't \(what) in \(transport.root): \(said.isEmpty ? ending : said)"
    let (advice, disposition): (String, Disposition) =
      if said.contains("No space left on device") {
        ("free space there, then apply again", .needsOperator)
      } else if said.contains("may not be run") {
        (
          "mount its file system with exec; where SELinux is enforced, `ausearch -m avc -ts recent` says what it denied",
          .needsOperator
        )
      } else if said.contains("Permission denied") || said.contains("Read-only file system") {
        ("check the directory and its rights, then apply again", .needsOperator)
      } else {
        ("check the directory and its rights, then apply again", .retry(afterSeconds: 2))
      }
    return GatewayError(code: "CMC3204", message: message, advice: advice, disposition: disposition)
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
