import AgentProtocol
import BlockModel
import Foundation
import MigrationModel
import Planning
import Reconciling
import Seams
import Synchronization
import TestSupport
import Testing

@Suite("Nothing is deleted before the archive has it") struct ArchiveTests {
  static func plan(_ phase: Phase, count: Int = 1) -> MigrationPlan {
    var plan = samplePlan(phase, count: count)
    plan.archive = Archive(directory: "/archive")
    return plan
  }

  /// A world in which everything is finalized.
  private func finalized(count: Int = 1) throws -> Bench {
    let bench = Bench(Self.plan(.retired, count: count))
    #expect(bench.apply(Self.plan(.finalized, count: count))?.exitCode == 0)
    #expect(bench.world.state.withLock(\.archived).keys.allSatisfy { $0.hasPrefix("runs/") })
    return bench
  }

  private func brief(_ summary: ApplySummary?) -> Comment { "\(summary?.failures ?? [])" }

  private func archived(_ bench: Bench, _ path: String) -> String? {
    bench.world.state.withLock(\.archived)[path].map { String(decoding: $0, as: UTF8.self) }
  }

  @Test("retiring keeps both journals, the approvals and the receipt, each with its digest, and runs' journals")
  func keepsEverything() throws {
    let bench = try finalized(count: 2)
    let summary = bench.apply(Self.plan(.retired, count: 2))
    #expect(summary?.exitCode == 0, brief(summary))
    #expect(bench.world.violations == [])
    for name in ["m0", "m1"] {
      for role in Role.allCases {
        let directory = "migrations/\(name)/\(role.rawValue)"
        let json = try #require(archived(bench, "\(directory)/manifest.json"))
        let manifest = try JSONDecoder().decode(ArchiveManifest.self, from: Data(json.utf8))
        #expect(manifest.formatVersion == 1 && manifest.role == role && manifest.stage != nil)
        #expect(Set(manifest.files.keys).isSuperset(of: ["journal.jsonl", "approvals.json"]))
        #expect((manifest.files["receipt"] != nil) == (role == .source))
        for (file, facts) in manifest.files {
          let text = try #require(archived(bench, "\(directory)/\(file)"))
          #expect(facts.sha256 == fakeDigest(text) && facts.bytes == text.utf8.count)
        }
        #expect(archived(bench, "\(directory)/journal.jsonl") == "{\"event\":\"stage\"}\n", "no half a line")
      }
    }
    #expect(archived(bench, "runs/run-1/journal.jsonl") == "{}\n")
    let sessions = bench.world.state.withLock { $0.agents.values.flatMap { $0.sessions.values } }
    #expect(sessions.isEmpty)
  }

  @Test(
    "an archive that is full, closed or torn stops the retirement, says what to do, and nothing else",
    arguments: [(ArchiveFault.full, "CMC6061"), (.denied, "CMC6062"), (.torn, "CMC6063")])
  func aFailingArchiveStopsRetire(_ fault: ArchiveFault, _ code: String) throws {
    let bench = try finalized()
    bench.world.state.withLock { $0.archiveFault = fault }
    let summary = bench.apply(Self.plan(.retired))
    #expect(summary?.exitCode == 1, brief(summary))
    let failures = try #require(summary?.failures)
    #expect(failures.map(\.step) == ["archive"] && failures.map(\.error.code) == [code])
    #expect(failures.allSatisfy { $0.error.advice.localizedCaseInsensitiveContains("nothing was deleted") })
    let state = bench.world.state.withLock { $0 }
    #expect(state.agents.values.flatMap { $0.sessions.values }.count == 2)
    #expect(state.agents.values.allSatisfy { $0.isRunning && $0.tombstones.isEmpty })
    #expect(state.agents.values.flatMap { $0.sessions.values }.allSatisfy { $0.seen.hold == nil })
    #expect(bench.changes(Self.plan(.finalized))?.isNoOp == true, "everything else is as it was")
    bench.world.state.withLock { $0.archiveFault = .none }
    #expect(bench.apply(Self.plan(.retired))?.exitCode == 0)
    #expect(bench.world.violations == [])
  }

