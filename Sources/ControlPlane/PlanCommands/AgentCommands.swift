import AgentProtocol
package import ArgumentParser
import BlockModel
import MigrationModel
import Planning
import Reconciling
import Seams

/// What is done to agents apart from migrations.
package struct AgentCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "agent", abstract: "Look at, upgrade and remove agents, apart from migrations.",
    subcommands: [AgentListCommand.self, AgentUpgradeCommand.self, AgentRemoveCommand.self])
  package init() {}
}

struct FleetOptions: ParsableArguments {
  @Option(help: ArgumentHelp("At most so many hosts at once.", valueName: "n"))
  var parallelism = 32

  mutating func validate() throws {
    guard parallelism >= 1 else {
      throw ValidationError("--parallelism \(parallelism) lets nothing run; give 1 or more")
    }
  }
}

struct AgentListCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "Say of every host which agent runs there, its key, and its sessions.")
  @OptionGroup var plan: PlanFileOptions
  @OptionGroup var fleet: FleetOptions
  @Argument(help: "Hosts of the plan; all where none is named.") var host: [String] = []

  func run() async throws {
    try await reportingFailures { console in
      let opened = try OpenedPlan.open(plan, console, withClouds: false)
      let hosts = opened.world.gateways.hosts
      let failed = await onEach(try opened.document.hosts(host), parallelism: fleet.parallelism) { host in
        await outcome { () async throws(GatewayError) -> String in
          let state = try await hosts.state(of: host)
          guard let digest = state.agentDigest else { return "no agent" }
          guard state.agentRunning else { return "agent \(digest.prefix(12)) is installed and does not run" }
          let seen = try await observeAgent(host, hosts)
          let sessions = seen.sessions.map { session in
            let planned = session.configuration.plannedAs.map { " (planned as \($0.migration))" } ?? ""
            return "\(session.migration)\(planned) \(session.role.rawValue) \(session.stage.rawValue)"
          }
          return "agent \(seen.hello.agentVersion) (\(digest.prefix(12))), process \(seen.hello.processID), key "
            + "\(seen.hello.fingerprint)\(sessions.isEmpty ? "" : "; \(sessions.joined(separator: ", "))")"
        }
      } report: { host, result in
        switch result {
        case .success(let text): console.say("\(host.name): \(text)")
        case .failure(let error): console.complain(error)
        }
      }
      if !failed.isEmpty { throw ExitCode(1) }
    }
  }
}

struct AgentUpgradeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "upgrade",
    abstract: "Put this cmcplan's agent in the place of another one, also while it replicates.",
    discussion: """
      The tap's devices wait for the new agent, and sessions go on from their records. A new agent that does not run is \
      taken back: the former one runs again. Agents that are up to date are left alone; so are hosts without one.
      """)
  @OptionGroup var plan: PlanFileOptions
  @OptionGroup var fleet: FleetOptions
  @Argument(help: "Hosts of the plan; all where none is named.") var host: [String] = []

  func run() async throws {
    try await reportingFailures { console in
      let opened = try OpenedPlan.open(plan, console, withClouds: false)
      let hosts = opened.world.gateways.hosts
      let digest = try await hosts.shippedAgentDigest()
      let failed = await onEach(try opened.document.hosts(host), parallelism: fleet.parallelism) { host in
        await outcome { () async throws(GatewayError) -> String in
          let state = try await hosts.state(of: host)
          guard let former = state.agentDigest else { return "no agent; apply installs one" }
          guard former != digest || !state.agentRunning else { return "agent \(digest.prefix(12)) is up to date" }
          try await hosts.deploy(to: host)
          return former == digest
            ? "agent \(digest.prefix(12)) was started again" : "agent \(former.prefix(12)) → \(digest.prefix(12))"
        }
      } report: { host, result in
        switch result {
        case .success(let text): console.say("\(host.name): \(text)")
        case .failure(let error): console.complain(error)
        }
      }
      if !failed.isEmpty { throw ExitCode(1) }
    }
  }
}

