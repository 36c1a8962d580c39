import AgentProtocol
package import BlockModel
import MigrationModel
import Planning

// MARK: What the outcome of a step, a poll or a renewal means

extension Reconciler {
  mutating func stepSucceeded(_ index: Int, _ now: MonotonicTime, _ effects: inout [ReconcileEffect]) {
    guard case .running(let attempt, let since) = states[index] else { return }
    let action = nodes[index].action
    switch action {
    case .acquireLease(let migration):
      let lease = HeldLease(renewAt: now.adding(seconds: limits.leaseRenewalSeconds))
      leases[migration] = lease
      timers.set(.renewal(migration), at: lease.renewAt)
    case .releaseLease(let migration): leases[migration] = nil
    default: break
    }
    if Milestone(of: action, limits: limits) != nil, let migration = action.migration {
      board.set(index, .awaiting(since: now, attempt: attempt))
      if let limit = limitTime(of: index, since: now) { timers.set(.limit(step: index), at: limit) }
      polls[migration] = Poll(nextAt: now)
      timers.set(.poll(migration), at: now)
      if interrupted { park(index, "interrupted", &effects) }
      if takenBack.contains(migration) { park(index, "its group goes back", &effects) }
      return
    }
    finish(index, seconds: now.seconds(since: since), &effects)
  }

  private mutating func finish(_ index: Int, seconds: Double, _ effects: inout [ReconcileEffect]) {
    board.set(index, .done)
    let action = nodes[index].action
    switch action {
    case .acquireLease, .releaseLease: break
    default: stepsDone += 1
    }
    effects += [
      .record(JournalEntry(.stepSucceeded, action)), .report(.stepFinished(action, seconds: seconds)),
    ]
  }

  mutating func stepFailed(
    _ index: Int, _ error: GatewayError, _ now: MonotonicTime, _ effects: inout [ReconcileEffect]
  ) {
    guard case .running(let attempt, _) = states[index] else { return }
    if ApplyCode.gates.contains(error.code) {
      parkAtGate(index, error.message, &effects)
      return
    }
    if let migration = nodes[index].action.migration, takenBack.contains(migration),
      !isCleanUp(nodes[index].action)
    {
      park(index, error.message, &effects)
      return
    }
    guard case .retry(let afterSeconds) = error.disposition, attempt < limits.stepAttempts, !interrupted else {
      fail(index, error, now, &effects)
      return
    }
    let doubled = limits.firstBackoffSeconds * Double(1 << min(attempt - 1, 16))
    let wait = max(afterSeconds, min(doubled, limits.backoffCapSeconds))
    let until = now.adding(seconds: wait)
    board.set(index, .backingOff(attempt: attempt, until: until))
    timers.set(.retry(step: index), at: until)
    let action = nodes[index].action
    effects += [
      .record(
        JournalEntry(.stepRetrying, action, attempt: attempt, code: error.code, message: error.message)),
      .report(.stepRetrying(action, error, afterSeconds: wait)),
    ]
  }

  /// One of a group that a gate keeps from swinging keeps the others as well.
  private mutating func parkAtGate(_ index: Int, _ why: String, _ effects: inout [ReconcileEffect]) {
    park(index, why, &effects)
    if case .swing(let migration) = nodes[index].action {
      takeGroupBack(migration, why: why, itself: false, &effects)
    }
  }

  mutating func fail(
    _ index: Int, _ error: GatewayError, _ now: MonotonicTime, _ effects: inout [ReconcileEffect]
  ) {
    let action = nodes[index].action
    board.set(index, .failed(error))
    effects += [
      .record(JournalEntry(.stepFailed, action, code: error.code, message: error.message)),
      .report(.stepFailed(action, error)),
    ]
    compensate(action, error, &effects)
  }

  /// A failure before the fence reverts, one after it stops and asks. An error that says "try again" was about the
  /// way to the agent, not about the step: nothing is taken back, the next apply goes on.
  private mutating func compensate(_ action: Action, _ error: GatewayError, _ effects: inout [ReconcileEffect]) {
    guard error.code != ApplyCode.leaseLost else { return }
    if case .checkGroup(_, .fence) = action, error.code == ApplyCode.notApproved {
      for migration in groupMembers(of: action) { abandon(migration, error.message, &effects) }
    }
    guard let migration = action.migration, !takenBack.contains(migration) else { return }
    if case .swing = action {
      // Where the agent gave it up it is over. Otherwise nobody knows, and it may still come.
      takeGroupBack(migration, why: error.message, itself: error.code != ApplyCode.agentReports, &effects)
      return
    }
    if case .retry = error.disposition { return }
    switch action {
    case .runHook(_, let point) where MigrationFacts.hooksBeforeFence.contains(point):
      abandon(migration, "\(action.kind): \(error.message)", &effects)
    case .closeTap, .prove: abandon(migration, "\(action.kind): \(error.message)", &effects)
    case .fence where error.code == ApplyCode.notApproved: abandon(migration, error.message, &effects)
    case .runHook, .release: append(.holdAfterFence(migration, why: "\(action.kind): \(error.message)"), for: migration)
    default: return
    }
  }

