package import BlockModel
package import MigrationModel

extension MigrationPlan {
  /// Which of `count` parts the migration belongs to, from 0: by its name, or its group's, so that it stays the same
  /// whatever else is added, and a group is never torn.
  package func shard(of migration: MigrationName, count: Int) -> Int {
    let group = groups.first { $0.migrations.contains(migration) }?.name
    // FNV-1a, 64 bits: the same on every machine, unlike Hashable's.
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in (group.map { "group \($0)" } ?? "migration \(migration)").utf8 {
      hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3
    }
    return Int(hash % UInt64(max(1, count)))
  }
}
