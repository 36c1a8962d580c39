package import AgentProtocol
package import BlockModel
package import Planning

/// What the two agents say of one migration now; nil where one has no such session.
package struct SessionPair: Sendable, Equatable {
  package var source: SessionObservation?
  package var destination: SessionObservation?
  package init(source: SessionObservation?, destination: SessionObservation?) {
    self.source = source
    self.destination = destination
  }
  package var hold: Hold? { source?.hold ?? destination?.hold }
  /// As its agents call it.
  var heldSession: SessionID? { source?.heldSession ?? destination?.heldSession }
}

package enum ReconcileEvent: Sendable {
  case start
  /// The action was carried out, or begun where it has a milestone to wait for.
  case succeeded(node: Int)
  case failed(node: Int, GatewayError)
  case polled(MigrationName, SessionPair)
  case pollFailed(MigrationName, GatewayError)
  case renewed(MigrationName)
  case renewalFailed(MigrationName, GatewayError)
  case tick
  /// Finish or park what runs, release leases.
  case interrupted
  /// Stop now.
  case abandoned
}

package enum ReconcileEffect: Sendable, Equatable {
  case record(JournalEntry)
  case perform(node: Int, Action)
  case poll(MigrationName)
  case renewLease(MigrationName)
  /// A `tick` is wanted then.
  case wake(afterSeconds: Double)
  case report(ProgressEvent)
  case finish
}

