import BlockModel
import Diagnostics
import Foundation
import MigrationModel
import Planning
import Reconciling
import Synchronization
import TestSupport
import Testing

/// A whole estate, moved to `finalized` by the production planner and reconciler while things break: does it get there,
/// and what does that cost? `make sim-scale` has 10,000 hosts with 100,000 volumes; the usual run has 200.
@Suite struct EstateSimulation {
  static let volumesOfMigration = 10
  /// As many as two migrations a host; 20 disks a virtual machine, which takes 64.
  static let migrationsOfHost = 2
  static let fullHosts = 10_000
  static let mostSeconds = 300.0
  static let mostMiB = 4096
  static let applyLimit = 30
  /// So many of the applies are disturbed; the rest is calm, or nothing would end.
  static let disturbedApplies = 6

  @Test func everyVolumeIsFinalizedOnceWhateverBreaks() {
    let environment = ProcessInfo.processInfo.environment
    let hosts = Int(environment["SIM_HOSTS"] ?? "") ?? 200
    let seed = environment["SIM_SEED"].flatMap { UInt64($0) } ?? 1
    let start = ContinuousClock.now
    var estate = Estate(hosts: hosts, seed: seed)
    let problems = estate.run()
    #expect(problems == [], "seed \(seed)")
    let wall = ContinuousClock.now - start
    let seconds = Double(wall.components.seconds) + Double(wall.components.attoseconds) / 1e18
    let memory = Self.peakMiB()
    print(estate.report(seconds: seconds, peakMiB: memory))
    guard hosts >= Self.fullHosts else { return }
    #expect(seconds < Self.mostSeconds, "the bar, on a quiet machine")
    #expect(memory.map { $0 < Self.mostMiB } == true, "the bar")
  }

  /// The most that this process ever had resident.
  private static func peakMiB() -> Int? {
    guard let text = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else { return nil }
    let line = text.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
    return line?.split(separator: " ").compactMap { Int($0) }.first.map { $0 / 1024 }
  }
}

/// Counts lines, for hundreds of thousands of them would be what is measured.
private final class CountingJournal: JournalSink {
  let count = Mutex(0)
  func append(_ line: String) async { count.withLock { $0 += 1 } }
}

private struct Estate {
  let plan: MigrationPlan
  let bench: Bench
  let seed: UInt64
  let random: SeededRandom
  private let journal = CountingJournal()
  private var applies = 0
  private var killedRuns = 0
  private var resumed = 0
  private var trace: [String] = []

  init(hosts: Int, seed: UInt64) {
    self.seed = seed
    random = SeededRandom(seed: seed &* 104_729)
    plan = Self.plan(sources: hosts / 2)
    bench = Bench(plan, seed: seed)
  }

  /// Pairs of a source and a virtual machine of its own.
  private static func plan(sources: Int) -> MigrationPlan {
    var plan = samplePlan(.finalized, count: 0)
    plan.hosts = [:]
    let access = SSHAccess(user: nil, port: nil, identityFile: nil, jump: nil, sudo: false)
    for index in 0..<sources {
      let (source, target) = (HostName("source-\(index)"), HostName("target-\(index)"))
      plan.hosts[source] = Host(
        name: source, address: "192.0.2.1", reach: .ssh(access), azureVirtualMachine: nil, position: nil)
      plan.hosts[target] = Host(
        name: target, address: "192.0.2.2", reach: .ssh(access), azureVirtualMachine: "vm-\(index)", position: nil)
      for number in 0..<EstateSimulation.migrationsOfHost {
        let name = MigrationName("app-\(index)-\(number)")
        plan.migrations[name] = migration(name, from: source, to: target, port: 4996 + number)
      }
    }
    return plan
  }

  private static func migration(
    _ name: MigrationName, from source: HostName, to target: HostName, port: Int
  ) -> Migration {
    let volumes = (0..<EstateSimulation.volumesOfMigration).map { index in
      Volume(
        name: VolumeName("data-\(index)"), device: "/dev/vg/\(name)-\(index)", tracking: .auto,
        destination: .disk(ManagedDisk(sku: .premium, size: .auto)), position: nil)
    }
    var hooks: [HookPoint: Hook] = [:]
    for point in [HookPoint.stopApplication, .startApplication] {
      hooks[point] = Hook(host: nil, run: "\(point.rawValue) \(name)", timeoutSeconds: 60, position: nil)
    }
    return Migration(
      name: name, description: nil, source: source, destination: target, integration: nil,
      connection: Connection(listener: .destination, port: port, lanes: 2, address: nil), volumes: volumes,
      iqos: IQoS(level: .moderate), linkLossTimeoutSeconds: 5, resyncIntervalSeconds: 900,
      cutover: Cutover(phase: Positioned(.finalized), approval: .automatic, hooks: hooks), position: nil)
  }

