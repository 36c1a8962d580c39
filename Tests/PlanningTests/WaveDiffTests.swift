import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import TestSupport
import Testing

/// Waves against every mix of what earlier ones may look like.
@Suite struct WaveDiffTests {
  /// One migration as it was made up, and what that means for those after it.
  private struct Member {
    var target: Phase
    var stage: SessionStage
    /// Seconds that it has been in its phase; nil: nobody noted.
    var age: Double?
    var isHeld: Bool
    var isUnwell: Bool

    var isInPhase: Bool {
      switch target {
      case .prepared: stage == .prepared
      case .synchronized: stage == .tracking
      default: stage == .standIn
      }
    }
    func isDone(bakeSeconds: Double) -> Bool {
      isInPhase && !isHeld && !isUnwell && (bakeSeconds == 0 || age.map { $0 >= bakeSeconds } ?? false)
    }
  }

  private struct World {
    var plan = samplePlan(.cmotion)
    var members: [MigrationName: Member] = [:]
    var observation: Observation

    init(_ random: SeededRandom) {
      let sample = plan.erp
      plan.migrations = [:]
      var found: [HostName: HostObservation] = [:]
      var clouds: [String: CloudObservation] = [:]
      for index in 0..<random.within(2...7) {
        var member = Member(
          target: random.pick([.synchronized, .cmotion, .cmotion, .cmotion]) ?? .cmotion,
          stage: random.pick([.prepared, .tracking, .tracking, .standIn, .standIn, .standIn]) ?? .tracking,
          age: random.chance(0.9) ? Double(random.within(0...400)) : nil, isHeld: random.chance(0.08),
          isUnwell: random.chance(0.08))
        // Only the time of a swing may be unknown.
        if member.stage != .standIn { member.age = member.age ?? 50 }
        let made = member
        let name = MigrationName("m\(index)")
        // Each is made as the sample is, with hosts of its own.
        var own = samplePlan(member.target)
        let world = liveObservation(own, made.stage) { seen in
          let since = made.age.map { now.adding(seconds: -$0) }
          if seen.role == .source, made.stage == .standIn { seen.standInSince = since }
          if made.stage != .prepared { seen.initialSynchronizationAt = since }
          if made.isHeld { seen.hold = Hold(cause: .paused, who: "ann", why: "wait", at: now) }
          if made.isUnwell { seen.lastError = AgentFault(.failed, "disk on fire") }
        }
        own.erp.name = name
        own.erp.source = HostName("s\(index)")
        own.erp.destination = HostName("d\(index)")
        for (old, new) in [(sample.source, own.erp.source), (sample.destination, own.erp.destination)] {
          guard var host = own.hosts[old] else { continue }
          host.name = new
          if host.azureVirtualMachine != nil { host.azureVirtualMachine = "vm\(index)" }
          plan.hosts[new] = host
          found[new] = Self.renamed(world.hosts[old], name, plan.metadata.id)
        }
        var cloud = clouds["azure"] ?? CloudObservation()
        cloud.machines["vm\(index)"] = world.clouds["azure"]?.machines["vm"]
        for var disk in world.clouds["azure"]?.disks ?? [] {
          disk.tags[DiskTag.migration] = name.text
          disk.resourceID += "-\(index)"
          cloud.machines["vm\(index)"]?.attachments = [CloudAttachment(lun: 0, diskID: disk.resourceID)]
          cloud.disks.append(disk)
        }
        clouds["azure"] = cloud
        plan.migrations[name] = own.erp
        members[name] = made
      }
      observation = bareObservation(plan)
      observation.hosts = found
      observation.clouds = clouds
      for name in plan.migrations.keys.sorted() {
        if plan.waves.isEmpty || random.chance(0.4) {
          plan.waves.append(
            Wave(
              name: "w\(plan.waves.count)", migrations: [], bakeSeconds: random.pick([0, 100, 300]) ?? 0,
              healthCheck: random.chance(0.5)
                ? WaveHealthCheck(host: HostName("s0"), run: "true", timeoutSeconds: 9) : nil))
        }
        if plan.waves.last?.migrations.isEmpty == true || random.chance(0.9) {
          plan.waves[plan.waves.count - 1].migrations.append(name)
        }
      }
    }

    private static func renamed(
      _ host: HostObservation?, _ name: MigrationName, _ plan: PlanID
    ) -> HostObservation? {
      var copy = host
      for index in copy?.agent?.sessions.indices ?? 0..<0 {
        copy?.agent?.sessions[index].migration = name
        copy?.agent?.sessions[index].session = SessionID(plan: plan, migration: name)
      }
      return copy
    }

    func areDone(before wave: Int) -> Bool {
      plan.waves[..<wave].allSatisfy { earlier in
        earlier.migrations.allSatisfy { members[$0]?.isDone(bakeSeconds: earlier.bakeSeconds) ?? false }
      }
    }
  }

