import AgentProtocol
import BlockModel
import MigrationModel
import Planning
import Reconciling
import Simulation
import Synchronization
import TestSupport

/// What goes wrong on purpose.
struct FaultPlan: Sendable {
  /// Of a call failing before it did anything, and of its answer being lost.
  var failureChance = 0.0
  var lostAnswerChance = 0.0
  /// Of a call being carried out twice.
  var repeatChance = 0.0
  /// The run dies at this call, counted from its start; nil: never.
  var crashAtCall: Int?
  /// Of something breaking with a call: an agent, a host, a link, Azure.
  var breakChance = 0.0
  /// Kills something at a step of its choice.
  var striker: Striker?
}

/// One `apply` as the world sees it: where it dies, nothing of it reaches anything any more.
final class RunIdentity: Sendable {
  let faults: FaultPlan
  private let state = Mutex((calls: 0, isDead: false))
  init(faults: FaultPlan) { self.faults = faults }

  var isDead: Bool { state.withLock(\.isDead) }
  func die() { state.withLock { $0.isDead = true } }
  /// Whether the run dies with this call.
  func countCall() -> Bool {
    state.withLock { state in
      state.calls += 1
      if state.calls == faults.crashAtCall { state.isDead = true }
      return state.isDead
    }
  }
}

/// Azure, hosts and agents in memory, and what must never happen there.
struct WorldState {
  static let sourceBytes: UInt64 = 5 << 30
  private struct Ending {
    var host: HostName
    var key: FakeAgent.Key
  }
  /// As it was edited last.
  var plan: MigrationPlan
  var agents: [HostName: FakeAgent] = [:]
  /// Halves of sessions by when something of them ends.
  private var endings = TimeHeap<Ending>()
  var disks: [String: CloudDisk] = [:]
  var machines: [String: CloudMachine] = [:]
  /// By resource id.
  private var machineReferences: [String: String] = [:]
  var diskCreations: [String: Int] = [:]
  var attachCalls = 0
  var violations: [String] = []
  /// Successes of hooks since authority last moved back.
  var hookSuccesses: [SessionID: [String]] = [:]
  var hookExecutions: [String: Int] = [:]
  /// How often a hook fails before it succeeds.
  var failingHooks: [String: Int] = [:]
  var unreachable: Set<HostName> = []
  /// What broke, and comes back by itself.
  var breakdowns = Breakdowns()
  /// So many lists of disks don't show yet what was made.
  var listsBehind = 0
  /// So many calls find no Azure.
  var azureAway = 0
  /// Azure doesn't say what new disks may be.
  var refusesLimits = false
  /// Accepted, and forgotten by an agent that was started anew before it had noted them: how often still.
  var forgets: [SessionCommand: Int] = [:]
  /// How many swings the source's agent still gives up, soon after it began them.
  var swingsGivenUp = 0
  /// Only this migration's agent does; nil: whoever is asked first.
  var givesUp: MigrationName?
  var swingsBegun = 0
  /// Its drain takes so long.
  var slowSwing: (name: MigrationName, seconds: Double)?
  /// This migration's agent can't write the fence for now.
  var refusesFence: MigrationName?
  /// Somebody pauses at the very moment of the swing.
  var holdsAtSwing = false
  /// Something fails at the very moment of the resume.
  var holdsAtResume = false
  /// What each hook was last given to run.
  var hookCommands: [String: String] = [:]
  var fences = 0
  var fullSynchronizations = 0
  var syncSeconds = 20.0
  var proofSeconds = 3.0
  /// What the plan's archive keeps, by path, and how its writes go.
  var archived: [String: [UInt8]] = [:]
  var archiveFault = ArchiveFault.none
  var waves = WaveWatch()
  /// Calls to agents, for whoever looks into a seed.
  var isTraced = false
  var trace: [String] = []
  /// Set where the agents' own machines replicate.
  var joint: JointReplication?