  private func groupMembers(of check: Action) -> [MigrationName] {
    nodes.first { $0.action == check }?.migrations ?? []
  }

  /// Where others of its group are past the fence there is no way back: a hold, and nothing else.
  private mutating func abandon(_ migration: MigrationName, _ why: String, _ effects: inout [ReconcileEffect]) {
    guard !takenBack.contains(migration) else { return }
    guard groups[migration]?.isCommitted != true else {
      append(.holdAfterFence(migration, why: why), for: migration)
      return
    }
    takenBack.insert(migration)
    append(.abandonFinalize(migration, why: why), for: migration)
    takeGroupBack(migration, why: why, itself: false, &effects)
  }

  mutating func park(_ index: Int, _ why: String, _ effects: inout [ReconcileEffect]) {
    board.set(index, .parked(why: why))
    effects.append(.record(JournalEntry(.stepParked, nodes[index].action, message: why)))
  }

  mutating func interrupt(_ effects: inout [ReconcileEffect]) {
    guard !interrupted else { return }
    interrupted = true
    effects += [.record(JournalEntry(.interrupted)), .report(.interrupted)]
    for index in states.indices {
      switch states[index] {
      case .awaiting, .backingOff:
        if case .releaseLease = nodes[index].action { continue }
        park(index, "interrupted", &effects)
      default: break
      }
    }
    for index in states.indices where states[index] == .pending && !isCleanUp(nodes[index].action) {
      board.set(index, .parked(why: "interrupted"))
    }
  }

  // MARK: Polls

  /// Whether an application waits, stopped or slowed, until the step is seen to have ended.
  private func isUrgent(_ action: Action) -> Bool {
    switch action {
    case .swing, .revert, .closeTap, .prove, .fence, .release: true
    default: false
    }
  }

  private func awaitingNodes(of migration: MigrationName) -> [Int] {
    board.steps(of: migration).filter { if case .awaiting = states[$0] { true } else { false } }
  }

  mutating func polled(
    _ migration: MigrationName, _ pair: SessionPair, _ now: MonotonicTime, _ effects: inout [ReconcileEffect]
  ) {
    var poll = polls[migration] ?? Poll(nextAt: now)
    poll.isRunning = false
    poll.failures = 0
    let hurries = awaitingNodes(of: migration).contains { isUrgent(nodes[$0].action) }
    poll.nextAt = now.adding(seconds: hurries ? limits.urgentPollSeconds : limits.pollSeconds)
    let error = pair.source?.lastError ?? pair.destination?.lastError
    poll.errorSince = error == nil ? nil : poll.errorSince ?? now
    polls[migration] = poll
    timers.set(.poll(migration), at: poll.nextAt)
    let waiting = awaitingNodes(of: migration)
    if !waiting.isEmpty {
      effects.append(.report(.replication(migration, source: pair.source, destination: pair.destination)))
    }
    for index in waiting {
      guard case .awaiting(let since, _) = states[index],
        let milestone = Milestone(of: nodes[index].action, limits: limits)
      else { continue }
      if milestone.isReached(pair) {
        finish(index, seconds: now.seconds(since: since), &effects)
      } else if let hold = pair.hold, !goesOn(nodes[index].action, under: hold) {
        parkAtGate(index, "held by \(hold.who): \(hold.why)", &effects)
      } else if pair.source == nil {
        fail(
          index,
          GatewayError(
            code: ApplyCode.sessionMissing, message: "the source's agent has no session for \(migration) any more",
            advice: "run plan to see what is there", disposition: .needsOperator), now, &effects)
      } else if let error, let since = poll.errorSince, now.seconds(since: since) >= limits.errorPatienceSeconds {
        fail(
          index,
          GatewayError(
            code: ApplyCode.agentReports, message: "\(migration): \(error.message)", advice: "",
            disposition: .needsOperator), now, &effects)
      } else {
        watchForForgotten(index, milestone, pair, now, &effects)
      }
    }
  }

  /// A pause stops what is still to come. A swing of a group that is under way would otherwise take all the others back
  /// and then happen.
  private func goesOn(_ action: Action, under hold: Hold) -> Bool {
    guard case .swing(let migration) = action else { return false }
    return groups[migration] != nil && hold.cause == .paused
  }

