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
    commandName: "agent",
    abstract: "Look at, upgrade and remove agents, and replace their keys, apart from migrations.",
    subcommands: [
      AgentListCommand.self, AgentDeployCommand.self, AgentUpgradeCommand.self, AgentRotateKeyCommand.self,
      AgentRemoveCommand.self,
    ])
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
            + "\(seen.hello.fingerprint)\(Self.replacement(seen.hello, host))\(sessions.isEmpty ? "" : "; \(sessions.joined(separator: ", "))")"
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

  private static func replacement(_ hello: AgentHello, _ host: Host) -> String {
    guard let next = hello.nextFingerprint else { return "" }
    return ", being replaced by \(next) (cmcplan agent rotate-key \(host.name) goes on with it)"
  }
}

struct AgentDeployCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "deploy",
    abstract: "Install and start this cmcplan's agent on hosts ahead of any migration.",
    discussion: """
      apply does so by itself; this is for a fleet that is to be made ready, or tried, first. Nothing is written or \
      restarted where the same agent runs. No data moves, and nothing listens on the network, before a migration is applied.
      """)
  @OptionGroup var plan: PlanFileOptions
  @OptionGroup var fleet: FleetOptions
  @Argument(help: "Hosts of the plan; all where none is named.") var host: [String] = []

  func run() async throws {
    try await reportingFailures { console in
      let opened = try OpenedPlan.open(plan, console, withClouds: false)
      let hosts = opened.world.gateways.hosts
      let chosen = try opened.document.hosts(host)
      let digest = try await hosts.shippedAgentDigest()
      var done = 0
      let failed = await onEach(chosen, parallelism: fleet.parallelism) { host in
        await outcome { () async throws(GatewayError) -> Bool in try await hosts.deploy(to: host) }
      } report: { host, result in
        done += 1
        switch result {
        case .success(let isNew):
          let text =
            isNew ? "agent \(digest.prefix(12)) is installed and runs" : "agent \(digest.prefix(12)) is up to date"
          console.say("[\(done)/\(chosen.count)] \(host.name): \(text)")
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
    let leftovers = RemovedSessions(seen)
    if !leftovers.unfinished.isEmpty {
      guard force else {
        throw Self.refusal(
          host, "it still has \(leftovers.unfinished.joined(separator: ", "))",
          "retire those migrations first, or --force to give them up")
      }
      try confirm(host, leftovers.consequences, console)
      try await cancelAll(leftovers.running, host, world)
    }
    // Sessions that the agent can't bring up can't be cancelled either: they go with its files, unless a tap is there.
    try await hosts.remove(from: host, givingUpSessions: leftovers.hasDead)
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

  private func cancelAll(
    _ sessions: [SessionObservation], _ host: Host, _ world: World
  ) async throws(GatewayError) {
    let agent = try await world.gateways.hosts.agent(on: host)
    do throws(GatewayError) {
      for session in sessions { try await cancel(session, agent, world) }
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

/// What removing an agent by force does to its sessions. Pure.
struct RemovedSessions {
  /// Those that can be cancelled.
  var running: [SessionObservation]
  /// All, in words.
  var unfinished: [String]
  var consequences: [String]
  /// Whether there are some that the agent could not bring up, or not even read.
  var hasDead: Bool

  init(_ seen: AgentObservation) {
    running = seen.sessions.filter { $0.couldNotStart != true }
    let dead = seen.sessions.filter { $0.couldNotStart == true }
    let unreadable = seen.unreadable ?? []
    hasDead = !dead.isEmpty || !unreadable.isEmpty
    func named(_ session: SessionObservation) -> String {
      "\(session.migration) (\(session.role.rawValue), \(session.couldNotStart == true ? "not running" : session.stage.rawValue))"
    }
    unfinished = (running + dead).map(named) + unreadable.map { "a session that can't be read (\($0))" }
    consequences =
      running.map { "\(named($0)) is given up: the destination's copy stays incomplete for good" }
      + dead.map { session in
        "\(named(session)) is given up as it is, because its agent can't bring it up"
          + (session.lastError.map { " (\($0.message))" } ?? "") + ": its peer and its devices are not told"
      }
      + unreadable.map {
        "a session whose record can't be read is given up (\($0)): its peer and its devices are not told"
      }
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
