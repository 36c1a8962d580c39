import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Seams

// MARK: Sessions, gates and hooks

extension ActionPerformer {
  /// Only what concerns this migration, taken now.
  func facts(_ migration: Migration) async -> MigrationFacts {
    let run = ObserveRun(plan: plan, gateways: gateways, services: services, limits: limits)
    let observation = await run.observe(
      with: pool, only: [migration.name], includingFinished: true, known: knownDisks)
    return MigrationFacts(migration, in: plan, observation)
  }

  private func refuse(_ diagnostics: [Diagnostic]) throws(GatewayError) {
    let errors = diagnostics.filter { $0.severity == .error }
    guard let first = errors.first else { return }
    // What could not be asked may be answered a little later.
    let isUnseen = errors.allSatisfy { $0.code == PlanningCode.cloudNotObserved }
    throw GatewayError(
      code: first.code, message: errors.map(\.message).joined(separator: "; "), advice: first.advice,
      disposition: isUnseen ? .retry(afterSeconds: 2) : .needsOperator, position: first.position)
  }

  func checkDevices(_ migration: Migration) async throws(GatewayError) {
    try refuse(preflight(await facts(migration), overwrite: options.overwrite, replace: options.replace))
  }

  /// `growing`: volumes of a session that both agents have take the sizes that their devices have by now. Otherwise they keep
  /// theirs, for nobody was shown that they would grow.
  func configure(_ migration: Migration, growing: Bool = false) async throws(GatewayError) {
    let facts = await facts(migration)
    try refuse(preflight(facts, overwrite: options.overwrite, replace: options.replace))
    guard let inputs = facts.sessionInputs(),
      var halves = sessionConfigurations(
        for: migration, in: plan, inputs: inputs, overwrite: options.overwrite, at: services.time.wallNow(),
        digest: services.digest)
    else {
      let faults = (facts.source?.faults ?? []) + (facts.destination?.faults ?? []) + facts.cloudFaults
      throw GatewayError(
        code: ApplyCode.preflightFailed,
        message: "not everything about \(migration.name) could be seen"
          + (faults.first.map { ": \($0.part): \($0.message)" } ?? ": a device or disk hasn't shown up yet"),
        advice: faults.first?.advice ?? "", disposition: .retry(afterSeconds: 2))
    }
    if !growing, let source = facts.sourceSession, let destination = facts.destinationSession {
      halves.source.keepSizes(of: source.configuration)
      halves.destination.keepSizes(of: destination.configuration)
    }
    // An older one would take the second half for a change of the first.
    if migration.isWithinHost, !inputs.sourceCapabilities.contains(AgentCapability.withinAgent) {
      throw GatewayError(
        code: ApplyCode.preflightFailed,
        message: "\(migration.name): the agent on \(migration.source) is too old to have both halves of a session",
        advice: "cmcplan agent upgrade \(migration.source), then apply again", disposition: .needsOperator)
    }
    let number = try await fencingNumber(of: migration)
    _ = try await pool.call(
      ConfigureSessionCall(fencingNumber: number, configuration: halves.destination), on: migration.destination)
    _ = try await pool.call(
      ConfigureSessionCall(fencingNumber: number, configuration: halves.source), on: migration.source)
  }

  func retire(_ migration: Migration, _ role: Role) async throws(GatewayError) {
    let pair = try await sessions(of: migration)
    guard let session = role == .source ? pair.source : pair.destination else { return }
    try await requireArchived(session)
    try await command(.retire, role, migration)
  }

  func abandon(_ migration: Migration, _ why: String) async throws(GatewayError) {
    // The hold first: should the rest fail, nobody goes on by mistake.
    try await holdAfterFailure(migration, why)
    try await command(.revert, .source, migration)
    try await reopenTap(migration)
  }

  /// So that the application can be started again where it was: on its way to the fence the tap was closed, which no
  /// observation tells, and one that is open stays so. Looks at the source alone, for the destination may be gone.
  func reopenTap(_ migration: Migration) async throws(GatewayError) {
    let id = session(migration)
    let source = try await pool.observation(of: migration.source).sessions.first {
      $0.session == id && $0.role == .source
    }
    guard let source, source.configuration.volumes.contains(where: { $0.tracking == "tap" }) else { return }
    switch source.stage {
    case .prepared, .cancelled, .fenced, .released: return
    case .synchronizing, .tracking, .swinging, .standIn, .tapClosed, .proving, .proven:
      try await command(.openTap, .source, migration)
    }
  }