struct AgentRemoveCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "remove", abstract: "Remove a host's agent and all that is its own; tombstones and fences stay.",
    discussion: """
      Refused while a session isn't retired, and always while a tap is in use. --force gives unfinished sessions up \
      first: the destination's copy stays incomplete for good, and moving the volumes later begins anew.
      """)
  @OptionGroup var plan: PlanFileOptions
  @Argument(help: "Hosts of the plan.") var host: [String]
  @Flag(help: "Give unfinished sessions up; what that costs is shown first, and asked on a terminal.")
  var force = false
  @Flag(help: "Don't ask.")
  var autoApprove = false

  func run() async throws {
    try await reportingFailures { console in
      let opened = try OpenedPlan.open(plan, console, withClouds: false)
      var isFailed = false
      for host in try opened.document.hosts(host) {
        let result = await outcome { () async throws(GatewayError) -> Bool in
          try await remove(host, opened.world, console)
        }
        switch result {
        case .success(true): console.say("\(host.name): the agent is removed")
        case .success(false): console.say("\(host.name): there is no agent")
        case .failure(let error):
          console.complain(error)
          isFailed = true
        }
      }
      if isFailed { throw ExitCode(1) }
    }
  }

  /// Whether there was one.
  private func remove(_ host: Host, _ world: World, _ console: Console) async throws(GatewayError) -> Bool {
    let hosts = world.gateways.hosts
    let state = try await hosts.state(of: host)
    guard state.agentDigest != nil || state.agentRunning else { return false }
    guard state.agentRunning else {
      guard force else {
        throw Self.refusal(
          host, "its agent does not run, so nobody can say what it still has to do",
          "start it with cmcplan agent upgrade \(host.name), or --force where that can't be")
      }
      try confirm(host, ["sessions that nobody can see now are lost, and with them what differs"], console)
      try await hosts.remove(from: host, givingUpSessions: true)
      return true
    }
    let seen = try await observeAgent(host, hosts)
    if !seen.sessions.isEmpty {
      let unfinished = seen.sessions.map { "\($0.migration) (\($0.role.rawValue), \($0.stage.rawValue))" }
      guard force else {
        throw Self.refusal(
          host, "it still has \(unfinished.joined(separator: ", "))",
          "retire those migrations first, or --force to give them up")
      }
      try confirm(
        host, unfinished.map { "\($0) is given up: the destination's copy stays incomplete for good" }, console)
      try await cancelAll(seen, host, world)
    }
    try await hosts.remove(from: host, givingUpSessions: false)
    return true
  }

  private static func refusal(_ host: Host, _ why: String, _ advice: String) -> GatewayError {
    GatewayError(
      code: "CMC3260", message: "host \(host.name): the agent stays: \(why)", advice: advice,
      disposition: .needsOperator)
  }

  private func confirm(_ host: Host, _ consequences: [String], _ console: Console) throws(GatewayError) {
    for consequence in consequences { console.say("\(host.name): \(consequence)") }
    if autoApprove { return }
    guard console.canAsk else {
      throw Self.refusal(host, "there is no terminal to ask on", "add --auto-approve where that is meant")
    }
    guard console.ask("Type \(host.name) to go on: ") == host.name.text else {
      throw Self.refusal(host, "not confirmed", "")
    }
  }

  private func cancelAll(_ seen: AgentObservation, _ host: Host, _ world: World) async throws(GatewayError) {
    let agent = try await world.gateways.hosts.agent(on: host)
    do throws(GatewayError) {
      for session in seen.sessions { try await cancel(session, agent, world) }
    } catch {
      await agent.close()
      throw error
    }
    await agent.close()
  }

  /// Refused by the agent, which names who, where the tap is in use.
  private func cancel(
    _ session: SessionObservation, _ agent: any AgentGateway, _ world: World
  ) async throws(GatewayError) {
    // As apply does: fencing numbers go by the wall clock, so that this one outranks any before it.
    let number = UInt64(max(0, world.services.time.wallNow().secondsSince1970 * 1000))
    let lease = try await agent.call(
      AcquireLeaseCall(
        session: session.session, holder: "\(world.who) agent remove", fencingNumber: number, timeToLiveSeconds: 60,
        steal: false))
    let result = await outcome { () async throws(GatewayError) -> SessionObservation in
      try await agent.call(
        SessionCommandCall(
          fencingNumber: lease.fencingNumber, session: session.session, role: session.role, command: .cancel))
    }
    // Of a session that is gone there is nothing to give back; then this is refused, which is as well.
    _ = await outcome { () async throws(GatewayError) -> Done in
      try await agent.call(ReleaseLeaseCall(session: session.session, fencingNumber: lease.fencingNumber))
    }
    _ = try result.get()
  }
}

/// What the agent of the host says of itself, over a connection of its own.
func observeAgent(_ host: Host, _ hosts: any HostGateway) async throws(GatewayError) -> AgentObservation {
  let agent = try await hosts.agent(on: host)
  let result = await outcome { () async throws(GatewayError) -> AgentObservation in try await agent.call(ObserveCall())
  }
  await agent.close()
  return try result.get()
}
