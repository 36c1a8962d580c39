import BlockModel
import MigrationModel

// MARK: - What is kept before anything is deleted

extension MigrationDiff {
  /// Always shown where sessions are to be deleted: whether the archive has all of it already is looked at then.
  mutating func archive() {
    guard let archive = facts.plan.archive else { return }
    add(
      .archive(migration.name), towards: .retired, "archive journals, approvals and receipt in \(archive.text)",
      why: "nothing is deleted before it is kept", precondition: "the archive can be written, and read back alike")
  }
}
