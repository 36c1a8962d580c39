import AgentProtocol
import BlockModel
import MigrationModel
import Planning
import Reconciling
import Synchronization
import TestSupport

/// The world behind its gateways: each call takes a little time, may fail, be lost or be carried out twice.
final class FakeWorld: Sendable {
  let loop: VirtualLoop
  let state: Mutex<WorldState>
  let shippedDigest = "SHA256:agent"

  init(plan: MigrationPlan, loop: VirtualLoop) {
    self.loop = loop
    state = Mutex(WorldState(plan: plan))
  }

  func gateways(for run: RunIdentity) -> Gateways {
    Gateways(
      clouds: ["azure": FakeCloud(world: self, run: run)], hosts: FakeHosts(world: self, run: run),
      archive: FakeArchive(world: self, run: run))
  }

  var violations: [String] { state.withLock(\.violations) }

  /// `party`: who is asked, where that is told apart.
  func call<Value>(
    _ run: RunIdentity, of party: HostName? = nil,
    _ body: @Sendable (inout WorldState, Double) throws(GatewayError) -> Value
  ) async throws(GatewayError) -> Value {
    let lost = GatewayError(
      code: "CMC4999", message: "connection lost", advice: "", disposition: .retry(afterSeconds: 1))
    let dead = GatewayError(code: "CMC4998", message: "this run is dead", advice: "", disposition: .terminal)
    guard !run.isDead else { throw dead }
    await loop.pause(seconds: Double(loop.random.below(100)) / 1000)
    guard !run.isDead else { throw dead }
    let dies = run.countCall()
    // A run that dies with a call may still have made it.
    if dies, loop.random.chance(0.5) { throw dead }
    let now = loop.wallNow().secondsSince1970
    if loop.random.chance(run.faults.failureChance) {
      state.withLock { $0.breakdowns.note("call failed", party, at: now) }
      throw lost
    }
    if run.faults.breakChance > 0, loop.random.chance(run.faults.breakChance) {
      let kind = loop.random.pick(Breakdowns.Kind.allCases) ?? .agentKilled
      state.withLock { $0.suffer(kind, party, at: now) }
    }
    let isRepeated = loop.random.chance(run.faults.repeatChance)
    let result = state.withLock { state in
      state.settle(at: now)
      if isRepeated { _ = Result { () throws(GatewayError) in try body(&state, now) } }
      return Result { () throws(GatewayError) in try body(&state, now) }
    }
    if dies { throw dead }
    if run.faults.striker?.strikesInCall() == true {
      strike(run)
      throw run.isDead ? dead : lost
    }
    if loop.random.chance(run.faults.lostAnswerChance) {
      state.withLock { $0.breakdowns.note("answer lost", party, at: now) }
      throw lost
    }
    let answer = try result.get()
    state.withLock { $0.breakdowns.answered(party, isRepeated: isRepeated, at: now) }
    return answer
  }
}

private func gatewayError(_ fault: AgentFault) -> GatewayError {
  // As RPCAgentGateway reads them: what moves by itself is tried again.
  let disposition: Disposition =
    switch fault.code {
    case .wrongStage, .failed, .unknownSession: .retry(afterSeconds: 1)
    default: .needsOperator
    }
  return GatewayError(code: "CMC5000", message: fault.message, advice: "", disposition: disposition)
}

struct FakeAgentGateway: AgentGateway {
  let world: FakeWorld
  let run: RunIdentity
  let host: HostName
  func close() async {}

  func call<Call: AgentCall>(_ call: Call) async throws(GatewayError) -> Call.Answer {
    try await world.call(run, of: host) { (state, now) throws(GatewayError) in
      guard state.agents[host]?.isRunning == true, !state.isAway(host, at: now) else {
        throw GatewayError(
          code: "CMC4100", message: "no agent answers on \(host)", advice: "", disposition: .retry(afterSeconds: 1))
      }
      let answer: any Sendable
      do throws(AgentFault) {
        answer = try Self.answer(call, host, &state, now)
      } catch {
        throw gatewayError(error)
      }
      guard let typed = answer as? Call.Answer else {
        throw GatewayError(code: "CMC5001", message: "no answer to \(Call.method)", advice: "", disposition: .terminal)
      }
      return typed
    }
  }

