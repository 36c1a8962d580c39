import AgentProtocol
import BlockModel
import Diagnostics
import Foundation
import MigrationModel
import Planning
import Testing

@Suite struct DiffTests {
  @Test func aBareWorldGetsTheWholeWayInOrder() {
    let plan = samplePlan(.synchronized)
    let found = changes(plan, bareObservation(plan))
    #expect(
      found.kinds == [
        "deployAgent", "deployAgent", "checkDevices", "ensureDisk", "attachDisks", "configureSession",
        "proveConnection", "openTap", "synchronize",
      ])
    #expect(!found.isNoOp)
    #expect(found.codes == [])
  }

  @Test func howTheTapBecomesADeviceIsSaidWithItsReasonAndItsPrice() {
    let plan = samplePlan(.synchronized)
    func opening(_ method: String?, mountedAt: [String] = []) -> Change? {
      var observation = liveObservation(plan, .prepared) { $0.volumes[0].tapSocket = nil }
      observation.hosts[HostName("db")]?.devices[0].tapMethod = method
      observation.hosts[HostName("db")]?.devices[0].tapReason = "because"
      observation.hosts[HostName("db")]?.devices[0].mountedAt = mountedAt
      return changes(plan, observation).migrations[0].changes.first { $0.action.kind == "openTap" }
    }
    let inserted = opening("device-mapper", mountedAt: ["/data"])
    #expect(inserted?.why.contains("data beneath its device (device-mapper): because") == true)
    #expect(inserted?.price.cost == .pause && inserted?.precondition == "")
    let remounted = opening("kernel-nbd", mountedAt: ["/data"])
    #expect(remounted?.why.contains("kernel's NBD client") == true)
    #expect(remounted?.precondition.contains("/data is unmounted first") == true)
    #expect(remounted?.price.cost == .pause)
    #expect(opening("fuse-loop")?.price.cost == .free)
    #expect(opening(nil)?.why == "changes are seen only through it")
  }

  @Test func whatIsReachedIsAnExplicitNoOp() {
    for (stage, phase) in [(SessionStage.tracking, Phase.synchronized), (.standIn, .cmotion), (.prepared, .prepared)] {
      let plan = samplePlan(phase)
      let found = changes(plan, liveObservation(plan, stage))
      #expect(found.isNoOp, "\(stage): \(found.kinds) \(found.codes)")
      #expect(found.migrations.first?.reached == .reached(phase))
    }
  }

  @Test func fromCMotionBackToSynchronizedIsARevert() {
    let plan = samplePlan(.synchronized)
    #expect(changes(plan, liveObservation(plan, .standIn)).kinds == ["revert"])
    #expect(changes(plan, liveObservation(plan, .swinging)).kinds == ["revert"])
    let prepared = samplePlan(.prepared)
    #expect(changes(prepared, liveObservation(prepared, .standIn)).kinds == ["revert", "stopSynchronizing"])
  }

  @Test func aPhaseBehindFinalizedIsAnErrorAtItsLineWithNoAction() {
    let plan = samplePlan(.cmotion)
    for observation in [liveObservation(plan, .fenced), liveObservation(plan, .released)] {
      let found = changes(plan, observation)
      #expect(found.codes == [PlanningCode.backwards])
      #expect(found.allDiagnostics.first?.position?.line == 40)
      #expect(found.kinds == [])
    }
    var gone = bareObservation(plan)
    gone.clouds["azure"]?.disks = [ourDisk(plan, state: .retired)]
    #expect(changes(plan, gone).codes == [PlanningCode.backwards])
  }

  @Test func aTombstonedMigrationIsANoOpThoughItsHostsAreGone() {
    let plan = samplePlan(.retired)
    var gone = bareObservation(plan)
    gone.hosts = [:]
    gone.clouds["azure"]?.disks = [ourDisk(plan, state: .retired)]
    let found = changes(plan, gone)
    #expect(found.isNoOp)
    #expect(found.migrations.first?.reached == .tombstoned(.retired))
  }

  @Test func aHoldHoldsEverythingBack() {
    let plan = samplePlan(.cmotion)
    let hold = Hold(cause: .reverted, who: "ann", why: "latency", at: now)
    let found = changes(plan, liveObservation(plan, .tracking) { $0.hold = hold })
    #expect(found.kinds == ["swing"])
    #expect(!found.isActionable)
    #expect(found.migrations.first?.waiting.first?.reason == .hold(hold))
  }

  @Test func finalizeWaitsForItsWindowAndForAnApprovalThatFits() {
    var plan = samplePlan(.finalized)
    let monday = WeeklyWindow(days: [.mon], fromMinute: 300, toMinute: 360, timeZone: "UTC", position: nil)
    plan.erp.cutover.windows = [monday]
    let digest = configurationDigest(of: plan.erp, in: plan, digest: fakeDigest)
    let approval = Approval(
      phase: .finalized, who: "ann", at: now, expiresAt: now.adding(seconds: 7200), configurationDigest: digest)
    let approved = liveObservation(plan, .standIn) { $0.approvals = [approval] }
    let before = changes(plan, approved)
    #expect(before.migrations.first?.waiting.map(\.reason) == [.window(opensAt: now.adding(seconds: 3600))])
    #expect(!before.isActionable)
    let during = changes(plan, approved, at: now.adding(seconds: 3700))
    #expect(during.migrations.first?.waiting == [])
    #expect(during.migrations.first?.actionable.count == during.kinds.count)
    plan.erp.cutover.windows = []
    let expired = changes(plan, approved, at: now.adding(seconds: 8000))
    #expect(expired.migrations.first?.waiting.first?.message.contains("another configuration") == true)
    let sameDigest = configurationDigest(of: plan.erp, in: plan, digest: fakeDigest)
    let late = liveObservation(plan, .standIn) {
      $0.approvals = [approval]
      $0.approvals[0].configurationDigest = sameDigest
    }
    #expect(
      changes(plan, late, at: now.adding(seconds: 8000)).migrations.first?.waiting.first?.message.contains("expired")
        == true)
  }

  @Test func anUnconfirmedSwingKeepsFinalizeBack() {
    var plan = samplePlan(.finalized)
    plan.erp.cutover.approval = .automatic
    plan.erp.cutover.confirmWithinSeconds = 1800
    let waiting = changes(plan, liveObservation(plan, .standIn) { $0.confirmBy = now.adding(seconds: 60) })
    #expect(waiting.migrations.first?.waiting.map(\.reason) == [.confirmation(by: now.adding(seconds: 60))])
    let confirmed = changes(plan, liveObservation(plan, .standIn) { $0.swingConfirmed = true })
    #expect(confirmed.migrations.first?.waiting == [])
  }

  @Test func finalizeStepsComeInTheOrderOfTheDesign() {
    var plan = samplePlan(.retired)
    plan.erp.cutover.approval = .automatic
    for point in HookPoint.allCases {
      plan.erp.cutover.hooks[point] = Hook(host: nil, run: "x", timeoutSeconds: 5, position: nil)
    }
    let found = changes(plan, liveObservation(plan, .standIn))
    #expect(
      found.kinds == [
        "hook.stopApplication", "hook.unmount", "closeTap", "prove", "fence", "release", "hook.mount",
        "hook.startApplication", "hook.healthCheck", "tagDisks", "retire.source", "retire.destination", "removeAgent",
        "removeAgent", "tagDisks",
      ])
    let oneWay = found.migrations.first?.changes.filter { $0.reversibility == .oneWay }.first
    #expect(oneWay?.action.kind == "fence")
  }

  @Test func editsOfLimitsAreLiveAndSayWhatChanges() {
    let old = samplePlan(.synchronized)
    var plan = old
    plan.erp.iqos.level = .aggressive
    plan.erp.resyncIntervalSeconds = 60
    let found = changes(plan, liveObservation(old, .tracking))
    #expect(found.kinds == ["configureSession"])
    #expect(found.migrations.first?.changes.first?.reversibility == .live)
    let summary = found.migrations.first?.changes.first?.summary ?? ""
    #expect(summary.contains("iQoS 50 % → 75 %") && summary.contains("900 s → 60 s"), "\(summary)")
  }

  @Test func anotherSourceDeviceAfterDataMovedIsRefused() {
    let old = samplePlan(.synchronized)
    var plan = old
    plan.erp.volumes[0].device = "/dev/vg/other"
    let found = changes(plan, liveObservation(old, .tracking))
    #expect(found.codes.contains(PlanningCode.sourceChanged))
    #expect(!found.isActionable)
  }

  @Test func missingAttestationsNameTheLineToAdd() {
    var plan = samplePlan(.synchronized)
    plan.attestations = Attestations()
    let found = changes(plan, bareObservation(plan))
    #expect(
      found.codes.sorted() == [PlanningCode.operatingSystemNotAttested, PlanningCode.applicationNotAttested].sorted())
    #expect(found.allDiagnostics.allSatisfy { $0.advice.contains("attestations:") })
  }

  @Test func disksThatAreSomebodyElsesOrTooSmallAreRefused() {
    let plan = samplePlan(.synchronized)
    var taken = bareObservation(plan)
    var disk = ourDisk(plan)
    disk.tags = [DiskTag.plan: "another", DiskTag.migration: "erp", DiskTag.volume: "data"]
    taken.clouds["azure"]?.namedDisks[disk.resourceID] = disk
    #expect(changes(plan, taken).codes.contains(PlanningCode.foreignDisk))
    disk.tags = [:]
    taken.clouds["azure"]?.namedDisks[disk.resourceID] = disk
    #expect(changes(plan, taken).codes.contains(PlanningCode.foreignDisk))
    var small = liveObservation(plan, .prepared)
    small.clouds["azure"]?.disks[0].sizeBytes = 1 << 30
    #expect(changes(plan, small).codes.contains(PlanningCode.destinationTooSmall))
  }

  @Test func aHostThatCouldNotBeSeenStopsItsMigrationWithTheReason() {
    let plan = samplePlan(.synchronized)
    var observation = bareObservation(plan)
    observation.hosts[HostName("db")] = HostObservation(
      faults: [ObservationFault(part: "host", code: "CMC4001", message: "no route", advice: "check the address")])
    let found = changes(plan, observation)
    #expect(found.codes == [PlanningCode.hostNotObserved])
    #expect(found.allDiagnostics.first?.message.contains("no route") == true)
    #expect(found.migrations.first?.reached == .unknown)
  }

  @Test func whatLeftTheDocumentIsUnmanagedAndUntouched() {
    let plan = samplePlan(.synchronized)
    let observation = liveObservation(plan, .tracking)
    var emptied = plan
    emptied.migrations = [:]
    let found = changes(emptied, observation)
    #expect(found.unmanaged.map(\.kind) == [.disk, .session, .session])
    #expect(found.isNoOp)
  }

  @Test func checksumTrackingGoesToFinalizedWithoutASwing() {
    var plan = samplePlan(.cmotion)
    plan.erp.volumes[0].tracking = .checksum
    #expect(changes(plan, bareObservation(plan)).codes == [PlanningCode.trackingCannotSwing])
    plan.erp.cutover.phase = Positioned(.finalized)
    let found = changes(plan, bareObservation(plan))
    #expect(!found.kinds.contains("swing") && !found.kinds.contains("openTap"))
    #expect(found.kinds.contains("fence"))
  }

  @Test func anObservationSurvivesItsFile() throws {
    let plan = samplePlan(.synchronized)
    let observation = liveObservation(plan, .tracking)
    let encoder = JSONEncoder()
    let again = try JSONDecoder().decode(Observation.self, from: try encoder.encode(observation))
    #expect(again == observation)
  }

  @Test func theGraphLeasesAfterDeployingAndAttachesOnce() {
    let plan = samplePlan(.synchronized)
    let graph = schedule(changes(plan, bareObservation(plan)), plan: plan)
    let kinds = graph.nodes.map(\.action.kind)
    #expect(kinds.filter { $0 == "attachDisks" }.count == 1)
    let lease = kinds.firstIndex(of: "acquireLease") ?? -1
    #expect(graph.nodes[lease].requires.count == 2)
    #expect(kinds.last == "releaseLease")
    for (index, node) in graph.nodes.enumerated() {
      #expect((node.requires + node.after).allSatisfy { $0 < index })
    }
  }
}
