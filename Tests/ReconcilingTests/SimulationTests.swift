import AgentProtocol
import BlockModel
import Diagnostics
import Foundation
import MigrationModel
import Planning
import Reconciling
import Synchronization
import TestSupport
import Testing

/// Applies that crash, lose answers, repeat calls and meet each other, on a virtual clock, from a seed.
/// One seed again: `make sim SEED=n`; more time: `SIM_SECONDS=600`.
@Suite struct ReconcilerSimulation {
  /// Run however slow the machine is; more in the time that is left.
  static let leastSeeds: UInt64 = 150
  static let mostSeeds: UInt64 = 100_000
  /// More than any seed needs; one that needs more is stuck.
  static let applyLimit = 60

  @Test func everySeedEndsInTheSamePlaceAndNothingForbiddenHappens() async {
    let environment = ProcessInfo.processInfo.environment
    let chosen = environment["SIM_SEED"].flatMap { UInt64($0) }
    let limit = Double(environment["SIM_SECONDS"] ?? "") ?? 12
    let start = ContinuousClock.now
    var seed = chosen ?? 1
    var applies = 0
    while seed <= Self.leastSeeds || ContinuousClock.now - start < .seconds(limit) || seed == chosen {
      var scenario = Scenario(seed: seed)
      scenario.bench.world.state.withLock { $0.isTraced = chosen != nil }
      let problems = scenario.run()
      if chosen != nil { print(scenario.bench.world.state.withLock(\.trace).suffix(4000).joined(separator: "\n")) }
      #expect(problems == [], "seed \(seed); repeat it with: make sim SEED=\(seed)")
      applies += scenario.applies
      if !problems.isEmpty || chosen != nil || seed == Self.mostSeeds { break }
      seed += 1
      // So that tests with a time limit get their turn.
      await Task.yield()
    }
    print("simulated \(seed) plans in \(applies) applies")
  }

  /// What a manifest of the archive says that it is of.
  private struct Half: Decodable, Hashable {
    var session: String
    var role: String
    static func read(_ bytes: [UInt8]) throws -> Half { try JSONDecoder().decode(Half.self, from: Data(bytes)) }
  }

  struct Scenario {
    let seed: UInt64
    let random: SeededRandom
    var plan: MigrationPlan
    let bench: Bench
    let target: Phase
    var applies = 0
    /// Half of the plans are edited under way: migrations and volumes get other names.
    let isRenaming: Bool
    var renames = 0

    init(seed: UInt64) {
      self.seed = seed
      random = SeededRandom(seed: seed &* 7919)
      target = random.pick([Phase.cmotion, .finalized, .retired]) ?? .retired
      let isWaved = random.chance(0.4)
      let isGrouped = random.chance(0.4)
      var plan = samplePlan(
        target, count: isWaved || isGrouped ? random.within(2...3) : random.within(1...2),
        approval: random.chance(0.5) ? .manual : .automatic, withHooks: random.chance(0.8))
      if isGrouped { Self.group(&plan, isWaved: isWaved) }
      if isWaved, !isGrouped { plan.waves = Self.waves(of: plan, random) }
      if random.chance(0.6) { plan.archive = Archive(directory: "/archive") }
      // To another disk of its own host; the health checks of waves name their sources' hosts.
      if plan.waves.isEmpty, random.chance(0.25) { plan = plan.withinHost() }
      isRenaming = random.chance(0.5)
      self.plan = plan
      bench = Bench(plan, seed: seed)
      if random.chance(0.3) { bench.world.state.withLock { $0.waves.failingChecks = 1 } }
      if isGrouped, random.chance(0.4) {
        let (count, name) = (random.within(1...5), random.pick(plan.sortedMigrations)?.name)
        bench.world.state.withLock { state in
          state.swingsGivenUp = count
          state.givesUp = name
        }
      }
      if random.chance(0.3) {
        let point = random.pick(HookPoint.allCases) ?? .mount
        bench.world.state.withLock { $0.failingHooks[point.rawValue] = 1 }
      }
    }

