import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Reconciling
import Synchronization
import TestSupport
import Testing

/// What people do beside `apply`, at two in the morning.
@Suite struct OperationTests {
  private func seen(_ bench: Bench, _ host: String, _ role: Role, of migration: String = "m0") -> FakeSession? {
    bench.world.state.withLock { state in
      state.agents[HostName(host)]?.sessions.values.first {
        $0.seen.role == role && $0.seen.migration == MigrationName(migration)
      }
    }
  }

  private func change(
    _ bench: Bench, _ host: String, _ role: Role, of migration: String = "m0", _ body: (inout FakeSession) -> Void
  ) {
    bench.world.state.withLock { state in
      for key in state.agents[HostName(host)]?.sessions.keys.map({ $0 }) ?? [] where key.role == role {
        guard var session = state.agents[HostName(host)]?.sessions[key],
          session.seen.migration == MigrationName(migration)
        else { continue }
        body(&session)
        state.agents[HostName(host)]?.sessions[key] = session
        state.expectEnd(of: key, on: HostName(host))
      }
    }
  }

  private func result<Value: Sendable>(
    _ bench: Bench, _ body: @escaping @Sendable () async throws(GatewayError) -> Value
  ) -> Result<Value, GatewayError>? {
    bench.loop.run { () -> Result<Value, GatewayError> in
      do throws(GatewayError) {
        return .success(try await body())
      } catch {
        return .failure(error)
      }
    }
  }

  private func error<Value>(_ result: Result<Value, GatewayError>?) -> GatewayError? {
    if case .failure(let error)? = result { error } else { nil }
  }

  // MARK: Revert

  /// m0 is swung, m1 is synchronized, m2 was never applied: its host has no agent.
  private func mixedBench() -> (Bench, MigrationPlan) {
    var plan = samplePlan(.cmotion, count: 3)
    plan.migrations[MigrationName("m1")]?.cutover.phase = Positioned(.synchronized)
    let bench = Bench(plan)
    var begun = plan
    begun.migrations[MigrationName("m2")] = nil
    #expect(bench.apply(begun)?.exitCode == 0)
    return (bench, plan)
  }

  @Test func revertAllTouchesOnlyWhatIsSwungAlsoWhereADestinationIsSilentAndAHostHasNoAgent() {
    let (bench, plan) = mixedBench()
    bench.world.state.withLock { _ = $0.unreachable.insert(HostName("cloud")) }
    let operations = bench.operations(plan)
    let results = bench.loop.run { await operations.revertAll(why: "all back") } ?? []
    #expect(results.map(\.migration.text) == ["m0"], "\(results)")
    #expect(results.first?.error == nil)
    #expect(seen(bench, "h0", .source)?.seen.stage == .tracking)
    #expect(seen(bench, "h1", .source, of: "m1")?.seen.hold == nil, "it never swung")
  }

  @Test func revertAllHoldsWhatMayBeSwungBecauseItsSourceIsSilent() {
    let (bench, plan) = mixedBench()
    bench.world.state.withLock { $0.unreachable = [HostName("h1"), HostName("h0")] }
    let operations = bench.operations(plan)
    let results = bench.loop.run { await operations.revertAll(why: "all back") } ?? []
    #expect(results.map(\.migration.text) == ["m0", "m1"], "\(results)")
    #expect(results.allSatisfy { $0.error?.code == ApplyCode.sourceSilent })
    #expect(seen(bench, "cloud", .destination, of: "m1")?.seen.hold?.cause == .reverted)
  }

  @Test("A revert in the middle of finalize gives the application its tap back")
  func revertReopensTheTap() {
    let plan = samplePlan(.cmotion)
    for stage in [SessionStage.tapClosed, .proving, .proven] {
      let bench = Bench(plan)
      #expect(bench.apply(plan)?.exitCode == 0)
      change(bench, "h0", .source) { session in
        session.seen.stage = stage
        session.isTapOpen = false
      }
      let operations = bench.operations(plan)
      let outcome = result(bench) { () async throws(GatewayError) in
        try await operations.revert(MigrationName("m0"), why: "slow")
      }
      #expect(error(outcome) == nil)
      #expect(seen(bench, "h0", .source)?.seen.stage == .tracking)
      #expect(seen(bench, "h0", .source)?.isTapOpen == true, "the application can't start without it (\(stage))")
    }
  }

  // MARK: Verification