  init(plan: MigrationPlan) {
    self.plan = plan
    for name in plan.hosts.keys { agents[name] = FakeAgent(host: name) }
    for migration in plan.migrations.values {
      for volume in migration.volumes {
        var report = DeviceReport(path: volume.device, kind: .block)
        report.sizeBytes = Self.sourceBytes
        agents[migration.source]?.devices[volume.device] = report
      }
      guard let reference = plan.hosts[migration.destination]?.azureVirtualMachine else { continue }
      machineReferences["/vm/\(reference)"] = reference
      machines[reference] = CloudMachine(
        resourceID: "/vm/\(reference)", name: reference, location: "westeurope", size: "Standard_D4s_v5", zone: nil,
        attachments: [])
    }
  }

  /// What the plan calls a session by now, whether its agent was told or not.
  func plannedName(_ seen: SessionObservation) -> MigrationName {
    plan.renames.name(of: seen.configuration.plannedAs?.migration ?? seen.migration)
  }

  /// The source's half of the migration, also of one that is gone.
  func sourceKey(_ name: MigrationName) -> FakeAgent.Key {
    let here = agents.values.flatMap { Array($0.sessions.values) }.first { plannedName($0.seen) == name }?.seen.session
    let gone = agents.values.flatMap(\.tombstones).first { stone in
      let own = stone.session.text.split(separator: "/").last.map { MigrationName(String($0)) }
      return (stone.plannedAs?.migration ?? own).map { plan.renames.name(of: $0) } == name
    }?.session
    return FakeAgent.Key(
      session: here ?? gone ?? SessionID(plan: plan.metadata.id, migration: name), role: .source)
  }

  mutating func violate(_ what: String) { violations.append(what) }

  // MARK: Agents

  mutating func settle(at now: Double) {
    if joint != nil { return settleJoint(at: now) }
    while let first = endings.first, first.at <= now {
      _ = endings.popFirst()
      agents[first.item.host]?.sessions[first.item.key]?.settle(at: now)
      expectEnd(of: first.item.key, on: first.item.host, after: now)
    }
  }

  /// Whoever begins what ends by itself says so: a world of thousands of hosts isn't looked through at each call.
  mutating func expectEnd(of key: FakeAgent.Key, on host: HostName, after now: Double = -.infinity) {
    for time in agents[host]?.sessions[key]?.endTimes ?? [] where time > now {
      endings.insert(Ending(host: host, key: key), at: time)
    }
  }

  mutating func configure(_ call: ConfigureSessionCall, on host: HostName) throws(AgentFault) -> SessionObservation {
    let configuration = call.configuration
    let key = FakeAgent.Key(session: configuration.session, role: configuration.role)
    if var known = agents[host]?.sessions[key] {
      try growJoint(known.seen.configuration, to: configuration)
      for (index, volume) in configuration.volumes.enumerated() where known.seen.volumes.indices.contains(index) {
        known.seen.volumes[index].sizeBytes = volume.sizeBytes
      }
      known.seen.configuration = configuration
      known.seen.configurationDigest = configuration.configurationDigest
      agents[host]?.sessions[key] = known
      return known.seen
    }
    // As the agent's.
    for other in agents[host]?.sessions.values.map(\.seen) ?? [] where other.role == configuration.role {
      let shared = Set(other.configuration.volumes.map(\.devicePath))
      guard shared.isDisjoint(with: configuration.volumes.map(\.devicePath)) else {
        throw AgentFault(.inUse, "a device belongs to session \(other.session) already")
      }
    }
    if agents[host]?.tombstones.contains(where: { $0.session == key.session && $0.role == key.role }) == true {
      throw AgentFault(.refused, "\(key.session) is never started again")
    }
    var seen = SessionObservation(
      configuration: configuration, stage: .prepared, authority: .source, generation: .initial, health: .idle,
      connected: true)
    seen.volumes = configuration.volumes.map {
      VolumeObservation(
        name: $0.name, devicePath: $0.devicePath, sizeBytes: $0.sizeBytes, blockBytes: 65_536, dirtyBytes: $0.sizeBytes,
        copiedBytes: 0, wireBytes: 0, tapSocket: nil, tapDevice: nil, tapOpenCount: 0, applicationIO: IOCounters(),
        longestPauseSeconds: 0)
    }
    agents[host]?.sessions[key] = FakeSession(seen: seen)
    return seen
  }

