import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Testing

@Suite struct GuardrailDiffTests {
  private func held(
    _ plan: MigrationPlan, _ observation: Observation, _ limits: GuardrailLimits, origin: ChangeSetOrigin = .applied,
    movers: Set<MigrationName>? = nil
  ) -> ChangeSet {
    diff(
      plan, observation,
      options: PlanningOptions(movers: movers, guardrails: limits, origin: origin, now: now, digest: fakeDigest))
  }

  @Test func disksThatWouldBeMadeAreHeldAgainstTheLimits() {
    let plan = samplePlan(.synchronized)
    let limits = GuardrailLimits(
      locations: GuardrailRule(["northeurope"]), skus: GuardrailRule([.premiumV2], effect: .warn),
      diskSizeBytes: GuardrailRule(1 << 30))
    var sized = plan
    sized.erp.volumes[0].destination = .disk(ManagedDisk(sku: .premium, size: .bytes(64 << 30)))
    let changes = held(sized, bareObservation(plan), limits)
    #expect(changes.codes.contains(PlanningCode.guardrailLocation))
    #expect(changes.codes.contains(PlanningCode.guardrailSKU))
    #expect(changes.codes.contains(PlanningCode.guardrailSize))
    #expect(changes.migrations[0].actionable.isEmpty, "a deny stops the migration")
    let onlyWarned = held(sized, bareObservation(plan), GuardrailLimits(skus: limits.skus))
    #expect(!onlyWarned.hasErrors && !onlyWarned.migrations[0].actionable.isEmpty, "a warning doesn't")
    let there = held(plan, liveObservation(plan, .prepared), limits)
    #expect(!there.codes.contains(PlanningCode.guardrailLocation), "a disk that is there is nobody's doing now")
  }

  @Test func thoseOfThePlanItselfAreHeldToo() {
    var plan = samplePlan(.synchronized)
    plan.guardrails = GuardrailLimits(owner: GuardrailRule(true))
    #expect(changes(plan, bareObservation(plan)).codes.contains(PlanningCode.guardrailOwner))
    plan.metadata.owner = "storage@example.com"
    #expect(!changes(plan, bareObservation(plan)).codes.contains(PlanningCode.guardrailOwner))
  }

  @Test func nothingKeepsAMigrationFromGoingBack() {
    let plan = samplePlan(.synchronized)
    let limits = GuardrailLimits(moves: GuardrailRule(0), owner: GuardrailRule(true))
    let changes = held(plan, liveObservation(plan, .standIn), limits)
    #expect(changes.kinds == ["revert"] && !changes.hasErrors)
    #expect(changes.migrations[0].actionable.count == 1)
  }

  @Test func aRunMovesNoMoreThanTheGuardrailsSay() {
    var plan = samplePlan(.synchronized)
    for name in ["a", "b"] {
      plan.migrations[MigrationName(name)] = plan.erp
      plan.migrations[MigrationName(name)]?.name = MigrationName(name)
    }
    let limits = GuardrailLimits(moves: GuardrailRule(2))
    let all = held(plan, bareObservation(plan), limits)
    #expect(all.codes.count { $0 == PlanningCode.guardrailMoves } == 3, "whoever asks chooses which, not we")
    let two = diff(
      plan, bareObservation(plan),
      options: PlanningOptions(maxMoves: 2, guardrails: limits, now: now, digest: fakeDigest))
    #expect(!two.codes.contains(PlanningCode.guardrailMoves))
    let later = held(plan, bareObservation(plan), limits, movers: [MigrationName("a")])
    #expect(!later.codes.contains(PlanningCode.guardrailMoves), "a run's later rounds go on with what it began")
  }

  @Test func aRunStartsToMoveNoMoreBytesThanTheGuardrailsSay() {
    let plan = samplePlan(.synchronized)
    let observation = liveObservation(plan, .prepared) { $0.volumes[0].dirtyBytes = 10 << 30 }
    #expect(!held(plan, observation, GuardrailLimits(bytes: GuardrailRule(20 << 30))).hasErrors)
    #expect(
      held(plan, observation, GuardrailLimits(bytes: GuardrailRule(5 << 30))).codes == [PlanningCode.guardrailBytes])
  }

  @Test func levelsAreHeldAtTheirHours() {
    var plan = samplePlan(.synchronized)
    plan.erp.iqos = IQoS(level: .relentless)
    // Monday 04:00 UTC.
    func rule(_ from: Int, _ to: Int) -> GuardrailLimits {
      let window = WeeklyWindow(days: [.mon], fromMinute: from, toMinute: to, timeZone: "UTC", position: nil)
      return GuardrailLimits(iqos: [GuardrailRule(GuardrailLevel(window: window, atMost: .moderate))])
    }
    #expect(held(plan, bareObservation(plan), rule(180, 300)).codes.contains(PlanningCode.guardrailLevel))
    #expect(!held(plan, bareObservation(plan), rule(300, 360)).codes.contains(PlanningCode.guardrailLevel))
  }

  @Test func oneWayStepsWaitForASavedChangeSet() {
    var plan = samplePlan(.finalized)
    plan.erp.cutover.approval = .automatic
    let limits = GuardrailLimits(oneWayFromSavedOnly: GuardrailRule(true))
    let applied = held(plan, liveObservation(plan, .tracking), limits)
    #expect(applied.migrations[0].actionable.map(\.action.kind) == ["swing"], "the rest of the way is taken")
    #expect(applied.migrations[0].waiting.map(\.reason) == [.saved])
    let saved = held(plan, liveObservation(plan, .tracking), limits, origin: .saved)
    #expect(saved.migrations[0].waiting.isEmpty && saved.codes.isEmpty)
    let shown = held(plan, liveObservation(plan, .tracking), limits, origin: .planned)
    #expect(shown.codes == [PlanningCode.guardrailOneWay] && !shown.hasErrors)
  }

  @Test func aSwingThatWouldNotFitInItsWindowWaitsForTheNextOne() {
    var plan = samplePlan(.cmotion)
    // Monday 04:00 UTC: a minute is left.
    plan.erp.cutover.windows = [
      WeeklyWindow(days: [.mon], fromMinute: 180, toMinute: 241, timeZone: "UTC", position: nil)
    ]
    let small = liveObservation(plan, .tracking) { $0.volumes[0].dirtyBytes = 1 << 30 }
    #expect(changes(plan, small).migrations[0].waiting.isEmpty)
    let large = changes(plan, liveObservation(plan, .tracking) { $0.volumes[0].dirtyBytes = 10 << 30 })
    guard case .window(let opensAt)? = large.migrations[0].waiting.first?.reason else {
      Issue.record("it should wait: \(large.migrations[0].waiting)")
      return
    }
    #expect(opensAt == now.adding(seconds: 7 * 86_400 - 3600), "the next Monday at 03:00")
    #expect(large.migrations[0].actionable.isEmpty)
  }
}
