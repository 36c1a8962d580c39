import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Reconciling
import Synchronization
import TestSupport
import Testing

/// `--replace`: a new disk and a new session, and the old disk as it was.
@Suite struct ReplaceRunTests {
  private static let data = VolumeKey(MigrationName("m0"), VolumeName("data"))

  private static func edited(_ phase: Phase = .synchronized) -> MigrationPlan {
    var plan = samplePlan(phase)
    plan.migrations[MigrationName("m0")]?.volumes[0].destination = .disk(
      ManagedDisk(sku: .premiumV2, size: .auto))
    return plan
  }

  private static func applied(_ phase: Phase = .synchronized) -> Bench {
    let bench = Bench(samplePlan(phase))
    _ = bench.apply(samplePlan(phase))
    return bench
  }

  private static func apply(
    _ bench: Bench, _ plan: MigrationPlan, replace: Set<VolumeKey> = [data], faults: FaultPlan = FaultPlan()
  ) -> ApplySummary? {
    let options = ApplyOptions(
      parallelism: 4, wait: .untilReached, replace: replace, stealLease: true, holder: "ann@host, run 1")
    let run = bench.run(plan, options, faults: faults)
    return bench.loop.run { await run.run() }
  }

  /// The disks of the volume: what state each is in.
  private static func states(_ bench: Bench) -> [String: String] {
    bench.world.state.withLock { state in
      let own = state.disks.values.filter { $0.tags[DiskTag.volume] == "data" }
      return Dictionary(uniqueKeysWithValues: own.map { ($0.name, $0.tags[DiskTag.state] ?? "") })
    }
  }

  @Test func theOldDiskIsKeptAndANewOneIsSynchronized() {
    let bench = Self.applied()
    let old = bench.world.state.withLock { $0.disks.values.first { $0.tags[DiskTag.volume] == "data" } }
    let plan = Self.edited()
    #expect(bench.apply(plan)?.exitCode == 1, "not without the option")
    let summary = Self.apply(bench, plan)
    #expect(summary?.exitCode == 0, brief(summary))
    let name = old?.name ?? ""
    #expect(Self.states(bench) == [name: "orphaned", name + "-2": "prepared"])
    bench.world.state.withLock { state in
      #expect(state.violations == [])
      #expect(state.fullSynchronizations == 2)
      #expect(state.disks[old?.resourceID ?? ""]?.sku == "Premium_LRS", "nothing of it was changed but its tag")
      let session = state.agents[HostName("cloud")]?.sessions.values.first?.seen.configuration
      #expect(session?.volumes.map(\.devicePath) == ["/dev/lun2", "/dev/lun1"])
    }
    #expect(bench.changes(plan)?.isNoOp == true)
    let again = Self.apply(bench, plan)
    #expect(again?.exitCode == 0 && again?.stepsDone == 0, "the option again replaces nothing")
    // The way goes on with the new disk, and ends with the old one untouched.
    #expect(bench.apply(plan.with(phase: .retired))?.exitCode == 0)
    #expect(Self.states(bench) == [name: "orphaned", name + "-2": "retired"])
  }

  @Test func aSecondTimeGetsAThirdDisk() {
    let bench = Self.applied()
    #expect(Self.apply(bench, Self.edited())?.exitCode == 0)
    #expect(Self.apply(bench, samplePlan(.synchronized))?.exitCode == 0)
    #expect(Self.states(bench).values.sorted() == ["orphaned", "orphaned", "prepared"])
    #expect(bench.world.violations == [])
  }

  @Test func productionThatSwungIsNotTouched() {
    let bench = Self.applied(.cmotion)
    let before = Self.states(bench)
    let summary = Self.apply(bench, Self.edited(.cmotion))
    #expect(summary?.exitCode == 1)
    #expect(summary?.remaining.allDiagnostics.map(\.code) == [PlanningCode.replaceTooLate])
    #expect(Self.states(bench) == before)
    #expect(bench.world.violations == [])
  }

  @Test func itMayStopAnywhereAndAnyRunGoesOn() {
    var deaths = 0
    for call in 1...70 {
      let bench = Self.applied()
      let plan = Self.edited()
      if Self.apply(bench, plan, faults: FaultPlan(repeatChance: 0.2, crashAtCall: call))?.exitCode != 0 { deaths += 1 }
      bench.loop.skip(seconds: 300)
      // Before the disk was tagged nothing had begun, and it takes the option again.
      let hasBegun = Self.states(bench).values.contains("orphaned")
      let summary = Self.apply(bench, plan, replace: hasBegun ? [] : [Self.data])
      #expect(summary?.exitCode == 0, brief(summary))
      #expect(Self.states(bench).values.sorted() == ["orphaned", "prepared"], "killed at call \(call)")
      #expect(bench.world.violations == [])
    }
    #expect(deaths > 20, "the calls counted are those of the replacing")
  }
}