  mutating func command(
    _ call: SessionCommandCall, on host: HostName, at now: Double
  ) throws(AgentFault) -> SessionObservation {
    let key = FakeAgent.Key(session: call.session, role: call.role)
    guard var session = agents[host]?.sessions[key] else {
      throw AgentFault(.unknownSession, "\(call.session) isn't known here")
    }
    if holdsAtSwing, call.command == .swing {
      session.seen.hold = Hold(cause: .paused, who: "bob", why: "wait", at: WallTime(secondsSince1970: now))
      agents[host]?.sessions[key] = session
    }
    if session.seen.hold != nil, !call.command.mayCrossHold {
      // As the agent does: a hold may come at any moment, between what apply saw and what it asks for.
      throw AgentFault(.refused, "\(call.session) is held")
    }
    try carryOut(call.command, &session, at: now)
    if call.command == .swing, session.seen.stage == .swinging, let within = call.confirmWithinSeconds {
      session.confirmEnds = min(now + within, session.confirmEnds ?? .infinity)
      session.seen.confirmBy = session.confirmEnds.map { WallTime(secondsSince1970: $0) }
    }
    if call.command == .openTap { session.isTapOpen = true }
    if call.command == .closeTap { session.isTapOpen = false }
    if call.command == .retire {
      expectArchived(session.seen)
      agents[host]?.sessions[key] = nil
      var stone = Tombstone(
        session: call.session, role: call.role, phase: .retired, generation: session.seen.generation,
        receiptDigest: nil, at: WallTime(secondsSince1970: now))
      stone.plannedAs = session.seen.configuration.plannedAs
      agents[host]?.tombstones.append(stone)
    } else if call.command == .cancel {
      agents[host]?.sessions[key] = nil
    } else {
      agents[host]?.sessions[key] = session
      expectEnd(of: key, on: host)
    }
    return session.seen
  }

  private mutating func carryOut(
    _ command: SessionCommand, _ session: inout FakeSession, at now: Double
  ) throws(AgentFault) {
    if joint != nil { return try carryOutJoint(command, &session, at: now) }
    if let left = forgets[command], left > 0 {
      forgets[command] = left - 1
      return
    }
    let stage = session.seen.stage
    func wrong() -> AgentFault { AgentFault(.wrongStage, "\(command) in \(stage)") }
    switch command {
    case .proveConnection:
      session.seen.connectionProof = ConnectionProof(
        provenAt: WallTime(secondsSince1970: now), roundTripSeconds: 0.001, bytesPerSecond: 200e6)
    case .openTap:
      for index in session.seen.volumes.indices { session.seen.volumes[index].tapSocket = "tap" }
    case .synchronize:
      guard stage == .prepared else { return }
      if session.seen.connectionProof == nil { violate("synchronize before the connection was proven") }
      fullSynchronizations += 1
      session.seen.stage = .synchronizing
      session.seen.health = .synchronizing(percent: 1, bytesPerSecond: 1e6, etaSeconds: 10)
      session.ends = now + syncSeconds
    case .stopSynchronizing: session.seen.stage = .prepared
    case .swing:
      if stage == .swinging || stage == .standIn { return }
      guard stage == .tracking else { throw wrong() }
      if swingsGivenUp > 0, givesUp == nil || givesUp == session.seen.migration {
        swingsGivenUp -= 1
        swingsBegun += 1
        return
      }
      expectOpenWave(plannedName(session.seen), at: now)
      expectGroupCanSwing(plannedName(session.seen))
      session.seen.stage = .swinging
      session.ends = now + (slowSwing?.name == session.seen.migration ? slowSwing?.seconds ?? 1 : 1)
      session.confirmEnds = nil
      swingsBegun += 1
    case .revert: try revert(&session)
    case .confirmSwing:
      session.seen.swingConfirmed = true
      session.seen.confirmBy = nil
      session.confirmEnds = nil
    case .closeTap:
      if [.tapClosed, .proving, .proven].contains(stage) { return }
      guard stage == .standIn || stage == .tracking else { throw wrong() }
      expectHooks([.stopApplication, .unmount], session, "closeTap")
      session.seen.stage = .tapClosed
    case .prove:
      if [.proving, .proven].contains(stage) { return }
      guard stage == .tapClosed else { throw wrong() }
      session.seen.stage = .proving
      session.ends = now + proofSeconds
    case .fence: try fence(&session, at: now)
    case .release:
      if stage == .released { return }
      let host = plan.migrations[plannedName(session.seen)]?.source
      let source = host.flatMap { agents[$0]?.sessions[FakeAgent.Key(session: session.seen.session, role: .source)] }
      if source?.seen.stage != .fenced { violate("release before the fence") }
      session.seen.stage = .released
      // As the agent's: it is released by the committed generation, and hooks behind the fence are told apart by that.
      session.seen.generation = source?.seen.generation ?? session.seen.generation
    case .retire:
      guard session.seen.role == .destination || stage == .fenced else { throw wrong() }
      expectHooks([.mount, .startApplication, .healthCheck], session, "retire")
    case .cancel:
      if ![.prepared, .synchronizing, .tracking].contains(stage) { violate("a session was given up in \(stage)") }
    case .resync, .verify: break
    }
  }

