import AgentProtocol
import BlockModel
import MigrationModel
import Seams

/// One connection to each host's agent, opened when first needed, shared by all steps, reopened after it broke.
actor AgentPool {
  private let plan: MigrationPlan
  private let hosts: any HostGateway
  private let time: any TimeSource
  private var open: [HostName: any AgentGateway] = [:]
  private var opening: [HostName: [CheckedContinuation<Result<any AgentGateway, GatewayError>, Never>]] = [:]
  private var seen: [HostName: (at: MonotonicTime, observation: AgentObservation)] = [:]
  /// Grows with each call that may change something: an observation that began before it isn't kept.
  private var changes: [HostName: Int] = [:]

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
    defer { noteChange(host) }
    return try await request(call, on: host)
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
    let observation = try await request(ObserveCall(), on: host)
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
