import AgentProtocol
import BlockModel
import Diagnostics
import Foundation
import MigrationModel
import Planning
import Testing

private func digests(_ plan: MigrationPlan) -> [String: String] {
  Planning.surroundings(of: plan.migrations.keys.sorted(), in: plan, digest: fakeDigest)
}

extension SavedChangeSet {
  /// What moved since, now that the plan and the world are these.
  fileprivate func moved(_ plan: MigrationPlan, _ observation: Observation) -> [String] {
    moved(changes(plan, observation), observation, plan: plan, surroundings: digests(plan))
  }

  private func changes(_ plan: MigrationPlan, _ observation: Observation) -> ChangeSet {
    diff(plan, observation, options: PlanningOptions(now: now, digest: fakeDigest))
  }
}

@Suite struct SavedChangeSetTests {
  private func saved(_ plan: MigrationPlan, _ observation: Observation) -> SavedChangeSet {
    SavedChangeSet(
      program: "1", savedAt: now, savedBy: "ann@ops", only: nil, maxMoves: nil, overwrite: [],
      changes: changes(plan, observation), observation: observation, surroundings: digests(plan))
  }

  @Test func whatIsSavedIsReadBackAsItWas() throws {
    let plan = samplePlan(.finalized)
    let kept = saved(
      plan, liveObservation(plan, .tracking) { $0.hold = Hold(cause: .paused, who: "a", why: "b", at: now) })
    let data = try JSONEncoder().encode(kept)
    #expect(try JSONDecoder().decode(SavedChangeSet.self, from: data) == kept)
    #expect(!kept.noChanges)
    #expect(saved(samplePlan(.synchronized), liveObservation(plan, .tracking)).noChanges)
  }

  @Test func theSameWorldMovedNowhere() {
    let plan = samplePlan(.finalized)
    let before = liveObservation(plan, .tracking)
    #expect(saved(plan, before).moved(plan, before) == [])
  }

  @Test func aGateThatOpenedIsNoSurpriseAndItsStepsAreListed() {
    let plan = samplePlan(.finalized)
    let before = liveObservation(plan, .standIn)
    let kept = saved(plan, before)
    let digest = configurationDigest(of: plan.erp, in: plan, digest: fakeDigest)
    let after = liveObservation(plan, .standIn) {
      $0.approvals = [Approval(phase: .finalized, who: "ann", at: now, expiresAt: nil, configurationDigest: digest)]
    }
    #expect(changes(plan, after).migrations[0].waiting.isEmpty)
    #expect(kept.moved(plan, after) == [])
    #expect(ReviewedSteps(kept.changes).contains(.fence(MigrationName("erp")), of: MigrationName("erp")))
  }

  @Test func otherGuardrailsThanItWasPlannedUnderRefuseIt() {
    let plan = samplePlan(.cmotion)
    let world = liveObservation(plan, .tracking)
    let names = [plan.erp.name]
    func moved(_ before: Guardrails?, _ after: Guardrails?, plan later: MigrationPlan? = nil) -> [String] {
      let kept = SavedChangeSet(
        program: "1", savedAt: now, savedBy: "ann@ops", only: nil, maxMoves: nil, overwrite: [],
        changes: changes(plan, world), observation: world,
        surroundings: surroundings(of: names, in: plan, guardrails: before, digest: fakeDigest))
      let now = later ?? plan
      return kept.moved(
        changes(now, world), world, plan: now,
        surroundings: surroundings(of: names, in: now, guardrails: after, digest: fakeDigest))
    }
    let some = Guardrails(allowedEndpoints: [], allowedSecrets: [], limits: GuardrailLimits(moves: GuardrailRule(5)))
    var stricter = some
    stricter.limits.moves = GuardrailRule(4)
    var elsewhere = some
    elsewhere.limits.moves?.position = SourcePosition(file: "other.yaml", line: 9, column: 1)
    #expect(moved(some, some) == [])
    #expect(moved(some, elsewhere) == [], "where it stands is no part of a rule")
    #expect(moved(some, stricter) == ["the guardrails file was edited"])
    #expect(moved(nil, some) == ["it was planned without a guardrails file, and now there is one"])
    #expect(moved(some, nil).first?.contains("now there is none") == true)
    var allowing = some
    allowing.allowedSecrets = [.environment("X")]
    #expect(moved(some, allowing).count == 1)
    var edited = plan
    edited.guardrails = GuardrailLimits(owner: GuardrailRule(true, effect: .warn))
    #expect(moved(some, some, plan: edited) == ["the guardrails of the plan were edited"])
  }

