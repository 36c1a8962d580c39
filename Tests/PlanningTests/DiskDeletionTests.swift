import AgentProtocol
import BlockModel
import MigrationModel
import Planning
import Testing

/// What `destroy` may delete: every doubt keeps a disk.
@Suite struct DiskDeletionTests {
  /// The disk is there, free, and both hosts were seen without any agent.
  private static func verdict(
    detaches: Bool = false, _ change: (inout MigrationPlan, inout CloudDisk, inout Observation) -> Void = { _, _, _ in }
  ) -> DiskDeletion.Verdict? {
    var plan = samplePlan(.prepared)
    var observation = bareObservation(plan)
    var disk = ourDisk(plan)
    disk.attachedTo = nil
    disk.state = .unattached
    change(&plan, &disk, &observation)
    observation.clouds["azure"]?.disks = [disk]
    return diskDeletions(plan, observation, detaches: detaches).first?.verdict
  }

  private static func why(_ verdict: DiskDeletion.Verdict?) -> String {
    if case .keep(let why)? = verdict { why } else { "\(String(describing: verdict))" }
  }

  @Test func aFreeDiskOfAMigrationThatNeverBeganIsDeleted() {
    #expect(Self.verdict() == .delete)
  }

  @Test func soIsOneWhoseMigrationLeftTheDocument() {
    let verdict = Self.verdict { plan, _, _ in plan.migrations = [:] }
    #expect(verdict == .delete)
  }

  @Test func aDiskOfAnotherPlanIsNotEvenShown() {
    #expect(Self.verdict { _, disk, _ in disk.tags[DiskTag.plan] = "another" } == nil)
  }

  @Test(arguments: ["finalized", "retired", "cmotion", nil]) func aDiskOfAnyLaterPhaseStays(phase: String?) {
    let verdict = Self.verdict(detaches: true) { _, disk, _ in disk.tags[DiskTag.state] = phase }
    #expect(Self.why(verdict).contains("its migration is"))
  }

  /// The disk was replaced, and the session, which has another one, goes on.
  private static func orphan(
    _ stage: SessionStage = .tracking, detaches: Bool = true, isBegun: Bool = false,
    _ change: (inout MigrationPlan, inout Observation) -> Void = { _, _ in }
  ) -> DiskDeletion? {
    var plan = samplePlan(.synchronized)
    var observation = liveObservation(plan, stage)
    guard var old = observation.clouds["azure"]?.disks.first else { return nil }
    var new = old
    new.name += "-2"
    new.resourceID += "-2"
    old.tags[DiskTag.state] = DiskTag.orphaned
    observation.clouds["azure"]?.disks = isBegun ? [old] : [old, new]
    change(&plan, &observation)
    return diskDeletions(plan, observation, detaches: detaches).first { $0.disk.isOrphaned }
  }

  @Test func anOrphanedDiskIsNobodysAnyMore() {
    #expect(Self.orphan()?.verdict == .detachFirst(machine: "/vm"))
    let why = Self.why(Self.orphan(detaches: false)?.verdict)
    #expect(why.contains("--detach"))
  }

  @Test(arguments: [SessionStage.swinging, .standIn, .proven, .fenced, .released])
  func fromASwingOnNoDiskIsDeleted(_ stage: SessionStage) {
    let why = Self.why(Self.orphan(stage)?.verdict)
    #expect(why.contains("in cMotion or beyond"))
  }

  @Test func oneWhoseSessionIsNotGivenUpYetStays() {
    let why = Self.why(Self.orphan(isBegun: true)?.verdict)
    #expect(why.contains("until its replacement is finished"))
  }

  @Test func oneWhoseHostsNobodySawStays() {
    let unseen = Self.orphan { _, world in world.hosts[HostName("db-azure")] = HostObservation() }
    let whyUnseen = Self.why(unseen?.verdict)
    #expect(whyUnseen.contains("db-azure"))
    let gone = Self.orphan { plan, _ in plan.migrations = [:] }
    let whyGone = Self.why(gone?.verdict)
    #expect(whyGone.contains("has a session of"))
  }

