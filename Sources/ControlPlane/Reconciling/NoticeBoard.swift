import AgentProtocol
package import BlockModel
import Diagnostics
package import MigrationModel
package import Planning

/// Decides who is told of what, from what a run observes and reports. Pure: it sends nothing.
///
/// A person is needed where nothing else can be done for a migration, where a step failed for good, where the agents set
/// a hold, and while a swing waits for its confirmation. What is in hand already (another run's lease, a window that
/// will open) is told to nobody.
package struct NoticeBoard: Sendable {
  /// The last part of `confirmWithin`, in which it is said again that the swing will be reverted.
  package static let lastPartOfConfirmation = 1.0 / 3

  /// One cause for one target.
  private struct Key: Hashable {
    var target: String
    var migration: MigrationName
    var event: NotificationTarget.Event
    var cause: String
    init(_ delivery: NoticeDelivery) {
      target = delivery.target
      migration = delivery.notice.migration
      event = delivery.notice.event
      cause = delivery.notice.cause
    }
    init(_ told: NoticeMemory.Told) {
      target = told.target
      migration = told.migration
      event = told.event
      cause = told.cause
    }
  }

  /// How a run ended for one migration, and what stands of it now.
  private struct Ending {
    var result: MigrationResult
    var entry: MigrationChanges
    var standing: [Notice]
  }

  private let plan: MigrationPlan
  package private(set) var memory: NoticeMemory
  /// Those of `memory`.
  private var known: Set<Key>
  /// Handed out by this run: told, or failed to be told, which is not tried again before the next one.
  private var handedOut: Set<Key> = []
  /// Of those that this run has something to do for: their last step that is theirs alone.
  private var lastSteps: [MigrationName: (action: Action, entry: MigrationChanges)] = [:]
  private var firstPlanned: [MigrationName: MigrationChanges] = [:]
  /// A swing or finalize could have begun in this run.
  private var hadItsWindow: Set<MigrationName> = []

  package init(plan: MigrationPlan, memory: NoticeMemory) {
    self.plan = plan
    self.memory = memory
    known = Set(memory.told.map(Key.init))
  }

  /// It arrived; the same cause is not told again.
  package mutating func wasTold(_ delivery: NoticeDelivery, at now: WallTime) {
    if known.insert(Key(delivery)).inserted { memory.add(delivery, at: now) }
  }

  private mutating func forget(where isOver: (NoticeMemory.Told) -> Bool) {
    memory.forget(where: isOver)
    known = Set(memory.told.map(Key.init))
  }

  // MARK: What is seen

  package mutating func handle(_ observation: Observation, at now: WallTime) -> [NoticeDelivery] {
    var notices: [Notice] = []
    for migration in plan.sortedMigrations {
      let id = SessionID(plan: plan.metadata.id, migration: migration.name)
      let source = observation.hosts[migration.source]?.agent?.sessions.first { $0.session == id && $0.role == .source }
      if let notice = confirmation(migration, source, at: now) { notices.append(notice) }
    }
    return deliveries(notices, at: now)
  }

  package mutating func handle(_ event: ProgressEvent, at now: WallTime) -> [NoticeDelivery] {
    switch event {
    case .planned(let changes, _): return planned(changes, at: now)
    case .stepFinished(let action, _):
      guard let name = action.migration, let last = lastSteps[name], last.action == action else { return [] }
      return deliveries(waiting(last.entry, at: now).map { [$0] } ?? [], at: now)
    case .stepFailed(let action, let error):
      guard let name = action.migration, plan.migrations[name] != nil, Self.needsAPerson(error.code) else { return [] }
      return deliveries([failed(name, action.kind, error)], at: now)
    case .replication(let name, let source, let destination):
      guard let migration = plan.migrations[name] else { return [] }
      let hold = (source?.hold ?? destination?.hold).map { held(name, $0) }
      return deliveries([hold, confirmation(migration, source, at: now)].compactMap { $0 }, at: now)
    case .finished(let summary): return finished(summary, at: now)
    case .observing, .stepStarted, .stepRetrying, .note, .interrupted: return []
    }
  }

  private mutating func planned(_ changes: ChangeSet, at now: WallTime) -> [NoticeDelivery] {
    var notices: [Notice] = []
    forgetWhatWasResumed(changes.migrations.filter { firstPlanned[$0.migration] == nil })
    for entry in changes.migrations {
      if firstPlanned[entry.migration] == nil { firstPlanned[entry.migration] = entry }
      let actionable = entry.actionable
      lastSteps[entry.migration] = actionable.last { $0.action.migration == entry.migration }.map { ($0.action, entry) }
      if actionable.contains(where: { $0.towards == .cmotion || $0.towards == .finalized }) {
        hadItsWindow.insert(entry.migration)
      }
      if actionable.isEmpty, !entry.diagnostics.hasErrors, let notice = waiting(entry, at: now) {
        notices.append(notice)
      }
    }
    return deliveries(notices, at: now)
  }

  private mutating func finished(_ summary: ApplySummary, at now: WallTime) -> [NoticeDelivery] {
    let entries = Dictionary(
      summary.remaining.migrations.map { ($0.migration, $0) }, uniquingKeysWith: { first, _ in first })
    var failures: [MigrationName: [StepFailure]] = [:]
    for failure in summary.failures where Self.needsAPerson(failure.error.code) {
      for name in failure.migrations { failures[name, default: []].append(failure) }
    }
    var endings: [MigrationName: Ending] = [:]
    var notices: [Notice] = []
    for result in summary.migrations {
      guard let entry = entries[result.migration] else { continue }
      let found = standing(result, entry, failures[result.migration] ?? [], at: now)
      endings[result.migration] = Ending(result: result, entry: entry, standing: found)
      // What was there before this run was told by the one that brought it there.
      notices += found.filter { $0.event != .reached || firstPlanned[result.migration]?.isNoOp == false }
      if result.result == .failed, let hold = Self.hold(entry) { notices.append(held(entry.migration, hold)) }
    }
    if !summary.interrupted { forgetWhatPassed(endings, at: now) }
    return deliveries(notices, at: now)
  }

  // MARK: What it means

  /// Another run that works on the migration is nobody's trouble; a gate that closed is told as what it waits for.
  private static func needsAPerson(_ code: String) -> Bool {
    ![ApplyCode.leaseHeld, ApplyCode.leaseLost].contains(code) && !ApplyCode.gates.contains(code)
  }

  private func standing(
    _ result: MigrationResult, _ entry: MigrationChanges, _ steps: [StepFailure], at now: WallTime
  ) -> [Notice] {
    switch result.result {
    case .failed:
      if !steps.isEmpty { return steps.map { failed(entry.migration, $0.step, $0.error) } }
      let errors = entry.diagnostics.filter { $0.severity == .error }
      guard let first = errors.first else { return [] }
      return [
        notice(
          .failed, entry, cause: "plan " + Set(errors.map(\.code)).sorted().joined(separator: " "),
          "\(first.code): \(first.message)", first.advice)
      ]
    case .waiting: return waiting(entry, at: now).map { [$0] } ?? []
    case .converging: return []
    case .reached:
      return [
        notice(
          .reached, entry, cause: entry.target.rawValue, "\(entry.migration) reached \(entry.target.rawValue)", "")
      ]
    }
  }

  /// What holds the migration back, once nothing else can be done for it; nil where that is no person's business.
  private func waiting(_ entry: MigrationChanges, at now: WallTime) -> Notice? {
    guard let waiting = entry.waiting.first else { return nil }
    let message = "\(entry.migration): \(waiting.message)"
    switch waiting.reason {
    case .approval:
      return notice(
        .approvalNeeded, entry, cause: "finalized \(entry.configurationDigest)", message, waiting.advice)
    case .saved:
      return notice(.approvalNeeded, entry, cause: "saved \(entry.configurationDigest)", message, waiting.advice)
    case .guardrail, .unreviewed:
      return notice(.approvalNeeded, entry, cause: "denied \(entry.configurationDigest)", message, waiting.advice)
    case .hold(let hold): return held(entry.migration, hold)
    case .window(let opensAt):
      let windows = plan.migrations[entry.migration]?.cutover.windows ?? []
      guard hadItsWindow.contains(entry.migration) || WindowOpening.isOpen(windows, at: now) else { return nil }
      return notice(
        .windowMissed, entry, cause: opensAt.map(rendered) ?? "never",
        message + (opensAt.map { ", next opening \(rendered($0))" } ?? ", and none will open"), waiting.advice)
    // What earlier migrations do decides.
    case .confirmation, .moves, .wave, .group: return nil
    }
  }

  private func confirmation(_ migration: Migration, _ source: SessionObservation?, at now: WallTime) -> Notice? {
    guard let within = migration.cutover.confirmWithinSeconds, let source, source.stage == .standIn,
      !source.swingConfirmed, let by = source.confirmBy
    else { return nil }
    let left = by.secondsSince1970 - now.secondsSince1970
    let isLastCall = left <= within * Self.lastPartOfConfirmation
    return Notice(
      event: .confirmationNeeded, migration: migration.name, cause: rendered(by) + (isLastCall ? " last call" : ""),
      message: "\(migration.name): the agents revert cMotion at \(rendered(by)) unless it is confirmed"
        + (isLastCall ? "; \(Int(max(0, left / 60).rounded(.up))) min are left" : ""),
      advice: "cmcplan confirm \(migration.name), once the application is healthy", reached: .reached(.cmotion),
      target: migration.cutover.phase.value)
  }

  private func held(_ name: MigrationName, _ hold: Hold) -> Notice {
    bare(
      .held, name, cause: "\(hold.cause.rawValue) \(rendered(hold.at))",
      "\(name) is held (\(hold.cause.rawValue)) by \(hold.who): \(hold.why)",
      "cmcplan resume \(name), once the reason is gone")
  }

  private func failed(_ name: MigrationName, _ step: String, _ error: GatewayError) -> Notice {
    bare(.failed, name, cause: "\(step) \(error.code)", "\(name): \(step) failed: \(error.message)", error.advice)
  }

  /// Of a migration whose entry isn't at hand: as it was planned.
  private func bare(
    _ event: NotificationTarget.Event, _ name: MigrationName, cause: String, _ message: String, _ advice: String
  ) -> Notice {
    Notice(
      event: event, migration: name, cause: cause, message: message, advice: advice,
      reached: firstPlanned[name]?.reached ?? .unknown,
      target: plan.migrations[name]?.cutover.phase.value ?? .prepared)
  }

  private func notice(
    _ event: NotificationTarget.Event, _ entry: MigrationChanges, cause: String, _ message: String, _ advice: String
  ) -> Notice {
    Notice(
      event: event, migration: entry.migration, cause: cause, message: message, advice: advice, reached: entry.reached,
      target: entry.target)
  }

  // MARK: What was told already

  private mutating func deliveries(_ notices: [Notice], at now: WallTime) -> [NoticeDelivery] {
    var found: [NoticeDelivery] = []
    for notice in notices {
      for target in plan.notifications where target.events.contains(notice.event) {
        let delivery = NoticeDelivery(target: target.name, notice: notice)
        guard !known.contains(Key(delivery)), !handedOut.contains(Key(delivery)) else { continue }
        if followsAFailure(delivery) {
          wasTold(delivery, at: now)
          continue
        }
        handedOut.insert(Key(delivery))
        found.append(delivery)
      }
    }
    return found
  }

  private static func hold(_ entry: MigrationChanges) -> Hold? {
    if case .hold(let hold)? = entry.waiting.first?.reason { hold } else { nil }
  }

  private static func isOfFailure(_ event: NotificationTarget.Event, _ cause: String) -> Bool {
    event == .held && cause.hasPrefix(Hold.Cause.failure.rawValue)
  }

  /// A failed step's own hold: whoever was told of the step knows.
  private func followsAFailure(_ delivery: NoticeDelivery) -> Bool {
    Self.isOfFailure(delivery.notice.event, delivery.notice.cause)
      && memory.told.contains {
        $0.target == delivery.target && $0.migration == delivery.notice.migration && $0.event == .failed
      }
  }

  /// A hold that a failure left is gone: somebody resumed it, and what fails from now on is another failure.
  private mutating func forgetWhatWasResumed(_ entries: [MigrationChanges]) {
    let held = Set(memory.told.filter { Self.isOfFailure($0.event, $0.cause) }.map(\.migration))
    let resumed = Set(
      entries.filter { held.contains($0.migration) && !$0.diagnostics.hasErrors && Self.hold($0) == nil }
        .map(\.migration))
    guard !resumed.isEmpty else { return }
    forget { resumed.contains($0.migration) && ($0.event == .failed || Self.isOfFailure($0.event, $0.cause)) }
  }

  /// Forgets what does not stand any more, so that it is told again when it comes back. While a migration could not be
  /// looked at, nothing is known to have passed.
  private mutating func forgetWhatPassed(_ endings: [MigrationName: Ending], at now: WallTime) {
    forget { told in
      if now.secondsSince1970 - told.at.secondsSince1970 > NoticeMemory.ageLimitSeconds { return true }
      guard let ending = endings[told.migration] else { return false }
      if ending.standing.contains(where: { $0.event == told.event && $0.cause == told.cause }) { return false }
      switch told.event {
      case .failed:
        // Where another run was at work, nothing of this one says that it is over.
        if ending.result.result == .failed { return !ending.standing.isEmpty }
        return !ending.standing.contains { Self.isOfFailure($0.event, $0.cause) }
      case .approvalNeeded, .held, .windowMissed: return ending.result.result != .failed
      // Named by the time that they are about, or by the phase.
      case .confirmationNeeded: return false
      case .reached:
        return told.cause != ending.entry.target.rawValue
          || ending.entry.reached.phase.map { $0 < ending.entry.target } == true
      }
    }
  }
}
