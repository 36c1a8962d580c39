import ARMClient
import ARMEmulator
import BlockModel
import Foundation
import LinuxPlatform
import MigrationModel
import Planning
import Reconciling
import Synchronization
import TestSupport
import Testing

/// The client against the emulator in virtual time, with everything going wrong on the way: thousands of seeds.
@Suite(.timeLimit(.minutes(5))) struct SimulatedFaultTests {
  static let batches = 20
  static let seedsPerBatch = 100
  static let volumes = ["data", "log", "temp"]

  static let faults =
    FaultRunsTests.faults + [
      #"{"match": "attachdetach", "operation": {"code": "InternalExecutionError", "keeps": 1}}"#,
      #"{"match": "put /subscriptions", "operation": {"code": "InternalExecutionError"}}"#,
      #"{"match": "put /subscriptions", "operation": {"code": "OperationPreempted"}}"#,
      #"{"match": "/subscriptions", "expireTokens": true}"#, #"{"match": "/subscriptions", "delay": 90}"#,
      #"{"match": "attachdetach", "delay": 90}"#, #"{"match": "put /subscriptions", "status": 500}"#,
      #"{"match": "/subscriptions", "status": 429, "retryAfter": 300}"#,
      #"{"match": "operations", "status": 429, "retryAfter": 40, "times": 2}"#,
      #"{"match": "attachdetach", "status": 400, "code": "InvalidParameter", "message": "A disk at LUN 0 already exists."}"#,
      #"{"match": "attachdetach", "status": 409, "code": "AttachDiskWhileBeingDetached"}"#,
    ]

  /// `SIM_SEED=n` runs that seed alone.
  static let chosen = ProcessInfo.processInfo.environment["SIM_SEED"].flatMap(UInt64.init)

  /// The loop takes its thread for itself: it must not be one of those that other tests share.
  @Test(.serialized, arguments: 0..<batches) func noFaultMakesASecondDiskSharesALUNOrHangs(batch: Int) async throws {
    let seeds = batch * Self.seedsPerBatch..<(batch + 1) * Self.seedsPerBatch
    try await onBlockingThread {
      if let seed = Self.chosen {
        if batch == 0 { Self.run(seed: seed) }
        return
      }
      for seed in seeds { Self.run(seed: UInt64(seed)) }
    }
  }

  static func run(seed: UInt64) {
    let world = SimulatedWorld(
      seed: seed, machines: [EmulatorConfiguration.Machine(name: "erp-db")], throttling: true)
    let random = SeededRandom(seed: seed &+ 7)
    for _ in 0..<random.below(8) { if let fault = random.pick(faults) { #expect(world.azure.fault(fault)) } }
    let killAt = random.chance(0.3) ? Double(random.below(30)) : nil
    let longest = Largest()
    let ended: Bool? = world.loop.run {
      // Two runs at once, as when somebody starts a second apply; each may be told to come back, and one may be killed.
      await withTaskGroup(of: Void.self) { group in
        for _ in 0..<2 { group.addTask { await migrate(world, longest) } }
        if let killAt {
          group.addTask { await world.loop.pause(seconds: killAt) }
          // The pause, or a run that was faster: either way the rest is abandoned in the middle.
          await group.next()
          group.cancelAll()
        }
      }
      // The next run finds what the others began.
      world.azure.clearFaults()
      return await migrate(world, longest)
    }
    #expect(ended == true, "seed \(seed): the last run reaches its end")
    #expect(world.azure.disks == volumes, "seed \(seed): one disk for each volume")
    let attached = world.azure.attached(to: "erp-db")
    #expect(attached.map(\.disk).sorted() == volumes, "seed \(seed): each is attached once")
    #expect(Set(attached.map(\.lun)).count == volumes.count, "seed \(seed): at a LUN of its own")
    let calls = Double(volumes.count + 1)
    let limit = calls * (AzureLimits.callSeconds + HTTPLimits.requestSeconds)
    #expect(longest.value <= limit, "seed \(seed): no call outlives its deadline")
  }

  @discardableResult
  private static func migrate(_ world: SimulatedWorld, _ longest: Largest) async -> Bool {
    let began = world.loop.monotonicNow()
    defer { longest.note(world.loop.monotonicNow().seconds(since: began)) }
    guard let gateway = try? world.gateway() else { return false }
    var disks: [(diskID: String, caching: ManagedDisk.Caching)] = []
    for volume in volumes {
      let request = World.request(volume, tags: World.tags(volume: volume))
      guard let disk = try? await gateway.ensureDisk(request) else { return false }
      disks.append((disk.resourceID, .none))
    }
    return (try? await gateway.attach(disks, to: "erp-db"))?.count == volumes.count
  }

  @Test func sixteenDisksAreAttachedByAtMostThreeWritesOfTheMachine() async throws {
    try await onBlockingThread { Self.attachSixteen() }
  }

  private static func attachSixteen() {
    let machine = EmulatorConfiguration.Machine(name: "erp-db", size: "Standard_D8s_v5")
    let world = SimulatedWorld(seed: 3, machines: [machine], throttling: true)
    let attached: Int? = world.loop.run {
      guard let gateway = try? world.gateway() else { return 0 }
      var disks: [(diskID: String, caching: ManagedDisk.Caching)] = []
      for number in 0..<16 {
        let request = World.request("d\(number)", tags: World.tags(volume: "d\(number)"))
        guard let disk = try? await gateway.ensureDisk(request) else { return 0 }
        disks.append((disk.resourceID, .none))
      }
      return (try? await gateway.attach(disks, to: "erp-db"))?.count ?? 0
    }
    #expect(attached == 16)
    let writes = world.azure.requests("virtualMachines").filter { !$0.hasPrefix("GET") }
    #expect(writes == ["POST 200"])
  }

  /// The buckets allow 200 writes at once and 10 a second after that; every disk is one write, every machine one more.
  @Test func aThousandDisksGoAboutAsFastAsTheBucketsAllow() async throws {
    try await onBlockingThread { Self.attachAThousand() }
  }

  private static func attachAThousand() {
    let (machineCount, disksPerMachine) = (100, 10)
    let world = SimulatedWorld(
      seed: 11,
      machines: (0..<machineCount).map { EmulatorConfiguration.Machine(name: "vm\($0)", size: "Standard_D8s_v5") },
      throttling: true)
    let waits = Waits()
    let done = Largest()
    let ended: Bool? = world.loop.run {
      guard let gateway = try? world.gateway(waits: waits) else { return false }
      await withTaskGroup(of: Void.self) { group in
        for machine in 0..<machineCount {
          group.addTask {
            let disks = await withTaskGroup(of: String?.self) { group in
              for number in 0..<disksPerMachine {
                let name = "vm\(machine)-d\(number)"
                group.addTask {
                  try? await gateway.ensureDisk(World.request(name, tags: World.tags(volume: name))).resourceID
                }
              }
              return await group.reduce(into: [String]()) { ids, id in if let id { ids.append(id) } }
            }
            guard let attached = try? await gateway.attach(disks.map { ($0, .none) }, to: "vm\(machine)") else {
              return
            }
            done.add(Double(attached.count))
          }
        }
      }
      return true
    }
    #expect(ended == true)
    #expect(done.value == Double(machineCount * disksPerMachine))
    let seconds = world.loop.wallNow().secondsSince1970 - VirtualLoop.start.secondsSince1970
    let writes = Double(machineCount * disksPerMachine + machineCount)
    let allowed = (writes - 200) / 10
    print(
      "1,000 disks over 100 machines: \(Int(seconds)) s of Azure's time, the buckets allow \(Int(allowed)) s, "
        + "\(waits.all.count) waits shown")
    #expect(seconds <= allowed * 1.3)
    // Nobody is left wondering: the bucket that is empty is named before the service has to refuse.
    #expect(waits.all.contains { $0.description.contains(" s (subscription writes bucket empty, to create disk '") })
    let all = world.azure.requests("/subscriptions/")
    #expect(all.filter { $0.hasSuffix(" 429") }.count <= all.count / 50, "the service hardly ever has to refuse")
  }
}

/// A number that many tasks raise.
private final class Largest: Sendable {
  private let number = Mutex(0.0)
  var value: Double { number.withLock { $0 } }
  func note(_ other: Double) { number.withLock { $0 = max($0, other) } }
  func add(_ more: Double) { number.withLock { $0 += more } }
}
