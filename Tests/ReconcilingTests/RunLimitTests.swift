import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Reconciling
import Synchronization
import TestSupport
import Testing

/// What holds over all rounds of one `apply`: limits of a run, and the steps of a saved change set.
@Suite struct RunLimitTests {
  private func apply(_ bench: Bench, _ plan: MigrationPlan, _ change: (inout ApplyOptions) -> Void) -> ApplySummary? {
    var options = ApplyOptions(parallelism: 4, wait: .untilReached, holder: "ann@host, run 1")
    change(&options)
    let run = bench.run(plan, options)
    return bench.loop.run { await run.run() }
  }

  private func results(_ summary: ApplySummary?) -> [String] {
    summary?.migrations.map { "\($0.migration) \($0.result)" } ?? []
  }

  /// Bytes are known only once an agent answers, after the first round.
  @Test func bytesAreHeldInLaterRoundsToo() {
    let plan = samplePlan(.synchronized, count: 3)
    let bench = Bench(plan)
    // Each migration has two volumes of 5 GiB.
    let limits = GuardrailLimits(bytes: GuardrailRule(25 << 30))
    let summary = apply(bench, plan) { $0.guardrails = limits }
    #expect(results(summary) == ["m0 reached", "m1 reached", "m2 failed"])
    #expect(summary?.remaining.allDiagnostics.map(\.code) == [PlanningCode.guardrailBytes])
    let started = bench.world.state.withLock { state in
      state.agents.values.flatMap(\.sessions.values).filter { $0.seen.role == .source && $0.seen.stage != .prepared }
        .count
    }
    #expect(started == 2)
    #expect(apply(bench, plan) { $0.guardrails = limits }?.result == .reached, "the next run has its own")
  }

  /// A window opens while the run goes on: what waited for it when the run began isn't moved by it as well.
  @Test func movesAreHeldInLaterRoundsToo() {
    var plan = samplePlan(.cmotion, count: 2)
    let bench = Bench(plan)
    #expect(apply(bench, plan.with(phase: .synchronized)) { _ in }?.result == .reached)
    // m1's window opens within a minute, while m0 is finalized.
    let now = bench.loop.wallNow()
    let minute = Int(now.secondsSince1970 / 60) % 1440 + 1
    plan.migrations[MigrationName("m1")]?.cutover.windows = [
      WeeklyWindow(
        days: Weekday.allCases, fromMinute: minute % 1440, toMinute: (minute + 120) % 1440, timeZone: "UTC",
        position: nil)
    ]
    plan.migrations[MigrationName("m0")]?.cutover.phase = Positioned(.finalized)
    bench.world.state.withLock { $0.proofSeconds = 200 }
    let limits = GuardrailLimits(moves: GuardrailRule(1))
    let summary = apply(bench, plan) { $0.guardrails = limits }
    #expect(results(summary) == ["m0 reached", "m1 waiting"])
    #expect(summary?.migrations.last?.waiting.first?.reason == .moves(limit: 1))
    #expect(bench.world.state.withLock(\.swingsBegun) == 1)
    #expect(apply(bench, plan) { $0.guardrails = limits }?.result == .reached)
  }

  @Test func aSavedChangeSetIsCarriedOutToItsEnd() throws {
    let plan = samplePlan(.retired, count: 2)
    let bench = Bench(plan)
    let seen = try #require(bench.changes(plan))
    let summary = apply(bench, plan) { $0.reviewed = ReviewedSteps(seen) }
    #expect(summary?.result == .reached, "\(summary?.remaining.migrations.flatMap(\.waiting) ?? [])")
    #expect(bench.world.violations == [])
  }

  @Test func whatASavedChangeSetDoesNotListIsLeftAndSaid() throws {
    let plan = samplePlan(.finalized)
    let bench = Bench(plan)
    let seen = try #require(bench.changes(plan.with(phase: .cmotion)))
    let summary = apply(bench, plan) { $0.reviewed = ReviewedSteps(seen) }
    #expect(summary?.exitCode == 4)
    #expect(summary?.migrations.first?.reached == .reached(.cmotion))
    #expect(summary?.migrations.first?.note.contains("not in the saved change set: run hook stopApplication") == true)
    #expect(bench.world.state.withLock(\.fences) == 0)
  }

  @Test func limitsThatAreNotAnsweredStopNobodyWhoseDisksAreThere() {
    let plan = samplePlan(.cmotion)
    let bench = Bench(plan)
    #expect(apply(bench, plan.with(phase: .synchronized)) { _ in }?.result == .reached)
    bench.world.state.withLock { $0.refusesLimits = true }
    #expect(apply(bench, plan) { _ in }?.result == .reached)
    let other = Bench(plan)
    other.world.state.withLock { $0.refusesLimits = true }
    let refused = apply(other, plan) { _ in }
    #expect(refused?.exitCode == 1)
    #expect(
      refused?.migrations.first?.note.contains("needs 2 new disks") == true, "\(refused?.migrations.first?.note ?? "")")
  }
}