  private static func answer(
    _ call: any AgentCall, _ host: HostName, _ state: inout WorldState, _ now: Double
  ) throws(AgentFault) -> any Sendable {
    let wall = WallTime(secondsSince1970: now)
    guard var agent = state.agents[host] else { throw AgentFault(.notFound, "no host \(host)") }
    if state.isTraced { state.trace.append("\(now) \(host): \(call)") }
    switch call {
    case is ObserveCall: return agent.observation(at: wall)
    case let call as InspectDevicesCall:
      return call.paths.map { path -> DeviceReport in agent.devices[path] ?? DeviceReport(path: path, kind: .missing) }
    case let call as AcquireLeaseCall:
      let lease = try agent.acquire(call, at: wall)
      state.agents[host] = agent
      return lease
    case let call as VerifyCall:
      guard var session = agent.sessions[FakeAgent.Key(session: call.session, role: .source)] else {
        throw AgentFault(.unknownSession, "\(call.session) isn't known here")
      }
      try session.verify(call, at: now)
      let key = FakeAgent.Key(session: call.session, role: .source)
      agent.sessions[key] = session
      state.agents[host] = agent
      state.expectEnd(of: key, on: host)
      return session.seen
    case let call as ReleaseLeaseCall:
      if agent.leases[call.session]?.fencingNumber == call.fencingNumber { agent.leases[call.session] = nil }
      state.agents[host] = agent
      return Done()
    case let call as ConfigureSessionCall:
      try agent.admit(call.fencingNumber, call.configuration.session)
      state.agents[host] = agent
      return try state.configure(call, on: host)
    case let call as SessionCommandCall:
      try agent.admit(call.fencingNumber, call.session)
      state.agents[host] = agent
      return try state.command(call, on: host, at: now)
    case let call as RunHookCall:
      try agent.admit(call.fencingNumber, call.session)
      state.agents[host] = agent
      return try state.runHook(call, on: host, at: now)
    case let call as SetHoldCall:
      let halves = agent.sessions.keys.filter { $0.session == call.session }
      for key in halves where halves.count == 1 || call.role == nil || call.role == key.role {
        if state.holdsAtResume, call.hold == nil {
          agent.sessions[key]?.seen.hold = Hold(cause: .failure, who: "cmcagent", why: "the link was lost", at: wall)
        }
        // As the agent does.
        let current = agent.sessions[key]?.seen.hold
        if call.hold == nil, let seen = call.clearing, current != nil, current != seen {
          state.agents[host] = agent
          throw AgentFault(.refused, "\(call.session) is held anew")
        }
        agent.sessions[key]?.seen.hold = call.hold
      }
      state.agents[host] = agent
      return Done()
    case let call as StoreApprovalCall:
      for key in agent.sessions.keys where key.session == call.session {
        agent.sessions[key]?.seen.approvals.append(call.approval)
      }
      state.agents[host] = agent
      return Done()
    case let call as ReadEvidenceCall: return agent.evidence(call)
    case let call as MapCall:
      guard let session = agent.sessions[FakeAgent.Key(session: call.session, role: .source)],
        let volume = session.seen.volumes.first(where: { $0.name == call.volume })
      else { throw AgentFault(.unknownSession, "\(call.session) isn't known here") }
      return ChangedDataMap(
        volume: call.volume, sizeBytes: volume.sizeBytes, offset: call.offset,
        length: call.length ?? volume.sizeBytes, cellBytes: 65536, differsBytes: volume.dirtyBytes, blockBytes: 65536,
        runs: [ChangedDataMap.Run(cells: call.cells, level: 0)])
    default: throw AgentFault(.badRequest, "not faked")
    }
  }
}

struct FakeHosts: HostGateway {
  let world: FakeWorld
  let run: RunIdentity

  private func unreachable(_ host: Host) -> GatewayError {
    GatewayError(
      code: "CMC4001", message: "no route to \(host.name)", advice: "check its address",
      disposition: .retry(afterSeconds: 1))
  }

