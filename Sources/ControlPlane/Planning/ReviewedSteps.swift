package import BlockModel
import MigrationModel

/// The steps that a saved change set lists. A run that applies it does these and what goes on from them by itself; what
/// is new waits for the next plan. Pure.
package struct ReviewedSteps: Sendable, Equatable {
  /// Also those that waited for a gate: a gate that opened since is no surprise.
  private let steps: [MigrationName: Set<Action>]

  package init(_ changes: ChangeSet) {
    steps = Dictionary(changes.migrations.map { ($0.migration, Set($0.changes.map(\.action))) }) { first, _ in first }
  }

  package func contains(_ action: Action, of migration: MigrationName) -> Bool {
    steps[migration]?.contains(action) == true
  }

  /// What comes after a step that isn't listed rests on it.
  func hold(_ entries: inout [MigrationChanges]) {
    for index in entries.indices {
      guard let first = firstNew(in: entries[index]) else { continue }
      entries[index].hold(
        from: first,
        Waiting(
          reason: .unreviewed,
          message: "not in the saved change set: \(entries[index].changes[first].summary)",
          advice: "review cmcplan plan, and save it anew with --out"))
    }
  }

  private func firstNew(in entry: MigrationChanges) -> Int? {
    let leavesOutSwing = leavesOutSwing(entry)
    return entry.changes.indices.first { index in
      let change = entry.changes[index]
      return !isListed(change.action, in: entry, at: index) || leavesOutSwing && change.towards >= .finalized
    }
  }

  private func isListed(_ action: Action, in entry: MigrationChanges, at index: Int) -> Bool {
    let listed = steps[entry.migration] ?? []
    if listed.contains(action) { return true }
    switch action {
    case .attachDisks(let integration, let machine, let volumes):
      // Those that are left, once some are attached.
      return listed.contains { other in
        guard case .attachDisks(integration, machine, let all) = other else { return false }
        return Set(volumes).isSubset(of: all)
      }
    // Nobody could know that it would come to this, and to stay would be worse.
    case .revertWithGroup: return true
    case .deployAgent:
      // An agent that died in the middle of what was reviewed.
      return index < entry.unstoppable && !listed.isEmpty
    default: return false
    }
  }

  /// Once its agents answered, the way to the fence may turn out to lead past cMotion. Nobody agreed to that.
  private func leavesOutSwing(_ entry: MigrationChanges) -> Bool {
    let swing = Action.swing(entry.migration)
    return contains(swing, of: entry.migration) && (entry.reached.phase ?? .prepared) < .cmotion
      && entry.unstoppable < entry.changes.count && !entry.changes.contains { $0.action == swing }
  }
}