  @Test("a swing can start where all the waves before are done, and only there", arguments: 0..<400)
  func swingsWaitForTheWavesBefore(_ seed: Int) {
    let world = World(SeededRandom(seed: UInt64(seed)))
    let found = changes(world.plan, world.observation)
    for entry in found.migrations {
      guard let member = world.members[entry.migration], !entry.diagnostics.hasErrors else {
        Issue.record("seed \(seed): \(entry.migration) can't be planned: \(entry.diagnostics.map(\.message))")
        continue
      }
      let wave = world.plan.waves.firstIndex { $0.migrations.contains(entry.migration) } ?? 0
      let isOpen = world.areDone(before: wave)
      let waits = entry.waiting.contains { if case .wave = $0.reason { true } else { false } }
      let swings = entry.changes.contains { $0.action == .swing(entry.migration) }
      #expect(waits == (swings && !isOpen), "seed \(seed): \(entry.migration) \(entry.waiting)")
      let starts = entry.actionable.map(\.action.kind)
      // One that has to be synchronized first is looked at again after it, but where it waits for nobody.
      let isNext = member.stage == .tracking || wave == 0
      #expect(starts.contains("swing") == (swings && isOpen && !member.isHeld && isNext), "seed \(seed)")
      let isChecked = wave > 0 && world.plan.waves[wave - 1].healthCheck != nil
      #expect(entry.changes.contains { $0.action.kind == "checkWave" } == (swings && isChecked), "seed \(seed)")
      if starts.contains("swing"), isChecked { #expect(starts.suffix(2) == ["checkWave", "swing"], "seed \(seed)") }
      // What leads back, and what nobody notices, never waits for a wave.
      for change in entry.changes where ["revert", "synchronize", "openTap"].contains(change.action.kind) {
        guard let index = change.waitsFor else { continue }
        if case .wave = entry.waiting[index].reason { Issue.record("seed \(seed): \(change.summary)") }
      }
    }
  }

  @Test("what is looked at alone waits all the same, for the same reason", arguments: 0..<100)
  func alone(_ seed: Int) {
    let world = World(SeededRandom(seed: UInt64(seed)))
    for entry in changes(world.plan, world.observation).migrations {
      let options = PlanningOptions(only: [entry.migration], now: now, digest: fakeDigest)
      #expect(diff(world.plan, world.observation, options: options).migrations == [entry], "seed \(seed)")
      let closed = closedWave(
        before: entry.migration, in: world.plan, world.observation,
        options: PlanningOptions(now: now, digest: fakeDigest))
      let said = entry.waiting.first { if case .wave = $0.reason { true } else { false } }
      if let said { #expect(closed == said, "seed \(seed)") }
    }
  }

  @Test func theCheckIsOneNodeThatAllItsWaitersNeed() throws {
    for seed in 0..<200 {
      let world = World(SeededRandom(seed: UInt64(seed)))
      let found = changes(world.plan, world.observation)
      let graph = schedule(found, plan: world.plan)
      for (index, node) in graph.nodes.enumerated() {
        if case .checkWave = node.action {
          #expect(graph.nodes.count { $0.action == node.action } == 1)
          #expect(node.after.allSatisfy { if case .acquireLease = graph.nodes[$0].action { true } else { false } })
        }
        guard case .swing(let name) = node.action,
          let entry = found.migrations.first(where: { $0.migration == name }),
          let check = entry.changes.first(where: { $0.action.kind == "checkWave" })
        else { continue }
        #expect(node.requires.contains { graph.nodes[$0].action == check.action }, "seed \(seed), node \(index)")
      }
    }
  }

  @Test("synchronizing takes days: the waves before are looked at again when it is over")
  func looksAgainAfterSynchronizing() throws {
    for seed in 0..<200 {
      let world = World(SeededRandom(seed: UInt64(seed)))
      for entry in changes(world.plan, world.observation).migrations where !entry.diagnostics.hasErrors {
        let wave = world.plan.waves.firstIndex { $0.migrations.contains(entry.migration) } ?? 0
        let kinds = entry.actionable.map(\.action.kind)
        if wave > 0, kinds.contains("synchronize") { #expect(!kinds.contains("swing"), "seed \(seed)") }
      }
    }
  }

  @Test func timesOnTagsComeBack() {
    for seconds in [0, 1_795_406_400, 1_795_406_400.25, 4_102_444_799.9] {
      let time = WallTime(secondsSince1970: seconds)
      #expect(wallTime(stamped: stamped(time))?.secondsSince1970 == seconds.rounded(.up))
    }
    #expect(wallTime(stamped: "yesterday") == nil)
  }

  @Test func readySaysWhatTheWaveWaitsFor() throws {
    var world = World(SeededRandom(seed: 3))
    let names = world.plan.migrations.keys.sorted()
    world.plan.waves = [
      Wave(name: "pilot", migrations: [names[0]], bakeSeconds: 1e6), Wave(name: "rest", migrations: [names[1]]),
    ]
    world.plan.migrations[names[1]]?.cutover.phase = Positioned(.finalized)
    let migration = try #require(world.plan.migrations[names[1]])
    let checks = readiness(
      of: migration, in: world.plan, world.observation, options: PlanningOptions(now: now, digest: fakeDigest))
    let wave = try #require(checks.first { $0.name == "wave" })
    #expect(!wave.isReady)
    #expect(wave.finding.contains("wave 'rest' waits for 'pilot'"))
  }
}
