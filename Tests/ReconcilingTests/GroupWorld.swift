import AgentProtocol
import BlockModel
import MigrationModel
import Planning
import Reconciling

// What migrations of one group may never do without the others, told from nothing that the planner reads.
extension WorldState {
  private func mates(of migration: MigrationName) -> [MigrationName] {
    plan.groups.first { $0.migrations.contains(migration) }?.migrations.filter { $0 != migration } ?? []
  }

  private func source(of name: MigrationName) -> SessionObservation? {
    guard let migration = plan.migrations[name] else { return nil }
    return agents[migration.source]?.sessions[sourceKey(name)]?.seen
  }

  /// No swing while another of the group has nothing to swing with yet.
  mutating func expectGroupCanSwing(_ migration: MigrationName) {
    for mate in mates(of: migration) {
      guard let stage = source(of: mate)?.stage, stage != .prepared, stage != .synchronizing, stage != .cancelled else {
        violate("\(migration) swings though \(mate) of its group can't")
        continue
      }
    }
  }

  mutating func expectGroupProven(_ migration: MigrationName) {
    for mate in mates(of: migration) {
      switch source(of: mate)?.stage {
      case .proven, .fenced, .released: continue
      case nil where hasTombstone(mate): continue
      case let stage: violate("\(migration) is fenced while \(mate) is at \(stage?.rawValue ?? "nothing")")
      }
    }
  }

  private func hasTombstone(_ name: MigrationName) -> Bool {
    let session = sourceKey(name).session
    return agents.values.contains { $0.tombstones.contains { $0.session == session } }
  }

  /// Groups of which some are at the destination and others are not, though none is past the fence.
  var partedGroups: [String] {
    plan.groups.compactMap { group in
      let stages = group.migrations.compactMap { source(of: $0)?.stage }
      guard stages.count == group.migrations.count, !stages.contains(.fenced), !stages.contains(.released) else {
        return nil
      }
      let ahead = stages.count { [.swinging, .standIn, .tapClosed, .proving, .proven].contains($0) }
      return ahead == 0 || ahead == stages.count
        ? nil : "group \(group.name) is parted: \(stages.map(\.rawValue).joined(separator: ", "))"
    }
  }

  /// What its agent does when it loses the destination.
  mutating func fallBack(_ name: MigrationName, at now: Double) {
    guard let migration = plan.migrations[name] else { return }
    let key = sourceKey(name)
    guard var session = agents[migration.source]?.sessions[key], session.seen.stage == .standIn else { return }
    session.seen.stage = .tracking
    session.seen.authority = .source
    session.seen.generation = session.seen.generation.next
    session.seen.swingConfirmed = false
    session.seen.standInSince = nil
    session.seen.confirmBy = nil
    session.confirmEnds = nil
    session.seen.hold = Hold(
      cause: .failure, who: "cmcagent", why: "the link was lost", at: WallTime(secondsSince1970: now))
    hookSuccesses[session.seen.session] = []
    agents[migration.source]?.sessions[key] = session
  }
}
