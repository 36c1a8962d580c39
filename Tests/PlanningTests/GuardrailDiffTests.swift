import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Testing

@Suite struct GuardrailDiffTests {
  private func held(
    _ plan: MigrationPlan, _ observation: Observation, _ limits: GuardrailLimits, origin: ChangeSetOrigin = .applied,
    movers: Set<MigrationName>? = nil, bytes: [MigrationName: UInt64] = [:]
  ) -> ChangeSet {
    diff(
      plan, observation,
      options: PlanningOptions(
        soFar: RunSoFar(movers: movers, bytes: bytes), guardrails: limits, origin: origin, now: now, digest: fakeDigest)
    )
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

  /// Everything that guardrails can say no to.
  private let strict = GuardrailLimits(
    locations: GuardrailRule(["northeurope"]), moves: GuardrailRule(0), bytes: GuardrailRule(0),
    iqos: [
      GuardrailRule(
        GuardrailLevel(
          window: WeeklyWindow(days: Weekday.allCases, fromMinute: 0, toMinute: 1440, timeZone: "UTC", position: nil),
          atMost: .minimum))
    ], owner: GuardrailRule(true), oneWayFromSavedOnly: GuardrailRule(true))

  @Test func nothingStopsWhatIsPastTheFence() {
    let plan = samplePlan(.finalized)
    let fenced = liveObservation(plan, .fenced)
    let free = changes(plan, fenced)
    #expect(free.kinds == ["release", "tagDisks"])
    #expect(held(plan, fenced, strict) == free)
    let limited = diff(
      plan, fenced, options: PlanningOptions(maxMoves: 1, soFar: RunSoFar(movers: []), now: now, digest: fakeDigest))
    #expect(limited == free, "nor --max-moves")
    let retiring = samplePlan(.retired)
    #expect(
      held(retiring, liveObservation(retiring, .released), strict)
        == changes(retiring, liveObservation(retiring, .released)))
  }

  @Test func nothingStopsAFinalizeThatHasBegun() {
    var plan = samplePlan(.finalized)
    plan.erp.cutover.approval = .automatic
    for stage in [SessionStage.tapClosed, .proving, .proven] {
      let begun = liveObservation(plan, stage)
      #expect(held(plan, begun, strict) == changes(plan, begun), "\(stage)")
    }
    plan.erp.cutover.hooks[.stopApplication] = Hook(host: nil, run: "stop", timeoutSeconds: 60, position: nil)
    let running = liveObservation(plan, .standIn)
    #expect(held(plan, running, strict).migrations[0].actionable.isEmpty, "its application runs: it may wait")
    let facts = MigrationFacts(plan.erp, in: plan, running)
    guard case .toRun(let runID, _) = facts.hookProgress(.stopApplication, digest: fakeDigest) else {
      Issue.record("the hook should be to run")
      return
    }
    let stopped = liveObservation(plan, .standIn) { $0.hookRuns = [HookRun(runID: runID, succeeded: true)] }
    #expect(held(plan, stopped, strict) == changes(plan, stopped), "its application is stopped")
  }

  @Test func aWayBackGoesAndWhatComesAfterItWaits() {
    let plan = samplePlan(.synchronized)
    let swung = liveObservation(plan, .standIn) { $0.configuration.resyncIntervalSeconds = 1 }
    let back = held(plan, swung, strict)
    #expect(back.kinds == ["revert", "configureSession"] && !back.hasErrors)
    #expect(back.migrations[0].actionable.map(\.action.kind) == ["revert"])
    #expect(back.migrations[0].waiting.map(\.reason) == [.guardrail])
    #expect(back.migrations[0].waiting[0].message.contains(PlanningCode.guardrailOwner))
    let limited = diff(
      plan, swung, options: PlanningOptions(maxMoves: 1, soFar: RunSoFar(movers: []), now: now, digest: fakeDigest))
    #expect(limited.migrations[0].actionable.map(\.action.kind) == ["revert", "configureSession"])
    let stopped = samplePlan(.prepared)
    let stopping = held(stopped, liveObservation(stopped, .tracking), strict)
    #expect(stopping.migrations[0].actionable.map(\.action.kind) == ["stopSynchronizing"])
  }

  @Test func anAgentThatDiedIsStartedAndTheRestWaits() {
    let plan = samplePlan(.finalized)
    var dead = liveObservation(plan, .fenced)
    dead.hosts[HostName("db")]?.agent = nil
    dead.hosts[HostName("db")]?.state?.agentRunning = false
    let found = held(plan, dead, strict)
    #expect(!found.hasErrors, "it may be past the fence")
    #expect(found.migrations[0].actionable.map(\.action.kind) == ["deployAgent"])
  }

