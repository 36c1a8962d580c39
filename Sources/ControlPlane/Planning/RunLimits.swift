import AgentProtocol
package import BlockModel
import Diagnostics
import MigrationModel

/// What a run has begun so far; its later rounds are held to the same limits as its first.
package struct RunSoFar: Sendable, Equatable {
  /// Migrations that it moves; nil: its first round is still to come.
  package var movers: Set<MigrationName>?
  /// Bytes that it started to move, as they were when it did.
  package var bytes: [MigrationName: UInt64]
  package init(movers: Set<MigrationName>? = nil, bytes: [MigrationName: UInt64] = [:]) {
    self.movers = movers
    self.bytes = bytes
  }

  /// A round of these changes is about to be carried out.
  package mutating func begin(_ changes: ChangeSet) {
    movers = (movers ?? []).union(changes.migrations.filter(\.isMove).map(\.migration))
    for entry in changes.migrations where bytes[entry.migration] == nil && entry.bytesToMove > 0 {
      bytes[entry.migration] = entry.bytesToMove
    }
  }
}

/// What one run may move in all: `--max-moves`, and moves and bytes of guardrails. They are about what it begins, in any
/// of its rounds; what guardrails deny for its own sake takes no place of what may go. Pure.
struct RunLimits {
  let plan: MigrationPlan
  let options: PlanningOptions
  let observation: Observation

  private var guardrails: [GuardrailLimits] { [plan.guardrails, options.guardrails].compactMap { $0 } }

  func hold(_ entries: inout [MigrationChanges]) {
    var places = options.maxMoves
    var bytes = options.soFar.bytes.values.reduce(0, +)
    for index in entries.indices where entries[index].isMove {
      let name = entries[index].migration
      let hasBegun = options.soFar.movers?.contains(name) == true
      // A run's later rounds move no others than its first: they would be the next ones as soon as one is done.
      if let limit = options.maxMoves, !hasBegun, options.soFar.movers != nil || places == 0 {
        entries[index].hold(from: entries[index].unstoppable, Self.waiting(limit: limit))
        continue
      }
      holdBytes(&entries[index], &bytes)
      if entries[index].isMove, !hasBegun { places = places.map { $0 - 1 } }
    }
    for limits in guardrails { if let rule = limits.moves { hold(&entries, to: rule) } }
  }

  private static func waiting(limit: Int) -> Waiting {
    Waiting(
      reason: .moves(limit: limit),
      message: "this run moves at most \(limit) \(limit == 1 ? "migration" : "migrations")",
      advice: "apply again once those before it are where they should be")
  }

  private func hold(_ entries: inout [MigrationChanges], to rule: GuardrailRule<Int>) {
    let begun = options.soFar.movers ?? []
    let new = entries.indices.filter { entries[$0].isMove && !begun.contains(entries[$0].migration) }
    guard !new.isEmpty, begun.count + new.count > rule.value else { return }
    for index in new {
      // In the first round whoever asks chooses which; later ones come to what could not move when the run began.
      if options.soFar.movers != nil, rule.effect == .deny {
        entries[index].hold(from: entries[index].unstoppable, Self.waiting(limit: rule.value))
        continue
      }
      entries[index].deny(
        Diagnostic(
          rule.effect == .deny ? .error : .warning, code: PlanningCode.guardrailMoves, at: rule.position,
          "\(entries[index].migration): one of \(begun.count + new.count) migrations that would move; guardrails allow \(rule.value) a run",
          advice: "apply with --max-moves \(rule.value), or with --only"))
    }
  }

  /// `total`: what the run has begun to move, and what those before this one would. Only what may go adds to it.
  private func holdBytes(_ entry: inout MigrationChanges, _ total: inout UInt64) {
    let rules = guardrails.compactMap(\.bytes)
    guard !rules.isEmpty, options.soFar.bytes[entry.migration] == nil, !replicates(entry) else { return }
    guard let transfer = entry.changes.first(where: { $0.waitsFor == nil && Self.movesBytes($0) }) else { return }
    guard let own = transfer.price.bytesToMove else {
      if rules.contains(where: { $0.effect == .deny }) { entry.lookAgainOnceAgentsAnswer() }
      return
    }
    for rule in rules where total + own > rule.value {
      entry.deny(
        Diagnostic(
          rule.effect == .deny ? .error : .warning, code: PlanningCode.guardrailBytes, at: rule.position,
          "\(entry.migration): with it \(gibibytes(holding: total + own)) GiB would be moved; guardrails allow \(gibibytes(holding: rule.value)) a run",
          advice: "apply fewer with --only or --max-moves"))
    }
    if entry.actionable.contains(where: Self.movesBytes) { total += own }
  }

  private static func movesBytes(_ change: Change) -> Bool {
    if case .synchronize = change.action { true } else { false }
  }

  /// Whether its initial synchronization was started already, by an earlier run, and goes on.
  private func replicates(_ entry: MigrationChanges) -> Bool {
    let name = entry.migration
    if entry.actionable.contains(where: { $0.action == .giveUpSession(name) }) { return false }
    guard let migration = plan.migrations[name] else { return false }
    let session = SessionID(plan: plan.metadata.id, migration: name)
    let stage = observation.hosts[migration.source]?.session(session, .source)?.stage
    return stage.map { $0 != .prepared && $0 != .cancelled } ?? false
  }
}
