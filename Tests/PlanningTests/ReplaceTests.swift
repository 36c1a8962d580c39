import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Testing

private let data = VolumeKey(MigrationName("erp"), VolumeName("data"))

private func replacing(
  _ plan: MigrationPlan, _ observation: Observation, _ keys: Set<VolumeKey> = [data], overwrite: Set<VolumeKey> = []
) -> ChangeSet {
  diff(
    plan, observation,
    options: PlanningOptions(overwrite: overwrite, replace: keys, now: now, digest: fakeDigest))
}

/// The plan wants another SKU than the disk of the live session has.
private func edited(_ phase: Phase = .synchronized) -> MigrationPlan {
  var plan = samplePlan(phase)
  plan.erp.volumes[0].destination = .disk(ManagedDisk(sku: .ultra, size: .auto))
  return plan
}

@Suite struct ReplaceTests {
  private let live = liveObservation(samplePlan(.synchronized), .tracking)

  @Test func withoutTheOptionItIsRefusedAndTheOptionIsNamed() {
    let refused = changes(edited(), live)
    #expect(refused.codes == [PlanningCode.diskDiffers])
    #expect(refused.kinds == [])
    #expect(refused.allDiagnostics[0].advice.contains("--replace erp/data"))
  }

  @Test func theOldDiskIsKeptBeforeTheSessionGoesAndANewOneIsMade() {
    let plan = edited()
    let found = replacing(plan, live)
    #expect(found.codes == [])
    #expect(
      found.kinds == [
        "checkDevices", "orphanDisk", "giveUpSession", "ensureDisk", "attachDisks", "configureSession",
        "proveConnection", "openTap", "synchronize",
      ])
    let steps = found.migrations[0].changes
    #expect(steps[3].summary.contains("create disk \(plan.diskNameOfData)-2 (UltraSSD_LRS"))
    #expect(steps[1].reversibility == .oneWay && steps[2].reversibility == .oneWay)
    #expect(steps.last?.price.bytesToMove == 10 << 30, "all of it again")
    let graph = schedule(found, plan: plan)
    let order = graph.nodes.map(\.action.kind)
    #expect(
      order == [
        "acquireLease", "checkDevices", "orphanDisk", "giveUpSession", "ensureDisk", "attachDisks", "configureSession",
        "proveConnection", "openTap", "synchronize", "releaseLease",
      ])
    for index in 1..<4 { #expect(graph.nodes[index].requires == [index - 1]) }
  }

  @Test func whereNothingNeedsItItIsSaidAndNothingIsDone() {
    let found = replacing(samplePlan(.synchronized), live)
    #expect(found.isNoOp)
    #expect(found.codes == [PlanningCode.replaceNotNeeded])
  }

  @Test(arguments: [SessionStage.swinging, .standIn, .tapClosed, .proving, .proven])
  func fromASwingOnItIsRefused(_ stage: SessionStage) {
    for phase in [Phase.synchronized, .cmotion, .finalized] {
      let found = replacing(edited(phase), liveObservation(samplePlan(phase), stage))
      #expect(found.codes == [PlanningCode.replaceTooLate])
      #expect(found.kinds == [])
      #expect(found.allDiagnostics[0].advice.contains("revert first"))
    }
  }

  @Test(arguments: [SessionStage.fenced, .released]) func pastTheFenceItIsRefused(_ stage: SessionStage) {
    let found = replacing(edited(.finalized), liveObservation(samplePlan(.finalized), stage))
    #expect(found.codes == [PlanningCode.replaceTooLate])
    #expect(found.kinds == [])
  }

  @Test func aHoldKeepsAllOfItBack() {
    let held = liveObservation(samplePlan(.synchronized), .tracking) {
      $0.hold = Hold(cause: .paused, who: "ann", why: "wait", at: now)
    }
    #expect(replacing(edited(), held).migrations[0].actionable == [])
  }

  @Test func aRunThatDiedOnceTheDiskWasTaggedIsGoneOnWithByAnyOther() {
    var begun = live
    begun.clouds["azure"]?.disks[0].tags[DiskTag.state] = DiskTag.orphaned
    let found = changes(edited(), begun)
    #expect(found.codes == [])
    #expect(found.kinds.prefix(3) == ["checkDevices", "giveUpSession", "ensureDisk"])
    #expect(found.unmanaged.map(\.detail) == ["in azure, attached, orphaned"])
    // And with the session gone too there is nothing left of it but another name.
    begun.hosts[HostName("db")]?.agent?.sessions = []
    begun.hosts[HostName("db-azure")]?.agent?.sessions = []
    let later = changes(edited(), begun)
    #expect(!later.kinds.contains("giveUpSession"))
    #expect(later.migrations[0].changes.contains { $0.summary.contains("create disk \(edited().diskNameOfData)-2") })
  }

  @Test func anotherDeviceUnderTheSameNameIsRefused() {
    let plan = samplePlan(.synchronized)
    var renamed = liveObservation(plan, .tracking) {
      guard $0.role == .source else { return }
      $0.configuration.volumes[0].deviceIdentity = "wwn naa.1"
    }
    renamed.hosts[HostName("db")]?.devices[0].identity = "wwn naa.1"
    #expect(changes(plan, renamed).isNoOp)
    renamed.hosts[HostName("db")]?.devices[0].identity = "wwn naa.2"
    let refused = changes(plan, renamed)
    #expect(refused.codes == [PlanningCode.sourceChanged])
    #expect(refused.allDiagnostics[0].message.contains("is another device (wwn naa.2) than the one that was copied"))
    let found = replacing(plan, renamed)
    #expect(found.codes == [])
    #expect(found.kinds.contains("orphanDisk"), "good data is not written over")
  }

  @Test func aFileIsNotToldByItsNumbers() {
    let plan = samplePlan(.synchronized)
    var restarted = liveObservation(plan, .tracking) {
      if $0.role == .source { $0.configuration.volumes[0].deviceIdentity = "8:1 12" }
    }
    restarted.hosts[HostName("db")]?.devices[0].kind = .file
    restarted.hosts[HostName("db")]?.devices[0].identity = "8:17 12"
    #expect(changes(plan, restarted).codes == [])
  }

  @Test func aNamedDestinationIsOverwrittenOnlyWhereThatIsSaidToo() {
    var plan = samplePlan(.synchronized)
    plan.erp.volumes[0].destination = .device("/dev/lun0")
    plan.erp.volumes[0].device = "/dev/vg/other"
    var world = liveObservation(plan, .tracking) {
      if $0.role == .source { $0.configuration.volumes[0].devicePath = "/dev/vg/data" }
    }
    var other = DeviceReport(path: "/dev/vg/other", kind: .block)
    other.sizeBytes = 10 << 30
    world.hosts[HostName("db")]?.devices.append(other)
    #expect(changes(plan, world).codes == [PlanningCode.sourceChanged])
    #expect(replacing(plan, world).codes == [PlanningCode.replaceOverwrites])
    let both = replacing(plan, world, overwrite: [data])
    #expect(both.codes == [])
    #expect(both.kinds.prefix(2) == ["checkDevices", "giveUpSession"])
  }

  @Test func guardrailsThatWantOneWayStepsReviewedHoldIt() {
    var plan = edited()
    plan.guardrails = GuardrailLimits(oneWayFromSavedOnly: GuardrailRule(true))
    let found = diff(
      plan, live, options: PlanningOptions(replace: [data], origin: .applied, now: now, digest: fakeDigest))
    #expect(found.migrations[0].actionable.map(\.action.kind) == ["checkDevices"])
    let saved = diff(
      plan, live, options: PlanningOptions(replace: [data], origin: .saved, now: now, digest: fakeDigest))
    #expect(saved.migrations[0].actionable.count == saved.migrations[0].changes.count)
  }

  @Test func namesAreTheSameForTheSameOrphans() {
    #expect(replacementName("Disk", taken: []) == "Disk")
    #expect(replacementName("Disk", taken: ["disk"]) == "Disk-2")
    #expect(replacementName("Disk", taken: ["disk", "disk-2"]) == "Disk-3")
    #expect(replacementName("Disk", taken: ["disk-2"]) == "Disk")
  }
}
