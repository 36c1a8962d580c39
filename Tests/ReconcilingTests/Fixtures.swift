import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Reconciling
import Synchronization
import TestSupport
import Testing

/// `count` migrations of two volumes each, from hosts of their own (or one) to one virtual machine.
func samplePlan(
  _ phase: Phase, count: Int = 1, approval: Cutover.Approval = .automatic, withHooks: Bool = true
) -> MigrationPlan {
  let azure = AzureIntegration(
    name: "azure", cloud: .public, tenantID: "t", subscriptionID: "sub", resourceGroup: "rg", location: "westeurope",
    credential: .ambient, tags: [:], position: nil)
  var hosts: [HostName: Host] = [:]
  func addHost(_ name: String, machine: String? = nil) {
    let access = SSHAccess(user: nil, port: nil, identityFile: nil, jump: nil, sudo: false)
    hosts[HostName(name)] = Host(
      name: HostName(name), address: "192.0.2.\(hosts.count + 1)", reach: .ssh(access), azureVirtualMachine: machine,
      position: nil)
  }
  addHost("cloud", machine: "vm")
  var migrations: [MigrationName: Migration] = [:]
  for index in 0..<count {
    let name = MigrationName("m\(index)")
    addHost("h\(index)")
    let volumes = ["data", "log"].map { volume in
      Volume(
        name: VolumeName(volume), device: "/dev/vg/\(name)-\(volume)", tracking: .auto,
        destination: .disk(ManagedDisk(sku: .premium, size: .auto)), position: nil)
    }
    var hooks: [HookPoint: Hook] = [:]
    for point in HookPoint.allCases where withHooks {
      hooks[point] = Hook(host: nil, run: "\(point.rawValue) {device:data}", timeoutSeconds: 60, position: nil)
    }
    migrations[name] = Migration(
      name: name, description: nil, source: HostName("h\(index)"), destination: HostName("cloud"), integration: nil,
      connection: Connection(listener: .destination, port: 4996 + index, lanes: 2, address: nil), volumes: volumes,
      iqos: IQoS(level: .moderate), linkLossTimeoutSeconds: 5, resyncIntervalSeconds: 900,
      cutover: Cutover(phase: Positioned(phase), approval: approval, hooks: hooks), position: nil)
  }
  return MigrationPlan(
    metadata: Metadata(id: PlanID("6f1c0c9e"), name: "sample"), integrations: ["azure": azure],
    attestations: Attestations(operatingSystemLicensed: true, applicationLicensed: true), hosts: hosts,
    migrations: migrations)
}

extension MigrationPlan {
  func with(phase: Phase) -> MigrationPlan {
    var copy = self
    for name in copy.migrations.keys { copy.migrations[name]?.cutover.phase = Positioned(phase) }
    return copy
  }
}

extension MigrationPlan {
  /// As a person would edit it: the new names, and `moved` beside what it has already.
  func renaming(
    _ old: MigrationName, to new: MigrationName?, volume oldVolume: VolumeName? = nil, to newVolume: VolumeName? = nil
  ) -> MigrationPlan {
    guard var migration = migrations[old] else { return self }
    var copy = self
    let name = new ?? old
    var moves: [Move] = []
    if name != old { moves.append(Move(from: Move.Name(migration: old), to: Move.Name(migration: name))) }
    migration.name = name
    if let oldVolume, let newVolume, let index = migration.volumes.firstIndex(where: { $0.name == oldVolume }) {
      migration.volumes[index].name = newVolume
      for point in migration.cutover.hooks.keys {
        let run = migration.cutover.hooks[point]?.run.replacing("{device:\(oldVolume)}", with: "{device:\(newVolume)}")
        migration.cutover.hooks[point]?.run = run ?? ""
      }
      moves.append(
        Move(
          from: Move.Name(migration: name, volume: oldVolume), to: Move.Name(migration: name, volume: newVolume)))
    }
    copy.migrations[old] = nil
    copy.migrations[name] = migration
    for index in copy.waves.indices {
      copy.waves[index].migrations = copy.waves[index].migrations.map { $0 == old ? name : $0 }
    }
    for index in copy.groups.indices {
      copy.groups[index].migrations = copy.groups[index].migrations.map { $0 == old ? name : $0 }
    }
    copy.moved += moves
    return copy
  }
}

