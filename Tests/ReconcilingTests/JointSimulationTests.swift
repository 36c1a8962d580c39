import AgentProtocol
import BlockModel
import Diagnostics
import Foundation
import MigrationModel
import Planning
import Reconciling
import Simulation
import Synchronization
import TestSupport
import Testing

/// Reconciler and replication together: applies that die, agents that are killed or lose power, links that break, and an
/// application that never stops writing until its hook says so. One seed again: `make sim SEED=n`.
@Suite struct JointSimulation {
  /// More than any seed needs; one that needs more is stuck.
  static let applyLimit = 60
  /// Run however slow the machine is; more in the time that is left.
  static let leastSeeds: UInt64 = 40

  @Test func everySeedReachesItsPhaseWithEveryAcknowledgedWrite() async {
    let environment = ProcessInfo.processInfo.environment
    let start = ContinuousClock.now
    guard let chosen = environment["SIM_SEED"].flatMap(UInt64.init) else {
      let limit = Double(environment["SIM_SECONDS"] ?? "") ?? 10
      let first = UInt64(environment["SIM_FIRST"] ?? "") ?? 1
      let most = UInt64(environment["SIM_SEEDS"] ?? "") ?? 1_000_000
      let least = min(most, UInt64(environment["SIM_LEAST"] ?? "") ?? Self.leastSeeds)
      let workers = UInt64(max(1, ProcessInfo.processInfo.activeProcessorCount))
      // Each worker takes every n-th seed, so that which seeds ran depends on time alone, never on a seed's outcome.
      let total = await withTaskGroup(of: Batch.self) { group in
        for worker in 0..<workers {
          group.addTask {
            var batch = Batch()
            var seed = first + worker
            while seed < first + most,
              seed < first + least || ContinuousClock.now - start < .seconds(limit), batch.run(seed)
            {
              seed += workers
              // So that tests with a time limit get their turn.
              await Task.yield()
            }
            return batch
          }
        }
        var total = Batch()
        for await batch in group { total.add(batch) }
        return total
      }
      return total.tell()
    }
    var batch = Batch()
    _ = batch.run(chosen, isTraced: true)
    batch.tell()
  }
}

private struct Batch: Sendable {
  var seeds = 0
  var applies = 0
  var report = SimulationReport()

  /// False where something did not hold.
  mutating func run(_ seed: UInt64, isTraced: Bool = false) -> Bool {
    var scenario = JointScenario(seed: seed)
    if isTraced { scenario.trace() }
    let problems = scenario.run()
    if isTraced { scenario.printTrace() }
    #expect(problems == [], "seed \(seed); repeat it with: make sim SEED=\(seed)")
    report.add(scenario.report)
    report.longestRecoverySeconds = max(report.longestRecoverySeconds, scenario.recoverySeconds)
    seeds += 1
    applies += scenario.applies
    return problems.isEmpty
  }

  mutating func add(_ other: Batch) {
    seeds += other.seeds
    applies += other.applies
    report.add(other.report)
  }

  func tell() {
    print(
      "simulated \(seeds) migrations in \(applies) applies: \(report.events) events, \(report.requests) requests, "
        + String(format: "longest recovery %.0f s, ", report.longestRecoverySeconds) + report.toldFaults)
  }
}

private struct JointScenario {
  let random: SeededRandom
  let plan: MigrationPlan
  let bench: Bench
  let target: Phase
  var applies = 0
  /// From the start of the last apply that faults could meet until all was carried out.
  var recoverySeconds = 0.0

  init(seed: UInt64) {
    random = SeededRandom(seed: seed &* 104_729)
    target = random.pick([Phase.synchronized, .cmotion, .finalized, .retired]) ?? .retired
    plan = samplePlan(target, approval: random.chance(0.5) ? .manual : .automatic)
    bench = Bench(plan, seed: seed)
    let joint = JointReplication(
      seed: seed, source: HostName("h0"), destination: HostName("cloud"), random: SeededRandom(seed: seed &* 31))
    bench.world.state.withLock { state in
      state.joint = joint
      for (index, device) in (state.agents[HostName("h0")]?.devices.keys.sorted() ?? []).enumerated() {
        state.agents[HostName("h0")]?.devices[device]?.sizeBytes = ReplicationRehearsal.volumeSizes[index]
      }
    }
  }

  var report: SimulationReport { bench.world.state.withLock { $0.joint?.rehearsal.report } ?? SimulationReport() }

  func trace() {
    bench.world.state.withLock { state in
      state.isTraced = true
      state.joint?.rehearsal.trace()
    }
  }
  func printTrace() {
    bench.world.state.withLock { state in
      for line in state.trace { print(line) }
      print("source:", state.joint?.rehearsal.source as Any)
      print("destination:", state.joint?.rehearsal.destination as Any)
    }
  }

  mutating func run() -> [String] {
    var disturbed = bench.loop.monotonicNow()
    while applies < JointSimulation.applyLimit {
      // Troubles end at some time, or nothing would.
      let isCalm = applies > 15
      if isCalm { calm() } else { disturbed = bench.loop.monotonicNow() }
      applies += 1
      let run = bench.run(plan, holder: "run \(applies)", faults: isCalm ? FaultPlan() : randomFaults())
      guard bench.loop.run({ await run.run() }) != nil else { return ["everything waits for nothing"] }
      let violations = bench.world.violations
      guard violations.isEmpty else { return violations }
      bench.loop.skip(seconds: Double(random.within(0...200)))
      bench.help(plan)
      if isCalm || random.chance(0.2), bench.changes(plan)?.isNoOp == true {
        recoverySeconds = bench.loop.monotonicNow().seconds(since: disturbed)
        return endState()
      }
    }
    let changes = bench.changes(plan)
    return [
      """
      not done after \(applies) applies: \(changes?.migrations.map {
        "\($0.reached.word), waiting \($0.waiting), steps \($0.changes.map(\.summary)), \($0.diagnostics.map(\.message))"
      } ?? [])
      """
    ]
  }

  private func calm() {
    bench.world.state.withLock { state in
      state.joint?.isCalm = true
      state.joint?.rehearsal.calm()
    }
  }

  private func randomFaults() -> FaultPlan {
    var faults = FaultPlan()
    if random.chance(0.5) { faults.crashAtCall = random.within(1...150) }
    if random.chance(0.3) { faults.lostAnswerChance = Double(random.below(8)) / 100 }
    if random.chance(0.3) { faults.repeatChance = Double(random.below(15)) / 100 }
    return faults
  }

  private func endState() -> [String] {
    bench.world.state.withLock { state in
      if target >= .finalized { state.joint?.rehearsal.checkFinalized() }
      if let failure = state.joint?.rehearsal.failure { state.violate("replication: \(failure)") }
      if target >= .finalized, state.fences != 1 { state.violate("\(state.fences) fences") }
      if target < .finalized, state.fences != 0 { state.violate("fenced without being asked to") }
      return state.violations
    }
  }
}