  mutating func run() -> [String] {
    while applies < EstateSimulation.applyLimit {
      let faults = faults()
      applies += 1
      let begun = ContinuousClock.now
      guard let summary = apply(faults) else { return ["everything waits for nothing"] }
      let violations = bench.world.violations
      guard violations.isEmpty else { return Array(violations.prefix(5)) }
      trace.append(
        "  apply \(applies): exit \(summary.exitCode), \(summary.migrations.count { $0.result == .reached }) reached, "
          + "\(summary.failures.count) failures, \(summary.stepsDone) steps, \(ContinuousClock.now - begun)")
      if summary.exitCode == 0 { return endState() }
      // Leases of a dead run run out.
      bench.loop.skip(seconds: 200)
      resume(summary)
    }
    return ["not done after \(applies) applies"]
  }

  private mutating func faults() -> FaultPlan {
    guard applies < EstateSimulation.disturbedApplies else { return FaultPlan() }
    var faults = FaultPlan(failureChance: 0.002, lostAnswerChance: 0.002, repeatChance: 0.01, breakChance: 0.0002)
    if applies < 2 {
      killedRuns += 1
      faults.crashAtCall = plan.migrations.count * random.within(20...120)
    }
    return faults
  }

  private func apply(_ faults: FaultPlan) -> ApplySummary? {
    let services = RunServices(
      time: bench.loop, pause: { [loop = bench.loop] in await loop.pause(seconds: $0) }, journal: journal,
      digest: fakeDigest, report: { _ in })
    let run = ApplyRun(
      plan: plan, gateways: bench.world.gateways(for: RunIdentity(faults: faults)),
      options: ApplyOptions(parallelism: 256, wait: .untilReached, stealLease: false, holder: "run \(applies)"),
      services: services)
    return bench.loop.run { await run.run() }
  }

  /// What a person would do about what is held.
  private mutating func resume(_ summary: ApplySummary) {
    let held = summary.migrations.filter { result in
      result.waiting.contains { if case .hold = $0.reason { true } else { false } }
    }.map(\.migration)
    guard !held.isEmpty else { return }
    resumed += held.count
    let operations = bench.operations(plan)
    _ = bench.loop.run { () -> Bool in
      for name in held {
        _ = await operations.on(name) { operations, name throws(GatewayError) in try await operations.resume(name) }
      }
      return true
    }
  }

  private func endState() -> [String] {
    let state = bench.world.state.withLock { $0 }
    let volumes = plan.migrations.count * EstateSimulation.volumesOfMigration
    var problems = state.violations
    func expect(_ found: Int, _ wanted: Int, _ what: String) {
      if found != wanted { problems.append("\(found) \(what), not \(wanted)") }
    }
    expect(state.disks.count, volumes, "disks")
    expect(state.diskCreations.values.reduce(0, +), volumes, "disks made")
    expect(state.disks.values.count { $0.tags[DiskTag.state] == "finalized" }, volumes, "disks tagged finalized")
    expect(state.machines.values.reduce(0) { $0 + $1.attachments.count }, volumes, "attachments")
    expect(state.fullSynchronizations, plan.migrations.count, "initial synchronizations")
    expect(state.fences, plan.migrations.count, "fences")
    return problems
  }

  func report(seconds: Double, peakMiB: Int?) -> String {
    let seen = bench.world.state.withLock(\.breakdowns)
    var faults = seen.counts
    faults["run killed"] = killedRuns
    let kinds = faults.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", ")
    let volumes = plan.migrations.count * EstateSimulation.volumesOfMigration
    let lines = [
      "estate: \(plan.hosts.count) hosts, \(volumes) volumes in \(plan.migrations.count) migrations, seed \(seed)",
      "  \(applies) applies to finalized, \(seen.calls) calls, \(journal.count.withLock { $0 }) journal lines",
      "  \(Int(bench.loop.wallNow().secondsSince1970 - VirtualLoop.start.secondsSince1970)) s passed there; longest time that a host gave no answer after a fault: \(Int(seen.longestSilence)) s",
      "  faults: \(kinds); \(resumed) holds resumed",
      "  \(String(format: "%.1f", seconds)) s of wall time here, at most \(peakMiB.map { "\($0)" } ?? "?") MiB resident",
    ]
    return (lines + trace).joined(separator: "\n")
  }
}