/// Carries out one action graph: which step may start, what to do when one fails, what to wait for and how long.
/// Pure; time comes in with each event.
package struct Reconciler: Sendable {
  package enum NodeState: Sendable, Equatable {
    case pending
    case running(attempt: Int, since: MonotonicTime)
    /// Carried out; its milestone isn't reached.
    case awaiting(since: MonotonicTime, attempt: Int)
    case backingOff(attempt: Int, until: MonotonicTime)
    case done
    case failed(GatewayError)
    /// Not done now, and no failure: still converging, or a gate closed, or interrupted.
    case parked(why: String)
    /// Something that it requires wasn't done.
    case skipped

    package var isSettled: Bool {
      switch self {
      case .done, .failed, .parked, .skipped: true
      default: false
      }
    }
  }

  struct Poll: Sendable {
    var isRunning = false
    var nextAt: MonotonicTime
    var failures = 0
    /// Since when the agents report an error of their own.
    var errorSince: MonotonicTime?
    /// By step: polls in a row that showed the session where it starts, though it was asked for.
    var timesAtStart: [Int: Int] = [:]
  }

  struct HeldLease: Sendable {
    var renewAt: MonotonicTime
    var isRenewing = false
    var failures = 0
    var isLost = false
  }

  private static let earlyTickSeconds = 0.001

  var board: StepBoard
  var timers = RunTimers()
  package internal(set) var stepsDone = 0
  let groups: [MigrationName: ActionGraph.Mates]
  /// Taken back because another one of their group can't follow.
  var takenBack: Set<MigrationName> = []
  let limits: ReconcileLimits
  let parallelism: Int
  /// Until when synchronization is waited for; nil: for as long as it takes.
  let waitUntil: MonotonicTime?
  var polls: [MigrationName: Poll] = [:]
  var leases: [MigrationName: HeldLease] = [:]
  var wakeAt: MonotonicTime?
  var interrupted = false
  var finished = false

  package init(
    _ graph: ActionGraph, parallelism: Int, waitUntil: MonotonicTime?, limits: ReconcileLimits = ReconcileLimits()
  ) {
    board = StepBoard(graph.nodes)
    groups = graph.groups
    self.parallelism = max(1, parallelism)
    self.waitUntil = waitUntil
    self.limits = limits
  }

  var nodes: [ActionGraph.Node] { board.nodes }
  var states: [NodeState] { board.states }

  package mutating func handle(_ event: ReconcileEvent, at now: MonotonicTime) -> [ReconcileEffect] {
    guard !finished else { return [] }
    var effects: [ReconcileEffect] = []
    switch event {
    case .start: break
    case .succeeded(let node): stepSucceeded(node, now, &effects)
    case .failed(let node, let error): stepFailed(node, error, now, &effects)
    case .polled(let migration, let pair): polled(migration, pair, now, &effects)
    case .pollFailed(let migration, let error): pollFailed(migration, error, now, &effects)
    case .renewed(let migration):
      leases[migration]?.isRenewing = false
      leases[migration]?.failures = 0
      if let lease = leases[migration] { timers.set(.renewal(migration), at: lease.renewAt) }
    case .renewalFailed(let migration, let error): renewalFailed(migration, error, now, &effects)
    case .tick:
      // A sleep may end a little early; a tick of a wake that an earlier one replaced is nothing.
      if let at = wakeAt, at <= now.adding(seconds: Self.earlyTickSeconds) { wakeAt = nil }
    case .interrupted: interrupt(&effects)
    case .abandoned:
      for index in states.indices where !states[index].isSettled { board.set(index, .parked(why: "stopped at once")) }
    }
    advance(now, &effects)
    return effects
  }

  // MARK: Moving on

  private mutating func advance(_ now: MonotonicTime, _ effects: inout [ReconcileEffect]) {
    lookAtWhatIsDue(now, &effects)
    startReady(now, &effects)
    if board.openCount == 0 {
      finished = true
      effects.append(.finish)
      return
    }
    wake(now, &effects)
  }

  /// What has waited long enough is parked, failed or tried again; what is waited for is polled; leases are renewed.
  private mutating func lookAtWhatIsDue(_ now: MonotonicTime, _ effects: inout [ReconcileEffect]) {
    while let entry = timers.first, entry.at <= now || isStale(entry) {
      timers.removeFirst()
      guard !isStale(entry) else { continue }
      switch entry.reason {
      case .limit(let step): settleAwaiting(step, now, &effects)
      case .retry(let step): board.letStart(step)
      case .poll(let migration):
        polls[migration]?.isRunning = true
        effects.append(.poll(migration))
      case .renewal(let migration):
        let next = now.adding(seconds: limits.leaseRenewalSeconds)
        leases[migration]?.isRenewing = true
        leases[migration]?.renewAt = next
        effects.append(.renewLease(migration))
      }
    }
  }

  /// What it was set for went another way, or another entry stands for it.
  private func isStale(_ entry: RunTimers.Entry) -> Bool {
    switch entry.reason {
    case .limit(let step):
      guard case .awaiting(let since, _) = states[step] else { return true }
      return limitTime(of: step, since: since) != entry.at
    case .retry(let step):
      guard case .backingOff(_, let until) = states[step] else { return true }
      return until != entry.at
    case .poll(let migration):
      guard let poll = polls[migration], !poll.isRunning, poll.nextAt == entry.at else { return true }
      return !isAwaited(migration)
    case .renewal(let migration):
      guard let lease = leases[migration] else { return true }
      return lease.isRenewing || lease.isLost || lease.renewAt != entry.at
    }
  }

  private func isAwaited(_ migration: MigrationName) -> Bool {
    board.steps(of: migration).contains { if case .awaiting = states[$0] { true } else { false } }
  }

  /// When a step that waits since then has waited long enough; nil: never.
  func limitTime(of index: Int, since: MonotonicTime) -> MonotonicTime? {
    let action = nodes[index].action
    guard let milestone = Milestone(of: action, limits: limits) else { return nil }
    return milestone.isOptional ? waitUntil : since.adding(seconds: limitSeconds(action, milestone))
  }

  func isSettledBadly(_ state: NodeState) -> Bool { state.isSettled && state != .done }

  private mutating func settleAwaiting(_ index: Int, _ now: MonotonicTime, _ effects: inout [ReconcileEffect]) {
    let action = nodes[index].action
    guard let milestone = Milestone(of: action, limits: limits) else { return }
    guard !milestone.isOptional else { return park(index, "replication goes on", &effects) }
    fail(
      index,
      GatewayError(
        code: ApplyCode.timedOut,
        message:
          "\(action.kind) of \(action.subject) did not get where it should within \(Int(limitSeconds(action, milestone))) s",
        advice: "see cmcplan status; apply again goes on from there", disposition: .needsOperator), now, &effects)
  }

  private mutating func startReady(_ now: MonotonicTime, _ effects: inout [ReconcileEffect]) {
    // What only waited for the end of a skipped step may start as well.
    while board.runningCount < parallelism, let index = board.startable.first {
      let attempt: Int
      switch states[index] {
      case .pending: attempt = 1
      case .backingOff(let last, _): attempt = last + 1
      default: preconditionFailure("only a step that waits may start")
      }
      guard !isPointless(nodes[index].action), let action = trimmed(nodes[index]) else {
        board.set(index, .skipped)
        continue
      }
      board.set(index, .running(attempt: attempt, since: now))
      effects += [
        .record(JournalEntry(.stepStarted, action, attempt: attempt)),
        .report(.stepStarted(action, attempt: attempt)),
        .perform(node: index, action),
      ]
    }
  }

  /// No lease is given back that isn't held, and nothing begins under one that was lost.
  private func isPointless(_ action: Action) -> Bool {
    guard let migration = action.migration else { return false }
    if case .releaseLease = action, leases[migration] == nil { return true }
    return leases[migration]?.isLost == true
  }

  /// A shared attachment leaves out the volumes of migrations that failed on the way to it; a check for which everybody
  /// did isn't made.
  private func trimmed(_ node: ActionGraph.Node) -> Action? {
    if case .checkWave = node.action {
      return !node.after.isEmpty && node.after.allSatisfy { isSettledBadly(states[$0]) } ? nil : node.action
    }
    guard case .attachDisks(let integration, let machine, let volumes) = node.action else { return node.action }
    let kept = volumes.filter { key in
      !node.after.contains { isSettledBadly(states[$0]) && nodes[$0].migrations.contains(key.migration) }
    }
    return kept.isEmpty ? nil : .attachDisks(integration: integration, machine: machine, volumes: kept)
  }

  /// Steps that are done even after an interrupt: they leave the world tidy.
  func isCleanUp(_ action: Action) -> Bool {
    switch action {
    case .releaseLease, .abandonFinalize, .revertWithGroup, .holdAfterFence: true
    default: false
    }
  }

  private mutating func wake(_ now: MonotonicTime, _ effects: inout [ReconcileEffect]) {
    // A backing-off step whose time has come but that found no free slot is started by whatever frees one.
    guard let next = timers.first?.at else { return }
    if let wakeAt, wakeAt <= next, wakeAt > now { return }
    wakeAt = next
    effects.append(.wake(afterSeconds: next.seconds(since: now)))
  }
}

