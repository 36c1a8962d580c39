import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Reconciling
import Synchronization
import TestSupport
import Testing

/// Groups as whoever applies sees them.
@Suite struct GroupTests {
  private func groupedPlan(_ phase: Phase, count: Int = 2, approval: Cutover.Approval = .automatic) -> MigrationPlan {
    var plan = samplePlan(phase, count: count, approval: approval)
    plan.groups = [SwingGroup(name: "erp", migrations: plan.sortedMigrations.map(\.name))]
    return plan
  }

  private let first = MigrationName("m0")
  private let second = MigrationName("m1")

  private func phases(_ summary: ApplySummary?) -> [PhaseReached] { summary?.migrations.map(\.reached) ?? [] }

  private func hold(_ bench: Bench, _ name: MigrationName) -> Hold? {
    bench.changes(bench.world.state.withLock(\.plan))?.migrations.first { $0.migration == name }?.waiting
      .compactMap { if case .hold(let hold) = $0.reason { hold } else { nil } }.first
  }

  private func resume(_ bench: Bench, _ plan: MigrationPlan, _ names: [MigrationName]) {
    let operations = bench.operations(plan)
    for name in names {
      _ = bench.loop.run { () -> Bool in
        do throws(GatewayError) {
          _ = try await operations.resume(name)
          return true
        } catch {
          return false
        }
      }
    }
  }

  @Test("all of a group swing in one apply, after one check of all of them")
  func swingTogether() {
    let plan = groupedPlan(.cmotion, count: 3)
    let bench = Bench(plan)
    let summary = bench.apply(plan)
    #expect(summary?.result == .reached, brief(summary))
    #expect(bench.world.violations == [])
    let checks = bench.journal.lines.withLock { lines in
      lines.count { $0.contains("checkGroup.swing") && $0.contains("stepSucceeded") }
    }
    #expect(checks == 1)
  }

  @Test("the whole way, with approvals, to retired")
  func wholeWay() {
    let plan = groupedPlan(.retired, approval: .manual)
    let bench = Bench(plan)
    let waiting = bench.apply(plan)
    #expect(waiting?.exitCode == 4, brief(waiting))
    #expect(phases(waiting) == [.reached(.cmotion), .reached(.cmotion)])
    let operations = bench.operations(plan)
    _ = bench.loop.run { () -> Bool in
      do throws(GatewayError) {
        try await operations.approve(MigrationName("m0"), phase: .finalized, expiresInSeconds: nil)
        return true
      } catch {
        return false
      }
    }
    let half = bench.apply(plan)
    #expect(half?.exitCode == 4, brief(half))
    #expect(phases(half) == [.reached(.cmotion), .reached(.cmotion)], "one approval is not enough for two")
    #expect(half?.migrations.first?.note.contains("m1 waits: the one-way step is not approved") == true)
    #expect(bench.world.state.withLock(\.hookExecutions).isEmpty, "no application is stopped for nothing")
    bench.help(plan)
    let last = bench.apply(plan)
    #expect(last?.exitCode == 0, brief(last))
    #expect(bench.world.violations == [])
    #expect(bench.world.state.withLock(\.fences) == 2)
  }

  @Test("one that is held keeps all where they are, and is named")
  func heldMember() {
    let synchronized = groupedPlan(.synchronized)
    let bench = Bench(synchronized)
    #expect(bench.apply(synchronized)?.exitCode == 0)
    let plan = groupedPlan(.cmotion)
    let operations = bench.operations(plan)
    _ = bench.loop.run {
      await operations.on(second) { operations, name throws(GatewayError) in
        try await operations.pause(name, why: "wait")
      }
    }
    let summary = bench.apply(plan)
    #expect(summary?.exitCode == 4, brief(summary))
    #expect(summary?.migrations.first?.note == "group 'erp' swings together: m1 is held (paused) by ann@host: wait")
    #expect(bench.world.state.withLock(\.swingsBegun) == 0)
    resume(bench, plan, [second])
    #expect(bench.apply(plan)?.exitCode == 0)
  }

  @Test("one whose host can't be seen keeps all where they are")
  func unseenMember() {
    let synchronized = groupedPlan(.synchronized)
    let bench = Bench(synchronized)
    #expect(bench.apply(synchronized)?.exitCode == 0)
    let plan = groupedPlan(.cmotion)
    bench.world.state.withLock { $0.unreachable = [HostName("h1")] }
    let summary = bench.apply(plan)
    #expect(summary?.exitCode == 1, brief(summary))
    #expect(summary?.migrations.first?.note.contains("m1: host h1 could not be observed") == true)
    #expect(bench.world.state.withLock(\.swingsBegun) == 0)
  }