  @Test func allThatIsSynchronizedIsComparedAndWhatIsNotIsSaid() {
    let (bench, plan) = mixedBench()
    change(bench, "h1", .source, of: "m1") { session in
      session.rotten = [ExtentDifference(volume: VolumeName("data"), offset: 0, length: 4096, outcome: .found)]
    }
    let operations = bench.operations(plan)
    let results = bench.loop.run { await operations.verify([], scope: .all, repairs: false) } ?? []
    #expect(results.map(\.migration.text) == ["m0", "m1", "m2"])
    #expect(results[0].report?.isClean == true, "in stand-in too: \(results[0])")
    #expect(results[1].report?.isClean == false && results[1].report?.differences.map(\.outcome) == [.found])
    #expect(results[1].error == nil && results[1].skipped == nil)
    #expect(results[2].report == nil && (results[2].error != nil || results[2].skipped != nil), "it has no agent")
    let repaired = bench.loop.run {
      await operations.verify([MigrationName("m1")], scope: .changed, repairs: true)
    }
    #expect(repaired?.first?.report?.isClean == true)
    #expect(repaired?.first?.report?.differences.map(\.outcome) == [.repaired])
    #expect(repaired?.first?.report?.scope == .changed)
  }

  @Test func aVerificationNeedsNoLeaseAndIsWatchedOnNotBegunAnew() {
    let plan = samplePlan(.synchronized)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    let operations = bench.operations(plan)
    _ = bench.loop.run { await operations.verify([MigrationName("m0")], scope: .all, repairs: false) }
    let ends = bench.loop.wallNow().secondsSince1970 + 10
    change(bench, "h0", .source) { session in
      // Somebody began one just now, and stopped watching.
      session.seen.verification = VerificationReport(
        scope: .all, repairs: false, startedAt: WallTime(secondsSince1970: 5), totalBytes: 8, remainingBytes: 4)
      session.verificationEnds = ends
    }
    let results = bench.loop.run { await operations.verify([MigrationName("m0")], scope: .all, repairs: false) }
    #expect(results?.first?.report?.startedAt == WallTime(secondsSince1970: 5))
    let leases = bench.world.state.withLock { $0.agents[HostName("h0")]?.leases }
    #expect(leases?.isEmpty == true)
  }

