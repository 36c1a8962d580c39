import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import TestSupport
import Testing

/// Groups against every mix of what their migrations may look like.
@Suite struct GroupDiffTests {
  private struct Member {
    var stage: SessionStage
    var isHeld: Bool
    /// Held by a person, not after a failure.
    var isPaused: Bool
    var isUnwell: Bool
    var isAhead: Bool { [.swinging, .standIn, .tapClosed, .proven].contains(stage) }
    /// At the source, and able to swing at once.
    var isAble: Bool { stage == .tracking && !isHeld && !isUnwell }
    /// It is where the others may go.
    var lets: Bool { stage == .proven || isAhead && !isUnwell || isAble }
  }

  private struct World {
    var plan: MigrationPlan
    var members: [MigrationName: Member] = [:]
    var observation: Observation

    init(_ random: SeededRandom, target: Phase) {
      plan = samplePlan(target)
      let base = plan.erp
      plan.migrations = [:]
      var found: [HostName: HostObservation] = [:]
      var cloud = CloudObservation()
      for index in 0..<random.within(2...4) {
        let isHeld = random.chance(0.2)
        let member = Member(
          stage: random.pick([.prepared, .tracking, .tracking, .tracking, .standIn, .standIn, .proven]) ?? .tracking,
          isHeld: isHeld, isPaused: isHeld && random.chance(0.5), isUnwell: random.chance(0.1))
        let name = MigrationName("m\(index)")
        var own = samplePlan(target)
        own.erp.cutover.approval = .automatic
        let world = liveObservation(own, member.stage) { seen in
          if member.stage == .prepared { seen.initialSynchronizationAt = nil }
          if member.isHeld {
            seen.hold = Hold(cause: member.isPaused ? .paused : .failure, who: "ann", why: "link lost", at: now)
          }
          if member.isUnwell { seen.health = .stalled(why: "disk on fire") }
          if member.stage == .proven { seen.authority = .standIn }
        }
        own.erp.name = name
        own.erp.source = HostName("s\(index)")
        own.erp.destination = HostName("d\(index)")
        for (old, new) in [(base.source, own.erp.source), (base.destination, own.erp.destination)] {
          guard var host = own.hosts[old] else { continue }
          host.name = new
          if host.azureVirtualMachine != nil { host.azureVirtualMachine = "vm\(index)" }
          plan.hosts[new] = host
          var seen = world.hosts[old]
          for place in seen?.agent?.sessions.indices ?? 0..<0 {
            seen?.agent?.sessions[place].migration = name
            seen?.agent?.sessions[place].session = SessionID(plan: plan.metadata.id, migration: name)
          }
          found[new] = seen
        }
        cloud.machines["vm\(index)"] = world.clouds["azure"]?.machines["vm"]
        for var disk in world.clouds["azure"]?.disks ?? [] {
          disk.tags[DiskTag.migration] = name.text
          disk.resourceID += "-\(index)"
          cloud.machines["vm\(index)"]?.attachments = [CloudAttachment(lun: 0, diskID: disk.resourceID)]
          cloud.disks.append(disk)
        }
        plan.migrations[name] = own.erp
        members[name] = member
      }
      plan.groups = [SwingGroup(name: "all", migrations: plan.migrations.keys.sorted())]
      observation = bareObservation(plan)
      observation.hosts = found
      observation.clouds = ["azure": cloud]
      for migration in plan.sortedMigrations { configure(migration) }
    }

    /// As the agents hold it, so that nothing is left to configure.
    private mutating func configure(_ migration: Migration) {
      guard let inputs = MigrationFacts(migration, in: plan, observation).sessionInputs(),
        let halves = sessionConfigurations(
          for: migration, in: plan, inputs: inputs, overwrite: [], at: now, digest: fakeDigest)
      else { return }
      for (host, configuration) in [(migration.source, halves.source), (migration.destination, halves.destination)] {
        for place in observation.hosts[host]?.agent?.sessions.indices ?? 0..<0 {
          observation.hosts[host]?.agent?.sessions[place].configuration = configuration
          observation.hosts[host]?.agent?.sessions[place].configurationDigest = configuration.configurationDigest
        }
      }
    }
  }

  private static func starts(_ entry: MigrationChanges) -> [String] { entry.actionable.map(\.action.kind) }