  @Test func pruneIsAboutWhatWasReplacedOrLeftTheDocument() throws {
    let plan = samplePlan(.prepared)
    var observation = bareObservation(plan)
    observation.clouds["azure"]?.disks = [ourDisk(plan)]
    #expect(diskDeletions(plan, observation, detaches: true).map { $0.isLeftOver(of: plan) } == [false])
    var without = plan
    without.migrations = [:]
    #expect(diskDeletions(without, observation, detaches: true).map { $0.isLeftOver(of: without) } == [true])
    #expect(try #require(Self.orphan()).isLeftOver(of: plan))
  }

  @Test func aDiskThatThePlanTookAsItWasStays() {
    let verdict = Self.verdict { plan, disk, _ in
      disk.name = "mine"
      disk.resourceID = "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.Compute/disks/mine"
      plan.erp.volumes[0].destination = .disk(
        ManagedDisk(sku: .premium, size: .auto, existingID: disk.resourceID))
    }
    #expect(Self.why(verdict).contains("can't tell that it made it"))
  }

  @Test func aDiskThatThePlanNamesIsOneThatWasMade() {
    let verdict = Self.verdict { plan, disk, _ in
      disk.name = "erp-data"
      disk.resourceID = "/subscriptions/SUB/resourceGroups/RG/providers/Microsoft.Compute/disks/erp-data"
      plan.erp.volumes[0].destination = .disk(ManagedDisk(sku: .premium, size: .auto, name: "erp-data"))
    }
    #expect(verdict == .delete)
  }

  @Test(arguments: [true, false]) func anAttachedDiskIsDetachedOnlyOnDemand(detaches: Bool) {
    let verdict = Self.verdict(detaches: detaches) { _, disk, _ in
      disk.attachedTo = "/vm"
      disk.state = .attached
    }
    #expect((verdict == .detachFirst(machine: "/vm")) == detaches)
    #expect(detaches || Self.why(verdict).contains("--detach"))
  }

  @Test(arguments: [SessionStage.prepared, .synchronizing, .tracking, .standIn, .released, .cancelled])
  func aDiskUnderASessionStays(stage: SessionStage) {
    let plan = samplePlan(.prepared)
    let observation = liveObservation(plan, stage)
    let found = diskDeletions(plan, observation, detaches: true)
    #expect(found.count == 1)
    let why = Self.why(found.first?.verdict)
    #expect(why.contains("has a session of erp"))
  }

  /// The agents were told of the rename, the disk's tags weren't yet; and the other way round.
  @Test(arguments: ["erp", "shop"]) func aDiskStaysInTheMiddleOfARename(tag: String) {
    var plan = samplePlan(.prepared)
    let observation = liveObservation(plan, .tracking)
    var migration = plan.erp
    plan.migrations = [:]
    migration.name = MigrationName("shop")
    plan.migrations[migration.name] = migration
    plan.moved = [Move(from: Move.Name(migration: MigrationName("erp")), to: Move.Name(migration: migration.name))]
    var named = observation.named(for: plan)
    for index in named.clouds["azure"]?.disks.indices ?? 0..<0 {
      named.clouds["azure"]?.disks[index].tags[DiskTag.migration] = tag
      // Both are ours to tell apart by the name that the disk was made with.
      named.clouds["azure"]?.disks[index].name = diskName(
        plan: plan.metadata.id, migration: MigrationName(tag), volume: VolumeName("data"))
    }
    let found = diskDeletions(plan, named, detaches: true)
    #expect(found.map { Self.why($0.verdict).contains("has a session of \(tag)") } == [true])
  }

  @Test func aHostThatWasNotSeenMayHaveASession() {
    #expect(Self.why(Self.verdict { _, _, seen in seen.hosts[HostName("db")] = nil }).contains("host db"))
    let stopped = HostState(agentDigest: "SHA256:a", agentRunning: false, tombstones: [])
    let verdict = Self.verdict { _, _, seen in seen.hosts[HostName("db-azure")] = HostObservation(state: stopped) }
    #expect(Self.why(verdict).contains("does not answer"))
  }

  @Test func oneThatSomebodyReadsStays() {
    #expect(Self.why(Self.verdict { _, disk, _ in disk.state = .other }).contains("somebody reads or writes it"))
  }
}