  func holdAfterFailure(_ migration: Migration, _ why: String) async throws(GatewayError) {
    // Holds aren't fenced, so that a person can always set one. A run may only while the migration is still its own:
    // what failed may be that another run took over.
    try await renewLease(migration.name)
    let hold = Hold(cause: .failure, who: options.holder, why: why, at: services.time.wallNow())
    for role in Role.allCases {
      _ = try await pool.call(
        SetHoldCall(session: session(migration), hold: hold, role: role), on: migration.host(role))
    }
  }

  // MARK: Gates

  enum Gate {
    case swing
    case finalize
    case fence
  }

  /// Looks again, right before the step: hours may have passed since the plan was made.
  @discardableResult
  func checkGates(_ migration: Migration, for gate: Gate) async throws(GatewayError) -> SessionPair {
    let pair = try await sessions(of: migration)
    let now = services.time.wallNow()
    func closed(_ code: String, _ message: String) -> GatewayError {
      GatewayError(code: code, message: "\(migration.name): \(message)", advice: "", disposition: .needsOperator)
    }
    if let hold = pair.hold { throw heldError(migration, hold) }
    guard let source = pair.source else { throw closed(ApplyCode.sessionMissing, "the source has no session") }
    let hasBegun =
      [.swinging, .standIn, .tapClosed, .proving, .proven].contains(source.stage) && gate == .swing
      || [.tapClosed, .proving, .proven].contains(source.stage)
    if !hasBegun, gate != .fence, !WindowOpening.isOpen(migration.cutover.windows, at: now) {
      throw closed(ApplyCode.windowClosed, "its window closed meanwhile")
    }
    if !hasBegun, gate == .swing, let need = drainSeconds(migration, source, at: now),
      let opening = WindowOpening.currentOrNext(of: migration.cutover.windows, at: now),
      now.adding(seconds: need) > opening.to
    {
      throw closed(ApplyCode.windowClosed, "what differs doesn't fit in the rest of its window any more")
    }
    if !hasBegun, gate != .fence { try await checkWaves(before: migration, pair) }
    guard gate != .swing else { return pair }
    if migration.cutover.confirmWithinSeconds != nil, source.stage == .standIn, !source.swingConfirmed {
      throw closed(ApplyCode.notConfirmed, "the swing isn't confirmed")
    }
    guard migration.cutover.approval == .manual else { return pair }
    let digest = configurationDigest(of: migration, in: plan, digest: services.digest)
    for session in [pair.source, pair.destination] {
      let isApproved = (session?.approvals ?? []).contains {
        $0.phase == .finalized && $0.configurationDigest == digest && ($0.expiresAt.map { now < $0 } ?? true)
      }
      guard isApproved else { throw closed(ApplyCode.notApproved, "the one-way step isn't approved any more") }
    }
    return pair
  }

  // MARK: Hooks

  func runHook(_ point: HookPoint, _ migration: Migration) async throws(GatewayError) {
    guard let hook = migration.cutover.hooks[point] else { return }
    let isBefore = MigrationFacts.hooksBeforeFence.contains(point)
    let pair = isBefore ? try await checkGates(migration, for: .finalize) : try await sessions(of: migration)
    if let hold = pair.hold { throw heldError(migration, hold) }
    let role = migration.role(ofHook: point)
    guard let generation = pair.source?.generation ?? pair.destination?.generation else {
      throw GatewayError(
        code: ApplyCode.sessionMissing, message: "no agent has a session for \(migration.name)",
        advice: "run plan to see what is there", disposition: .needsOperator)
    }
    let runs = (role == .source ? pair.source : pair.destination)?.hookRuns ?? []
    switch hookProgress(
      point, session: pair.heldSession ?? session(migration), generation: generation, runs: runs,
      digest: services.digest)
    {
    case .succeeded: return
    case .exhausted:
      throw GatewayError(
        code: ApplyCode.hookFailed,
        message: "hook \(point.rawValue) of \(migration.name) failed \(hookAttemptLimit) times",
        advice: "mend it; a revert or another swing counts anew", disposition: .terminal)
    case .toRun(let runID, _):
      let command = try await expand(hook.run, of: migration, role: role, pair)
      let number = try await fencingNumber(of: migration)
      let call = RunHookCall(
        fencingNumber: number, session: session(migration), runID: runID, point: point.rawValue, command: command,
        timeoutSeconds: hook.timeoutSeconds)
      let outcome: HookOutcome
      do throws(GatewayError) {
        outcome = try await pool.call(call, on: migration.host(ofHook: point))
      } catch {
        throw await heldInstead(of: error, migration)
      }
      guard outcome.succeeded else { throw hookError(point, migration, outcome) }
    }
  }

