package import AgentProtocol
package import BlockModel
internal import LinuxPlatform
package import Seams
package import TLSChannel

/// Who this agent is, apart from its key; never changes while it runs.
package struct AgentIdentityCard: Sendable, Equatable {
  package var version: String
  package var bootID: String
  package var processID: Int32
  package var startedAt: WallTime
  package var capabilities: [String]
  package init(
    version: String, bootID: String, processID: Int32, startedAt: WallTime, capabilities: [String]
  ) {
    self.version = version
    self.bootID = bootID
    self.processID = processID
    self.startedAt = startedAt
    self.capabilities = capabilities
  }
}

/// The agent: its sessions, who may command them, and what remains of those that ended.
///
/// Two locks, never held together: `book` for leases, `sessions` for the list. A call on a session runs under neither,
/// so that one session's slow disk keeps no other from answering.
package final class Agent: AgentCalls {
  package static let sessionLimit = 256

  private struct Sessions: Sendable {
    /// By `SessionConfiguration.half`, as `failed` is.
    var running: [SessionID: any AgentSession] = [:]
    /// Being made or deleted right now; a second call for the same one waits.
    var busy: Set<SessionID> = []
    /// Could not be started; their files are left alone. What `observe` and commands say about them.
    var failed: [SessionID: AgentFault] = [:]
    var isParked = false
  }

  private let card: AgentIdentityCard
  let keys: KeyRing
  private let catalogue: Catalogue
  private let time: any TimeSource
  private let hooks: HookRunner
  private let factory: any SessionFactory
  private let inspector: @Sendable ([String]) -> [DeviceReport]
  private let book: Monitor<LeaseBook>
  private let sessions = Monitor(Sessions())
  private let runningHooks = Monitor(Set<String>())
  private let shutdownAsked = Monitor(false)
  private let log: @Sendable (String) -> Void

  package init(
    card: AgentIdentityCard, keys: KeyRing, catalogue: Catalogue, time: any TimeSource, hooks: HookRunner,
    factory: any SessionFactory, inspector: @escaping @Sendable ([String]) -> [DeviceReport],
    log: @escaping @Sendable (String) -> Void
  ) throws(AgentFault) {
    self.card = card
    self.keys = keys
    self.catalogue = catalogue
    self.time = time
    self.hooks = hooks
    self.factory = factory
    self.inspector = inspector
    self.log = log
    book = Monitor(LeaseBook(entries: try catalogue.leases()))
  }

  // MARK: Life

  /// Starts every session of the catalogue. One that can't start is reported and stops no other.
  package func start() {
    let (entries, faults) = catalogue.sessions()
    for fault in faults { log(fault) }
    let started = entries.compactMap { remake($0) }
    for session in started { session.start() }
  }

  /// Nil where it can't be, which is kept as the reason; logged where it is another one than before.
  private func remake(_ entry: SessionEntry) -> (any AgentSession)? {
    let id = entry.configuration.half
    do throws(AgentFault) {
      try refuseRescued(entry.configuration)
      let session = try factory.make(entry, isNew: false)
      sessions.change { sessions in
        sessions.running[id] = session
        sessions.failed[id] = nil
      }
      return session
    } catch {
      let known = sessions.change { $0.failed.updateValue(error, forKey: id) }
      if known != error { log("session \(id) can't be started: \(error)") }
      return nil
    }
  }

  /// The halves that didn't start because a device of theirs isn't there.
  var lateSessions: [SessionID] {
    sessions.withLock { $0.failed.filter { $0.value.code == .notFound }.keys.sorted() }
  }
  var runningSessions: [any AgentSession] { sessions.withLock { Array($0.running.values) } }
  var isParked: Bool { sessions.withLock { $0.isParked } }

  /// Answers whether the agent was parked meanwhile.
  func waitForParking(seconds: Double) -> Bool {
    sessions.wait(until: .now.adding(seconds: seconds)) { $0.isParked ? true : nil } == true
  }

  /// Tries a half of a session again that didn't start, unless a call made or removed it, or does now.
  func startLate(_ half: SessionID) {
    guard let id = entry(of: half)?.configuration.session else { return }
    let isOurs = sessions.change { sessions in
      !sessions.isParked && sessions.failed[half] != nil && sessions.busy.insert(id).inserted
    }
    guard isOurs else { return }
    defer { release(id) }
    // As it is now that no call can change it.
    guard let entry = entry(of: half), let session = remake(entry) else { return }
    log("session \(half) has its devices now, and goes on")
    session.start()
  }

  private func entry(of half: SessionID) -> SessionEntry? {
    catalogue.sessions().entries.first { $0.configuration.half == half }
  }

  /// What a person took over with `cmcagent rescue` is left alone: a session that starts would undo it.
  private func refuseRescued(_ configuration: SessionConfiguration) throws(AgentFault) {
    guard let why = try catalogue.tombstone(of: configuration.session, role: configuration.role)?.rescued else {
      return
    }
    throw AgentFault(
      .refused,
      "\(configuration.session) was taken over by hand (\(why)), and its devices are left alone; cancel it, and give the migration a new name to move it anew"
    )
  }

  /// Gives up what is left of a session that was taken over by hand; nil where it wasn't. Its tombstone stays.
  private func removeRescued(_ call: SessionCommandCall) throws(AgentFault) -> SessionObservation? {
    guard try catalogue.tombstone(of: call.session, role: call.role)?.rescued != nil,
      case let half = half(of: call.session, call.role),
      let fault = sessions.withLock({ $0.failed[half] }),
      let entry = entry(of: half)
    else { return nil }
    try catalogue.keepReceipt(of: half)
    try catalogue.removeSession(half)
    sessions.change { $0.failed[half] = nil }
    return Self.observation(of: entry, failedBecause: fault)
  }

  private static func observation(of entry: SessionEntry, failedBecause fault: AgentFault) -> SessionObservation {
    var observation = SessionObservation(
      configuration: entry.configuration, stage: .prepared, authority: .source, generation: .initial,
      health: .stalled(why: fault.message), connected: false)
    observation.hold = entry.hold
    observation.lastError = fault
    observation.couldNotStart = true
    return observation
  }

  /// Calls are refused from now on, and late sessions left alone; answers those that run.
  func closeToCalls() -> [any AgentSession] {
    sessions.change { sessions in
      sessions.isParked = true
      return Array(sessions.running.values)
    }
  }

  /// Parks every session. Calls that come later are refused.
  package func park() {
    for session in closeToCalls() { session.park() }
  }

  /// Blocks until somebody asked for the end, over the socket or by `askShutdown`.
  package func waitForShutdown() { _ = shutdownAsked.wait { $0 ? true : nil } }
  package func askShutdown() { shutdownAsked.change { $0 = true } }

  // MARK: Calls that need no session

  package func hello(_ call: HelloCall) throws(AgentFault) -> AgentHello {
    let version = min(call.newestVersion, AgentProtocolVersion.newest)
    guard version >= max(call.oldestVersion, AgentProtocolVersion.oldest) else {
      throw AgentFault(
        .protocolMismatch,
        "this agent speaks versions \(AgentProtocolVersion.oldest) to \(AgentProtocolVersion.newest) of the control protocol, the caller \(call.oldestVersion) to \(call.newestVersion); deploy the agent that came with cmcplan"
      )
    }
    return greeting(version)
  }

  private func greeting(_ version: Int) -> AgentHello {
    var hello = AgentHello(
      agentVersion: card.version, protocolVersion: version, fingerprint: keys.fingerprint, bootID: card.bootID,
      processID: card.processID, startedAt: card.startedAt, capabilities: card.capabilities)
    hello.nextFingerprint = keys.nextFingerprint
    return hello
  }

  package func observe(_ call: ObserveCall) throws(AgentFault) -> AgentObservation {
    let (running, failed) = sessions.withLock { ($0.running, $0.failed) }
    var observations = running.values.map { $0.observation() }
    for (id, fault) in failed {
      guard let entry = entry(of: id) else { continue }
      observations.append(Self.observation(of: entry, failedBecause: fault))
    }
    for index in observations.indices {
      observations[index].hookRuns = catalogue.hookRuns(
        of: observations[index].session, agentStart: card.startedAt)
    }
    let (tombstones, faults) = catalogue.tombstones()
    for fault in faults { log(fault) }
    var answer = AgentObservation(
      hello: greeting(AgentProtocolVersion.newest), observedAt: time.wallNow(),
      sessions: observations.sorted { ($0.session, $0.role.rawValue) < ($1.session, $1.role.rawValue) },
      tombstones: tombstones.sorted { ($0.session, $0.role.rawValue) < ($1.session, $1.role.rawValue) },
      leases: book.withLock { $0.entries.compactMap(\.lease) }.sorted { $0.session < $1.session })
    let unreadable = catalogue.sessions().faults
    if !unreadable.isEmpty { answer.unreadable = unreadable }
    return answer
  }

  package func inspectDevices(_ call: InspectDevicesCall) throws(AgentFault) -> [DeviceReport] {
    guard call.paths.count <= 4096 else { throw AgentFault(.badRequest, "at most 4096 devices in one call") }
    return inspector(call.paths)
  }

  package func shutdown(_ call: ShutdownCall) throws(AgentFault) -> Done {
    askShutdown()
    return Done()
  }

  func note(_ text: String) { log(text) }

  // MARK: Leases

  package func acquireLease(_ call: AcquireLeaseCall) throws(AgentFault) -> Lease {
    let now = time.wallNow()
    return try book.withLock { book throws(AgentFault) in
      var next = book
      let lease = try next.acquire(call, now: now)
      try catalogue.save(next.entries)
      book = next
      return lease
    }
  }

  package func releaseLease(_ call: ReleaseLeaseCall) throws(AgentFault) -> Done {
    try book.withLock { book throws(AgentFault) in
      var next = book
      next.release(call)
      if next != book { try catalogue.save(next.entries) }
      book = next
    }
    return Done()
  }

  private func admit(_ fencingNumber: UInt64, _ session: SessionID) throws(AgentFault) {
    try book.withLock { book throws(AgentFault) in
      var next = book
      if try next.admit(fencingNumber: fencingNumber, for: session) { try catalogue.save(next.entries) }
      book = next
    }
  }

  // MARK: Sessions

  package func configureSession(_ call: ConfigureSessionCall) throws(AgentFault) -> SessionObservation {
    let configuration = call.configuration
    try ConfigurationRules.check(configuration)
    try admit(call.fencingNumber, configuration.session)
    try claim(configuration.session)
    defer { release(configuration.session) }
    if let existing = sessions.withLock({ $0.running[configuration.half] }) {
      guard try existing.mustBeRemade(for: configuration) else {
        let current = try grown(existing, to: configuration)
        try current.reconfigure(
          ConfigurationRules.keepingHandOver(configuration, after: current.observation().configuration))
        return current.observation()
      }
      try delete(existing)
    }
    if let tombstone = try catalogue.tombstone(of: configuration.session, role: configuration.role) {
      throw AgentFault(
        .refused,
        "\(configuration.session) was \(tombstone.rescued ?? tombstone.phase.rawValue) on this host at generation \(tombstone.generation) and is never started again; give the migration a new name to move it anew"
      )
    }
    return try make(configuration)
  }

  /// The session with volumes as large as the configuration has them.
  private func grown(
    _ existing: any AgentSession, to configuration: SessionConfiguration
  ) throws(AgentFault) -> any AgentSession {
    guard let larger = ConfigurationRules.growth(from: existing.observation().configuration, to: configuration) else {
      return existing
    }
    if try existing.grow(to: larger) { return existing }
    try factory.checkRoom(for: larger)
    guard let entry = entry(of: existing.half) else {
      throw AgentFault(.failed, "the entry of \(existing.session) can't be read; look into the agent's state directory")
    }
    existing.park()
    do throws(AgentFault) {
      return try restart(try factory.grow(entry, to: larger))
    } catch {
      // As it was, and to be tried again; where even that fails, the session is one that could not be started.
      do throws(AgentFault) { _ = try restart(entry) } catch {
        sessions.change { sessions in
          sessions.running[existing.half] = nil
          sessions.failed[existing.half] = error
        }
      }
      throw error
    }
  }

  private func restart(_ entry: SessionEntry) throws(AgentFault) -> any AgentSession {
    let session = try factory.make(entry, isNew: false)
    sessions.change { $0.running[entry.configuration.half] = session }
    session.start()
    return session
  }

  private func make(_ configuration: SessionConfiguration) throws(AgentFault) -> SessionObservation {
    let others = sessions.withLock { $0.running.values.map { $0 } }.map { $0.observation().configuration }
    try ConfigurationRules.checkTogether(configuration, with: others)
    guard others.count < Self.sessionLimit else {
      throw AgentFault(.refused, "this agent has \(others.count) sessions, its limit; retire some")
    }
    // A session that failed to start is tried again with what the catalogue remembers of it.
    var entry =
      self.entry(of: configuration.half) ?? SessionEntry(configuration: configuration)
    let isNew = sessions.withLock { $0.failed[configuration.half] == nil }
    if isNew { entry = SessionEntry(configuration: configuration) }
    let session = try factory.make(entry, isNew: isNew)
    sessions.change { sessions in
      sessions.running[configuration.half] = session
      sessions.failed[configuration.half] = nil
    }
    session.start()
    if !isNew {
      try session.reconfigure(ConfigurationRules.keepingHandOver(configuration, after: entry.configuration))
    }
    return session.observation()
  }

  package func command(_ call: SessionCommandCall) throws(AgentFault) -> SessionObservation {
    try admit(call.fencingNumber, call.session)
    let ends = call.command == .retire || call.command == .cancel
    if ends { try claim(call.session) }
    defer { if ends { release(call.session) } }
    if call.command == .retire, let ended = try retired(call.session, call.role) { return ended }
    if ends, let observation = try removeRescued(call) { return observation }
    let session = try find(call.session, call.role)
    let before = session.observation()
    guard before.role == call.role else {
      throw AgentFault(
        .badRequest, "this agent is the \(before.role.rawValue) of \(call.session), not its \(call.role.rawValue)")
    }
    if let hold = before.hold, !call.command.mayCrossHold {
      throw Self.held(hold, call.session)
    }
    try session.perform(call.command, confirmWithinSeconds: call.confirmWithinSeconds)
    let after = session.observation()
    if ends { try delete(session) }
    return after
  }

  package func verify(_ call: VerifyCall) throws(AgentFault) -> SessionObservation {
    let session = try find(call.session)
    // Looking is always allowed; what repairs moves data.
    if call.repairs, let hold = session.observation().hold { throw Self.held(hold, call.session) }
    try session.verify(call.scope, repairs: call.repairs)
    return session.observation()
  }

  package func map(_ call: MapCall) throws(AgentFault) -> ChangedDataMap { try find(call.session).map(call) }

  /// What is left to say of a session that was retired and is gone: whoever asks again did not get the first answer.
  private func retired(_ id: SessionID, _ role: Role) throws(AgentFault) -> SessionObservation? {
    let half = half(of: id, role)
    let isHere = sessions.withLock { $0.running[half] != nil || $0.failed[half] != nil }
    guard !isHere, let stone = try catalogue.tombstone(of: id, role: role), stone.phase == .retired else { return nil }
    return SessionObservation(retired: stone)
  }

  /// The tombstone is durable before anything goes, so that no crash lets a finished migration start again.
  private func delete(_ session: any AgentSession) throws(AgentFault) {
    if let tombstone = session.tombstone(at: time.wallNow()) { try catalogue.save(tombstone) }
    session.clearHost()
    session.park()
    try catalogue.keepReceipt(of: session.half)
    try catalogue.removeSession(session.half)
    sessions.change { $0.running[session.half] = nil }
  }

  package func setHold(_ call: SetHoldCall) throws(AgentFault) -> Done {
    if let role = call.role {
      try find(call.session, role).setHold(call.hold, clearing: call.clearing)
    } else {
      for half in try halves(of: call.session) { try half.setHold(call.hold, clearing: call.clearing) }
    }
    return Done()
  }

  package func storeApproval(_ call: StoreApprovalCall) throws(AgentFault) -> Done {
    for half in try halves(of: call.session) { try half.store(call.approval) }
    return Done()
  }

  /// Which half is meant: the destination's has a name of its own only where the source's is this agent's, too.
  private func half(of id: SessionID, _ role: Role) -> SessionID {
    let inner = id.innerDestination
    guard role == .destination, sessions.withLock({ $0.running[inner] != nil || $0.failed[inner] != nil }) else {
      return id
    }
    return inner
  }

  /// All of the session that this agent has, the source's first; throws where that is nothing.
  private func halves(of id: SessionID) throws(AgentFault) -> [any AgentSession] {
    let halves = sessions.withLock { sessions in
      sessions.isParked ? [] : [id, id.innerDestination].compactMap { sessions.running[$0] }
    }
    return halves.isEmpty ? [try find(id)] : halves
  }

  /// `role`: which half, where this agent has both.
  func find(_ id: SessionID, _ role: Role = .source) throws(AgentFault) -> any AgentSession {
    let half = half(of: id, role)
    let (session, fault, parked) = sessions.withLock { ($0.running[half], $0.failed[half], $0.isParked) }
    if parked { throw AgentFault(.failed, "the agent is shutting down; call again when it runs anew") }
    if let session { return session }
    if let fault { throw fault }
    throw AgentFault(.unknownSession, "this agent has no session \(id); configure it first")
  }

  private func claim(_ id: SessionID) throws(AgentFault) {
    let parked = sessions.wait { sessions -> Bool? in
      if sessions.isParked { return true }
      return sessions.busy.insert(id).inserted ? false : nil
    }
    if parked != false { throw AgentFault(.failed, "the agent is shutting down; call again when it runs anew") }
  }

  private func release(_ id: SessionID) { sessions.change { _ = $0.busy.remove(id) } }

  private static func held(_ hold: Hold, _ session: SessionID) -> AgentFault {
    AgentFault(
      .refused, "\(session) is held by \(hold.who): \(hold.why); look into it, then 'cmcplan resume' and apply again")
  }

  package func readEvidence(_ call: ReadEvidenceCall) throws(AgentFault) -> EvidencePart {
    let half = half(of: call.session, call.role)
    if let running = sessions.withLock({ $0.running[half] })?.observation(), running.role != call.role {
      throw AgentFault(
        .badRequest, "this agent is the \(running.role.rawValue) of \(call.session), not its \(call.role.rawValue)")
    }
    return try catalogue.evidence(call, of: half)
  }

  // MARK: Hooks

  package func runHook(_ call: RunHookCall) throws(AgentFault) -> HookOutcome {
    let before = try find(call.session).observation()
    try admit(call.fencingNumber, call.session)
    let key = "\(call.session.text)\n\(call.runID)"
    // The same run asked for twice at once: the second waits for the first and gets its answer.
    _ = runningHooks.wait { $0.insert(key).inserted ? true : nil }
    defer { runningHooks.change { _ = $0.remove(key) } }
    if let outcome = try hooks.recorded(call.runID, of: call.session) { return outcome }
    if let hold = before.hold { throw Self.held(hold, call.session) }
    return try hooks.run(call, migration: before.configuration.plannedAs?.migration ?? before.migration)
  }
}
