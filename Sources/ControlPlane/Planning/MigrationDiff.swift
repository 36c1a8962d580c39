import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel

/// Builds the changes of one migration, in the order in which they will be done.
struct MigrationDiff {
  let facts: MigrationFacts
  let shippedAgentDigest: String?
  let options: PlanningOptions
  let reached: PhaseReached
  var result: MigrationChanges
  /// Index of what holds back everything that comes from now on.
  var gate: Int?
  /// It stands for what comes once a session was given up; agents were looked after before that.
  var isReplacing = false

  var migration: Migration { facts.migration }
  var target: Phase { migration.cutover.phase.value }

  init(_ facts: MigrationFacts, shippedAgentDigest: String?, options: PlanningOptions) {
    self.facts = facts
    self.shippedAgentDigest = shippedAgentDigest
    self.options = options
    reached = facts.reached(digest: options.digest)
    result = MigrationChanges(
      migration: facts.migration.name, reached: reached, target: facts.migration.cutover.phase.value,
      configurationDigest: configurationDigest(of: facts.migration, in: facts.plan, digest: options.digest))
    result.health = facts.sourceSession?.health ?? facts.destinationSession?.health
  }

  /// The whole way from what is to what should be.
  mutating func build() -> MigrationChanges {
    if !isRefused() {
      if replaced.isEmpty { addChanges() } else { addReplacing() }
      result.unstoppable = countUnstoppable()
    }
    return result
  }

  /// See `MigrationChanges.unstoppable`.
  private func countUnstoppable() -> Int {
    if reached == .pastFence || isFinalizing { return result.changes.count }
    let lastBack = result.changes.lastIndex { change in
      switch change.action {
      case .revert, .stopSynchronizing: true
      default: false
      }
    }
    if let lastBack { return lastBack + 1 }
    return result.changes.prefix { change in
      guard case .deployAgent(let host) = change.action else { return false }
      return facts.mayHideSession(on: host)
    }.count
  }

  /// Finalize began, and perhaps stopped the application: only the way forward ends that.
  private var isFinalizing: Bool {
    guard target >= .finalized else { return false }
    return isClosing
      || MigrationFacts.hooksBeforeFence.contains { point in
        migration.cutover.hooks[point] != nil && facts.hookProgress(point, digest: options.digest) == .succeeded
      }
  }

  mutating func addChanges() {
    switch reached {
    case .unknown: return
    case .tombstoned(.retired):
      rename()
      finishRetirement()
      return
    case .tombstoned, .reached(.finalized), .reached(.retired):
      if target < .retired { holdBack() }
      rename()
      if target == .retired { retire() }
      return
    case .pastFence:
      startAgents()
      holdBack()
      finishFinalize()
      rename()
      if target == .retired { retire() }
      return
    case .nothing, .reached: break
    }
    holdBack()
    let phase = reached.phase
    if phase == .cmotion || facts.sourceStage == .swinging || isClosing, target < .cmotion { revert() }
    if target == .prepared, let stage = facts.sourceStage, stage != .prepared, stage != .cancelled { stop() }
    rename()
    addWayForward()
  }

  /// From what there is to the planned phase.
  mutating func addWayForward() {
    prepare()
    if target >= .synchronized { synchronize() }
    if target >= .cmotion, facts.canSwing, !isClosing { swing() }
    if target >= .finalized { finalize() }
    if target == .retired { retire() }
  }

  /// Finalize began, the fence isn't written.
  var isClosing: Bool {
    switch facts.sourceStage {
    case .tapClosed, .proving, .proven: true
    default: false
    }
  }

  // MARK: Gates

  /// A hold keeps everything back, but that an agent which died runs again: nobody could resume without it.
  mutating func holdBack() {
    guard let hold = facts.sourceSession?.hold ?? facts.destinationSession?.hold else { return }
    startAgents()
    wait(
      Waiting(
        reason: .hold(hold), message: "held (\(hold.cause.rawValue)) by \(hold.who): \(hold.why)",
        advice: "cmcplan resume \(migration.name), once the reason is gone"))
  }

