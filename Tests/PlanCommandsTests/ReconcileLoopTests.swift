import ArgumentParser
import Foundation
import Planning
import Reconciling
import Seams
import Synchronization
import Testing

@testable import PlanCommands

@Suite struct ReconcileLoopTests {
  @Test func itComesBackEveryIntervalAndLaterWhileRoundsFail() {
    var pace = ReconcilePace(intervalSeconds: 300)
    #expect(pace.pause(after: 0) == 300)
    #expect([1, 1, 1, 1].map { pace.pause(after: $0) } == [300, 600, 900, 900])
    #expect(pace.pause(after: 4) == 300, "waiting is no fault")
    #expect(pace.pause(after: 1) == 300)
    var slow = ReconcilePace(intervalSeconds: 7200)
    #expect([1, 1].map { slow.pause(after: $0) } == [7200, 7200])
    var long = ReconcilePace(intervalSeconds: 5)
    for _ in 0..<10_000 { _ = long.pause(after: 1) }
    #expect(long.pause(after: 1) == ReconcilePace.longestBackoffSeconds)
  }

  @Test func roundsFollowEachOtherUntilSomebodyAsksAndTheLastOneCounts() async {
    let loop = ReconcileLoop(intervalSeconds: 0, console: Console(environment: [:]))
    let codes: [Int32] = [0, 3, 4]
    let count = Mutex(0)
    let ended = await loop.run {
      let index = count.withLock { count in
        count += 1
        return count - 1
      }
      if index == codes.count - 1 { loop.stopping.interrupt() }
      return codes[index]
    }
    #expect(ended == 4)
    #expect(count.withLock { $0 } == 3)
  }

  @Test func aRoundThatCannotBeginIsAFaultAndNoEnd() async {
    let loop = ReconcileLoop(intervalSeconds: 0, console: Console(environment: [:]))
    let count = Mutex(0)
    let ended = await loop.run {
      let round = count.withLock { count in
        count += 1
        return count
      }
      if round == 1 { throw CommandFailure("the plan is gone", advice: "") }
      if round == 2 { throw ExitCode(1) }
      loop.stopping.interrupt()
      return 0
    }
    #expect(ended == 0)
    #expect(count.withLock { $0 } == 3)
  }

  @Test(.timeLimit(.minutes(10))) func aPauseEndsWhenSomebodyAsks() async {
    let stopping = Stopping()
    let pause = Task { await stopping.pause(seconds: 1e6) }
    stopping.interrupt()
    await pause.value
    #expect(stopping.isAsked)
  }

  @Test func whatDidNothingLeavesNoJournal() async throws {
    let kept = KeptLines()
    let quiet = QuietJournal(kept)
    try await quiet.append(JournalEntry(.runStarted, message: "ann").line())
    try await quiet.append(JournalEntry(.runEnded, message: "exit 0").line())
    #expect(kept.lines.withLock { $0 } == [])
    let loud = QuietJournal(kept)
    for kind in [JournalEntry.Kind.runStarted, .roundStarted, .stepStarted, .runEnded] {
      try await loud.append(JournalEntry(kind).line())
    }
    #expect(kept.lines.withLock { $0.count } == 4)
  }

  @Test func optionsForOneRunAreRefused() throws {
    for option in [["--wait"], ["--steal-lease"], ["--overwrite", "a/b"], ["--replace", "a/b"], ["saved.cmc"]] {
      let command = try ApplyCommand.parse(["--reconcile-every", "5m", "--auto-approve"] + option)
      #expect(throws: CommandFailure.self, "\(option)") { try command.reconcileSeconds() }
    }
    #expect(throws: CommandFailure.self) { try ApplyCommand.parse(["--reconcile-every", "5m"]).reconcileSeconds() }
    #expect(throws: CommandFailure.self) {
      try ApplyCommand.parse(["--reconcile-every", "soon", "--auto-approve"]).reconcileSeconds()
    }
    #expect(try ApplyCommand.parse(["--reconcile-every", "5m", "--auto-approve"]).reconcileSeconds() == 300)
    #expect(try ApplyCommand.parse([]).reconcileSeconds() == nil)
  }

  @Test func whenItWasReconciledIsKept() throws {
    let place = FileManager.default.temporaryDirectory.appendingPathComponent("cmc-mark-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: place) }
    #expect(ReconcileMark.last(in: place) == nil)
    ReconcileMark.note("now by ann, exit 0", in: place)
    #expect(ReconcileMark.last(in: place) == "now by ann, exit 0")
  }
}

private final class KeptLines: JournalSink {
  let lines = Mutex<[String]>([])
  func append(_ line: String) async throws(StateStoreError) { lines.withLock { $0.append(line) } }
}