  @Test(
    "a swing starts where all can swing, and only there; where one can't, those ahead come back", arguments: 0..<400)
  func allOrNone(_ seed: Int) {
    let world = World(SeededRandom(seed: UInt64(seed)), target: .cmotion)
    let found = changes(world.plan, world.observation)
    let members = world.members
    let isParted = members.values.contains(where: \.isAhead) && members.values.contains { !$0.isAhead && !$0.isAble }
    for entry in found.migrations {
      guard let member = members[entry.migration], !entry.diagnostics.hasErrors else {
        Issue.record("seed \(seed): \(entry.migration) can't be planned: \(entry.diagnostics.map(\.message))")
        continue
      }
      let starts = Self.starts(entry)
      let others = members.filter { $0.key != entry.migration }.values
      #expect(
        starts.contains("swing") == (member.isAble && others.allSatisfy(\.lets)),
        "seed \(seed): \(entry.migration) \(member): \(starts), \(entry.waiting.map(\.message))")
      if starts.contains("swing") { #expect(starts == ["checkGroup.swing", "swing"], "seed \(seed)") }
      #expect(
        entry.goesBackWithGroup == (member.isAhead && isParted && !member.isPaused),
        "seed \(seed): \(entry.migration) \(member): \(starts)")
      if member.isAble, !starts.contains("swing") {
        #expect(entry.waiting.contains { if case .group("all", _) = $0.reason { true } else { false } }, "seed \(seed)")
      }
    }
  }

  @Test func noSourceIsFencedBeforeAllCopiesAreProven() {
    var fences = 0
    for seed in 0..<400 {
      let world = World(SeededRandom(seed: UInt64(seed)), target: .finalized)
      let graph = schedule(changes(world.plan, world.observation), plan: world.plan)
      for (index, node) in graph.nodes.enumerated() {
        guard case .fence(let name) = node.action else { continue }
        fences += 1
        let before = Self.requirements(of: index, in: graph)
        for (other, member) in world.members where member.stage != .proven {
          #expect(
            before.contains { graph.nodes[$0].action == .prove(other) },
            "seed \(seed): \(name) is fenced though \(other) at \(member.stage) is not proven before")
        }
        #expect(before.contains { graph.nodes[$0].action == .checkGroup("all", .fence) }, "seed \(seed)")
      }
    }
    #expect(fences > 20, "the worlds hardly ever come that far: \(fences)")
  }

  private static func requirements(of node: Int, in graph: ActionGraph) -> Set<Int> {
    var found: Set<Int> = []
    var open = graph.nodes[node].requires
    while let next = open.popLast() {
      if found.insert(next).inserted { open += graph.nodes[next].requires }
    }
    return found
  }

  @Test("what is looked at alone waits for the others all the same", arguments: 0..<100)
  func alone(_ seed: Int) {
    let world = World(SeededRandom(seed: UInt64(seed)), target: .cmotion)
    for entry in changes(world.plan, world.observation).migrations {
      let options = PlanningOptions(only: [entry.migration], now: now, digest: fakeDigest)
      #expect(diff(world.plan, world.observation, options: options).migrations == [entry], "seed \(seed)")
    }
  }

  @Test("one of which a step failed in this run is not waited for: the others come back with its reason")
  func stuckInThisRun() throws {
    let worlds = (0..<500).lazy.map { World(SeededRandom(seed: $0), target: .cmotion) }
    let world = try #require(
      worlds.first { world in
        world.members.values.allSatisfy { $0.isAble || $0.stage == .standIn && !$0.isHeld && !$0.isUnwell }
          && Set(world.members.values.map(\.stage)).count > 1
      })
    let name = try #require(world.members.first { $0.value.isAble }?.key)
    let options = PlanningOptions(stuck: [name: "the agent said no"], now: now, digest: fakeDigest)
    let found = diff(world.plan, world.observation, options: options)
    for entry in found.migrations where world.members[entry.migration]?.isAhead == true {
      #expect(entry.goesBackWithGroup)
      #expect(entry.changes.last?.why == "group 'all' goes together: \(name): the agent said no")
    }
    #expect(!found.migrations.contains { Self.starts($0).contains("swing") })
  }

  @Test func shardsAndRelativesKeepAGroupWhole() throws {
    let world = World(SeededRandom(seed: 2), target: .cmotion)
    let names = Set(world.plan.migrations.keys)
    let one = try #require(names.min())
    #expect(world.plan.withRelatives([one]) == names)
    #expect(world.plan.withRelatives(nil) == nil)
    for count in 1...7 { #expect(Set(names.map { world.plan.shard(of: $0, count: count) }).count == 1) }
  }

  @Test func readySaysWhomItWaitsFor() throws {
    var world = World(SeededRandom(seed: 3), target: .cmotion)
    let names = world.plan.migrations.keys.sorted()
    for host in world.observation.hosts.keys where host == HostName("s0") || host == HostName("d0") {
      for index in world.observation.hosts[host]?.agent?.sessions.indices ?? 0..<0 {
        world.observation.hosts[host]?.agent?.sessions[index].stage = .tracking
        world.observation.hosts[host]?.agent?.sessions[index].authority = .source
        world.observation.hosts[host]?.agent?.sessions[index].initialSynchronizationAt = now
        world.observation.hosts[host]?.agent?.sessions[index].health = .tracking(lagBytes: 0, lagSeconds: 0)
        world.observation.hosts[host]?.agent?.sessions[index].hold = nil
      }
    }
    for index in world.observation.hosts[HostName("s1")]?.agent?.sessions.indices ?? 0..<0 {
      world.observation.hosts[HostName("s1")]?.agent?.sessions[index].stage = .tracking
      world.observation.hosts[HostName("s1")]?.agent?.sessions[index].initialSynchronizationAt = now
      world.observation.hosts[HostName("s1")]?.agent?.sessions[index].hold = Hold(
        cause: .paused, who: "ann", why: "wait", at: now)
    }
    let migration = try #require(world.plan.migrations[names[0]])
    let checks = readiness(
      of: migration, in: world.plan, world.observation, options: PlanningOptions(now: now, digest: fakeDigest))
    let group = try #require(checks.first { $0.name == "group" })
    #expect(!group.isReady)
    #expect(group.finding.contains("group 'all' swings together: m1 is held (paused) by ann: wait"), "\(group)")
  }
}
