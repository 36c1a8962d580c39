import AgentProtocol
import BlockModel
import MigrationModel
import Planning
import Seams

/// One connection to each host's agent, opened when first needed, shared by all steps, reopened after it broke. What
/// goes through it has the plan's names of sessions on this side, and the agents' own on the other.
actor AgentPool {
  private let plan: MigrationPlan
  private let hosts: any HostGateway
  private let time: any TimeSource
  private var open: [HostName: any AgentGateway] = [:]
  private var opening: [HostName: [CheckedContinuation<Result<any AgentGateway, GatewayError>, Never>]] = [:]
  private var seen: [HostName: (at: MonotonicTime, observation: AgentObservation)] = [:]
  /// Grows with each call that may change something: an observation that began before it isn't kept.
  private var changes: [HostName: Int] = [:]
  private var held = HeldSessions()

  init(plan: MigrationPlan, hosts: any HostGateway, time: any TimeSource) {
    self.plan = plan
    self.hosts = hosts
    self.time = time
  }

  private func agent(on host: HostName) async throws(GatewayError) -> any AgentGateway {
    if let agent = open[host] { return agent }
    guard let target = plan.hosts[host] else {
      throw GatewayError(
        code: ApplyCode.notInPlan, message: "the plan has no host \(host)", advice: "add it under hosts:",
        disposition: .terminal)
    }
    if opening[host] != nil {
      let result = await withCheckedContinuation { continuation in opening[host, default: []].append(continuation) }
      return try result.get()
    }
    opening[host] = []
    let result: Result<any AgentGateway, GatewayError>
    do throws(GatewayError) {
      result = .success(try await hosts.agent(on: target))
    } catch {
      result = .failure(error)
    }
    for waiter in opening.removeValue(forKey: host) ?? [] { waiter.resume(returning: result) }
    if case .success(let agent) = result { open[host] = agent }
    return try result.get()
  }

  /// A call that fails in a way that says "again" gives the connection up: the next one opens another.
  func call<Call: AgentCall>(_ call: Call, on host: HostName) async throws(GatewayError) -> Call.Answer {
    let call = try await asHeld(call, on: host)
    defer { noteChange(host) }
    return try await request(call, on: host)
  }

  /// As the agent calls the session that it is about. Which that is only the agent can tell.
  private func asHeld<Call: AgentCall>(_ call: Call, on host: HostName) async throws(GatewayError) -> Call {
    if var bound = call as? any SessionCall {
      bound.session = try await heldSession(bound.session, on: host)
      return bound as? Call ?? call
    }
    if var configure = call as? ConfigureSessionCall {
      _ = try await heldSession(configure.configuration.session, on: host)
      configure.configuration = held.configuration(configure.configuration, on: host)
      if configure.configuration.plannedAs != nil, !held.canRename(host) {
        throw GatewayError(
          code: PlanningCode.renameNotKnown,
          message:
            "the agent on \(host) is older, and can't take over the name \(configure.configuration.plannedAs?.migration.text ?? "")",
          advice: "cmcplan agent upgrade \(host), then apply again", disposition: .needsOperator)
      }
      return configure as? Call ?? call
    }
    return call
  }

  private func heldSession(_ planned: SessionID, on host: HostName) async throws(GatewayError) -> SessionID {
    if !held.knows(host) { _ = try await observation(of: host) }
    let own = held.session(planned, on: host)
    if let other = own.taken {
      throw GatewayError(
        code: PlanningCode.nameTaken,
        message: "on \(host) the name of \(planned) is still that of the session that the plan calls \(other)",
        advice: "choose another name for the migration", disposition: .needsOperator)
    }
    return own.session
  }

  private func noteChange(_ host: HostName) {
    changes[host, default: 0] += 1
    seen[host] = nil
  }

  private func request<Call: AgentCall>(_ call: Call, on host: HostName) async throws(GatewayError) -> Call.Answer {
    let agent = try await agent(on: host)
    do throws(GatewayError) {
      return try await agent.call(call)
    } catch {
      if case .retry = error.disposition { await forget(host) }
      throw error
    }
  }

  /// What the agent knows, at most `ageSeconds` old: many migrations poll the same agent.
  func observation(of host: HostName, ageSeconds: Double = 0) async throws(GatewayError) -> AgentObservation {
    let now = time.monotonicNow()
    if ageSeconds > 0, let last = seen[host], now.seconds(since: last.at) < ageSeconds { return last.observation }
    let before = changes[host]
    let observation = SessionNames(plan).named(try await request(ObserveCall(), on: host))
    held.learn(observation, of: host)
    if changes[host] == before { seen[host] = (now, observation) }
    return observation
  }

  func forget(_ host: HostName) async {
    seen[host] = nil
    await open.removeValue(forKey: host)?.close()
  }

  func closeAll() async {
    let all = open
    open = [:]
    for (_, agent) in all.sorted(by: { $0.key < $1.key }) { await agent.close() }
  }
}
