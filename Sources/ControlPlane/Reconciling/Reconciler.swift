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

  package internal(set) var nodes: [ActionGraph.Node]
  package internal(set) var states: [NodeState]
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
    nodes = graph.nodes
    groups = graph.groups
    states = Array(repeating: .pending, count: graph.nodes.count)
    self.parallelism = max(1, parallelism)
    self.waitUntil = waitUntil
    self.limits = limits
  }

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
    case .renewalFailed(let migration, let error): renewalFailed(migration, error, now, &effects)
    case .tick:
      // A sleep may end a little early; a tick of a wake that an earlier one replaced is nothing.
      if let at = wakeAt, at <= now.adding(seconds: Self.earlyTickSeconds) { wakeAt = nil }
    case .interrupted: interrupt(&effects)
    case .abandoned:
      for index in states.indices where !states[index].isSettled { states[index] = .parked(why: "stopped at once") }
    }
    advance(now, &effects)
    return effects
  }

  // MARK: Moving on

  private mutating func advance(_ now: MonotonicTime, _ effects: inout [ReconcileEffect]) {
    settle(now, &effects)
    startReady(now, &effects)
    watch(now, &effects)
    if states.allSatisfy(\.isSettled) {
      finished = true
      effects.append(.finish)
      return
    }
    wake(now, &effects)
  }

  /// What can't be done any more is skipped; what has waited long enough is parked or failed.
  private mutating func settle(_ now: MonotonicTime, _ effects: inout [ReconcileEffect]) {
    for index in nodes.indices {
      switch states[index] {
      case .pending:
        let blocked = nodes[index].requires.contains { isSettledBadly(states[$0]) }
        if blocked {
          states[index] = .skipped
        } else if interrupted, !isCleanUp(nodes[index].action) {
          states[index] = .parked(why: "interrupted")
        } else if case .releaseLease(let migration) = nodes[index].action, isReady(index), leases[migration] == nil {
          states[index] = .skipped
        } else if let migration = nodes[index].action.migration, leases[migration]?.isLost == true {
          states[index] = .skipped
        }
      case .awaiting(let since, _): settleAwaiting(index, since: since, now, &effects)
      default: break
      }
    }
  }

  private func isSettledBadly(_ state: NodeState) -> Bool { state.isSettled && state != .done }

  private mutating func settleAwaiting(
    _ index: Int, since: MonotonicTime, _ now: MonotonicTime, _ effects: inout [ReconcileEffect]
  ) {
    let action = nodes[index].action
    guard let milestone = Milestone(of: action, limits: limits) else { return }
    if milestone.isOptional {
      if let waitUntil, waitUntil <= now { park(index, "replication goes on", &effects) }
    } else if now.seconds(since: since) >= limitSeconds(action, milestone) {
      fail(
        index,
        GatewayError(
          code: ApplyCode.timedOut,
          message:
            "\(action.kind) of \(action.subject) did not get where it should within \(Int(limitSeconds(action, milestone))) s",
          advice: "see cmcplan status; apply again goes on from there", disposition: .needsOperator), now, &effects)
    }
  }

  private func isReady(_ index: Int) -> Bool {
    nodes[index].requires.allSatisfy { states[$0] == .done } && nodes[index].after.allSatisfy { states[$0].isSettled }
  }

  private mutating func startReady(_ now: MonotonicTime, _ effects: inout [ReconcileEffect]) {
    var busy = states.count { if case .running = $0 { true } else { false } }
    for index in nodes.indices where busy < parallelism {
      let attempt: Int
      switch states[index] {
      case .pending where isReady(index): attempt = 1
      case .backingOff(let last, let until) where until <= now: attempt = last + 1
      default: continue
      }
      guard let action = trimmed(nodes[index]) else {
        states[index] = .skipped
        continue
      }
      states[index] = .running(attempt: attempt, since: now)
      busy += 1
      effects += [
        .record(JournalEntry(.stepStarted, action, attempt: attempt)), .report(.stepStarted(action, attempt: attempt)),
        .perform(node: index, action),
      ]
    }
  }

  /// A shared attachment leaves out the volumes of migrations that failed on the way to it; a check for which everybody
  /// did isn't made.
  private func trimmed(_ node: ActionGraph.Node) -> Action? {
    if case .checkWave = node.action {
      return !node.after.isEmpty && node.after.allSatisfy { isSettledBadly(states[$0]) } ? nil : node.action
    }
    guard case .attachDisks(let integration, let machine, let volumes) = node.action else { return node.action }
    let kept = volumes.filter { key in
      !nodes.indices.contains { index in
        guard nodes[index].migrations.contains(key.migration), isSettledBadly(states[index]) else { return false }
        return node.after.contains(index)
      }
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

  /// Polls what is waited for, renews leases.
  private mutating func watch(_ now: MonotonicTime, _ effects: inout [ReconcileEffect]) {
    for index in nodes.indices {
      guard case .awaiting = states[index], let migration = nodes[index].action.migration else { continue }
      var poll = polls[migration] ?? Poll(nextAt: now)
      if !poll.isRunning, poll.nextAt <= now {
        poll.isRunning = true
        effects.append(.poll(migration))
      }
      polls[migration] = poll
    }
    for (migration, lease) in leases.sorted(by: { $0.key < $1.key })
    where !lease.isRenewing && !lease.isLost && lease.renewAt <= now {
      leases[migration]?.isRenewing = true
      leases[migration]?.renewAt = now.adding(seconds: limits.leaseRenewalSeconds)
      effects.append(.renewLease(migration))
    }
  }

  private mutating func wake(_ now: MonotonicTime, _ effects: inout [ReconcileEffect]) {
    var times: [MonotonicTime] = []
    for index in nodes.indices {
      switch states[index] {
      case .backingOff(_, let until): times.append(until)
      case .awaiting(let since, _):
        if let milestone = Milestone(of: nodes[index].action, limits: limits) {
          if !milestone.isOptional { times.append(since.adding(seconds: limitSeconds(nodes[index].action, milestone))) }
          if milestone.isOptional, let waitUntil { times.append(waitUntil) }
        }
      default: break
      }
    }
    times += polls.values.filter { !$0.isRunning && $0.nextAt > now }.map(\.nextAt)
    times += leases.values.filter { !$0.isLost }.map(\.renewAt)
    // A backing-off step whose time has come but that found no free slot is started by whatever frees one.
    guard let next = times.filter({ $0 > now }).min() else { return }
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