  func state(of host: Host) async throws(GatewayError) -> HostState {
    try await world.call(run, of: host.name) { (state, now) throws(GatewayError) in
      guard let agent = state.agents[host.name], !state.isAway(host.name, at: now) else { throw unreachable(host) }
      return HostState(agentDigest: agent.digest, agentRunning: agent.isRunning, tombstones: agent.tombstones)
    }
  }
  func shippedAgentDigest() async throws(GatewayError) -> String { world.shippedDigest }
  func deploy(to host: Host) async throws(GatewayError) -> Bool {
    try await world.call(run, of: host.name) { [digest = world.shippedDigest] (state, now) throws(GatewayError) in
      guard !state.isAway(host.name, at: now) else { throw unreachable(host) }
      if state.isTraced { state.trace.append("deployed \(host.name)") }
      let isNew = state.agents[host.name]?.digest != digest || state.agents[host.name]?.isRunning != true
      state.agents[host.name]?.digest = digest
      state.agents[host.name]?.isRunning = true
      return isNew
    }
  }
  func remove(from host: Host, givingUpSessions: Bool) async throws(GatewayError) {
    try await world.call(run) { (state, _) throws(GatewayError) in
      if !(state.agents[host.name]?.sessions.isEmpty ?? true) { state.violate("agent removed with sessions on it") }
      if state.isTraced { state.trace.append("removed \(host.name)") }
      state.agents[host.name]?.digest = nil
      state.agents[host.name]?.isRunning = false
      state.agents[host.name]?.leases = [:]
      state.agents[host.name]?.highest = [:]
    }
  }
  func agent(on host: Host) async throws(GatewayError) -> any AgentGateway {
    try await world.call(run, of: host.name) { (state, now) throws(GatewayError) in
      guard state.agents[host.name]?.isRunning == true, !state.isAway(host.name, at: now) else {
        throw unreachable(host)
      }
    }
    return FakeAgentGateway(world: world, run: run, host: host.name)
  }
  func resolve(_ name: String, on host: Host) async throws(GatewayError) -> String { "192.0.2.99" }
  func run(
    _ command: String, on host: Host, timeoutSeconds: Double
  ) async throws(GatewayError) -> HostCommandOutcome {
    try await world.call(run, of: host.name) { (state, now) throws(GatewayError) in
      guard !state.isAway(host.name, at: now) else { throw unreachable(host) }
      return state.runCheck(command, at: now)
    }
  }
  func devicePath(ofLUN lun: Int, on host: Host) async throws(GatewayError) -> String {
    let path = "/dev/lun\(lun)"
    try await world.call(run) { (state, _) throws(GatewayError) in
      let machine = state.plan.hosts[host.name]?.azureVirtualMachine.flatMap { state.machines[$0] }
      guard let attachment = machine?.attachments.first(where: { $0.lun == lun }) else {
        throw GatewayError(code: "CMC4002", message: "no LUN \(lun)", advice: "", disposition: .retry(afterSeconds: 1))
      }
      var report = DeviceReport(path: path, kind: .block)
      report.sizeBytes = state.disks[attachment.diskID]?.sizeBytes ?? 0
      report.looksBlank = true
      state.agents[host.name]?.devices[path] = report
    }
    return path
  }
}

struct FakeCloud: CloudGateway {
  let world: FakeWorld
  let run: RunIdentity

  private func call<Value: Sendable>(
    _ body: @escaping @Sendable (inout WorldState, Double) throws(GatewayError) -> Value
  ) async throws(GatewayError) -> Value {
    try await world.call(run) { (state, now) throws(GatewayError) in
      guard state.azureAway == 0 else {
        state.azureAway -= 1
        throw GatewayError(code: "CMC4001", message: "HTTP 503", advice: "", disposition: .retry(afterSeconds: 1))
      }
      return try body(&state, now)
    }
  }

  func machineReading(_ reference: String) async throws(GatewayError) -> CloudReading<CloudMachine> {
    CloudReading(try await call { (state, _) throws(GatewayError) in state.machines[reference] }, nil)
  }
  func disks(of plan: PlanID) async throws(GatewayError) -> [CloudDisk] {
    try await call { (state, _) throws(GatewayError) in
      if state.listsBehind > 0 {
        state.listsBehind -= 1
        return []
      }
      return state.disks.values.filter { $0.tags[DiskTag.plan] == plan.text }.sorted { $0.name < $1.name }
    }
  }
  func diskReading(_ resourceID: String) async throws(GatewayError) -> CloudReading<CloudDisk> {
    CloudReading(try await call { (state, _) throws(GatewayError) in state.disks[resourceID] }, nil)
  }
  func limits() async throws(GatewayError) -> CloudLimits? {
    guard world.state.withLock(\.refusesLimits) else { return nil }
    throw GatewayError(code: "CMC4001", message: "HTTP 503", advice: "later", disposition: .retry(afterSeconds: 1))
  }
  func ensureDisk(_ request: DiskRequest) async throws(GatewayError) -> CloudDisk {
    try await call { (state, _) throws(GatewayError) in try state.ensureDisk(request) }
  }
  func setTags(_ tags: [String: String], ofDisk resourceID: String) async throws(GatewayError) -> CloudDisk {
    try await call { (state, now) throws(GatewayError) in
      guard var disk = state.disks[resourceID] else {
        throw GatewayError(code: "CMC3002", message: "no disk", advice: "", disposition: .terminal)
      }
      if state.isTraced { state.trace.append("tagged \(disk.name) \(tags[DiskTag.state] ?? "")") }
      if disk.tags[DiskTag.state] != tags[DiskTag.state] { state.waves.taggedAt[resourceID] = now }
      disk.tags = tags
      state.disks[resourceID] = disk
      return disk
    }
  }
  func attach(
    _ disks: [(diskID: String, caching: ManagedDisk.Caching)], to machineID: String
  ) async throws(GatewayError) -> [CloudAttachment] {
    let ids = disks.map(\.diskID)
    return try await call { (state, _) throws(GatewayError) in try state.attach(ids, to: machineID) }
  }
}