  private func hookError(_ point: HookPoint, _ migration: Migration, _ outcome: HookOutcome) -> GatewayError {
    let how = outcome.timedOut ? "timed out" : outcome.exitCode.map { "ended with exit code \($0)" } ?? "was killed"
    let shownCharacters = 400
    let output = outcome.output.split(whereSeparator: \.isNewline).suffix(5).joined(separator: " | ")
    return GatewayError(
      code: ApplyCode.hookFailed,
      message: "hook \(point.rawValue) of \(migration.name) on \(migration.host(ofHook: point)) \(how)"
        + (output.isEmpty ? "" : ": \(output.suffix(shownCharacters))"),
      advice: "mend it, then cmcplan resume \(migration.name)", disposition: .terminal)
  }

  /// `{device:VOLUME}` is the volume's device on the hook's host; `{lun:VOLUME}` the LUN of its disk.
  private func expand(
    _ text: String, of migration: Migration, role: Role, _ pair: SessionPair
  ) async throws(GatewayError) -> String {
    var result = ""
    var rest = Substring(text)
    while let start = rest.firstIndex(of: "{") {
      let after = rest[start...]
      guard let end = after.firstIndex(of: "}"), let colon = after[..<end].firstIndex(of: ":"),
        let word = Placeholder(rawValue: String(after[after.index(after: start)..<colon]))
      else {
        result += rest[...start]
        rest = rest[rest.index(after: start)...]
        continue
      }
      let volume = VolumeName(String(after[after.index(after: colon)..<end]))
      let value: String?
      switch word {
      case .device: value = devicePath(of: volume, role, pair).map(shellQuoted)
      case .lun: value = try await lun(of: volume, migration).map(String.init)
      }
      guard let value else {
        throw GatewayError(
          code: ApplyCode.hookPlaceholder,
          message: "{\(word.rawValue):\(volume)} in a hook of \(migration.name) names no \(word.rawValue)",
          advice: word == .device ? "use the name of one of its volumes" : "use the name of a volume that has a disk",
          disposition: .terminal)
      }
      result += rest[..<start] + value
      rest = rest[rest.index(after: end)...]
    }
    return result + rest
  }

  private enum Placeholder: String {
    case device
    case lun
  }

  private func devicePath(of volume: VolumeName, _ role: Role, _ pair: SessionPair) -> String? {
    let session = role == .source ? pair.source : pair.destination
    let seen = session?.volumes.first { $0.name == volume }
    let configured = session?.configuration.volumes.first { $0.name == volume }
    return (role == .source ? seen?.tapDevice : nil) ?? configured?.devicePath
  }

  private func lun(of name: VolumeName, _ migration: Migration) async throws(GatewayError) -> Int? {
    guard let volume = migration.volume(name), case .disk = volume.destination else { return nil }
    let facts = await facts(migration)
    if let fault = facts.cloudFaults.first {
      throw GatewayError(
        code: fault.code, message: fault.message, advice: fault.advice, disposition: .retry(afterSeconds: 2))
    }
    return facts.disks[name].flatMap(facts.lun(of:))
  }
}

// MARK: - Leases

extension ActionPerformer {
  /// Numbers start from the wall clock in milliseconds, so that they grow from run to run though agents forget leases
  /// that were given back; a clock that lags is helped by steps.
  private static let fencingSteps: [UInt64] = [0, 3_600_000, 86_400_000, 31_536_000_000]

