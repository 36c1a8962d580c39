package import AgentProtocol
package import BlockModel
import FoundationEssentials
package import LinuxPlatform
package import MigrationModel
package import Planning
package import Reconciling
package import Seams

/// Installs, starts, reaches and removes agents. Hosts are reached through a `HostTransport`; this version has the one
/// for `local:` hosts, and says so for others.
package final class HostDeployer: HostGateway {
  /// How a control connection is made of the channel to a started `cmcagent rpc`: AgentClient's part, injected so that
  /// the two rooms need not know each other.
  package typealias Connector =
    @Sendable (HostName, RunningChild) async throws(GatewayError) -> (gateway: any AgentGateway, hello: AgentHello)

  /// How long a started agent may take until it answers, in seconds.
  package static let startLimitSeconds = 15.0
  /// How long a script may run on a host; copying the agent has its own limit.
  static let scriptLimitSeconds = 20.0
  static let copyLimitSeconds = 120.0
  /// How long an agent may take to end in order, in seconds, before removal gives up.
  static let exitLimitSeconds = 20.0

  private let shippedAgentPath: String
  private let children: any ChildProcesses
  private let time: any TimeSource
  private let pausing: any Pausing
  private let connect: Connector
  private let shipped: ShippedAgent

  /// `shippedAgentPath` is the static binary that `deploy` installs.
  package init(
    shippedAgentPath: String, children: any ChildProcesses, time: any TimeSource, pausing: any Pausing,
    connect: @escaping Connector
  ) {
    self.shippedAgentPath = shippedAgentPath
    self.children = children
    self.time = time
    self.pausing = pausing
    self.connect = connect
    shipped = ShippedAgent(path: shippedAgentPath, children: children)
  }

  private func transport(to host: Host) throws(GatewayError) -> any HostTransport {
    switch host.reach {
    case .local(let root):
      LocalTransport(host: host.name, root: root, children: children)
    case .ssh:
      throw GatewayError(
        code: "CMC3200", message: "host \(host.name): hosts over SSH are not supported in this version yet",
        advice: "use `local: {root: DIR}` to try the rest on this machine", disposition: .terminal)
    }
  }

  package func shippedAgentDigest() async throws(GatewayError) -> String { try await shipped.digest() }

  package func state(of host: Host) async throws(GatewayError) -> HostState {
    let found = try await probe(transport(to: host), host)
    return HostState(
      agentDigest: found.installedDigest, agentRunning: found.running != nil, tombstones: found.tombstones)
  }

  package func deploy(to host: Host) async throws(GatewayError) {
    let transport = try transport(to: host)
    let digest = try await shipped.digest()
    let found = try await probe(transport, host)
    if found.running?.digest == digest, found.installedDigest == digest, await answers(transport, host) { return }
    if found.installedDigest != digest {
      let bytes = try await shipped.bytes()
      try await run(
        HostScripts.install, [digest], on: transport, host, input: bytes, what: "install the agent",
        limitSeconds: Self.copyLimitSeconds)
    }
    if let running = found.running {
      // Another version runs, or this one does not answer: the new one takes over its sessions from its state.
      try await stop(transport, host, processID: running.processID)
    }
    try await run(HostScripts.start, [], on: transport, host, what: "start the agent")
    try await awaitAnswer(transport, host)
  }

  package func remove(from host: Host) async throws(GatewayError) {
    let transport = try transport(to: host)
    if let running = try await probe(transport, host).running {
      try await stop(transport, host, processID: running.processID)
    }
    try await run(HostScripts.remove, [], on: transport, host, what: "remove the agent's files")
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
    try transport(to: host).devicePath(ofLUN: lun)
  }
}

// MARK: What is on a host

private struct Probe {
  var installedDigest: String?
  var running: (processID: Int, digest: String)?
  var tombstones: [Tombstone] = []
}

extension HostDeployer {
  private func probe(_ transport: any HostTransport, _ host: Host) async throws(GatewayError) -> Probe {
    let output = try await run(HostScripts.probe, [], on: transport, host, what: "look at the host")
    var found = Probe()
    for line in output.split(separator: "\n") {
      let words = line.split(separator: " ").map(String.init)
      switch (words.first, words.count) {
      case ("agent", 2): found.installedDigest = words[1]
      case ("process", 3):
        // Between fork and exec a child of the agent looks like it; the agent is the older one.
        if found.running == nil, let processID = Int(words[1]) { found.running = (processID, words[2]) }
      case ("tombstone", 2):
        // A file that can't be read is the agent's to report; here it only means less is known.
        if let bytes = Data(base64Encoded: words[1]),
          let tombstone = try? JSONDecoder().decode(Tombstone.self, from: bytes)
        {
          found.tombstones.append(tombstone)
        }
      default: continue
      }
    }
    return found
  }

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
  private func run(
    _ script: String, _ arguments: [String], on transport: any HostTransport, _ host: Host, input: [UInt8] = [],
    what: String, limitSeconds: Double = HostDeployer.scriptLimitSeconds
  ) async throws(GatewayError) -> String {
    let result = try await transport.run(script, arguments: arguments, input: input, timeoutSeconds: limitSeconds)
    guard !result.succeeded else { return String(decoding: result.output, as: UTF8.self) }
    let said = String(decoding: result.errorOutput.suffix(1000), as: UTF8.self).trimmed
    let noSpace = said.contains("No space left on device")
    let ending =
      switch result.ending {
      case .exited(let code): "exit \(code)"
      case .signalled(let signal): "signal \(signal)"
      case .timedOut: "no end within \(Int(limitSeconds)) s"
      }
    throw GatewayError(
      code: "CMC3204",
      message: "host \(host.name): can't \(what) in \(transport.root): \(said.isEmpty ? ending : said)",
      advice: noSpace ? "free space there, then apply again" : "check the directory and its rights, then apply again",
      disposition: noSpace ? .needsOperator : .retry(afterSeconds: 2))
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
