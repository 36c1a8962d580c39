import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Reconciling
import Synchronization
import TestSupport
import Testing

/// `moved`: another name for what is there, and nothing done twice.
@Suite struct Renames {
  private static let web = MigrationName("m0")
  private static let shop = MigrationName("shop-db")

  private static func moved(_ phase: Phase) -> MigrationPlan {
    samplePlan(phase).renaming(web, to: shop, volume: VolumeName("data"), to: VolumeName("blob"))
  }

  private static func applied(_ phase: Phase) -> Bench {
    let plan = samplePlan(phase)
    let bench = Bench(plan)
    _ = bench.apply(plan)
    return bench
  }

  private static func edit(_ bench: Bench, _ plan: MigrationPlan) { bench.world.state.withLock { $0.plan = plan } }

  private static func expectOneOfEach(_ bench: Bench, synchronizations: Int = 1) {
    bench.world.state.withLock { state in
      #expect(state.violations == [])
      #expect(state.disks.count == 2)
      #expect(state.fullSynchronizations == synchronizations)
      #expect(state.agents.values.flatMap(\.sessions.keys).map(\.session.text) == ["6f1c0c9e/m0", "6f1c0c9e/m0"])
      #expect(Set(state.disks.values.compactMap { $0.tags[DiskTag.migration] }) == ["shop-db"])
      #expect(Set(state.disks.values.compactMap { $0.tags[DiskTag.volume] }) == ["blob", "log"])
      #expect(Set(state.disks.values.compactMap { $0.tags[DiskTag.state] }) == ["prepared"])
    }
  }

