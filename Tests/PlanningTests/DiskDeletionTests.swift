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
