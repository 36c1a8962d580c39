import AgentProtocol
import BlockModel
import MigrationModel
import Planning
import Reconciling
import Synchronization
import TestSupport
import Testing

extension MigrationPlan {
  /// The first migration's source is its destination's host: to another disk of the same machine.
  func withinHost() -> MigrationPlan {
    var copy = self
    guard let first = sortedMigrations.first else { return self }
    copy.migrations[first.name]?.source = first.destination
    copy.hosts[first.source] = nil
    return copy
  }
}

@Suite("Source and destination are one host") struct WithinHostTests {
  @Test("it goes the whole way with one agent, deployed once and removed at the end")
  func wholeWay() {
    let plan = samplePlan(.retired).withinHost()
    let bench = Bench(plan)
    let summary = bench.apply(plan)
    #expect(summary?.result == .reached, brief(summary))
    #expect(bench.world.violations == [])
    let state = bench.world.state.withLock { $0 }
    #expect(state.agents.count == 1)
    let agent = state.agents.values.first
    #expect(agent?.digest == nil && agent?.sessions.isEmpty == true)
    #expect(Set(agent?.tombstones.map(\.role) ?? []) == [.source, .destination])
    #expect(state.fences == 1 && state.disks.values.allSatisfy { $0.tags[DiskTag.state] == "retired" })
    #expect(bench.changes(plan)?.isNoOp == true)
  }

  @Test("both halves know that they are one agent's, and name no key of a peer")
  func configurations() {
    let plan = samplePlan(.synchronized).withinHost()
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.result == .reached)
    let halves = bench.world.state.withLock {
      $0.agents.values.flatMap { $0.sessions.values.map(\.seen.configuration) }
    }
    #expect(halves.count == 2 && halves.allSatisfy(\.isWithinAgent))
    #expect(halves.allSatisfy { $0.peerFingerprint == SessionConfiguration.ownAgent })
    #expect(Set(halves.map(\.half)).count == 2)
    #expect(bench.changes(plan)?.isNoOp == true)
  }

  @Test("it swings, reverts and swings again as the plan says")
  func swings() {
    let plan = samplePlan(.cmotion).withinHost()
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.result == .reached)
    #expect(bench.apply(plan.with(phase: .synchronized))?.result == .reached)
    let summary = bench.apply(plan)
    #expect(summary?.migrations.first?.reached == .reached(.cmotion), brief(summary))
    #expect(bench.world.violations == [])
  }

  @Test("an approval, a pause and a resume reach both halves")
  func operations() {
    let plan = samplePlan(.finalized, approval: .manual).withinHost()
    let bench = Bench(plan)
    #expect(bench.apply(plan)?.exitCode == 4)
    let operations = bench.operations(plan)
    let name = MigrationName("m0")
    let trouble = bench.loop.run { () -> GatewayError? in
      do throws(GatewayError) {
        _ = try await operations.pause(name, why: "lunch")
        _ = try await operations.resume(name)
        try await operations.approve(name, phase: .finalized, expiresInSeconds: 36_000)
        return nil
      } catch {
        return error
      }
    }
    #expect(trouble == .some(nil))
    let summary = bench.apply(plan)
    #expect(summary?.result == .reached, brief(summary))
    #expect(bench.world.violations == [])
  }

  @Test("an agent that can't have both halves is told of before anything is made there")
  func oldAgent() {
    let plan = samplePlan(.synchronized).withinHost()
    let bench = Bench(plan)
    bench.world.state.withLock { state in
      for host in state.agents.keys { state.agents[host]?.capabilities = ["fuse-loop", AgentHello.renames] }
    }
    let summary = bench.apply(plan)
    #expect(summary?.failures.contains { $0.error.message.contains("too old to have both halves") } == true)
    #expect(bench.world.state.withLock { $0.agents.values.allSatisfy(\.sessions.isEmpty) })
  }

  @Test("an agent that died after the source's half was retired is started for the other one")
  func diedBetweenHalves() {
    let plan = samplePlan(.retired).withinHost()
    let bench = Bench(plan)
    #expect(bench.apply(plan.with(phase: .finalized))?.result == .reached)
    bench.world.state.withLock { state in
      for host in state.agents.keys {
        guard let key = state.agents[host]?.sessions.keys.first(where: { $0.role == .source }) else { continue }
        state.agents[host]?.sessions[key] = nil
        state.agents[host]?.tombstones.append(
          Tombstone(
            session: key.session, role: .source, phase: .retired, generation: .initial, receiptDigest: nil,
            at: WallTime(secondsSince1970: 1)))
        state.agents[host]?.isRunning = false
      }
    }
    let summary = bench.apply(plan)
    #expect(summary?.result == .reached, brief(summary))
    #expect(bench.world.violations == [])
    #expect(bench.world.state.withLock { $0.agents.values.allSatisfy { $0.sessions.isEmpty && $0.digest == nil } })
  }
}