  private mutating func revert(_ session: inout FakeSession) throws(AgentFault) {
    switch session.seen.stage {
    case .swinging, .standIn, .tapClosed, .proving, .proven:
      session.seen.stage = .tracking
      session.seen.authority = .source
      session.seen.generation = session.seen.generation.next
      session.seen.swingConfirmed = false
      session.seen.standInSince = nil
      session.seen.confirmBy = nil
      session.confirmEnds = nil
      session.ends = nil
      hookSuccesses[session.seen.session] = []
    case .fenced, .released: throw AgentFault(.wrongStage, "revert after the fence")
    default: break
    }
  }

  private mutating func fence(_ session: inout FakeSession, at now: Double) throws(AgentFault) {
    if session.seen.stage == .fenced { return }
    if refusesFence == session.seen.migration { throw AgentFault(.failed, "the fence can't be written") }
    guard session.seen.stage == .proven else { throw AgentFault(.wrongStage, "fence in \(session.seen.stage)") }
    checkFence(session, at: now)
    expectGroupProven(session.seen.migration)
    fences += 1
    session.seen.stage = .fenced
    session.seen.authority = .destination
    session.seen.generation = session.seen.generation.next
  }

  mutating func checkFence(_ session: FakeSession, at now: Double) {
    let migration = plan.migrations[plannedName(session.seen)]
    if migration?.cutover.approval == .manual {
      let isApproved = session.seen.approvals.contains {
        $0.phase == .finalized && $0.configurationDigest == session.seen.configurationDigest
          && ($0.expiresAt.map { $0.secondsSince1970 > now } ?? true)
      }
      if !isApproved { violate("the source was fenced without an approval") }
    }
    if session.seen.receipt == nil { violate("the source was fenced without a receipt") }
  }

  private mutating func expectHooks(_ points: [HookPoint], _ session: FakeSession, _ step: String) {
    let hooks = plan.migrations[plannedName(session.seen)]?.cutover.hooks ?? [:]
    for point in points where hooks[point] != nil {
      if !(hookSuccesses[session.seen.session] ?? []).contains(point.rawValue) {
        violate("\(step) before hook \(point.rawValue)")
      }
    }
  }