    /// All in one group, or with waves all but the first, which goes before them.
    private static func group(_ plan: inout MigrationPlan, isWaved: Bool) {
      let names = plan.sortedMigrations.map(\.name)
      guard isWaved, names.count > 2 else {
        plan.groups = [SwingGroup(name: "g", migrations: names)]
        return
      }
      plan.groups = [SwingGroup(name: "g", migrations: Array(names.dropFirst()))]
      plan.waves = [
        Wave(name: "w0", migrations: [names[0]]), Wave(name: "w1", migrations: Array(names.dropFirst())),
      ]
    }

    /// Each migration in a wave of its own or in the last, or in none.
    private static func waves(of plan: MigrationPlan, _ random: SeededRandom) -> [Wave] {
      var waves: [Wave] = []
      for migration in plan.sortedMigrations where waves.count < 2 || random.chance(0.8) {
        if waves.count == 2, random.chance(0.5) {
          waves[1].migrations.append(migration.name)
          continue
        }
        let check = WaveHealthCheck(host: migration.source, run: "check w\(waves.count)", timeoutSeconds: 60)
        waves.append(
          Wave(
            name: "w\(waves.count)", migrations: [migration.name], bakeSeconds: random.pick([0, 0, 90, 900]) ?? 0,
            healthCheck: random.chance(0.5) ? check : nil))
      }
      return waves
    }

    mutating func run() -> [String] {
      while applies < ReconcilerSimulation.applyLimit {
        // Troubles end at some time, or nothing would.
        let isCalm = applies > 25
        let faults = isCalm ? FaultPlan() : randomFaults()
        let archiveFault = isCalm || random.chance(0.6) ? ArchiveFault.none : random.pick(ArchiveFault.allCases)
        bench.world.state.withLock { $0.archiveFault = archiveFault ?? .none }
        if isRenaming, !isCalm, random.chance(0.2) { rename() }
        guard step(faults) else { return ["everything waits for nothing"] }
        let violations = bench.world.violations
        guard violations.isEmpty else { return violations }
        let parted = settleGroups(isCalm: isCalm)
        guard parted.isEmpty else { return parted }
        // Leases of a dead run run out.
        bench.loop.skip(seconds: Double(random.within(0...200)))
        bench.help(plan)
        if isCalm || random.chance(0.3), isDone() { return endState() }
      }
      let changes = bench.changes(plan)
      return [
        "not done after \(applies) applies: \(changes?.migrations.map { entry in "\(entry.migration) \(entry.reached.word)" } ?? [])",
        "waiting \(changes?.migrations.flatMap(\.waiting).map(\.message) ?? [])",
        "steps \(changes?.migrations.flatMap(\.changes).map(\.summary) ?? [])",
        "diagnostics \(changes?.allDiagnostics.map(\.message) ?? []), moved \(plan.moved.map { "\($0.from) → \($0.to)" })",
      ]
    }

    /// One of a group may lose its destination at any time. After a run that nothing disturbs none of a group is ahead.
    private mutating func settleGroups(isCalm: Bool) -> [String] {
      guard !plan.groups.isEmpty else { return [] }
      if !isCalm, random.chance(0.15), let one = random.pick(plan.sortedMigrations) {
        let now = bench.loop.wallNow().secondsSince1970
        bench.world.state.withLock { $0.fallBack(one.name, at: now) }
      }
      guard isCalm || random.chance(0.3) else { return [] }
      applies += 1
      let run = bench.run(plan, holder: "run \(applies)c", steal: true)
      guard bench.loop.run({ await run.run() }) != nil else { return ["everything waits for nothing"] }
      return bench.world.state.withLock { $0.violations + $0.partedGroups }
    }

    private func randomFaults() -> FaultPlan {
      var faults = FaultPlan()
      if random.chance(0.6) { faults.crashAtCall = random.within(1...120) }
      if random.chance(0.5) { faults.failureChance = Double(random.below(10)) / 100 }
      if random.chance(0.5) { faults.lostAnswerChance = Double(random.below(10)) / 100 }
      if random.chance(0.5) { faults.repeatChance = Double(random.below(20)) / 100 }
      return faults
    }

