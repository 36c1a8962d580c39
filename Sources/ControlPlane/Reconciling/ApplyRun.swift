import BlockModel
import Diagnostics
package import MigrationModel
package import Planning
import Seams
import Synchronization

/// One `apply`: observes, diffs, acts, and again, until the target is reached or nothing more can be done now.
///
/// It holds nothing that it couldn't find again: killed at any point, the next run goes on from the next observation.
package final class ApplyRun: Sendable {
  private struct Interrupts: Sendable {
    var count = 0
    var events: AsyncStream<ReconcileEvent>.Continuation?
  }

  let plan: MigrationPlan
  let gateways: Gateways
  let options: ApplyOptions
  let services: RunServices
  let limits: ReconcileLimits
  private let interrupts = Mutex(Interrupts())

  package init(
    plan: MigrationPlan, gateways: Gateways, options: ApplyOptions, services: RunServices,
    limits: ReconcileLimits = ReconcileLimits()
  ) {
    self.plan = plan
    self.gateways = gateways
    self.options = options
    self.services = services
    self.limits = limits
  }

  /// First call: finish or park the running steps, release leases. Second: stop now. May be called from any thread.
  package func interrupt() {
    interrupts.withLock { state in
      state.count += 1
      state.events?.yield(state.count == 1 ? .interrupted : .abandoned)
    }
  }

  private var isInterrupted: Bool { interrupts.withLock { $0.count > 0 } }
  private var isAbandoned: Bool { interrupts.withLock { $0.count > 1 } }

  /// What has come of the rounds so far.
  private struct Progress {
    var failures: [StepFailure] = []
    var parked: [MigrationName: String] = [:]
    var stepsDone = 0
    /// Limits of a run are held in every round of it.
    var begun = RunSoFar()
    var failedMigrations: Set<MigrationName> { Set(failures.flatMap(\.migrations)) }
    /// Why a migration isn't tried any more in this run.
    var stuck: [MigrationName: String] {
      var found = parked
      for failure in failures { for name in failure.migrations { found[name] = failure.error.message } }
      return found
    }
    /// Those that did not come back with their group: they are not asked again.
    var leftAhead: Set<MigrationName> {
      Set(failures.filter { $0.step == Action.revertWithGroupKind }.flatMap(\.migrations))
    }
  }

  /// Runs to the end. `first` is an observation that was just taken and shown (the approved plan); nil: takes one.
  package func run(from first: Observation? = nil) async -> ApplySummary {
    let start = services.time.monotonicNow()
    let pool = AgentPool(plan: plan, hosts: gateways.hosts, time: services.time)
    let observer = ObserveRun(plan: plan, gateways: gateways, services: services, limits: limits)
    let performer = ActionPerformer(
      plan: plan, gateways: gateways, options: options, services: services, limits: limits, pool: pool)
    let waitUntil: MonotonicTime? =
      switch options.wait {
      case .no: start.adding(seconds: limits.graceSeconds)
      case .upTo(let seconds): start.adding(seconds: seconds)
      case .untilReached: nil
      }
    await services.record(JournalEntry(.runStarted, message: options.holder))
    var progress = Progress()
    var changes = difference(await observed(first, observer, performer, round: 1), progress)
    for round in 1...limits.rounds {
      services.report(.planned(changes, round: round))
      let chosen = eligible(changes, progress)
      let graph = schedule(chosen, plan: plan)
      guard !graph.nodes.isEmpty, !isInterrupted else { break }
      progress.begun.begin(chosen)
      await services.record(JournalEntry(.roundStarted, attempt: round))
      let before = progress.stepsDone
      await execute(graph, performer, waitUntil: waitUntil, &progress)
      // Whoever wants it stopped at once doesn't wait for another look at the world.
      if isAbandoned { break }
      // What couldn't finish gave its leases back, or couldn't; either way nothing is held beyond the round.
      changes = difference(await observed(nil, observer, performer, round: round + 1), progress)
      if progress.stepsDone == before, !eligible(changes, progress).migrations.contains(where: \.goesBackWithGroup) {
        break
      }
    }
    await pool.closeAll()
    let summary = summarize(changes, progress, seconds: services.time.monotonicNow().seconds(since: start))
    await services.record(JournalEntry(.runEnded, message: "exit \(summary.exitCode)"))
    services.report(.finished(summary))
    return summary
  }

  private func observed(
    _ first: Observation?, _ observer: ObserveRun, _ performer: ActionPerformer, round: Int
  ) async -> Observation {
    if first == nil { services.report(.observing(round: round)) }
    let observation: Observation
    if let first {
      observation = first
    } else {
      observation = await observer.observe(with: performer.pool, only: plan.withRelatives(options.only))
    }
    await performer.knownDisks.learn(observation, of: plan)
    return observation
  }

  private func difference(_ observation: Observation, _ progress: Progress) -> ChangeSet {
    diff(
      plan, observation,
      options: PlanningOptions(
        only: options.only, overwrite: options.overwrite, replace: options.replace, maxMoves: options.maxMoves,
        soFar: progress.begun, stuck: progress.stuck, reviewed: options.reviewed, guardrails: options.guardrails,
        origin: options.reviewed == nil ? .applied : .saved, now: services.time.wallNow(), digest: services.digest))
  }

  /// Without what failed in this run, or isn't waited for any longer; but what has to go back with its group does.
  private func eligible(_ changes: ChangeSet, _ progress: Progress) -> ChangeSet {
    var rest = changes
    let failed = progress.failedMigrations
    rest.migrations.removeAll { entry in
      if entry.goesBackWithGroup, !progress.leftAhead.contains(entry.migration) { return false }
      return failed.contains(entry.migration) || progress.parked[entry.migration] != nil
    }
    return rest
  }

  // MARK: One round

  private func execute(
    _ graph: ActionGraph, _ performer: ActionPerformer, waitUntil: MonotonicTime?, _ progress: inout Progress
  ) async {
    let (events, sender) = AsyncStream<ReconcileEvent>.makeStream()
    var reconciler = Reconciler(graph, parallelism: options.parallelism, waitUntil: waitUntil, limits: limits)
    sender.yield(.start)
    interrupts.withLock { state in
      state.events = sender
      if state.count > 0 { sender.yield(state.count == 1 ? .interrupted : .abandoned) }
    }
    await withDiscardingTaskGroup { group in
      for await event in events {
        for effect in reconciler.handle(event, at: services.time.monotonicNow()) {
          switch effect {
          case .record(let entry): await services.record(entry)
          case .report(let event): services.report(event)
          case .perform(let node, let action):
            group.addTask { sender.yield(await Self.outcome(of: action, node: node, performer)) }
          case .poll(let migration):
            group.addTask {
              do throws(GatewayError) {
                sender.yield(.polled(migration, try await performer.poll(migration)))
              } catch {
                sender.yield(.pollFailed(migration, error))
              }
            }
          case .renewLease(let migration):
            group.addTask {
              do throws(GatewayError) {
                try await performer.renewLease(migration)
                sender.yield(.renewed(migration))
              } catch {
                sender.yield(.renewalFailed(migration, error))
              }
            }
          case .wake(let seconds):
            group.addTask { [services] in
              await services.pause(seconds)
              sender.yield(.tick)
            }
          case .finish: sender.finish()
          }
        }
      }
      group.cancelAll()
    }
    interrupts.withLock { $0.events = nil }
    progress.failures += reconciler.failures
    progress.parked.merge(reconciler.parked) { first, _ in first }
    progress.stepsDone += reconciler.stepsDone
  }

  private static func outcome(
    of action: Action, node: Int, _ performer: ActionPerformer
  ) async -> ReconcileEvent {
    do throws(GatewayError) {
      try await performer.perform(action)
      return .succeeded(node: node)
    } catch {
      return .failed(node: node, error)
    }
  }

  // MARK: How it ended

  private func summarize(_ changes: ChangeSet, _ progress: Progress, seconds: Double) -> ApplySummary {
    let failed = progress.failedMigrations
    var results = changes.migrations.map { entry in
      let result: ApplyResult
      let note: String
      if failed.contains(entry.migration) || entry.diagnostics.hasErrors {
        result = .failed
        note =
          progress.failures.first { $0.migrations.contains(entry.migration) }?.error.message
          ?? entry.diagnostics.first { $0.severity == .error }?.message ?? ""
      } else if entry.isNoOp {
        result = .reached
        note = ""
      } else if entry.actionable.isEmpty, let waiting = entry.waiting.first {
        result = .waiting
        note = waiting.message
      } else {
        result = .converging
        note = progress.parked[entry.migration] ?? "more can be done: apply again"
      }
      return MigrationResult(
        migration: entry.migration, result: result, reached: entry.reached, target: entry.target,
        targetWord: entry.targetWord, waiting: entry.waiting, note: note)
    }
    followGroups(&results)
    let whole = changes.diagnostics.hasErrors || !progress.failures.isEmpty ? ApplyResult.failed : .reached
    return ApplySummary(
      result: max(whole, results.map(\.result).max() ?? .reached), migrations: results, failures: progress.failures,
      remaining: changes, interrupted: isInterrupted, stepsDone: progress.stepsDone, seconds: seconds)
  }

  /// What waits for one of its group that is on its way needs nobody either.
  private func followGroups(_ results: inout [MigrationResult]) {
    let own = Dictionary(results.map { ($0.migration, $0.result) }) { first, _ in first }
    for index in results.indices where results[index].result == .waiting {
      guard case .group(_, let other)? = results[index].waiting.first?.reason, other != results[index].migration,
        own[other] == .converging
      else { continue }
      results[index].result = .converging
    }
  }
}