  @Test func whatMovedIsSaid() {
    let plan = samplePlan(.cmotion)
    let before = liveObservation(plan, .tracking)
    let kept = saved(plan, before)
    func moved(_ plan: MigrationPlan, _ after: Observation) -> String {
      kept.moved(plan, after).joined(separator: "\n")
    }
    let swung = liveObservation(plan, .standIn)
    #expect(moved(plan, swung).contains("erp: it was synchronized, it is cmotion"))
    #expect(moved(plan, swung).contains("no longer to do: cMotion"))
    #expect(moved(samplePlan(.finalized), before).contains("the plan says finalized, it said cmotion"))
    var edited = plan
    edited.erp.resyncIntervalSeconds = 60
    #expect(moved(edited, before).contains("configuration in the plan changed"))
    var other = before
    other.hosts[HostName("db")]?.devices[0].identity = "another"
    #expect(moved(plan, other).contains("/dev/vg/data on db was without identity, is another"))
    var grown = before
    grown.clouds["azure"]?.disks[0].attachedTo = "/vm/elsewhere"
    #expect(moved(plan, grown).contains("changed or attached elsewhere"))
    var gone = plan
    gone.migrations = [:]
    #expect(moved(gone, before).contains("erp: it is not in the plan any more"))
  }

  @Test func editedHostsAndIntegrationsAreSaid() {
    let plan = samplePlan(.cmotion)
    let world = liveObservation(plan, .tracking)
    let kept = saved(plan, world)
    func moved(_ edit: (inout MigrationPlan) -> Void) -> [String] {
      var edited = plan
      edit(&edited)
      return kept.moved(edited, world)
    }
    #expect(moved { $0.hosts[HostName("db")]?.address = "192.0.2.99" } == ["host db was edited in the plan"])
    let other = SSHAccess(user: "eve", port: nil, identityFile: nil, jump: "elsewhere", sudo: true)
    #expect(moved { $0.hosts[HostName("db-azure")]?.reach = .ssh(other) } == ["host db-azure was edited in the plan"])
    #expect(moved { $0.hosts[HostName("db")]?.reach = .local(root: "lab") } == ["host db was edited in the plan"])
    let secret = AzureIntegration.Credential.clientSecret(clientID: "c", secret: .environment("OTHER"))
    #expect(
      moved { $0.integrations["azure"]?.credential = secret } == ["integration azure was edited in the plan"])
    #expect(
      moved { $0.integrations["azure"]?.tags = ["a": "b"] } == ["integration azure was edited in the plan"])
    let custom = AzureIntegration.Cloud.custom(
      authority: "https://a", resourceManager: "https://b", certificateAuthorityFile: nil)
    #expect(moved { $0.integrations["azure"]?.cloud = custom } == ["integration azure was edited in the plan"])
    let stranger = Host(
      name: HostName("x"), address: "192.0.2.7", reach: .local(root: "x"), azureVirtualMachine: nil, position: nil)
    #expect(moved { $0.hosts[HostName("x")] = stranger } == [], "a host that nobody of it uses is no matter")
  }

  @Test func whatTheStepsDoNotTouchMayMove() {
    var plan = samplePlan(.cmotion)
    var idle = plan.erp
    idle.name = MigrationName("idle")
    idle.cutover.phase = Positioned(.synchronized)
    idle.volumes[0].device = "/dev/vg/idle"
    plan.migrations[idle.name] = idle
    var before = liveObservation(plan, .tracking)
    before.addIdle(idle, plan)
    let kept = saved(plan, before)
    #expect(kept.changes.migrations.map(\.changes.isEmpty) == [false, true], "the set touches erp only")
    var after = before
    after.clouds["azure"]?.disks.append(
      CloudDisk(
        resourceID: "/disks/stray", name: "stray", sku: "Premium_LRS", sizeBytes: 1 << 30, zone: nil, iops: nil,
        megabytesPerSecond: nil, state: .unattached, attachedTo: nil,
        tags: [DiskTag.plan: plan.metadata.id.text, DiskTag.migration: "gone", DiskTag.volume: "data"],
        provisioningState: "Succeeded"))
    #expect(kept.moved(plan, after) == [], "somebody else's disk")
    if let index = after.clouds["azure"]?.disks.firstIndex(where: { $0.tags[DiskTag.migration] == "idle" }) {
      after.clouds["azure"]?.disks[index].sizeBytes = 99 << 30
    }
    let device = after.hosts[HostName("db")]?.devices.firstIndex { $0.path == "/dev/vg/idle" }
    if let device { after.hosts[HostName("db")]?.devices[device].identity = "another" }
    let session = after.hosts[HostName("db")]?.agent?.sessions.firstIndex { $0.migration.text == "idle" }
    if let session { after.hosts[HostName("db")]?.agent?.sessions[session].stage = .synchronizing }
    #expect(changes(plan, after) != kept.changes)
    #expect(kept.moved(plan, after) == [], "a migration that the set leaves alone")
    var edited = plan
    edited.migrations[idle.name]?.resyncIntervalSeconds = 60
    #expect(kept.moved(edited, after) == ["idle: its configuration in the plan changed"], "the document is another")
  }

  @Test func whatIsNotListedWaitsAndIsSaid() {
    let plan = samplePlan(.cmotion)
    let kept = saved(plan, liveObservation(plan, .prepared))
    func later(_ observation: Observation, _ plan: MigrationPlan) -> MigrationChanges {
      diff(
        plan, observation,
        options: PlanningOptions(
          reviewed: ReviewedSteps(kept.changes), origin: .saved, now: now, digest: fakeDigest)
      ).migrations[0]
    }
    #expect(later(liveObservation(plan, .tracking), plan).actionable.map(\.action.kind) == ["swing"], "it goes on")
    let edited = liveObservation(plan, .tracking) { $0.configuration.resyncIntervalSeconds = 1 }
    let held = later(edited, plan)
    #expect(held.changes.map(\.action.kind) == ["configureSession", "swing"] && held.actionable.isEmpty)
    #expect(held.waiting.map(\.reason) == [.unreviewed])
    #expect(held.waiting[0].message.contains("change the session's configuration"))
  }

  @Test func attachingWhatIsLeftAndTheStartOfADeadAgentGoOnFromWhatWasReviewed() {
    var plan = samplePlan(.prepared)
    var log = plan.erp.volumes[0]
    log.name = VolumeName("log")
    log.device = "/dev/vg/log"
    plan.erp.volumes.append(log)
    let bare = bareObservation(plan)
    let reviewed = ReviewedSteps(changes(plan, bare))
    func later(_ observation: Observation) -> MigrationChanges {
      diff(plan, observation, options: PlanningOptions(reviewed: reviewed, now: now, digest: fakeDigest)).migrations[0]
    }
    var half = bare
    half.clouds["azure"]?.disks = [ourDisk(plan)]
    half.clouds["azure"]?.machines["vm"]?.attachments = [CloudAttachment(lun: 0, diskID: ourDisk(plan).resourceID)]
    let rest = later(half)
    let attached = rest.actionable.compactMap { change -> [VolumeKey]? in
      if case .attachDisks(_, _, let volumes) = change.action { volumes } else { nil }
    }
    #expect(attached == [[VolumeKey(plan.erp.name, log.name)]])
    #expect(rest.waiting.isEmpty)
    let swinging = samplePlan(.cmotion)
    let kept = ReviewedSteps(changes(swinging, liveObservation(swinging, .tracking)))
    var dead = liveObservation(swinging, .tracking)
    dead.hosts[HostName("db")]?.agent = nil
    dead.hosts[HostName("db")]?.state?.agentRunning = false
    let after = diff(
      swinging, dead, options: PlanningOptions(reviewed: kept, now: now, digest: fakeDigest)
    ).migrations[0]
    #expect(after.actionable.map(\.action.kind) == ["deployAgent"], "only that: what it knows isn't known yet")
  }

  @Test func aWayThatLeavesOutTheReviewedSwingWaits() {
    var plan = samplePlan(.finalized)
    plan.erp.cutover.approval = .automatic
    plan.erp.volumes[0].tracking = .auto
    let reviewed = ReviewedSteps(changes(plan, bareObservation(plan)))
    #expect(reviewed.contains(.swing(plan.erp.name), of: plan.erp.name))
    var plain = liveObservation(plan, .prepared)
    plain.hosts[HostName("db")]?.agent?.hello.capabilities = []
    let found = diff(
      plan, plain, options: PlanningOptions(reviewed: reviewed, origin: .saved, now: now, digest: fakeDigest)
    ).migrations[0]
    #expect(!found.changes.contains { $0.action == .swing(plan.erp.name) })
    #expect(found.changes.filter { $0.towards == .finalized }.allSatisfy { $0.waitsFor != nil })
    #expect(found.waiting.map(\.reason) == [.unreviewed])
  }

  private func three() -> (MigrationPlan, Observation) {
    var plan = samplePlan(.prepared)
    for name in ["a", "b"] {
      var copy = plan.erp
      copy.name = MigrationName(name)
      plan.migrations[copy.name] = copy
    }
    return (plan, bareObservation(plan))
  }

  @Test func noMoreAreMovedThanTheLimitSays() {
    let (plan, observation) = three()
    let limited = diff(plan, observation, options: PlanningOptions(maxMoves: 2, now: now, digest: fakeDigest))
    #expect(limited.migrations.filter(\.isMove).map(\.migration.text) == ["a", "b"])
    #expect(limited.migrations[2].actionable.isEmpty)
    #expect(limited.migrations[2].waiting.map(\.reason) == [.moves(limit: 2)])
    let later = diff(
      plan, observation,
      options: PlanningOptions(
        maxMoves: 2, soFar: RunSoFar(movers: [MigrationName("erp")]), now: now, digest: fakeDigest))
    #expect(later.migrations.filter(\.isMove).map(\.migration.text) == ["erp"], "a run's rounds move the same ones")
  }

  @Test func aLiveEditIsNoMove() {
    let plan = samplePlan(.synchronized)
    let observation = liveObservation(plan, .tracking) { $0.configuration.resyncIntervalSeconds = 1 }
    let limited = diff(plan, observation, options: PlanningOptions(maxMoves: 1, now: now, digest: fakeDigest))
    #expect(limited.migrations[0].actionable.count == 1 && !limited.migrations[0].isMove)
  }

  @Test func shardsShareTheMigrationsAndKeepGroupsTogether() {
    var plan = samplePlan(.prepared)
    let names = (0..<200).map { MigrationName("m\($0)") }
    for name in names { plan.migrations[name] = plan.erp }
    plan.groups = [SwingGroup(name: "g", migrations: [names[3], names[90], names[141]])]
    let parts = names.map { plan.shard(of: $0, count: 4) }
    #expect(Set(parts) == [0, 1, 2, 3])
    #expect((0..<4).allSatisfy { part in (30...75).contains(parts.count { $0 == part }) }, "\(parts)")
    #expect(Set([parts[3], parts[90], parts[141]]).count == 1)
    #expect(plan.shard(of: names[0], count: 1) == 0)
  }

  private func ready(_ plan: MigrationPlan, _ observation: Observation, at time: WallTime = now) -> [String] {
    readiness(of: plan.erp, in: plan, observation, options: PlanningOptions(now: time, digest: fakeDigest))
      .filter { !$0.isReady }.map(\.name)
  }

  @Test func readyFindsWhatIsMissingBeforeTheWindow() {
    let plan = samplePlan(.cmotion)
    #expect(ready(plan, liveObservation(plan, .tracking)) == [])
    #expect(ready(plan, bareObservation(plan)).contains("synchronized"))
    #expect(ready(samplePlan(.finalized), liveObservation(plan, .tracking)) == ["approval"])
    #expect(ready(plan, liveObservation(plan, .tracking) { $0.connected = false }) == ["connected"])
    #expect(ready(plan, liveObservation(plan, .tracking) { $0.health = .stalled(why: "full") }) == ["health"])
    let held = Hold(cause: .reverted, who: "ann", why: "slow", at: now)
    #expect(ready(plan, liveObservation(plan, .tracking) { $0.hold = held }) == ["hold"])
    var unseen = liveObservation(plan, .tracking)
    unseen.hosts[HostName("db")] = HostObservation()
    #expect(ready(plan, unseen).contains("plan"))
  }

  @Test func readyTellsOfEachGateThoughAnEarlierOneIsClosed() {
    var plan = samplePlan(.finalized)
    plan.erp.cutover.confirmWithinSeconds = 1800
    let swung = liveObservation(plan, .standIn) { session in
      session.hold = Hold(cause: .paused, who: "ann", why: "freeze", at: now)
      session.confirmBy = now.adding(seconds: 600)
    }
    #expect(ready(plan, swung) == ["hold", "confirmation", "approval"])
    plan.erp.cutover.phase = Positioned(.cmotion)
    #expect(
      ready(plan, liveObservation(plan, .standIn)) == ["confirmation"], "it is where it should be, and will not stay")
  }

  @Test func readyAndApplyHoldTheSameGuardrails() {
    let plan = samplePlan(.synchronized)
    let observation = bareObservation(plan)
    var options = PlanningOptions(now: now, digest: fakeDigest)
    options.guardrails = GuardrailLimits(locations: GuardrailRule(["northeurope"]))
    let denied = readiness(of: plan.erp, in: plan, observation, options: options).first { $0.name == "plan" }
    #expect(denied?.isReady == false && denied?.finding.contains(PlanningCode.guardrailLocation) == true)
    options.guardrails = GuardrailLimits(locations: GuardrailRule(["northeurope"], effect: .warn))
    let warned = readiness(of: plan.erp, in: plan, observation, options: options).filter { $0.name == "guardrails" }
    #expect(warned.count == 1 && warned.allSatisfy(\.isReady))
  }

  @Test func readyAsksWhetherWhatDiffersFitsTheWindow() {
    var plan = samplePlan(.cmotion)
    plan.erp.cutover.windows = [
      WeeklyWindow(days: [.sat], fromMinute: 120, toMinute: 121, timeZone: "UTC", position: nil)
    ]
    let small = liveObservation(plan, .tracking) { $0.volumes[0].dirtyBytes = 1 << 30 }
    #expect(ready(plan, small) == [])
    let large = liveObservation(plan, .tracking) { $0.volumes[0].dirtyBytes = 100 << 30 }
    #expect(ready(plan, large) == ["fit"], "100 GiB at half of 200 MB/s don't fit in a minute")
  }
}
