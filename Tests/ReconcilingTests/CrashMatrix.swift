import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Reconciling
import Simulation
import Synchronization
import TestSupport

/// What is done with a migration while something dies: each way has kinds of steps that the others don't.
enum CrashWay: String, CaseIterable {
  case toRetired
  case backFromCMotion
  case stoppedSynchronizing
  case renamed
  case grown
  case failedBeforeTheFence
  case failedAfterTheFence
  case replaced
  case groupInWaves
  case partedGroup

  /// The agents' own machines, with their disks and an application that writes, know one migration.
  var isJoint: Bool { self != .groupInWaves && self != .partedGroup && self != .replaced }

  /// What `--replace` names, each time.
  var replace: Set<VolumeKey> {
    self == .replaced ? [VolumeKey(MigrationName("m0"), VolumeName("data"))] : []
  }

  private var full: MigrationPlan {
    var plan = samplePlan(.retired, approval: .manual)
    plan.archive = Archive(directory: "/archive")
    return plan
  }

  private var otherDisk: MigrationPlan {
    var plan = samplePlan(.synchronized)
    plan.migrations[MigrationName("m0")]?.volumes[0].destination = .disk(ManagedDisk(sku: .premiumV2, size: .auto))
    return plan
  }

  private func grouped(_ phase: Phase) -> MigrationPlan {
    var plan = samplePlan(phase, count: 3)
    let names = plan.sortedMigrations.map(\.name)
    plan.groups = [SwingGroup(name: "g", migrations: Array(names.dropFirst()))]
    let check = WaveHealthCheck(host: HostName("h0"), run: "check w0", timeoutSeconds: 60)
    plan.waves = [
      Wave(name: "w0", migrations: [names[0]], healthCheck: check),
      Wave(name: "w1", migrations: Array(names.dropFirst())),
    ]
    return plan
  }

  /// What is applied first, undisturbed; nil: nothing.
  var earlier: MigrationPlan? {
    switch self {
    case .toRetired, .failedBeforeTheFence, .failedAfterTheFence, .groupInWaves: nil
    case .backFromCMotion: samplePlan(.cmotion)
    case .stoppedSynchronizing, .renamed, .grown, .replaced: samplePlan(.synchronized)
    case .partedGroup: grouped(.cmotion)
    }
  }

  var plan: MigrationPlan {
    switch self {
    case .toRetired: full
    case .backFromCMotion: samplePlan(.synchronized)
    case .stoppedSynchronizing: samplePlan(.prepared)
    case .renamed:
      samplePlan(.cmotion).renaming(
        MigrationName("m0"), to: MigrationName("shop"), volume: VolumeName("data"), to: VolumeName("blob"))
    case .grown, .failedBeforeTheFence, .failedAfterTheFence: samplePlan(.finalized)
    case .replaced: otherDisk
    case .groupInWaves: grouped(.finalized)
    case .partedGroup: grouped(.cmotion)
    }
  }

  private static let grownBytes: UInt64 = 600 << 10

  /// What stands between the earlier apply and the one in which something dies.
  func prepare(_ state: inout WorldState, at now: Double) {
    state.plan = plan
    switch self {
    case .grown:
      // The last of its devices.
      if let path = state.agents[HostName("h0")]?.devices.keys.sorted().last {
        state.agents[HostName("h0")]?.devices[path]?.sizeBytes += Self.grownBytes
      }
    case .failedBeforeTheFence: state.failingHooks[HookPoint.unmount.rawValue] = 1
    case .failedAfterTheFence: state.failingHooks[HookPoint.mount.rawValue] = 1
    case .partedGroup: if let last = plan.sortedMigrations.last { state.fallBack(last.name, at: now) }
    default: break
    }
  }
}

/// One run of a way, with a kill or without.
struct CrashRun {
  /// More than any needs; one that needs more is stuck.
  static let applyLimit = 12
  /// Leases of a dead run run out in it.
  static let secondsBetweenApplies = 400.0

  let way: CrashWay
  let bench: Bench
  let plan: MigrationPlan

