package import BlockModel

/// What `moved` says, each rename followed to its end: from what a migration or volume was called at any time to what
/// the plan calls it.
package struct Renames: Sendable, Equatable {
  private var migrations: [MigrationName: MigrationName] = [:]
  private var volumes: [Move.Name: Move.Name] = [:]
  /// One step takes one of these off a chain, so that a circle ends too.
  private let limit: Int

  package init(_ moved: [Move]) {
    limit = 2 * moved.count
    for move in moved {
      if move.from.volume != nil {
        volumes[move.from] = move.to
        // A volume can't leave its session: where it goes, all of the migration goes.
        if move.from.migration != move.to.migration { migrations[move.from.migration] = move.to.migration }
      } else {
        migrations[move.from.migration] = move.to.migration
      }
    }
  }

  package var isEmpty: Bool { migrations.isEmpty && volumes.isEmpty }

  /// What this was called at any time before; in the order of the names.
  package func formerNames(of name: Move.Name) -> [Move.Name] {
    var found: Set<Move.Name> = []
    let ownNames = Set(volumes.keys.compactMap(\.volume)).union([name.volume].compactMap { $0 })
    for from in volumes.keys { found.insert(from) }
    for migration in Set(migrations.keys).union([name.migration]) {
      if name.volume == nil { found.insert(Move.Name(migration: migration)) }
      for volume in ownNames where name.volume != nil {
        found.insert(Move.Name(migration: migration, volume: volume))
      }
    }
    return found.filter { $0 != name && self.name(of: $0) == name }.sorted { "\($0)" < "\($1)" }
  }

  package func name(of migration: MigrationName) -> MigrationName {
    name(of: Move.Name(migration: migration)).migration
  }

  package func name(of name: Move.Name) -> Move.Name {
    guard !isEmpty else { return name }
    var current = name
    for _ in 0..<limit {
      if current.volume != nil, let next = volumes[current] {
        current = next
      } else if let next = migrations[current.migration] {
        current.migration = next
      } else {
        return current
      }
    }
    return current
  }
}