  private func named(_ names: [String], _ phase: Phase = .synchronized) -> MigrationPlan {
    var plan = samplePlan(phase)
    let first = plan.erp
    plan.migrations = [:]
    for name in names {
      plan.migrations[MigrationName(name)] = first
      plan.migrations[MigrationName(name)]?.name = MigrationName(name)
    }
    return plan
  }

  @Test func laterRoundsAreHeldToTheMovesOfTheWholeRun() {
    let plan = named(["a", "b", "c"])
    func later(_ moves: Int, _ movers: Set<MigrationName>) -> [String] {
      held(plan, bareObservation(plan), GuardrailLimits(moves: GuardrailRule(moves)), movers: movers)
        .migrations.filter { !$0.actionable.isEmpty }.map(\.migration.text)
    }
    #expect(later(2, [MigrationName("a"), MigrationName("b")]) == ["a", "b"], "c could not move when the run began")
    #expect(later(3, [MigrationName("a"), MigrationName("b")]) == ["a", "b", "c"], "there is room for it")
    #expect(later(1, [MigrationName("gone")]) == [], "what is done counts too")
  }

  @Test func laterRoundsAreHeldToTheBytesOfTheWholeRun() {
    let plan = samplePlan(.synchronized)
    let observation = liveObservation(plan, .prepared) { $0.volumes[0].dirtyBytes = 10 << 30 }
    let limits = GuardrailLimits(bytes: GuardrailRule(25 << 30))
    func later(_ bytes: [MigrationName: UInt64]) -> [String] {
      held(plan, observation, limits, movers: [plan.erp.name], bytes: bytes).codes
    }
    #expect(later([MigrationName("other"): 20 << 30]) == [PlanningCode.guardrailBytes])
    #expect(later([MigrationName("other"): 10 << 30]) == [])
    #expect(later([MigrationName("other"): 20 << 30, plan.erp.name: 10 << 30]) == [], "it was counted when it began")
    let running = liveObservation(plan, .synchronizing) { $0.volumes[0].dirtyBytes = 90 << 30 }
    #expect(held(plan, running, limits).codes == [], "an earlier run started that")
  }

  @Test func nothingIsMadeOrMovedBeforeItsSizeIsKnown() {
    let plan = samplePlan(.synchronized)
    for limits in [GuardrailLimits(bytes: GuardrailRule(1)), GuardrailLimits(diskSizeBytes: GuardrailRule(1))] {
      let found = held(plan, bareObservation(plan), limits).migrations[0]
      #expect(found.actionable.map(\.action.kind) == ["deployAgent", "deployAgent"] && found.diagnostics.isEmpty)
    }
  }

  @Test func whatMayNotMoveTakesNoPlaceOfWhatMay() {
    var plan = named(["a", "b", "c"], .prepared)
    plan.migrations[MigrationName("a")]?.volumes[0].destination = .disk(ManagedDisk(sku: .ultra, size: .auto))
    let limits = GuardrailLimits(skus: GuardrailRule([.premium]))
    let changes = diff(
      plan, bareObservation(plan),
      options: PlanningOptions(maxMoves: 1, guardrails: limits, now: now, digest: fakeDigest))
    #expect(changes.codes == [PlanningCode.guardrailSKU])
    #expect(changes.migrations.filter { !$0.actionable.isEmpty }.map(\.migration.text) == ["b"])
  }

  @Test func bytesOfWhatMayNotMoveAreNotCounted() {
    var plan = named(["a", "b", "c"])
    plan.migrations[MigrationName("a")]?.volumes[0].device = "/dev/vg/big"
    var observation = liveObservation(plan, .prepared)
    var big = DeviceReport(path: "/dev/vg/big", kind: .block)
    big.sizeBytes = 50 << 30
    observation.hosts[HostName("db")]?.devices.append(big)
    let held = held(plan, observation, GuardrailLimits(bytes: GuardrailRule(20 << 30)))
    #expect(held.codes == [PlanningCode.guardrailBytes])
    #expect(held.migrations.filter { !$0.actionable.isEmpty }.map(\.migration.text) == ["b", "c"])
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
    // 04:01 is no end where another window begins there.
    plan.erp.cutover.windows.append(
      WeeklyWindow(days: [.mon], fromMinute: 241, toMinute: 300, timeZone: "UTC", position: nil))
    let joined = changes(plan, liveObservation(plan, .tracking) { $0.volumes[0].dirtyBytes = 10 << 30 })
    #expect(joined.migrations[0].waiting.isEmpty)
  }
}