  @Test("one that gives up its swing takes the others back, which are held with the reason")
  func givenUpSwing() throws {
    let plan = groupedPlan(.cmotion, count: 3)
    let bench = Bench(plan)
    bench.world.state.withLock {
      $0.swingsGivenUp = 3
      $0.givesUp = second
    }
    let summary = bench.apply(plan)
    #expect(summary?.exitCode == 1, brief(summary))
    #expect(phases(summary) == Array(repeating: .reached(.synchronized), count: 3), brief(summary))
    for name in [first, MigrationName("m2")] {
      let found = try #require(hold(bench, name))
      #expect(found.cause == .failure)
      #expect(found.why.hasPrefix("group 'erp' goes together: m1: the swing did not happen"), "\(found.why)")
    }
    #expect(bench.world.violations == [] && bench.world.state.withLock(\.partedGroups) == [])
    resume(bench, plan, plan.sortedMigrations.map(\.name))
    #expect(bench.apply(plan)?.exitCode == 0)
  }

  @Test("one that fell back is followed by the others, and all stay until they are resumed")
  func fellBack() throws {
    let plan = groupedPlan(.cmotion)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    let now = bench.loop.wallNow().secondsSince1970
    bench.world.state.withLock { $0.fallBack(second, at: now) }
    let summary = bench.apply(plan)
    #expect(summary?.exitCode == 4, brief(summary))
    #expect(phases(summary) == [.reached(.synchronized), .reached(.synchronized)])
    let why = try #require(hold(bench, first)).why
    #expect(why == "group 'erp' goes together: m1 is held (failure) by cmcagent: the link was lost")
    resume(bench, plan, [second])
    #expect(bench.apply(plan)?.exitCode == 4, "the other one is held still")
    #expect(bench.world.state.withLock(\.partedGroups) == [])
    resume(bench, plan, [first])
    #expect(bench.apply(plan)?.exitCode == 0)
    #expect(bench.world.violations == [])
  }

  @Test("a way back that a dead run only began, with its hold, is gone by the next one")
  func heldButNotBack() throws {
    let plan = groupedPlan(.cmotion)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    let now = bench.loop.wallNow().secondsSince1970
    bench.world.state.withLock { state in
      state.fallBack(second, at: now)
      let key = state.sourceKey(first)
      for host in state.agents.keys {
        state.agents[host]?.sessions[key]?.seen.hold = Hold(
          cause: .failure, who: "run 1", why: "group 'erp' goes together", at: bench.loop.wallNow())
      }
    }
    let summary = bench.apply(plan)
    #expect(phases(summary) == [.reached(.synchronized), .reached(.synchronized)], brief(summary))
    #expect(bench.world.violations == [] && bench.world.state.withLock(\.partedGroups) == [])
  }

  @Test("a hook that fails takes the whole group back before any fence", arguments: HookPoint.allCases.prefix(2))
  func failedHook(_ point: HookPoint) {
    let plan = groupedPlan(.finalized)
    let bench = Bench(plan)
    bench.world.state.withLock { $0.failingHooks[point.rawValue] = 1 }
    let summary = bench.apply(plan)
    #expect(summary?.exitCode == 1, brief(summary))
    #expect(phases(summary) == [.reached(.synchronized), .reached(.synchronized)], brief(summary))
    #expect(hold(bench, first) != nil && hold(bench, second) != nil)
    #expect(bench.world.state.withLock(\.fences) == 0)
    resume(bench, plan, [first, second])
    let last = bench.apply(plan)
    #expect(last?.exitCode == 0, brief(last))
    #expect(bench.world.violations == [])
  }

  @Test("a run that dies anywhere leaves what the next one mends")
  func killedAnywhere() async {
    for call in stride(from: 1, through: 160, by: 3) {
      let plan = groupedPlan(.finalized)
      let bench = Bench(plan, seed: UInt64(call))
      _ = bench.apply(plan, faults: FaultPlan(crashAtCall: call))
      let summary = bench.apply(plan, steal: true)
      #expect(summary?.exitCode == 0, "killed at call \(call): \(brief(summary))")
      #expect(bench.world.violations == [], "killed at call \(call)")
      // So that tests with a time limit get their turn.
      await Task.yield()
    }
  }

  @Test("past the fence each goes on by itself, also when another of its group is retired and gone")
  func lastOneOfACommittedGroup() {
    let plan = groupedPlan(.retired)
    let bench = Bench(plan)
    bench.world.state.withLock { $0.refusesFence = second }
    let half = bench.apply(plan)
    #expect(half?.exitCode == 1, brief(half))
    #expect(phases(half).first == .tombstoned(.retired), brief(half))
    #expect(bench.world.state.withLock(\.fences) == 1)
    bench.world.state.withLock { $0.refusesFence = nil }
    let last = bench.apply(plan)
    #expect(last?.exitCode == 0, brief(last))
    #expect(bench.world.violations == [])
  }

