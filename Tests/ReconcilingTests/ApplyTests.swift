import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Reconciling
import Synchronization
import TestSupport
import Testing

@Suite struct ApplyTests {
  @Test func bringsAMigrationToSynchronizedAndThenHasNothingToDo() {
    let plan = samplePlan(.synchronized)
    let bench = Bench(plan)
    let summary = bench.apply(plan)
    #expect(summary?.result == .reached, brief(summary))
    #expect(summary?.failures == [])
    #expect(bench.changes(plan)?.isNoOp == true)
    let again = bench.apply(plan)
    #expect(again?.result == .reached)
    #expect(again?.stepsDone == 0)
    #expect(bench.world.violations == [])
    #expect(bench.world.state.withLock(\.attachCalls) == 1)
  }

  @Test func goesTheWholeWayToRetiredAndLeavesOnlyTombstones() {
    let plan = samplePlan(.retired, count: 2)
    let bench = Bench(plan)
    let summary = bench.apply(plan)
    #expect(summary?.result == .reached, brief(summary))
    #expect(bench.world.violations == [])
    let state = bench.world.state.withLock { $0 }
    #expect(state.agents.values.allSatisfy { $0.digest == nil && $0.sessions.isEmpty })
    #expect(state.agents.values.allSatisfy { !$0.tombstones.isEmpty })
    #expect(state.disks.values.allSatisfy { $0.tags[DiskTag.state] == "retired" })
    #expect(state.attachCalls == 1, "all disks of one virtual machine go in one call")
    // The sources may be gone for good now.
    bench.world.state.withLock { $0.unreachable = ["h0", "h1", "cloud"].reduce(into: []) { $0.insert(HostName($1)) } }
    #expect(bench.changes(plan)?.isNoOp == true)
    #expect(bench.apply(plan)?.result == .reached)
  }

