import AgentProtocol
import BlockModel
import Diagnostics
import Diagnostics
import Foundation
import MigrationModel
import Planning
import Testing

@Suite struct SavedChangeSetTests {
  private func saved(_ plan: MigrationPlan, _ observation: Observation) -> SavedChangeSet {
    SavedChangeSet(
      program: "1", savedAt: now, savedBy: "ann@ops", only: nil, maxMoves: nil, overwrite: [],
      changes: changes(plan, observation), observation: observation)
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
    #expect(saved(plan, before).moved(changes(plan, before), before) == [])
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
    #expect(kept.moved(changes(plan, after), after) == [])
    #expect(kept.listed[MigrationName("erp")]?.contains(.fence(MigrationName("erp"))) == true)
  }

  @Test func whatMovedIsSaid() {
    let plan = samplePlan(.cmotion)
    let before = liveObservation(plan, .tracking)
    let kept = saved(plan, before)
    func moved(_ plan: MigrationPlan, _ after: Observation) -> String {
      kept.moved(changes(plan, after), after).joined(separator: "\n")
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
      options: PlanningOptions(maxMoves: 2, movers: [MigrationName("erp")], now: now, digest: fakeDigest))
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