  /// A session that is back where the step starts is not on its way: the agent was started anew before it had noted
  /// what it was asked for, or gave it up. One such sighting may be of a poll that was under way before it was asked.
  private mutating func watchForForgotten(
    _ index: Int, _ milestone: Milestone, _ pair: SessionPair, _ now: MonotonicTime, _ effects: inout [ReconcileEffect]
  ) {
    let action = nodes[index].action
    guard case .awaiting(let since, let attempt) = states[index], let source = pair.source,
      let migration = action.migration
    else { return }
    guard milestone.startsAt.contains(source.stage) else {
      polls[migration]?.timesAtStart[index] = nil
      return
    }
    polls[migration]?.timesAtStart[index, default: 0] += 1
    guard polls[migration]?.timesAtStart[index] ?? 0 > 1 else { return }
    polls[migration]?.timesAtStart[index] = nil
    board.set(index, .running(attempt: attempt, since: since))
    stepFailed(index, forgotten(action, migration, source, attempt: attempt), now, &effects)
  }

  private func forgotten(
    _ action: Action, _ migration: MigrationName, _ source: SessionObservation, attempt: Int
  ) -> GatewayError {
    guard case .swing = action else {
      let why = source.lastError.map { ": \($0.message)" } ?? "; was its agent started anew?"
      return GatewayError(
        code: ApplyCode.agentReports,
        message: "\(migration): \(action.kind) was asked for, and the source is back at \(source.stage.rawValue)\(why)",
        advice: "see the agent's journal, then apply again",
        disposition: attempt >= limits.stepAttempts
          ? .needsOperator : .retry(afterSeconds: limits.firstBackoffSeconds))
    }
    let reason = source.swingGivenUp ?? source.lastError?.message
    let why = reason.map { ": \($0)" } ?? "; the agent's journal says why"
    return GatewayError(
      code: ApplyCode.agentReports, message: "\(migration): the swing did not happen\(why)",
      advice: "the application goes on at the source, after a pause each time; apply again in a quieter moment",
      disposition: attempt >= limits.swingAttempts
        ? .needsOperator : .retry(afterSeconds: limits.firstBackoffSeconds))
  }

  mutating func pollFailed(
    _ migration: MigrationName, _ error: GatewayError, _ now: MonotonicTime, _ effects: inout [ReconcileEffect]
  ) {
    var poll = polls[migration] ?? Poll(nextAt: now)
    poll.isRunning = false
    poll.failures += 1
    poll.nextAt = now.adding(seconds: limits.pollSeconds * Double(1 << min(poll.failures, 5)))
    polls[migration] = poll
    timers.set(.poll(migration), at: poll.nextAt)
    guard poll.failures >= limits.pollFailures || error.disposition == .terminal else { return }
    for index in awaitingNodes(of: migration) {
      // Whatever it says of itself: this was about seeing, not about the step.
      var seen = error
      seen.disposition = .retry(afterSeconds: 0)
      fail(index, seen, now, &effects)
    }
  }

  // MARK: Leases

  mutating func renewalFailed(
    _ migration: MigrationName, _ error: GatewayError, _ now: MonotonicTime, _ effects: inout [ReconcileEffect]
  ) {
    guard var lease = leases[migration] else { return }
    lease.isRenewing = false
    lease.failures += 1
    let isTransient = if case .retry = error.disposition { true } else { false }
    if isTransient, lease.failures <= limits.leaseRenewalFailures {
      lease.renewAt = now.adding(seconds: limits.pollSeconds * 5)
      leases[migration] = lease
      timers.set(.renewal(migration), at: lease.renewAt)
      return
    }
    lease.isLost = true
    leases[migration] = lease
    for index in board.steps(of: migration) {
      switch states[index] {
      case .pending: board.set(index, .skipped)
      case .awaiting, .backingOff:
        fail(
          index,
          GatewayError(
            code: ApplyCode.leaseLost, message: "the lease of \(migration) was lost: \(error.message)",
            advice: "see who runs another apply; running it again is safe", disposition: .needsOperator), now, &effects)
      default: break
      }
    }
  }

  // MARK: How it ended

  /// Every failed step, with the migrations that it was for.
  package var failures: [StepFailure] {
    nodes.indices.compactMap { index in
      guard case .failed(let error) = states[index] else { return nil }
      let action = nodes[index].action
      return StepFailure(
        step: action.kind, subject: action.subject, migrations: nodes[index].migrations, error: error)
    }
  }

  /// Migrations with a step that was parked, and why.
  package var parked: [MigrationName: String] {
    var found: [MigrationName: String] = [:]
    for index in nodes.indices {
      guard case .parked(let why) = states[index] else { continue }
      for migration in nodes[index].migrations where found[migration] == nil { found[migration] = why }
    }
    return found
  }
}