  @Test func aHeldSessionIsComparedAndNotRepaired() {
    let plan = samplePlan(.synchronized)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    let operations = bench.operations(plan)
    _ = result(bench) { () async throws(GatewayError) in try await operations.pause(MigrationName("m0"), why: "freeze")
    }
    let name = MigrationName("m0")
    #expect(
      bench.loop.run { await operations.verify([name], scope: .all, repairs: false) }?.first?.report?.isClean == true)
    #expect(bench.loop.run { await operations.verify([name], scope: .all, repairs: true) }?.first?.error != nil)
  }

  @Test func anAgentThatWasStartedAnewLostTheVerificationAndThatIsSaid() {
    let plan = samplePlan(.synchronized)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    change(bench, "h0", .source) { $0.losesVerification = true }
    let operations = bench.operations(plan)
    let results = bench.loop.run { await operations.verify([MigrationName("m0")], scope: .all, repairs: false) }
    #expect(results?.first?.error?.code == ApplyCode.verificationLost)
    #expect(results?.first?.error?.advice == "cmcplan verify m0")
  }

  @Test func aMapIsAskedOfTheSourcesAgentWithoutALease() {
    let plan = samplePlan(.synchronized)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    let operations = bench.operations(plan)
    let volume = plan.migrations[MigrationName("m0")]?.volumes[0].name ?? VolumeName("")
    let map = result(bench) { () async throws(GatewayError) in
      try await operations.map(MigrationName("m0"), volume: volume, offset: 0, length: nil, cells: 77)
    }
    #expect((try? map?.get())?.volume == volume)
    #expect((try? map?.get())?.runs.first?.cells == 77)
    let leases = bench.world.state.withLock { $0.agents[HostName("h0")]?.leases }
    #expect(leases?.isEmpty == true)
  }

  @Test func aMapOfWhatHasNoSessionIsRefusedWithWhatToDo() {
    let plan = samplePlan(.synchronized)
    let bench = Bench(plan)
    let operations = bench.operations(plan)
    let map = result(bench) { () async throws(GatewayError) in
      try await operations.map(MigrationName("m0"), volume: VolumeName("v0"), offset: 0, length: nil, cells: 8)
    }
    #expect(error(map) != nil)
  }

  // MARK: Holds

  @Test func resumeAllClearsPausesAndLeavesWhatARevertHolds() {
    let plan = samplePlan(.cmotion, count: 2)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    let operations = bench.operations(plan)
    _ = result(bench) { () async throws(GatewayError) in
      try await operations.revert(MigrationName("m0"), why: "slow")
    }
    let paused = bench.loop.run {
      await operations.on(nil) { operations, name throws(GatewayError) in
        try await operations.pause(name, why: "freeze")
      }
    }
    #expect(paused?.map(\.migration.text) == ["m0", "m1"])
    #expect(seen(bench, "h0", .source)?.seen.hold?.cause == .reverted, "a pause says less than a revert")
    #expect(seen(bench, "h1", .source, of: "m1")?.seen.hold?.cause == .paused)
    let resumed = bench.loop.run { await operations.resume(each: nil) } ?? []
    #expect(seen(bench, "h0", .source)?.seen.hold?.cause == .reverted)
    #expect(seen(bench, "cloud", .destination)?.seen.hold?.cause == .reverted)
    #expect(seen(bench, "h1", .source, of: "m1")?.seen.hold == nil)
    #expect(
      resumed.first?.outcome?.done.contains { $0.contains("m0 stays held on h0 (reverted") } == true, "\(resumed)")
    _ = bench.loop.run { await operations.resume(each: MigrationName("m0")) }
    #expect(seen(bench, "h0", .source)?.seen.hold == nil, "by its name it is cleared, whatever set it")
  }

  @Test func aHoldThatComesWhileAnotherIsClearedStays() {
    let plan = samplePlan(.cmotion)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    let operations = bench.operations(plan)
    _ = result(bench) { () async throws(GatewayError) in try await operations.pause(MigrationName("m0"), why: "freeze")
    }
    bench.world.state.withLock { $0.holdsAtResume = true }
    let resumed = bench.loop.run { await operations.resume(each: MigrationName("m0")) }
    #expect(resumed?.first?.error?.message.contains("held anew") == true, "\(resumed as Any)")
    #expect(seen(bench, "h0", .source)?.seen.hold?.cause == .failure)
  }

  @Test func resumeStartsTheAgentOfAHostOnceAndClearsEachOfItsHolds() {
    let plan = samplePlan(.cmotion, count: 3)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    let operations = bench.operations(plan)
    _ = bench.loop.run {
      await operations.on(nil) { operations, name throws(GatewayError) in
        try await operations.pause(name, why: "freeze")
      }
    }
    bench.world.state.withLock { state in
      state.agents[HostName("cloud")]?.isRunning = false
      state.isTraced = true
    }
    let resumed = bench.loop.run { await operations.resume(each: nil) } ?? []
    #expect(
      resumed.map(\.migration.text) == ["m0", "m1", "m2"] && resumed.allSatisfy { $0.error == nil }, "\(resumed)")
    #expect(bench.world.state.withLock(\.trace).count { $0 == "deployed cloud" } == 1)
  }

  @Test func whatAHoldRefusesSaysWhatClearsIt() {
    let plan = samplePlan(.cmotion)
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 0)
    let operations = bench.operations(plan)
    _ = result(bench) { () async throws(GatewayError) in try await operations.pause(MigrationName("m0"), why: "freeze")
    }
    let confirmed = result(bench) { () async throws(GatewayError) in try await operations.confirm(MigrationName("m0")) }
    #expect(error(confirmed)?.code == ApplyCode.held)
    #expect(error(confirmed)?.advice.contains("cmcplan resume m0") == true, "\(confirmed as Any)")
  }

  @Test("Many are worked on at once, and never more than was said", arguments: [1, 4, 100])
  func fanOutIsBounded(parallelism: Int) {
    let loop = VirtualLoop(seed: 3)
    let running = Mutex((now: 0, most: 0))
    let done = loop.run { () -> [Int] in
      var done: [Int] = []
      await fanOut(Array(0..<20), parallelism: parallelism) { item in
        running.withLock { running in
          running.now += 1
          running.most = max(running.most, running.now)
        }
        await loop.pause(seconds: 1)
        running.withLock { $0.now -= 1 }
        return item * 2
      } report: { item, answer in
        #expect(answer == item * 2)
        done.append(item)
      }
      return done.sorted()
    }
    #expect(done == Array(0..<20))
    #expect(running.withLock(\.most) == min(parallelism, 20))
  }
}
