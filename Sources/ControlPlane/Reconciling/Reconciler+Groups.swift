import AgentProtocol
import BlockModel
import MigrationModel
import Planning

// MARK: Migrations that go together

extension Reconciler {
  /// One can't follow: those of its group that went ahead in this round stop where they are and come back, with the reason.
  /// What an earlier round did is seen to by the next one, which looks at the world.
  mutating func takeGroupBack(
    _ migration: MigrationName, why: String, itself: Bool, _ effects: inout [ReconcileEffect]
  ) {
    guard let mates = groups[migration], !mates.isCommitted else { return }
    let text = why.hasPrefix("\(migration)") ? why : "\(migration): \(why)"
    let reason = "group '\(mates.group)' goes together: \(text)"
    for name in mates.others + (itself ? [migration] : []) where hasGoneAhead(name) && !takenBack.contains(name) {
      takenBack.insert(name)
      var running: [Int] = []
      for index in board.steps(of: name) {
        switch states[index] {
        case .pending where !isCleanUp(nodes[index].action): board.set(index, .skipped)
        case .awaiting, .backingOff: park(index, reason, &effects)
        case .running: running.append(index)
        default: break
        }
      }
      append(.revertWithGroup(name, why: reason), for: name, after: running)
    }
  }

  /// Whether a step of this round moved its I/O, stopped its application, or is about to.
  private func hasGoneAhead(_ migration: MigrationName) -> Bool {
    board.steps(of: migration).contains { index in
      switch nodes[index].action {
      case .swing, .closeTap, .prove: break
      case .runHook(_, let point) where MigrationFacts.hooksBeforeFence.contains(point): break
      default: return false
      }
      switch states[index] {
      case .pending, .skipped: return false
      case .running, .awaiting, .backingOff, .done, .failed, .parked: return true
      }
    }
  }

  /// A step that nobody planned; the lease is given back only after it.
  mutating func append(_ action: Action, for migration: MigrationName, after: [Int] = []) {
    let added = board.append(action, for: migration, after: after)
    for index in board.steps(of: migration) {
      if case .releaseLease = nodes[index].action { board.put(index, after: added) }
    }
  }

  /// How long a step's milestone may take: those of a group that have swung don't wait for hours for one that has not.
  func limitSeconds(_ action: Action, _ milestone: Milestone) -> Double {
    guard case .swing(let migration) = action, groups[migration] != nil else { return milestone.limitSeconds }
    return min(milestone.limitSeconds, limits.groupSwingSeconds)
  }
}
