import ArgumentParser
import BlockModel
import Foundation
import Planning
import Testing

@testable import PlanCommands

@Suite struct FileAndOptionTests {
  private func scratch() throws -> URL {
    let place = FileManager.default.temporaryDirectory.appendingPathComponent("cmc-files-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
    return place
  }

  @Test func aFileIsReadUpToItsLimitAndNotBeyond() throws {
    let place = try scratch()
    defer { try? FileManager.default.removeItem(at: place) }
    let path = place.appendingPathComponent("ten").path
    try Data("0123456789".utf8).write(to: URL(fileURLWithPath: path))
    #expect(try PlanFiles.contents(of: path, what: "the file", limitBytes: 10).count == 10)
    let failure = #expect(throws: CommandFailure.self) {
      try PlanFiles.contents(of: path, what: "the file", limitBytes: 9, split: "make it smaller")
    }
    #expect(failure?.message == "the file \(path) has more than 9 bytes, the most that is read")
    #expect(failure?.advice == "make it smaller")
  }

  @Test(
    "Sizes of --from and --length are written with their unit",
    arguments: [
      ("4096B", UInt64(4096)), ("64MiB", 64 << 20), ("1.5 TiB", 3 << 39), ("0KiB", 0), ("64", nil), ("64 MB", nil),
      ("-1GiB", nil), ("GiB", nil), ("9999999PiB", nil), ("infGiB", nil),
    ] as [(String, UInt64?)])
  func sizes(_ text: String, _ bytes: UInt64?) { #expect(sizeBytes(text) == bytes) }

  @Test("A change set that is too large to be kept is not written, and says so")
  func changeSetsHaveALimit() throws {
    let place = try scratch()
    defer { try? FileManager.default.removeItem(at: place) }
    let now = WallTime(secondsSince1970: 1e9)
    let changes = ChangeSet(
      plan: PlanID("6f1c0c9e"), planName: "p", observedAt: now, migrations: [], unmanaged: [], diagnostics: [])
    let content = SavedChangeSet(
      program: "1", savedAt: now, savedBy: "ann@ops", only: nil, maxMoves: nil, overwrite: [], changes: changes,
      observation: Observation(
        plan: PlanID("6f1c0c9e"), observedAt: now, shippedAgentDigest: nil, clouds: [:], hosts: [:]),
      surroundings: [:])
    let path = place.appendingPathComponent("set.cmc").path
    let failure = #expect(throws: CommandFailure.self) { try SavedFile.write(content, to: path, limitBytes: 100) }
    #expect(failure?.message.hasSuffix("bytes, more than 100") == true && failure?.advice.contains("--only") == true)
    #expect(!FileManager.default.fileExists(atPath: path))
    _ = try SavedFile.write(content, to: path)
    #expect(try SavedFile.read(path).content == content)
  }

  @Test("What has no size and no end is read no further either")
  func endless() throws {
    #expect(throws: CommandFailure.self) {
      try PlanFiles.contents(of: "/dev/zero", what: "the observation", limitBytes: 1 << 20)
    }
    let zero = try #require(FileHandle(forReadingAtPath: "/dev/zero"))
    #expect(try PlanFiles.read(zero, upTo: 5000).count == 5000)
  }

  @Test func whatCannotBeReadIsNamed() throws {
    let missing = #expect(throws: CommandFailure.self) { try PlanFiles.contents(of: "/nowhere/x", what: "the plan") }
    #expect(missing?.message.contains("there is no /nowhere/x") == true)
    #expect(throws: CommandFailure.self) { try PlanFiles.contents(of: "/", what: "the plan") }
  }

  @Test func theNextCommandTakesTheSameOptions() throws {
    let none = try PlanFileOptions.parse([])
    #expect(none.repeated == "")
    let given = ["-f", "my plan.yaml", "--guardrails", "g.yaml", "--set", "a=it's", "--variables", "v.yaml"]
    let options = try PlanFileOptions.parse(given)
    #expect(
      options.repeated
        == #" --file 'my plan.yaml' --guardrails g.yaml --set 'a=it'\''s' --variables v.yaml"#)
  }
}