  @Test("a revert of one reverts all, and only those that have swung are held")
  func revertOfOne() {
    let plan = groupedPlan(.cmotion)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    let operations = bench.operations(plan)
    let results = bench.loop.run { await operations.revertWithItsGroup(second, why: "users complain") } ?? []
    #expect(results.map(\.migration) == [first, second] && results.allSatisfy { $0.error == nil }, "\(results)")
    #expect(hold(bench, first)?.why == "with m1, of group 'erp': users complain")
    #expect(hold(bench, second)?.why == "users complain")
    #expect(bench.world.state.withLock(\.partedGroups) == [])
    #expect(bench.apply(plan)?.exitCode == 4)
  }

  @Test("past the fence none is taken back alone")
  func revertPastTheFence() {
    let plan = groupedPlan(.finalized)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    let operations = bench.operations(plan)
    let results = bench.loop.run { await operations.revertWithItsGroup(second, why: "no") } ?? []
    #expect(results.map(\.error?.code) == [ApplyCode.groupParted, ApplyCode.groupParted], "\(results)")
  }

  private func unconfirmed() -> (MigrationPlan, Bench) {
    var plan = groupedPlan(.cmotion)
    for name in plan.migrations.keys { plan.migrations[name]?.cutover.confirmWithinSeconds = 3600 }
    let bench = Bench(plan)
    bench.world.state.withLock { state in
      state.agents[HostName("h0")]?.clockSeconds = 3600
      state.agents[HostName("h1")]?.clockSeconds = -1800
    }
    return (plan, bench)
  }

  /// When each went back by itself, in seconds from now.
  private func endsUnconfirmed(_ bench: Bench, _ plan: MigrationPlan) -> [Double] {
    let now = bench.loop.wallNow().secondsSince1970
    bench.loop.skip(seconds: 4000)
    _ = bench.changes(plan)
    return [first, second].compactMap { name in
      hold(bench, name).flatMap { $0.cause == .failure ? $0.at.secondsSince1970 - now : nil }
    }
  }

  @Test("not confirmed, all of a group go back by themselves at one time, however long each took, whatever clocks say")
  func oneDeadline() {
    let (plan, bench) = unconfirmed()
    bench.world.state.withLock { $0.slowSwing = (second, 300) }
    #expect(bench.apply(plan)?.exitCode == 0)
    let ends = endsUnconfirmed(bench, plan)
    #expect(ends.count == 2 && abs(ends[0] - ends[1]) < 1, "\(ends)")
    #expect(ends.allSatisfy { $0 < 3600 - 290 }, "it counts from before the first swing: \(ends)")
  }

  @Test("one that a later run sends after the others has what is left of their time")
  func deadlineOfAnEarlierRun() {
    let (plan, bench) = unconfirmed()
    #expect(bench.apply(plan.with(phase: .synchronized))?.exitCode == 0)
    let now = bench.loop.wallNow().secondsSince1970
    bench.world.state.withLock { state in
      let key = state.sourceKey(first)
      state.agents[HostName("h0")]?.sessions[key]?.seen.stage = .swinging
      state.agents[HostName("h0")]?.sessions[key]?.ends = now
      state.agents[HostName("h0")]?.sessions[key]?.confirmEnds = now + 600
      state.expectEnd(of: key, on: HostName("h0"))
    }
    let summary = bench.apply(plan)
    #expect(summary?.exitCode == 0, brief(summary))
    let ends = endsUnconfirmed(bench, plan)
    #expect(ends.count == 2 && abs(ends[0] - ends[1]) < 1 && ends[0] < 600, "\(ends)")
  }

  @Test("a group is confirmed as a whole, and only when all of it has swung")
  func confirmedAsAWhole() {
    var plan = groupedPlan(.cmotion)
    for name in plan.migrations.keys { plan.migrations[name]?.cutover.confirmWithinSeconds = 3600 }
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    let operations = bench.operations(plan)
    func confirm() -> OperationResult? {
      bench.loop.run {
        await operations.on(first) { operations, name throws(GatewayError) in try await operations.confirm(name) }
      }?.first
    }
    #expect(confirm()?.outcome?.done == ["confirmed the swing of m0", "confirmed the swing of m1"])
    let now = bench.loop.wallNow().secondsSince1970
    bench.world.state.withLock { $0.fallBack(second, at: now) }
    #expect(confirm()?.error?.code == ApplyCode.notConfirmed)
  }
}
