import ArgumentParser
import BlockModel
import MigrationModel
import Planning

/// Options that say which migrations, and how many of them.
struct SelectionOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Only this migration. May be given many times.", valueName: "migration"))
  var only: [String] = []
  @Option(help: ArgumentHelp("All but this migration. May be given many times.", valueName: "migration"))
  var except: [String] = []
  @Option(
    help: ArgumentHelp("Move at most so many migrations in one run, in the order of their names.", valueName: "n"))
  var maxMoves: Int?

  @Option(
    help: ArgumentHelp(
      "Only part I of N (from 0), the same migrations each time; a group stays together.", valueName: "i/n"))
  var shard: String?
  @Option(
    help: ArgumentHelp(
      "This volume's destination may be overwritten though it is neither blank nor ours.", valueName: "migration/volume"
    ))
  var overwrite: [String] = []

  @Option(
    help: ArgumentHelp(
      "This volume may get a new disk and a full synchronization, where what changed can't be done otherwise; the old disk is kept, tagged orphaned.",
      valueName: "migration/volume"))
  var replace: [String] = []

  @Flag(
    help:
      "Also give up the sessions of migrations that left the document, if they have not swung, with agents that only they used. Their disks are kept: cmcplan prune shows those. Needs the whole document."
  )
  var prune = false

  var isEmpty: Bool {
    only.isEmpty && except.isEmpty && maxMoves == nil && overwrite.isEmpty && replace.isEmpty && shard == nil && !prune
  }

  /// The volumes of `--overwrite`.
  func overwritten(in document: PlanDocument) throws -> Set<VolumeKey> {
    try Self.volumes(overwrite, of: "--overwrite", in: document)
  }

  /// The volumes of `--replace`.
  func replaced(in document: PlanDocument) throws -> Set<VolumeKey> {
    try Self.volumes(replace, of: "--replace", in: document)
  }

  private static func volumes(
    _ texts: [String], of option: String, in document: PlanDocument
  ) throws -> Set<VolumeKey> {
    var keys: Set<VolumeKey> = []
    for text in texts {
      let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
      guard parts.count == 2 else {
        throw CommandFailure("\(option) \(text) is not MIGRATION/VOLUME", advice: "write, for instance, erp-db/data")
      }
      let name = try document.migration(parts[0])
      let volumes = document.plan.migrations[name]?.volumes.map(\.name.text) ?? []
      guard volumes.contains(parts[1]) else {
        throw CommandFailure(
          "\(name) has no volume \(parts[1])", advice: "it has: \(volumes.joined(separator: ", "))")
      }
      keys.insert(VolumeKey(name, VolumeName(parts[1])))
    }
    return keys
  }

  /// Nil: all of them.
  func migrations(of document: PlanDocument) throws -> Set<MigrationName>? {
    if let maxMoves, maxMoves < 1 {
      throw CommandFailure("--max-moves \(maxMoves) lets nothing move", advice: "give 1 or more")
    }
    guard !only.isEmpty || !except.isEmpty || shard != nil else { return nil }
    guard !prune else {
      throw CommandFailure(
        "--prune needs the whole document, and \(shard != nil ? "--shard" : only.isEmpty ? "--except" : "--only") leaves a part",
        advice: "prune in a run of its own")
    }
    let wanted = only.isEmpty ? Set(document.plan.migrations.keys) : Set(try only.map(document.migration))
    var left = wanted.subtracting(try except.map(document.migration))
    if let shard {
      // An empty part is no mistake: there may be more parts than migrations.
      let (index, count) = try Self.part(shard)
      left = left.filter { document.plan.shard(of: $0, count: count) == index }
      return left
    }
    try refuseTornGroups(left, in: document)
    guard !left.isEmpty else {
      throw CommandFailure("--only and --except leave no migration", advice: "name one that is to be looked at")
    }
    return left
  }

  /// Some of a group alone could only wait for the others.
  private func refuseTornGroups(_ left: Set<MigrationName>, in document: PlanDocument) throws {
    for group in document.plan.groups {
      let kept = group.migrations.filter(left.contains)
      let missing = group.migrations.filter { !left.contains($0) }
      guard let one = kept.first, let other = missing.first else { continue }
      throw CommandFailure(
        "\(one) and \(other) swing together, as group '\(group.name)', and \(only.isEmpty ? "--except" : "--only") parts them",
        advice: only.isEmpty
          ? "leave out all of the group: \(kept.map { "--except \($0)" }.joined(separator: " "))"
          : "add \(missing.map { "--only \($0)" }.joined(separator: " "))")
    }
  }

  private static func part(_ text: String) throws -> (index: Int, count: Int) {
    let parts = text.split(separator: "/").compactMap { Int($0) }
    guard parts.count == 2, parts[1] >= 1, (0..<parts[1]).contains(parts[0]) else {
      throw CommandFailure("--shard \(text) is not I/N with I from 0 to N-1", advice: "write 0/4, 1/4, 2/4 and 3/4")
    }
    return (parts[0], parts[1])
  }
}