  /// From here on everything waits for this, unless it waits already.
  mutating func wait(_ waiting: Waiting) {
    guard gate == nil else { return }
    result.waiting.append(waiting)
    gate = result.waiting.count - 1
  }

  mutating func waitForWindow() {
    let windows = migration.cutover.windows
    guard !WindowOpening.isOpen(windows, at: options.now) else {
      waitForRoom()
      return
    }
    let next = WindowOpening.currentOrNext(of: windows, at: options.now)
    wait(
      Waiting(
        reason: .window(opensAt: next?.from), message: "outside its windows",
        advice: "run apply again when it opens"))
  }

  /// A swing that begins shortly before its window closes would end outside it.
  mutating func waitForRoom() {
    let windows = migration.cutover.windows
    guard let opening = WindowOpening.currentOrNext(of: windows, at: options.now), opening.from <= options.now,
      let need = drainSeconds(migration, facts.sourceSession, at: options.now)
    else { return }
    let left = opening.to.secondsSince1970 - options.now.secondsSince1970
    guard need > left else { return }
    let next = WindowOpening.currentOrNext(of: windows, at: opening.to)
    wait(
      Waiting(
        reason: .window(opensAt: next?.from),
        message:
          "what differs takes about \(Int(saturating: need.rounded(.up))) s to move, and the window closes in \(Int(saturating: left)) s",
        advice: "let it catch up first, raise its iQoS level, or widen the window"))
  }

  mutating func waitForApproval() { if let missing = missingApproval() { wait(missing) } }

  /// What is missing of the approval of the one-way step, whatever else is in the way; nil: nothing.
  func missingApproval() -> Waiting? {
    guard migration.cutover.approval == .manual else { return nil }
    let digest = result.configurationDigest
    func all(_ session: SessionObservation?) -> [Approval] {
      (session?.approvals ?? []).filter { $0.phase == .finalized }
    }
    func isValid(_ approval: Approval) -> Bool {
      approval.configurationDigest == digest && (approval.expiresAt.map { options.now < $0 } ?? true)
    }
    let atSource = all(facts.sourceSession)
    let atDestination = all(facts.destinationSession)
    if atSource.contains(where: isValid), atDestination.contains(where: isValid) { return nil }
    let message: String
    if let approval = atSource.last ?? atDestination.last {
      if approval.configurationDigest != digest {
        message = "the approval by \(approval.who) was for another configuration of the migration"
      } else if !isValid(approval) {
        message = "the approval by \(approval.who) expired"
      } else {
        message = "the approval by \(approval.who) is stored with one agent only"
      }
    } else {
      message = "the one-way step is not approved"
    }
    return Waiting(
      reason: .approval(.finalized), message: message, advice: "cmcplan approve \(migration.name):finalized")
  }

  mutating func waitForConfirmation() { if let missing = missingConfirmation() { wait(missing) } }

  /// The confirmation of a swing, of this one or of one that is still to come.
  func missingConfirmation() -> Waiting? {
    guard migration.cutover.confirmWithinSeconds != nil, facts.canSwing, !isClosing,
      facts.sourceSession?.swingConfirmed != true || reached != .reached(.cmotion)
    else { return nil }
    return Waiting(
      reason: .confirmation(by: facts.sourceSession?.confirmBy),
      message: "the swing has to be confirmed, or the agents revert it",
      advice: "cmcplan confirm \(migration.name), once the application is healthy")
  }

  mutating func add(
    _ action: Action, towards: Phase, _ summary: String, why: String, precondition: String = "", price: Price = .free,
    _ reversibility: Reversibility = .live
  ) {
    result.changes.append(
      Change(
        action: action, towards: towards, summary: summary, why: why, precondition: precondition, price: price,
        reversibility: reversibility, waitsFor: gate))
  }
}