/// What has to be seen before a step that only began counts as done.
struct Milestone {
  var limitSeconds: Double
  /// Waited for only as long as the run wants to: `synchronize`.
  var isOptional = false
  /// Where the source stands before the step, and never while it is under way.
  var startsAt: Set<SessionStage> = []
  var isReached: @Sendable (SessionPair) -> Bool

  init?(of action: Action, limits: ReconcileLimits) {
    limitSeconds = limits.milestoneSeconds
    switch action {
    case .growVolumes:
      // Both halves open the link anew, once they agree.
      isReached = { pair in
        guard let source = pair.source, let destination = pair.destination, source.connected else { return false }
        return source.configuration.volumes.map(\.sizeBytes) == destination.configuration.volumes.map(\.sizeBytes)
      }
    case .proveConnection: isReached = { $0.source?.connectionProof != nil }
    case .synchronize:
      isOptional = true
      startsAt = [.prepared]
      isReached = { $0.source?.initialSynchronizationAt != nil }
    case .stopSynchronizing:
      startsAt = [.synchronizing, .tracking]
      isReached = { $0.source?.stage == .prepared }
    case .swing:
      limitSeconds = limits.swingSeconds
      startsAt = [.tracking, .synchronizing]
      isReached = { $0.source?.stage == .standIn }
    case .revert:
      limitSeconds = limits.swingSeconds
      isReached = { pair in
        guard let source = pair.source, source.authority == .source else { return false }
        return source.stage == .tracking || source.stage == .synchronizing || source.stage == .prepared
      }
    case .closeTap:
      startsAt = [.standIn]
      isReached = { ($0.source?.stage).map(Self.closed.contains) ?? false }
    case .prove:
      limitSeconds = limits.proofSeconds
      startsAt = [.tapClosed]
      isReached = { ($0.source?.stage).map(Self.proven.contains) ?? false }
    case .fence: isReached = { $0.source?.stage == .fenced || $0.source?.stage == .released }
    case .release: isReached = { $0.destination?.stage == .released }
    default: return nil
    }
  }

  private static let proven: Set<SessionStage> = [.proven, .fenced, .released]
  private static let closed: Set<SessionStage> = [.tapClosed, .proving, .proven, .fenced, .released]
}