  @Test func nothingIsDoneButTheRename() {
    let bench = Self.applied(.synchronized)
    let plan = Self.moved(.synchronized)
    Self.edit(bench, plan)
    let planned = bench.changes(plan)
    #expect(
      planned?.migrations.flatMap(\.changes).map(\.summary)
        == ["m0 is renamed to shop-db, its volume data is renamed to blob: nothing is copied again"])
    #expect(planned?.unmanaged == [])
    let summary = bench.apply(plan)
    #expect(summary?.exitCode == 0, brief(summary))
    Self.expectOneOfEach(bench)
    #expect(bench.changes(plan)?.isNoOp == true)
    var later = plan
    later.moved = []
    #expect(bench.changes(later)?.isNoOp == true, "the agents and tags know")
    #expect(
      bench.journal.lines.withLock { $0.contains { $0.contains("calls it 6f1c0c9e/m0 as before") } })
  }

  @Test func aVolumeAloneIsRenamed() {
    let bench = Self.applied(.synchronized)
    let plan = samplePlan(.synchronized).renaming(
      Self.web, to: nil, volume: VolumeName("data"), to: VolumeName("zblob"))
    Self.edit(bench, plan)
    #expect(
      bench.changes(plan)?.migrations.flatMap(\.changes).map(\.summary)
        == ["volume data is renamed to zblob: nothing is copied again"])
    #expect(bench.apply(plan)?.exitCode == 0)
    #expect(
      bench.apply(plan.with(phase: .cmotion))?.exitCode == 0, "the name is the session's own, and taken by nobody")
    #expect(bench.world.state.withLock { $0.disks.count == 2 && $0.fullSynchronizations == 1 })
    #expect(bench.world.violations == [])
  }

  @Test func itMayStopAnywhereAndGoesOn() {
    for call in 1...60 {
      let bench = Self.applied(.synchronized)
      let plan = Self.moved(.synchronized)
      Self.edit(bench, plan)
      _ = bench.apply(plan, faults: FaultPlan(crashAtCall: call))
      bench.loop.skip(seconds: 600)
      let summary = bench.apply(plan, holder: "bob")
      #expect(summary?.exitCode == 0, brief(summary))
      Self.expectOneOfEach(bench)
      #expect(bench.changes(plan)?.isNoOp == true, "call \(call)")
    }
  }

  @Test func aWayBackNeedsNoRename() async {
    let bench = Self.applied(.cmotion)
    let plan = Self.moved(.cmotion)
    let outcome = bench.loop.run { () -> OperationOutcome? in
      do throws(GatewayError) {
        return try await bench.operations(plan).revert(Self.shop, why: "slow")
      } catch {
        return nil
      }
    }
    #expect(outcome??.missed == [])
    let stages = bench.world.state.withLock { state in
      state.agents.values.flatMap(\.sessions.values).filter { $0.seen.role == .source }.map(\.seen.stage)
    }
    #expect(stages == [.tracking])
  }

  @Test func itGoesOnToTheEndUnderTheNewName() {
    let bench = Self.applied(.synchronized)
    var plan = Self.moved(.synchronized)
    Self.edit(bench, plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    plan = plan.renaming(Self.shop, to: MigrationName("store")).with(phase: .retired)
    plan.archive = Archive(directory: "/archive")
    Self.edit(bench, plan)
    let summary = bench.apply(plan)
    #expect(summary?.exitCode == 0, brief(summary))
    bench.world.state.withLock { state in
      #expect(state.violations == [])
      #expect(state.disks.count == 2 && state.fences == 1 && state.fullSynchronizations == 1)
      #expect(state.archived.keys.contains("migrations/store/source/manifest.json"))
    }
    #expect(bench.changes(plan)?.isNoOp == true)
  }

  @Test func anApprovalIsForTheNameThatItWasGivenFor() {
    let bench = Self.applied(.cmotion)
    let approve = { (plan: MigrationPlan, name: MigrationName) in
      bench.loop.run { () -> Bool in
        do throws(GatewayError) {
          try await bench.operations(plan).approve(name, phase: .finalized, expiresInSeconds: nil)
          return true
        } catch {
          return false
        }
      }
    }
    var before = samplePlan(.cmotion, approval: .manual)
    _ = bench.apply(before)
    #expect(approve(before, Self.web) == true)
    before = before.with(phase: .finalized)
    #expect(bench.changes(before)?.migrations.first?.waiting == [])
    let plan = before.renaming(Self.web, to: Self.shop)
    Self.edit(bench, plan)
    let summary = bench.apply(plan, wait: .no)
    #expect(summary?.exitCode == 4, brief(summary))
    #expect(bench.world.state.withLock(\.fences) == 0)
    #expect(approve(plan, Self.shop) == true)
    #expect(bench.apply(plan)?.exitCode == 0)
    #expect(bench.world.state.withLock(\.fences) == 1)
  }

  @Test func theFormerNameStaysTaken() {
    let bench = Self.applied(.synchronized)
    var plan = Self.moved(.synchronized)
    Self.edit(bench, plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    plan.moved = []
    var another = plan
    another.migrations[Self.web] = samplePlan(.synchronized).migrations[Self.web]
    let entry = bench.changes(another)?.migrations.first { $0.migration == Self.web }
    #expect(entry?.diagnostics.map(\.code) == [PlanningCode.nameTaken])
    // The document of before the rename, still applied by somebody.
    let old = bench.changes(samplePlan(.synchronized))?.migrations.first
    #expect(old?.diagnostics.map(\.code) == [PlanningCode.nameTaken])
    #expect(old?.actionable == [])
  }

  @Test func aRenameIsTakenBackByAnother() {
    let bench = Self.applied(.synchronized)
    let plan = Self.moved(.synchronized)
    Self.edit(bench, plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    var back = samplePlan(.synchronized)
    back.moved = [
      Move(from: Move.Name(migration: Self.shop), to: Move.Name(migration: Self.web)),
      Move(
        from: Move.Name(migration: Self.web, volume: VolumeName("blob")),
        to: Move.Name(migration: Self.web, volume: VolumeName("data"))),
    ]
    Self.edit(bench, back)
    let summary = bench.apply(back)
    #expect(summary?.exitCode == 0, brief(summary))
    let stored = bench.world.state.withLock { state in
      state.agents.values.flatMap(\.sessions.values).map(\.seen.configuration.plannedAs)
    }
    #expect(stored == [nil, nil])
    #expect(bench.changes(samplePlan(.synchronized))?.isNoOp == true)
  }

  @Test func anOlderAgentIsNotTold() {
    let bench = Self.applied(.synchronized)
    let plan = Self.moved(.synchronized)
    Self.edit(bench, plan)
    bench.world.state.withLock { state in
      for host in state.agents.keys { state.agents[host]?.capabilities = ["nbd-socket", "fuse-loop"] }
    }
    let codes = bench.changes(plan)?.allDiagnostics.map(\.code)
    #expect(codes == [PlanningCode.renameNotKnown, PlanningCode.renameNotKnown])
    #expect(bench.apply(plan)?.exitCode == 1)
    bench.world.state.withLock { state in
      #expect(Set(state.disks.values.compactMap { $0.tags[DiskTag.migration] }) == ["m0"])
    }
  }

  @Test func aDiskOfTheFormerNameIsUsedThoughNoListShowsIt() {
    let before = samplePlan(.prepared)
    let bench = Bench(before)
    // Dies once the disks are made; nothing knows of them yet.
    var made = 0
    for call in 1...60 where made == 0 {
      _ = bench.apply(before, holder: "run \(call)", faults: FaultPlan(crashAtCall: call))
      bench.loop.skip(seconds: 600)
      made = bench.world.state.withLock { $0.disks.count }
    }
    let plan = Self.moved(.prepared)
    bench.world.state.withLock { state in
      state.plan = plan
      state.listsBehind = 1
    }
    #expect(made > 0)
    let summary = bench.apply(plan)
    #expect(summary?.exitCode == 0, brief(summary))
    #expect(bench.world.state.withLock { $0.disks.count } == 2)
    #expect(bench.world.violations == [])
  }

  @Test func moreSpaceGoesToTheDiskThatIsThere() {
    let bench = Self.applied(.prepared)
    var plan = Self.moved(.prepared)
    Self.edit(bench, plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    plan.moved = []
    bench.world.state.withLock { state in
      for id in state.disks.keys {
        state.disks[id]?.sku = "PremiumV2_LRS"
        state.disks[id]?.iops = 3000
        // Large enough for more.
        state.disks[id]?.sizeBytes = 10 << 30
      }
    }
    for index in 0...1 {
      plan.migrations[Self.shop]?.volumes[index].destination = .disk(
        ManagedDisk(sku: .premiumV2, size: .bytes(10 << 30), iops: 4000))
    }
    Self.edit(bench, plan)
    let summary = bench.apply(plan)
    #expect(summary?.exitCode == 0, brief(summary))
    #expect(bench.world.state.withLock { $0.disks.values.map(\.iops) } == [4000, 4000])
    Self.expectOneOfEach(bench, synchronizations: 0)
  }
}
