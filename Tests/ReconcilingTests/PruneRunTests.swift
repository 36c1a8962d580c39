import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Reconciling
import Synchronization
import TestSupport
import Testing

/// `--prune`: what left the document is ended, as long as nobody's I/O lives on it.
@Suite struct PruneRunTests {
  private static let kept = MigrationName("m0")
  private static let departed = MigrationName("m1")

  /// Two migrations were applied; one of them left the document, its hosts are still in it.
  private static func applied(_ phase: Phase = .synchronized) -> (bench: Bench, document: MigrationPlan) {
    let plan = samplePlan(phase, count: 2)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    var document = plan
    document.migrations[departed] = nil
    return (bench, document)
  }

  private static func whole(_ bench: Bench, _ document: MigrationPlan) -> MigrationPlan? {
    let observer = ObserveRun(
      plan: document, gateways: bench.world.gateways(for: RunIdentity(faults: FaultPlan())), services: bench.services)
    return bench.loop.run { await observer.observe(includingFinished: true, includingUnused: true) }
      .map { document.withDeparted(in: $0) }
  }

  private static func prune(_ bench: Bench, _ document: MigrationPlan) -> ApplySummary? {
    whole(bench, document).flatMap { bench.apply($0) }
  }

  private static func sessions(_ bench: Bench, of name: MigrationName) -> [String] {
    bench.world.state.withLock { state in
      state.agents.values.flatMap(\.sessions.values).map(\.seen).filter { $0.migration == name }
        .map { "\($0.role.rawValue) \($0.stage.rawValue)" }.sorted()
    }
  }

  @Test func bothHalvesGoWithTheAgentThatNobodyElseUsesAndTheDisksStay() {
    let (bench, document) = Self.applied()
    let disks = bench.world.state.withLock { $0.disks }
    #expect(bench.apply(document)?.stepsDone == 0, "nothing without the option")
    #expect(Self.sessions(bench, of: Self.departed).count == 2)
    let summary = Self.prune(bench, document)
    #expect(summary?.exitCode == 0, brief(summary))
    #expect(Self.sessions(bench, of: Self.departed) == [])
    #expect(Self.sessions(bench, of: Self.kept) == ["destination prepared", "source tracking"])
    bench.world.state.withLock { state in
      #expect(state.violations == [])
      #expect(state.disks == disks)
      #expect(state.agents[HostName("h1")]?.isRunning == false && state.agents[HostName("h1")]?.digest == nil)
      #expect(state.agents[HostName("h0")]?.isRunning == true && state.agents[HostName("cloud")]?.isRunning == true)
    }
    #expect(Self.prune(bench, document)?.stepsDone == 0, "and that was all")
  }

  @Test func whatSwungStays() {
    let (bench, document) = Self.applied(.cmotion)
    let summary = Self.prune(bench, document)
    #expect(summary?.exitCode == 1)
    #expect(summary?.remaining.allDiagnostics.map(\.code) == [PlanningCode.pruneTooLate])
    #expect(Self.sessions(bench, of: Self.departed) == ["destination prepared", "source standIn"])
  }

  @Test func whatSwingsBetweenThePlanAndTheStepStays() {
    let (bench, document) = Self.applied()
    guard let whole = Self.whole(bench, document) else {
      Issue.record("nothing was observed")
      return
    }
    let observer = ObserveRun(
      plan: whole, gateways: bench.world.gateways(for: RunIdentity(faults: FaultPlan())), services: bench.services)
    let first = bench.loop.run { await observer.observe() }
    bench.world.state.withLock { state in
      for host in state.agents.keys {
        for key in state.agents[host]?.sessions.keys.map({ $0 }) ?? []
        where state.agents[host]?.sessions[key]?.seen.migration == Self.departed {
          state.agents[host]?.sessions[key]?.seen.stage = .standIn
        }
      }
    }
    let run = bench.run(whole)
    let summary = bench.loop.run { await run.run(from: first) }
    #expect(summary?.failures.map(\.error.code) == [ApplyCode.replaceClosed], brief(summary))
    #expect(Self.sessions(bench, of: Self.departed) == ["destination standIn", "source standIn"])
  }

  @Test func theHalfThatADeadRunLeftGoesToo() {
    let (bench, document) = Self.applied()
    bench.world.state.withLock { state in
      state.agents[HostName("h1")]?.sessions = [:]
    }
    let summary = Self.prune(bench, document)
    #expect(summary?.exitCode == 0, brief(summary))
    #expect(Self.sessions(bench, of: Self.departed) == [])
    #expect(bench.world.state.withLock { $0.agents[HostName("h1")]?.isRunning } == false)
  }

  @Test func whatCanNoLongerBeSeenIsNotTakenForGone() {
    let (bench, document) = Self.applied()
    guard let whole = Self.whole(bench, document) else {
      Issue.record("nothing was observed")
      return
    }
    let observer = ObserveRun(
      plan: whole, gateways: bench.world.gateways(for: RunIdentity(faults: FaultPlan())), services: bench.services)
    guard var seen = bench.loop.run({ await observer.observe() }) else {
      Issue.record("nothing was observed")
      return
    }
    for host in seen.hosts.keys { seen.hosts[host]?.agent = nil }
    let changes = diff(whole, seen, options: PlanningOptions(now: bench.loop.wallNow(), digest: fakeDigest))
    let entry = changes.migrations.first { $0.migration == Self.departed }
    #expect(entry?.diagnostics.map(\.code) == [PlanningCode.hostNotObserved, PlanningCode.hostNotObserved])
    #expect(entry?.isNoOp == false)
  }

  @Test func aHoldIsNotCrossed() {
    let (bench, document) = Self.applied()
    bench.world.state.withLock { state in
      for key in state.agents[HostName("h1")]?.sessions.keys.map({ $0 }) ?? [] {
        state.agents[HostName("h1")]?.sessions[key]?.seen.hold = Hold(
          cause: .paused, who: "ann", why: "ask me first", at: bench.loop.wallNow())
      }
    }
    #expect(Self.prune(bench, document)?.exitCode == 4)
    #expect(Self.sessions(bench, of: Self.departed).count == 2)
  }
}