  /// `chosen`: the hosts whose agents give it, where not both can be asked; nil: whoever has to.
  func acquireLease(_ migration: Migration, by chosen: [HostName]? = nil) async throws(GatewayError) {
    let hosts: [HostName]
    if let chosen { hosts = chosen } else { hosts = try await lessors(migration) }
    var seen = try await leasesSeen(migration, hosts)
    let clock = UInt64(max(0, services.time.wallNow().secondsSince1970 * 1000))
    var failure: GatewayError?
    for step in Self.fencingSteps {
      let number = max(seen.highestNumber + 1, clock) + step
      do throws(GatewayError) {
        try await acquire(migration, number, hosts, steal: seen.steal)
        await leases.set(HeldLeases.Held(number: number, hosts: hosts), of: migration.name)
        return
      } catch {
        if case .retry = error.disposition { throw error }
        failure = error
        // Another holder came first (this throws, and names it), or the number was too small: try a larger one.
        seen = try await leasesSeen(migration, hosts)
      }
    }
    if let failure { throw failure }
  }

  /// The hosts whose agents give the lease, in the order in which they are asked: the source's first, always, so that
  /// two runs can't each get one of the two. A migration on its way out may have lost its source already.
  private func lessors(_ migration: Migration) async throws(GatewayError) -> [HostName] {
    guard migration.source != migration.destination else { return [migration.destination] }
    if migration.cutover.phase.value == .retired,
      try await !gateways.hosts.state(of: try host(migration.source)).agentRunning
    {
      return [migration.destination]
    }
    return [migration.source, migration.destination]
  }

  /// The highest number that either agent shows, and whether to take the lease from whom it shows; throws where another
  /// holder's lease runs, unless that holder is known to be gone. Looked at here, not when the run began: an agent that
  /// the run itself started shows only now what it remembers.
  private func leasesSeen(
    _ migration: Migration, _ hosts: [HostName]
  ) async throws(GatewayError) -> (highestNumber: UInt64, steal: Bool) {
    let id = session(migration)
    let now = services.time.wallNow()
    var highest: UInt64 = 0
    var steal = options.stealLease
    for host in hosts {
      for lease in try await pool.observation(of: host).leases where lease.session == id {
        highest = max(highest, lease.fencingNumber)
        guard lease.holder != options.holder, lease.expiresAt > now, !options.stealLease else { continue }
        if options.isGone(lease.holder) {
          steal = true
          continue
        }
        throw GatewayError(
          code: ApplyCode.leaseHeld,
          message: "\(lease.holder) works on \(migration.name) since \(rendered(lease.acquiredAt)) (lease on \(host))",
          advice:
            "wait for it, or --steal-lease if it is certainly gone: two applies at once may undo each other's steps",
          disposition: .needsOperator)
      }
    }
    return (highest, steal)
  }

  private func acquire(
    _ migration: Migration, _ number: UInt64, _ hosts: [HostName], steal: Bool
  ) async throws(GatewayError) {
    var given: [HostName] = []
    do throws(GatewayError) {
      for host in hosts {
        try await askLease(migration, number, of: host, steal: steal)
        given.append(host)
      }
    } catch {
      for host in given { await release(migration, number, on: host) }
      throw error
    }
  }

  private func askLease(
    _ migration: Migration, _ number: UInt64, of host: HostName, steal: Bool
  ) async throws(GatewayError) {
    _ = try await pool.call(
      AcquireLeaseCall(
        session: session(migration), holder: options.holder, fencingNumber: number,
        timeToLiveSeconds: limits.leaseSeconds, steal: steal), on: host)
  }

  func renewLease(_ name: MigrationName) async throws(GatewayError) {
    let migration = try migration(name)
    let number = try await fencingNumber(of: migration)
    for host in await leases.held(of: name)?.hosts ?? [] {
      try await askLease(migration, number, of: host, steal: false)
    }
  }

  /// A lease that can't be given back runs out by itself.
  func releaseLease(_ migration: Migration) async {
    guard let held = await leases.held(of: migration.name) else { return }
    await leases.set(nil, of: migration.name)
    for host in held.hosts.reversed() { await release(migration, held.number, on: host) }
  }

  private func release(_ migration: Migration, _ number: UInt64, on host: HostName) async {
    do throws(GatewayError) {
      _ = try await pool.call(ReleaseLeaseCall(session: session(migration), fencingNumber: number), on: host)
    } catch {
      // Said nowhere: it only means that the next run waits until the lease ran out.
      return
    }
  }
}

extension SessionConfiguration {
  fileprivate mutating func keepSizes(of old: SessionConfiguration) {
    for index in volumes.indices {
      guard let known = old.volumes.first(where: { $0.name == volumes[index].name }) else { continue }
      volumes[index].sizeBytes = known.sizeBytes
    }
  }
}