/// Not a digest, but one text for one text.
@Sendable func fakeDigest(_ text: String) -> String {
  var hash: UInt64 = 0xcbf2_9ce4_8422_2325
  for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
  return "FAKE:" + String(hash, radix: 16)
}

final class RecordedJournal: JournalSink {
  let lines = Mutex<[String]>([])
  func append(_ line: String) async { lines.withLock { $0.append(line) } }
}

final class RecordedEvents: Sendable {
  let events = Mutex<[ProgressEvent]>([])
}

/// A world, and applies to it.
struct Bench {
  let loop: VirtualLoop
  let world: FakeWorld
  let journal = RecordedJournal()
  let recorded = RecordedEvents()

  init(_ plan: MigrationPlan, seed: UInt64 = 1) {
    loop = VirtualLoop(seed: seed)
    world = FakeWorld(plan: plan, loop: loop)
  }

  var services: RunServices {
    RunServices(
      time: loop, pause: { [loop] in await loop.pause(seconds: $0) }, journal: journal, digest: fakeDigest,
      report: { [recorded] event in recorded.events.withLock { $0.append(event) } })
  }

  func run(
    _ plan: MigrationPlan, wait: WaitPolicy = .untilReached, holder: String = "ann@host, run 1",
    faults: FaultPlan = FaultPlan(), steal: Bool = false
  ) -> ApplyRun {
    run(plan, ApplyOptions(parallelism: 4, wait: wait, stealLease: steal, holder: holder), faults: faults)
  }

  func run(_ plan: MigrationPlan, _ options: ApplyOptions, faults: FaultPlan = FaultPlan()) -> ApplyRun {
    ApplyRun(
      plan: plan, gateways: world.gateways(for: RunIdentity(faults: faults)), options: options, services: services)
  }

  func apply(
    _ plan: MigrationPlan, wait: WaitPolicy = .untilReached, holder: String = "ann@host, run 1",
    faults: FaultPlan = FaultPlan(), steal: Bool = false
  ) -> ApplySummary? {
    let run = run(plan, wait: wait, holder: holder, faults: faults, steal: steal)
    return loop.run { await run.run() }
  }

  func operations(_ plan: MigrationPlan) -> MigrationOperations {
    MigrationOperations(
      plan: plan, gateways: world.gateways(for: RunIdentity(faults: FaultPlan())), services: services, who: "ann@host")
  }

  func changes(_ plan: MigrationPlan) -> ChangeSet? {
    let observer = ObserveRun(
      plan: plan, gateways: world.gateways(for: RunIdentity(faults: FaultPlan())), services: services)
    return loop.run { await observer.observe() }.map {
      diff(plan, $0, options: PlanningOptions(now: loop.wallNow(), digest: fakeDigest))
    }
  }

  /// What a person would do: approve what waits, resume what is held.
  func help(_ plan: MigrationPlan) {
    guard let changes = changes(plan) else { return }
    let operations = operations(plan)
    for entry in changes.migrations {
      for waiting in entry.waiting {
        _ = loop.run { () -> Bool in
          do throws(GatewayError) {
            switch waiting.reason {
            case .approval: try await operations.approve(entry.migration, phase: .finalized, expiresInSeconds: 1e6)
            case .hold: _ = try await operations.resume(entry.migration)
            case .window, .confirmation, .moves, .saved, .guardrail, .unreviewed, .wave, .group: break
            }
            return true
          } catch {
            return false
          }
        }
      }
    }
  }
}

/// What went wrong or is left, for whoever reads a failed expectation.
func brief(_ summary: ApplySummary?) -> Comment {
  let failures = summary?.failures.map { "\($0.step): \($0.error.message)" } ?? []
  let left = summary?.remaining.migrations.flatMap(\.changes).map(\.action.kind) ?? []
  let errors = summary?.remaining.allDiagnostics.map(\.message) ?? []
  return "failures \(failures), left \(left), errors \(errors)"
}