  mutating func runHook(
    _ call: RunHookCall, on host: HostName, at now: Double
  ) throws(AgentFault) -> HookOutcome {
    if let known = agents[host]?.hooks.first(where: { $0.run.runID == call.runID }) { return known.outcome }
    let halves = agents[host]?.sessions.values.filter { $0.seen.session == call.session } ?? []
    let isBefore = MigrationFacts.hooksBeforeFence.map(\.rawValue).contains(call.point)
    let half = halves.first { ($0.seen.role == .source) == isBefore }
    guard let own = half ?? halves.first else {
      throw AgentFault(.unknownSession, "\(call.session) isn't known here")
    }
    if own.seen.hold != nil { throw AgentFault(.refused, "\(call.session) is held") }
    let order = HookPoint.allCases.map(\.rawValue)
    let before = order.prefix { $0 != call.point }
    let wanted = before.filter { point in
      HookPoint(rawValue: point).map { plan.migrations[plannedName(own.seen)]?.cutover.hooks[$0] != nil } ?? false
    }
    let done = hookSuccesses[call.session] ?? []
    if !wanted.allSatisfy(done.contains) { violate("hook \(call.point) before \(wanted)") }
    if done.contains(call.point) { violate("hook \(call.point) of \(call.session) ran again after it succeeded") }
    if ["mount", "startApplication", "healthCheck"].contains(call.point), own.seen.stage != .released {
      violate("hook \(call.point) before the release")
    }
    hookExecutions[call.point, default: 0] += 1
    hookCommands[call.point] = call.command
    let isAskedToFail = failingHooks[call.point, default: 0] > 0
    if isAskedToFail { failingHooks[call.point, default: 0] -= 1 }
    let stops = call.point == HookPoint.stopApplication.rawValue
    let fails = isAskedToFail || stops && joint?.stopApplication() == false
    let outcome = HookOutcome(exitCode: fails ? 1 : 0, timedOut: false, output: fails ? "no" : "", seconds: 0.1)
    if !fails { hookSuccesses[call.session, default: []].append(call.point) }
    agents[host]?.hooks.append(
      FakeAgent.HookEntry(
        session: call.session, run: HookRun(runID: call.runID, succeeded: !fails), outcome: outcome))
    return outcome
  }

  // MARK: Azure

  mutating func ensureDisk(_ request: DiskRequest) throws(GatewayError) -> CloudDisk {
    let id =
      "/subscriptions/sub/resourceGroups/\(request.resourceGroup)/providers/Microsoft.Compute/disks/\(request.name)"
    if var known = disks[id] {
      guard known.tags[DiskTag.volume] == request.tags[DiskTag.volume],
        known.tags[DiskTag.migration] == request.tags[DiskTag.migration]
      else {
        throw GatewayError(
          code: "CMC3003", message: "disk \(request.name) is somebody else's", advice: "", disposition: .needsOperator)
      }
      if let iops = request.iops { known.iops = iops }
      if let rate = request.megabytesPerSecond { known.megabytesPerSecond = rate }
      if known.attachedTo == nil { known.sizeBytes = max(known.sizeBytes, UInt64(request.sizeGiB) << 30) }
      disks[id] = known
      return known
    }
    let disk = CloudDisk(
      resourceID: id, name: request.name, sku: request.sku, sizeBytes: UInt64(request.sizeGiB) << 30,
      zone: request.zone, iops: nil, megabytesPerSecond: nil, state: .unattached, attachedTo: nil, tags: request.tags,
      provisioningState: "Succeeded")
    let volume = "\(request.tags[DiskTag.migration] ?? "")/\(request.tags[DiskTag.volume] ?? "")"
    diskCreations[volume, default: 0] += 1
    if diskCreations[volume, default: 0] > 1 {
      // But for those that it took the place of.
      let orphans = disks.values.count { $0.isOrphaned && $0.taggedVolume(in: plan)?.description == volume }
      if diskCreations[volume, default: 0] > 1 + orphans { violate("a second disk for \(volume)") }
    }
    disks[id] = disk
    return disk
  }

  mutating func attach(_ ids: [String], to machineID: String) throws(GatewayError) -> [CloudAttachment] {
    guard let reference = machineReferences[machineID] else {
      throw GatewayError(code: "CMC3001", message: "no VM", advice: "", disposition: .needsOperator)
    }
    let free = ids.filter { id in !(machines[reference]?.attachments.contains { $0.diskID == id } ?? false) }
    if !free.isEmpty { attachCalls += 1 }
    for id in free {
      let lun = (machines[reference]?.attachments.map(\.lun).max() ?? -1) + 1
      machines[reference]?.attachments.append(CloudAttachment(lun: lun, diskID: id))
      disks[id]?.state = .attached
      disks[id]?.attachedTo = machineID
    }
    return machines[reference]?.attachments ?? []
  }
}