  init(_ way: CrashWay, seed: UInt64) {
    self.way = way
    plan = way.plan
    bench = Bench(way.earlier ?? plan, seed: seed)
    guard way.isJoint else { return }
    let joint = JointReplication(
      seed: seed, source: HostName("h0"), destination: HostName("cloud"), random: SeededRandom(seed: seed), isCalm: true
    )
    bench.world.state.withLock { state in
      state.joint = joint
      state.joint?.rehearsal.calm()
      for (index, device) in (state.agents[HostName("h0")]?.devices.keys.sorted() ?? []).enumerated() {
        state.agents[HostName("h0")]?.devices[device]?.sizeBytes = ReplicationRehearsal.volumeSizes[index]
      }
    }
  }

  /// What did not hold; empty where the way was gone to its end.
  func go(_ striker: Striker? = nil) -> [String] {
    if let earlier = way.earlier, bench.apply(earlier)?.exitCode != 0 { return ["the earlier plan was not reached"] }
    let now = bench.loop.wallNow().secondsSince1970
    bench.world.state.withLock { way.prepare(&$0, at: now) }
    for apply in 1...Self.applyLimit {
      let identity = RunIdentity(faults: FaultPlan(striker: striker))
      var services = bench.services
      services.journal = StrikingJournal(inner: bench.journal, world: bench.world, run: identity)
      let run = ApplyRun(
        plan: plan, gateways: bench.world.gateways(for: identity),
        options: ApplyOptions(
          parallelism: 4, wait: .untilReached, replace: way.replace, stealLease: false, holder: "run \(apply)"),
        services: services)
      guard bench.loop.run({ await run.run() }) != nil else { return ["everything waits for nothing"] }
      let violations = bench.world.violations
      guard violations.isEmpty else { return violations }
      bench.loop.skip(seconds: Self.secondsBetweenApplies)
      bench.help(plan)
      if bench.changes(plan)?.isNoOp == true { return endProblems() }
    }
    let changes = bench.changes(plan)
    return [
      "not done after \(Self.applyLimit) applies: steps \(changes?.migrations.flatMap(\.changes).map(\.summary) ?? []), "
        + "waiting \(changes?.migrations.flatMap(\.waiting).map(\.message) ?? []), "
        + "diagnostics \(changes?.allDiagnostics.map(\.message) ?? [])"
    ]
  }

  private func endProblems() -> [String] {
    bench.world.state.withLock { state in
      let isFenced = (plan.sortedMigrations.first?.cutover.phase.value ?? .prepared) >= .finalized
      if way.isJoint, isFenced { state.joint?.rehearsal.checkFinalized() }
      if let failure = state.joint?.rehearsal.failure { state.violate("replication: \(failure)") }
      return state.violations
    }
  }

  /// All that has to be the same however the way was gone.
  var end: CrashEnd {
    let now = bench.loop.wallNow()
    return bench.world.state.withLock { state in
      var end = CrashEnd()
      end.disks = state.disks.mapValues { disk in disk.tags.filter { $0.key != DiskTag.stateAt } }
      for machine in state.machines.values {
        for attachment in machine.attachments { end.attached[attachment.diskID, default: 0] += 1 }
      }
      for (host, agent) in state.agents {
        end.agents[host.text] = agent.digest
        end.leases += agent.leases.values.count { $0.expiresAt > now }
        end.tombstones[host.text] = agent.tombstones.map { "\($0.session) \($0.role)" }.sorted()
        for (key, session) in agent.sessions {
          let seen = session.seen
          end.sessions["\(key.session) \(key.role)"] =
            "\(seen.stage) \(seen.authority)\(seen.hold == nil ? "" : " held") \(seen.migration) "
            + "\(seen.configuration.volumes.map(\.sizeBytes))"
        }
      }
      end.fences = state.fences
      end.archived = state.archived.keys.filter { $0.hasSuffix("manifest.json") }.sorted()
      return end
    }
  }
}

struct CrashEnd: Equatable {
  var disks: [String: [String: String]] = [:]
  var attached: [String: Int] = [:]
  var agents: [String: String] = [:]
  var leases = 0
  var tombstones: [String: [String]] = [:]
  var sessions: [String: String] = [:]
  var fences = 0
  var archived: [String] = []
}