    /// One apply, or two at once.
    private mutating func step(_ faults: FaultPlan) -> Bool {
      applies += 1
      let one = bench.run(plan, holder: "run \(applies)a", faults: faults)
      guard random.chance(0.25) else {
        return bench.loop.run { await one.run() } != nil
      }
      let two = bench.run(plan, holder: "run \(applies)b", faults: randomFaults(), steal: random.chance(0.2))
      let both = bench.loop.run { () -> Bool in
        async let first = one.run()
        async let second = two.run()
        _ = await (first, second)
        return true
      }
      return both != nil
    }

    /// An edit of the plan: one migration, one of its volumes, or both get another name. Once nothing is left to rename,
    /// the entries that said so may go.
    private mutating func rename() {
      if random.chance(0.3), let changes = bench.changes(plan) {
        let kinds = changes.migrations.flatMap(\.changes).map(\.action.kind)
        if !changes.hasErrors, !kinds.contains("rename") { plan.moved = [] }
      }
      guard let old = random.pick(plan.sortedMigrations) else { return }
      renames += 1
      var volume: VolumeName?
      let kind = random.below(3)
      if kind != 0 { volume = random.pick(old.volumes)?.name }
      plan = plan.renaming(
        old.name, to: kind == 1 ? nil : MigrationName("r\(renames)"), volume: volume, to: VolumeName("v\(renames)"))
      bench.world.state.withLock { $0.plan = plan }
    }

    private func isDone() -> Bool { bench.changes(plan)?.isNoOp == true }

    private func endState() -> [String] {
      let state = bench.world.state.withLock { $0 }
      var problems = state.violations
      let volumes = plan.migrations.values.flatMap(\.volumes).count
      if state.disks.count != volumes { problems.append("\(state.disks.count) disks for \(volumes) volumes") }
      let names = plan.migrations.values.flatMap { migration in
        migration.volumes.map { "\(migration.name)/\($0.name)" }
      }
      let tagged = state.disks.values.map {
        "\($0.tags[DiskTag.migration] ?? "")/\($0.tags[DiskTag.volume] ?? "")"
      }
      if names.sorted() != tagged.sorted() { problems.append("disks are \(tagged.sorted()), not \(names.sorted())") }
      if state.fullSynchronizations != plan.migrations.count {
        problems.append("\(state.fullSynchronizations) initial synchronizations")
      }
      let luns = state.machines.values.flatMap(\.attachments)
      if luns.count != volumes || Set(luns.map(\.lun)).count != volumes { problems.append("attachments: \(luns)") }
      let tags = Set(state.disks.values.compactMap { $0.tags[DiskTag.state] })
      let wanted = target == .cmotion ? "prepared" : target.rawValue
      if tags != [wanted] { problems.append("disks are tagged \(tags.sorted()), not \(wanted)") }
      let sessions = state.agents.values.flatMap { Array($0.sessions.values) }
      switch target {
      case .cmotion:
        let stages = Set(sessions.filter { $0.seen.role == .source }.map(\.seen.stage))
        if stages != [.standIn] { problems.append("sources are \(stages)") }
        if state.fences > 0 { problems.append("fenced without being asked to") }
      case .retired:
        if !sessions.isEmpty { problems.append("sessions are left") }
        if state.agents.values.contains(where: { $0.digest != nil }) { problems.append("agents are left") }
        // Kept under whatever name the migration had then; its session's own id stays the same.
        let manifests = Set(
          state.archived.filter { $0.key.hasSuffix("/manifest.json") }.compactMap { try? Half.read($0.value) }
        ).count
        let halves = plan.archive == nil ? 0 : plan.migrations.count * 2
        if manifests != halves { problems.append("the archive has \(manifests) halves of \(halves)") }
      default:
        if state.fences != plan.migrations.count { problems.append("\(state.fences) fences") }
      }
      return problems
    }
  }
}
