import BlockModel
import Diagnostics
import Foundation
import MigrationModel
import PlanReading
import Planning
import Reconciling
import Rendering
import Testing

/// Each directory of `cases/planning` holds a `plan.yaml`, in `world.txt` what there is (see `WorldScript`), and what
/// `plan` says of the two, in `expected.txt` for people and in `expected.json` for programs.
/// Where there is a `journal.jsonl`, the run that left it, `report` is held against `report.md` and `report.tf` too.
/// Where there is an `options.txt` each of its lines is an option of `plan`: `replace erp/data`, `overwrite erp/data`,
/// `prune`.
/// Where there is a `drift.txt` it is what `plan --refresh-only` says.
/// UPDATE_GOLDEN=1 writes what is said now; read the difference before committing it.
@Suite struct PlanningCases {
  static let directory = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "cases/planning")

  static let names: [String] = {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
    return names.filter { !$0.hasPrefix(".") }.sorted()
  }()

  @Test func thereAreCases() { #expect(Self.names.count >= 60) }

  @Test(arguments: names) func plansAsExpected(_ name: String) throws {
    let changes = try Self.changes(name)
    let text = renderText(changes, style: .plain)
    let json = renderJSON(changes)
    try Self.hold(text, against: name, "expected.txt")
    try Self.hold(json, against: name, "expected.json")
    // Nothing wider than 80 columns but a word that is.
    for line in text.split(separator: "\n") where line.count > 80 {
      let longest = line.split(separator: " ").map(\.count).max() ?? 0
      #expect(longest > 60, "\(line)")
    }
    #expect(!text.contains("hunter2") && !json.contains("hunter2"))
    #expect(renderMarkdown(changes).utf8.count < 60_000)
  }

  static let reported = names.filter {
    FileManager.default.fileExists(atPath: directory.appending(path: "\($0)/journal.jsonl").path)
  }

  @Test(arguments: reported) func reportsAsExpected(_ name: String) throws {
    let (plan, observation, now) = try Self.world(name)
    let journal = try Data(contentsOf: Self.directory.appending(path: "\(name)/journal.jsonl"))
    let entries = try journal.split(separator: UInt8(ascii: "\n")).map {
      try JSONDecoder().decode(JournalEntry.self, from: Data($0))
    }
    let blocks = report(
      of: plan, observation, runs: [RunRecord(name: "20261123T040000Z-1", entries: entries)],
      options: PlanningOptions(now: now, digest: goldenDigest))
    try Self.hold(renderMarkdown(blocks), against: name, "report.md")
    try Self.hold(renderTerraform(plan, observation), against: name, "report.tf")
  }

  static let drifted = names.filter {
    FileManager.default.fileExists(atPath: directory.appending(path: "\($0)/drift.txt").path)
  }

  @Test(arguments: drifted) func driftIsAsExpected(_ name: String) throws {
    let (plan, observation, now) = try Self.world(name)
    let changes = drift(plan, observation, options: PlanningOptions(now: now, digest: goldenDigest))
    try Self.hold(renderText(changes, style: .plain), against: name, "drift.txt")
  }

  static func changes(_ name: String) throws -> ChangeSet {
    var (plan, observation, now) = try world(name)
    var options = PlanningOptions(now: now, digest: goldenDigest)
    let file = directory.appending(path: "\(name)/options.txt")
    if FileManager.default.fileExists(atPath: file.path) {
      for line in String(decoding: try Data(contentsOf: file), as: UTF8.self).split(separator: "\n") {
        if line == "prune" {
          plan = plan.withDeparted(in: observation)
          continue
        }
        let words = line.split { $0 == " " || $0 == "/" }.map(String.init)
        try #require(words.count == 3, "\(line)")
        let key = VolumeKey(MigrationName(words[1]), VolumeName(words[2]))
        switch words[0] {
        case "replace": options.replace.insert(key)
        case "overwrite": options.overwrite.insert(key)
        default: throw WorldScript.Unreadable(line: String(line))
        }
      }
    }
    return diff(plan, observation, options: options)
  }

  static func world(_ name: String) throws -> (MigrationPlan, Observation, now: WallTime) {
    let bytes = [UInt8](try Data(contentsOf: directory.appending(path: "\(name)/plan.yaml")))
    let (plan, diagnostics) = PlanReader.read(bytes: bytes, file: "plan.yaml")
    let read = try #require(plan, "\(diagnostics)")
    let world = String(decoding: try Data(contentsOf: directory.appending(path: "\(name)/world.txt")), as: UTF8.self)
    let (observation, now) = try WorldScript.read(world, for: read)
    return (read, observation, now)
  }

  private static func hold(_ text: String, against name: String, _ file: String) throws {
    let expectedFile = directory.appending(path: "\(name)/\(file)")
    if ProcessInfo.processInfo.environment["UPDATE_GOLDEN"] == "1" { try Data(text.utf8).write(to: expectedFile) }
    let expected = String(decoding: try Data(contentsOf: expectedFile), as: UTF8.self)
    #expect(text == expected)
  }
}
