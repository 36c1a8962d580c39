import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Reconciling
import Synchronization
import TestSupport
import Testing

/// Waves as whoever applies sees them.
@Suite struct WaveTests {
  /// m0, then m1 (and m2 beside it), checked on m0's host before.
  private func wavedPlan(_ phase: Phase, count: Int = 2, bakeSeconds: Double = 0, isChecked: Bool = false)
    -> MigrationPlan
  {
    var plan = samplePlan(phase, count: count)
    let check = WaveHealthCheck(host: HostName("h0"), run: "check pilot", timeoutSeconds: 60)
    plan.waves = [
      Wave(
        name: "pilot", migrations: [MigrationName("m0")], bakeSeconds: bakeSeconds, healthCheck: isChecked ? check : nil
      ),
      Wave(name: "rest", migrations: (1..<count).map { MigrationName("m\($0)") }),
    ]
    return plan
  }

  private func reached(_ summary: ApplySummary?, _ index: Int) -> PhaseReached? {
    summary?.migrations[index].reached
  }

  @Test("one apply goes through waves that need not bake, in their order")
  func goesThroughWavesInOrder() {
    let plan = wavedPlan(.cmotion, count: 3, isChecked: true)
    let bench = Bench(plan)
    let summary = bench.apply(plan)
    #expect(summary?.result == .reached, brief(summary))
    #expect(bench.world.violations == [])
    #expect(bench.world.state.withLock { $0.waves.runs } == ["check pilot": 1], "once, for both that wait for it")
  }

  @Test("a later wave is synchronized meanwhile, says until when it waits, and goes on after the bake time")
  func waitsForTheBakeTime() throws {
    let plan = wavedPlan(.cmotion, bakeSeconds: 3600)
    let bench = Bench(plan)
    let first = bench.apply(plan)
    #expect(first?.exitCode == 4, brief(first))
    #expect(reached(first, 0) == .reached(.cmotion))
    #expect(reached(first, 1) == .reached(.synchronized))
    let waiting = try #require(first?.migrations[1].waiting.first)
    guard case .wave("pilot", let until?) = waiting.reason else {
      Issue.record("\(waiting)")
      return
    }
    bench.loop.skip(seconds: until.secondsSince1970 - bench.loop.wallNow().secondsSince1970 - 10)
    #expect(bench.apply(plan)?.exitCode == 4)
    bench.loop.skip(seconds: 20)
    let last = bench.apply(plan)
    #expect(last?.exitCode == 0, brief(last))
    #expect(bench.world.violations == [])
  }

  @Test("the bake time of a finished wave is told from its disks, also when nobody looks at its hosts any more")
  func bakesAfterFinalize() {
    let plan = wavedPlan(.retired, bakeSeconds: 3600)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 4)
    bench.world.state.withLock { $0.unreachable = [HostName("h0")] }
    bench.loop.skip(seconds: 3700)
    let last = bench.apply(plan)
    #expect(last?.exitCode == 0, brief(last))
    #expect(bench.world.violations == [])
  }

  @Test("a check that fails stops the next wave's swing and nothing else, and the next apply asks again")
  func stopsAtAFailedCheck() throws {
    var plan = wavedPlan(.cmotion, count: 3, isChecked: true)
    // m2 is in no wave.
    plan.waves[1].migrations = [MigrationName("m1")]
    let bench = Bench(plan)
    bench.world.state.withLock { $0.waves.failingChecks = 1 }
    let first = bench.apply(plan)
    #expect(first?.exitCode == 1, brief(first))
    let failure = try #require(first?.failures.first)
    #expect(first?.failures.count == 1)
    #expect(failure.subject == "wave pilot on h0")
    #expect(failure.migrations == [MigrationName("m1")])
    #expect(failure.error.message.contains("ended with exit code 3: smoke test: login page answers 500"))
    #expect(reached(first, 1) == .reached(.synchronized))
    #expect(reached(first, 2) == .reached(.cmotion))
    #expect(bench.journal.lines.withLock { $0.contains { $0.contains("stepOutput") && $0.contains("login page") } })
    #expect(bench.apply(plan)?.exitCode == 0)
    #expect(bench.world.violations == [])
  }

  @Test("what happens to the pilot between the plan and the swing is seen")
  func looksAgainBeforeTheSwing() {
    let plan = wavedPlan(.cmotion, isChecked: true)
    let bench = Bench(plan)
    bench.world.state.withLock { $0.waves.pausedByCheck = MigrationName("m0") }
    let summary = bench.apply(plan)
    #expect(summary?.exitCode == 4, brief(summary))
    #expect(reached(summary, 1) == .reached(.synchronized))
    #expect(summary?.migrations[1].waiting.first?.message.contains("m0 is held (paused) by bob: wait") == true)
    #expect(bench.world.violations == [])
  }

  @Test("--only doesn't go round the waves before")
  func onlyWaitsToo() {
    let plan = wavedPlan(.cmotion)
    let bench = Bench(plan)
    let run = ApplyRun(
      plan: plan, gateways: bench.world.gateways(for: RunIdentity(faults: FaultPlan())),
      options: ApplyOptions(wait: .untilReached, only: [MigrationName("m1")], holder: "ann"), services: bench.services)
    let summary = bench.loop.run { await run.run() }
    #expect(summary?.migrations.map(\.migration) == [MigrationName("m1")])
    #expect(summary?.exitCode == 4, brief(summary))
    #expect(summary?.migrations.first?.note == "wave 'rest' waits for 'pilot': m0 is nothing yet, wants cmotion")
    #expect(bench.world.violations == [])
  }
}
