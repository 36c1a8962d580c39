import AgentProtocol
package import ArgumentParser
import BlockModel
import MigrationModel
import Reconciling
import Rendering

package struct MapCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "map", abstract: "Draw where a volume's copies differ now.",
    discussion: """
      The source's agent keeps the map; asking for it reads no disk and may be repeated every second. --from and --length \
      look closer: a character stands for a block at the least.
      """)
  enum Format: String, ExpressibleByArgument, CaseIterable { case text, json }

  @OptionGroup var plan: PlanFileOptions
  @Argument(help: "MIGRATION/VOLUME, or either alone where that says which.")
  var volume: String
  @Option(help: ArgumentHelp("Where to begin, as in 64GiB.", valueName: "size"))
  var from: String?
  @Option(help: ArgumentHelp("How much to show; otherwise all to the end.", valueName: "size"))
  var length: String?
  @Option(help: "text or json.")
  var format = Format.text
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      let offset = try from.map { try Self.bytes($0, "--from") } ?? 0
      let span = try length.map { try Self.bytes($0, "--length") }
      let opened = try OpenedPlan.open(plan, console, withClouds: false)
      let (migration, name) = try Self.volume(volume, of: opened.plan)
      let map = try await opened.operations.map(
        migration, volume: name, offset: offset, length: span, cells: mapCells(console.style))
      switch format {
      case .text: console.write(renderMap(map, of: migration, volume: name, style: console.style))
      case .json: console.write(renderMapJSON(map, of: migration, volume: name))
      }
    }
  }

  private static func bytes(_ text: String, _ option: String) throws -> UInt64 {
    guard let bytes = sizeBytes(text) else {
      throw CommandFailure("\(option) \(text) is no size", advice: "write a number with a unit, as in 64MiB or 1.5TiB")
    }
    return bytes
  }

  /// What is meant by "erp-db/data", "erp-db" or "data".
  static func volume(
    _ text: String, of plan: MigrationPlan
  ) throws -> (migration: MigrationName, volume: VolumeName) {
    let all = plan.sortedMigrations.flatMap { migration in migration.volumes.map { (migration.name, $0.name) } }
    let found = all.filter { migration, volume in
      text == "\(migration)/\(volume)" || text == volume.text || text == migration.text
    }
    if found.count == 1, let only = found.first { return only }
    // A volume may have the name of a migration, or of another's volume.
    let names = (found.isEmpty ? all : found).prefix(20).map { "\($0.0)/\($0.1)" }.joined(separator: ", ")
    throw CommandFailure(
      found.isEmpty ? "the plan has no volume \(text)" : "\(text) may be any of \(found.count) volumes",
      advice: "say one of: \(names)")
  }
}

/// "4096B", "64MiB", "1.5 TiB" in bytes; nil for anything else.
func sizeBytes(_ text: String) -> UInt64? {
  let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("PiB", 50), ("B", 0)]
  guard let unit = units.first(where: { text.hasSuffix($0.0) }),
    let number = Double(text.dropLast(unit.0.count).filter { $0 != " " }), number >= 0, number.isFinite
  else { return nil }
  let bytes = number * Double(UInt64(1) << UInt64(unit.1))
  return bytes < Double(Int64.max) ? UInt64(bytes) : nil
}