  @Test("what the archive lost again after it was written is noticed before anything is deleted")
  func aForgetfulArchiveStopsRetire() throws {
    let bench = try finalized()
    bench.world.state.withLock { $0.archiveFault = .forgetful }
    let summary = bench.apply(Self.plan(.retired))
    #expect(summary?.failures.map(\.step) == ["retire.source"], brief(summary))
    #expect(summary?.failures.first?.error.code == "CMC6063")
    let left = bench.world.state.withLock { $0.agents.values.flatMap { $0.sessions.values } }
    #expect(left.count == 2)
    #expect(bench.world.violations == [])
  }

  @Test("a receipt that is not the one the session knows is not archived, and the session stays")
  func anotherReceiptIsRefused() throws {
    let bench = try finalized()
    bench.world.state.withLock { state in
      for host in state.agents.keys {
        for key in state.agents[host]?.sessions.keys.map({ $0 }) ?? [] where key.role == .source {
          state.agents[host]?.sessions[key]?.seen.receipt?.digest = "FAKE:another"
        }
      }
    }
    let summary = bench.apply(Self.plan(.retired))
    #expect(summary?.failures.first?.error.code == "CMC6064", brief(summary))
    #expect(archived(bench, "migrations/m0/source/manifest.json") == nil)
    let left = bench.world.state.withLock { $0.agents.values.flatMap { $0.sessions.values } }
    #expect(left.count == 2)
  }

  @Test("of a session that was deleted before there was an archive, its receipt is kept, and it is said")
  func theReceiptOutlivesTheSession() throws {
    let bench = try finalized()
    bench.world.state.withLock { state in
      for (host, agent) in state.agents {
        for (key, session) in agent.sessions where key.role == .source {
          state.agents[host]?.sessions[key] = nil
          state.agents[host]?.tombstones.append(
            Tombstone(
              session: key.session, role: .source, phase: .retired, generation: session.seen.generation,
              receiptDigest: session.seen.receipt?.digest, at: WallTime(secondsSince1970: 0)))
        }
      }
    }
    let summary = bench.apply(Self.plan(.retired))
    #expect(summary?.exitCode == 0, brief(summary))
    #expect(archived(bench, "migrations/m0/source/receipt")?.hasPrefix("receipt of ") == true)
    #expect(archived(bench, "migrations/m0/source/manifest.json")?.contains("\"stage\"") == false)
    let notes = bench.recorded.events.withLock { $0 }.filter {
      if case .note(let text) = $0 { text.contains("deleted before it was archived") } else { false }
    }
    #expect(notes.count == 1)
  }

  @Test("the archive killed at any write: the next apply ends with the same files")
  func everyCrashOfAWrite() throws {
    for crash in [MemoryStateStore.Crash.before, .during, .after] {
      let store = MemoryStateStore()
      let files = ArchiveFiles(store: store, place: "/archive", digest: archiveDigest)
      store.crash(atOperation: 1, crash)
      #expect(throws: GatewayError.self) { try files.keep(Array("receipt".utf8), at: "a/receipt") }
      store.recover()
      #expect(try files.keep(Array("receipt".utf8), at: "a/receipt") == fakeDigest("receipt"))
      let operations = store.operationCount
      #expect(try files.keep(Array("receipt".utf8), at: "a/receipt") == fakeDigest("receipt"))
      #expect(store.operationCount == operations, "what is there is not written again")
      #expect(store.paths == ["a/receipt"])
    }
  }

  @Test("a run's journal grows in the archive and is never cut by an older copy of it")
  func runsGrow() throws {
    let store = MemoryStateStore()
    let runs = MemoryStateStore()
    let files = ArchiveFiles(store: store, place: "/archive", digest: archiveDigest)
    try runs.append("r1/journal.jsonl", Array("one\n".utf8))
    try files.keepRuns(from: runs)
    try runs.append("r1/journal.jsonl", Array("two\n".utf8))
    try files.keepRuns(from: runs)
    #expect(try store.read("runs/r1/journal.jsonl") == Array("one\ntwo\n".utf8))
    let older = MemoryStateStore()
    try older.append("r1/journal.jsonl", Array("one\n".utf8))
    try older.append("r2/notes", Array("no journal".utf8))
    try files.keepRuns(from: older)
    #expect(try store.read("runs/r1/journal.jsonl") == Array("one\ntwo\n".utf8))
    #expect(store.paths == ["runs/r1/journal.jsonl"])
  }
}