  @Test func swingsRevertsAndSwingsAgainAsThePlanSays() {
    let plan = samplePlan(.cmotion)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.result == .reached)
    #expect(bench.apply(plan.with(phase: .synchronized))?.result == .reached)
    let summary = bench.apply(plan)
    #expect(summary?.result == .reached)
    #expect(summary?.migrations.first?.reached == .reached(.cmotion))
    #expect(bench.world.violations == [])
  }

  @Test("a swing that the agent gives up is asked for again, and not waited for until its time limit")
  func asksAgainForASwingThatWasGivenUp() {
    let plan = samplePlan(.cmotion)
    let bench = Bench(plan)
    bench.world.state.withLock { $0.swingsGivenUp = 1 }
    #expect(bench.apply(plan)?.result == .reached)
    #expect(bench.world.state.withLock(\.swingsBegun) == 2)
  }

  @Test("one that is given up again and again fails, with what to do, and costs no more than a few pauses")
  func failsWhereEverySwingIsGivenUp() {
    let plan = samplePlan(.cmotion)
    let bench = Bench(plan)
    bench.world.state.withLock { $0.swingsGivenUp = 100 }
    let summary = bench.apply(plan)
    #expect(summary?.exitCode == 1, brief(summary))
    #expect(summary?.failures.contains { $0.error.message.contains("the swing did not happen") } == true)
    #expect(bench.world.state.withLock(\.swingsBegun) == ReconcileLimits().swingAttempts)
  }

  @Test(
    "what an agent accepted and forgot, started anew before it had noted it, is asked for again and not waited for",
    arguments: [SessionCommand.synchronize, .closeTap, .prove])
  func asksAgainForWhatWasForgotten(_ command: SessionCommand) {
    let plan = samplePlan(.finalized)
    let bench = Bench(plan)
    bench.world.state.withLock { $0.forgets[command] = 1 }
    let summary = bench.apply(plan)
    #expect(summary?.result == .reached, brief(summary))
    #expect(bench.world.violations == [])
    #expect(bench.world.state.withLock(\.forgets) == [command: 0])
    let hooks = bench.world.state.withLock(\.hookExecutions)
    #expect(hooks.values.allSatisfy { $0 == 1 }, "nothing was taken back for it: \(hooks)")
  }

  @Test("one that forgets again and again is told, and nothing waits for it for two days")
  func failsWhereItIsAlwaysForgotten() {
    let plan = samplePlan(.finalized)
    let bench = Bench(plan)
    bench.world.state.withLock { $0.forgets[.prove] = 100 }
    let summary = bench.apply(plan)
    #expect(summary?.exitCode == 1, brief(summary))
    #expect(summary?.failures.contains { $0.error.message.contains("back at tapClosed") } == true, brief(summary))
    #expect((summary?.seconds ?? .infinity) < 600)
    #expect(bench.world.state.withLock(\.fences) == 0)
  }

  @Test func withoutWaitingItLeavesReplicationRunningAndExitsWith3() {
    let plan = samplePlan(.cmotion)
    let bench = Bench(plan)
    let first = bench.apply(plan, wait: .no)
    #expect(first?.exitCode == 3, brief(first))
    bench.loop.skip(seconds: 60)
    #expect(bench.apply(plan, wait: .no)?.exitCode == 0)
  }

  @Test func finalizeWaitsForAnApprovalOfThisConfiguration() {
    let plan = samplePlan(.finalized, approval: .manual)
    let bench = Bench(plan)
    let first = bench.apply(plan)
    #expect(first?.exitCode == 4, brief(first))
    #expect(first?.migrations.first?.reached == .reached(.cmotion))
    let operations = bench.operations(plan)
    let approved = bench.loop.run { () -> GatewayError? in
      do throws(GatewayError) {
        try await operations.approve(MigrationName("m0"), phase: .finalized, expiresInSeconds: 3600)
        return nil
      } catch {
        return error
      }
    }
    #expect(approved == .some(nil))
    var changed = plan
    changed.migrations[MigrationName("m0")]?.resyncIntervalSeconds = 60
    #expect(bench.apply(changed)?.exitCode == 4, "an approval of another configuration is void")
    let last = bench.apply(plan)
    #expect(last?.exitCode == 0, brief(last))
    #expect(bench.world.violations == [])
  }

  @Test func aFailingHookBeforeTheFenceRevertsAndHolds() {
    let plan = samplePlan(.finalized)
    let bench = Bench(plan)
    bench.world.state.withLock { $0.failingHooks["unmount"] = 1 }
    let first = bench.apply(plan)
    #expect(first?.exitCode == 1)
    #expect(bench.world.state.withLock(\.fences) == 0)
    let source = bench.world.state.withLock { state in
      state.agents[HostName("h0")]?.sessions.values.first { $0.seen.role == .source }
    }
    #expect(source?.isTapOpen == true, "the application can be started again where it was")
    let held = bench.apply(plan)
    #expect(held?.exitCode == 4, brief(held))
    #expect(held?.stepsDone == 0)
    resume(bench, plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    #expect(bench.world.violations == [])
    #expect(bench.world.state.withLock { $0.hookExecutions["stopApplication"] } == 2, "anew after the revert")
  }

  @Test func aFailingHookAfterTheFenceStopsAndGoesOnFromThereOnceResumed() {
    let plan = samplePlan(.finalized)
    let bench = Bench(plan)
    bench.world.state.withLock { $0.failingHooks["startApplication"] = 2 }
    #expect(bench.apply(plan)?.exitCode == 1)
    #expect(bench.apply(plan)?.exitCode == 4)
    resume(bench, plan)
    #expect(bench.apply(plan)?.exitCode == 1, "it fails a second time")
    resume(bench, plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    #expect(bench.world.state.withLock { $0.hookExecutions["mount"] } == 1, "a finished hook isn't run again")
    #expect(bench.world.violations == [])
  }

  private func revert(_ bench: Bench, _ plan: MigrationPlan) -> Result<OperationOutcome, GatewayError>? {
    let operations = bench.operations(plan)
    return bench.loop.run { () -> Result<OperationOutcome, GatewayError> in
      do throws(GatewayError) {
        return .success(try await operations.revert(MigrationName("m0"), why: "slow"))
      } catch {
        return .failure(error)
      }
    }
  }

  private func stage(_ bench: Bench, _ host: String, _ role: Role) -> SessionObservation? {
    bench.world.state.withLock { state in
      state.agents[HostName(host)]?.sessions.values.first { $0.seen.role == role }?.seen
    }
  }

  @Test func aRevertNeedsOnlyTheSource() throws {
    let plan = samplePlan(.cmotion)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    bench.world.state.withLock { _ = $0.unreachable.insert(HostName("cloud")) }
    let outcome = try #require(revert(bench, plan)).get()
    #expect(stage(bench, "h0", .source)?.stage == .tracking)
    #expect(stage(bench, "h0", .source)?.hold?.cause == .reverted)
    #expect(outcome.missed.contains { $0.contains("destination cloud does not answer") }, "\(outcome)")
    bench.world.state.withLock { $0.unreachable = [] }
    let next = bench.apply(plan)
    #expect(next?.exitCode == 4, "the one hold is enough: \(brief(next))")
    #expect(bench.world.violations == [])
  }

  @Test func aRevertWithoutTheSourceHoldsAndSaysWhatItCouldNotDo() throws {
    let plan = samplePlan(.cmotion)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    bench.world.state.withLock { _ = $0.unreachable.insert(HostName("h0")) }
    guard case .failure(let error)? = revert(bench, plan) else {
      Issue.record("it can't have reverted")
      return
    }
    #expect(error.code == ApplyCode.sourceSilent)
    #expect(error.message.contains("held on cloud") && error.advice.contains("cmcplan revert m0"), "\(error)")
    #expect(stage(bench, "cloud", .destination)?.hold != nil)
  }

  @Test func revertAllTakesBackWhatIsSwungAndLeavesTheRest() {
    var plan = samplePlan(.cmotion, count: 3)
    plan.migrations[MigrationName("m1")]?.cutover.phase = Positioned(.synchronized)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    let operations = bench.operations(plan)
    let names = bench.loop.run { await operations.revertAll(why: "all back").map(\.migration.text) }
    #expect(names == ["m0", "m2"])
    #expect(stage(bench, "h1", .source)?.hold == nil)
    for host in ["h0", "h2"] { #expect(stage(bench, host, .source)?.stage == .tracking) }
  }

  @Test func aHoldThatComesBetweenTheLookAndTheSwingIsNoFailure() {
    let plan = samplePlan(.cmotion)
    let bench = Bench(plan)
    bench.world.state.withLock { $0.holdsAtSwing = true }
    let summary = bench.apply(plan)
    #expect(summary?.exitCode == 4, brief(summary))
    #expect(summary?.failures.isEmpty == true)
  }

  @Test func aHookIsToldTheDeviceAndTheLUNOfAVolume() {
    var plan = samplePlan(.finalized)
    plan.migrations[MigrationName("m0")]?.cutover.hooks[.mount] = Hook(
      host: nil, run: "mount {device:data} {lun:log} {else:x} {", timeoutSeconds: 60, position: nil)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    let command = bench.world.state.withLock { $0.hookCommands["mount"] }
    #expect(command?.contains(" 1 {else:x} {") == true && command?.contains("{device") == false, "\(command ?? "")")
  }

  @Test func anUnreachableHostFailsItsMigrationOnly() {
    let plan = samplePlan(.synchronized, count: 3)
    let bench = Bench(plan)
    bench.world.state.withLock { _ = $0.unreachable.insert(HostName("h1")) }
    let summary = bench.apply(plan)
    #expect(summary?.exitCode == 1)
    let reached = summary?.migrations.filter { $0.result == .reached }.map(\.migration.text)
    #expect(reached == ["m0", "m2"])
    bench.world.state.withLock { $0.unreachable = [] }
    #expect(bench.apply(plan)?.exitCode == 0)
  }

  @Test func aSecondApplyIsToldWhoHoldsTheLease() {
    let plan = samplePlan(.synchronized)
    let bench = Bench(plan)
    let one = bench.run(plan, holder: "ann@one, run 1")
    let two = bench.run(plan, holder: "bob@two, run 2")
    let results = bench.loop.run { () -> [ApplySummary] in
      async let first = one.run()
      async let second = two.run()
      return await [first, second]
    }
    #expect(results?.contains { $0.exitCode == 0 } == true)
    let refused = results?.flatMap(\.failures).first
    #expect(refused == nil || refused?.error.code == ApplyCode.leaseHeld || refused?.error.code == "CMC5000")
    #expect(bench.world.violations == [])
    #expect(bench.world.state.withLock { $0.diskCreations.values.allSatisfy { $0 == 1 } })
  }

  @Test func aLeaseOfARunThatIsGoneIsTakenOverThoughItsAgentIsStartedOnlyNow() throws {
    let bench = Bench(samplePlan(.synchronized))
    #expect(bench.apply(samplePlan(.synchronized))?.exitCode == 0)
    let plan = samplePlan(.cmotion)
    let session = SessionID(plan: plan.metadata.id, migration: MigrationName("m0"))
    let now = bench.loop.wallNow()
    bench.world.state.withLock { state in
      state.agents[HostName("h0")]?.isRunning = false
      state.agents[HostName("h0")]?.leases[session] = Lease(
        session: session, holder: "bob, gone", fencingNumber: 1, acquiredAt: now, expiresAt: now.adding(seconds: 3000))
    }
    func apply(isGone: Bool) -> ApplySummary? {
      let run = bench.run(
        plan,
        ApplyOptions(wait: .untilReached, isGone: { isGone && $0 == "bob, gone" }, holder: "ann@host, run 2"))
      return bench.loop.run { await run.run() }
    }
    #expect(apply(isGone: false)?.failures.map(\.error.code) == [ApplyCode.leaseHeld])
    bench.world.state.withLock { $0.agents[HostName("h0")]?.isRunning = false }
    let summary = apply(isGone: true)
    #expect(summary?.exitCode == 0, brief(summary))
    #expect(bench.world.state.withLock { $0.agents[HostName("h0")]?.leases[session] } == nil)
  }

  @Test func anInterruptParksWhatRunsAndGivesTheLeaseBack() {
    let plan = samplePlan(.synchronized)
    let bench = Bench(plan)
    bench.world.state.withLock { $0.syncSeconds = 10_000 }
    let run = bench.run(plan)
    let summary = bench.loop.run { () -> ApplySummary in
      async let result = run.run()
      await bench.loop.pause(seconds: 60)
      run.interrupt()
      return await result
    }
    #expect(summary?.interrupted == true)
    #expect(summary?.exitCode == 3, brief(summary))
    #expect(bench.world.state.withLock { $0.agents.values.allSatisfy { $0.leases.isEmpty } })
    #expect(bench.loop.monotonicNow().nanoseconds < 200_000_000_000)
  }

  @Test func aLongRunKeepsItsLeaseAndJournalsEachStepTwice() {
    let plan = samplePlan(.synchronized)
    let bench = Bench(plan)
    bench.world.state.withLock { $0.syncSeconds = 1000 }
    #expect(bench.apply(plan)?.exitCode == 0)
    let lines = bench.journal.lines.withLock { $0 }
    #expect(lines.filter { $0.contains("stepStarted") }.count == lines.filter { $0.contains("stepSucceeded") }.count)
    #expect(lines.allSatisfy { $0.contains("\"version\":1") && $0.contains("\"at\":") })
  }

  private func resume(_ bench: Bench, _ plan: MigrationPlan) {
    let operations = bench.operations(plan)
    let error = bench.loop.run { () -> GatewayError? in
      do throws(GatewayError) {
        _ = try await operations.resume(MigrationName("m0"))
        return nil
      } catch {
        return error
      }
    }
    #expect(error == .some(nil))
  }
}
