import AgentProtocol
package import BlockModel
import Diagnostics
package import MigrationModel

/// Migrations that swing together, or none of them. None swings before all can, none stops its application for finalize
/// before all may, and none is fenced before all are proven: until then the others wait, and say for whom. Where some went
/// ahead and another can't follow, they are taken back and held. Pure.
///
/// Once one is past the fence there is only one way for all: from then on nothing waits and nothing is taken back.
struct GroupDiff {
  private let plan: MigrationPlan
  private let observation: Observation
  private let options: PlanningOptions
  /// Of those that the change set is about; the others' are gathered where they are needed.
  private let facts: [MigrationName: MigrationFacts]
  private let own: OwnDisks

  init(
    _ plan: MigrationPlan, _ observation: Observation, _ options: PlanningOptions,
    _ facts: [MigrationName: MigrationFacts], _ own: OwnDisks
  ) {
    self.plan = plan
    self.observation = observation
    self.options = options
    self.facts = facts
    self.own = own
  }

  /// After whatever else holds a migration back: one that is held holds its group.
  func hold(_ entries: inout [MigrationChanges]) {
    guard !plan.groups.isEmpty else { return }
    var places: [MigrationName: Int] = [:]
    for (index, entry) in entries.enumerated() { places[entry.migration] = index }
    for group in plan.groups where group.migrations.contains(where: { places[$0] != nil }) {
      var members = group.migrations.sorted().compactMap { name in
        member(name, places[name].map { entries[$0] })
      }
      guard !members.contains(where: { $0.standing == .committed }) else { continue }
      shareDeadline(&members)
      if let obstacle = obstacleToStaying(members) {
        takeBack(&members, group, obstacle)
      } else {
        for barrier in GroupBarrier.allCases { close(barrier, &members, group) }
      }
      for member in members {
        if let place = places[member.name] { entries[place] = member.entry }
      }
    }
  }

  private func member(_ name: MigrationName, _ entry: MigrationChanges?) -> GroupMember? {
    guard let migration = plan.migrations[name] else { return nil }
    let facts = facts[name] ?? MigrationFacts(migration, in: plan, observation, own)
    if let entry { return GroupMember(facts, entry, options) }
    var builder = MigrationDiff(facts, shippedAgentDigest: observation.shippedAgentDigest, options: options)
    return GroupMember(facts, builder.build(), options)
  }

  /// The agents take each swing back by themselves; the group is no longer whole when the first of them does.
  private func shareDeadline(_ members: inout [GroupMember]) {
    guard let earliest = members.compactMap({ $0.facts.sourceSession?.confirmBy }).min() else { return }
    for index in members.indices {
      for wait in members[index].entry.waiting.indices {
        guard case .confirmation = members[index].entry.waiting[wait].reason else { continue }
        members[index].entry.waiting[wait].reason = .confirmation(by: earliest)
      }
    }
  }

  // MARK: All wait

  private func close(_ barrier: GroupBarrier, _ members: inout [GroupMember], _ group: SwingGroup) {
    let obstacles = members.map { $0.obstacle(to: barrier) }
    for index in members.indices {
      guard let first = members[index].first(behind: barrier) else { continue }
      let own = obstacles[index]
      let others = obstacles.indices.filter { $0 != index }.compactMap { obstacles[$0] }
      var inTheWay: [GroupObstacle]
      switch own?.isPassing {
      case nil: inTheWay = others
      // Its own way isn't at its end: what the others are still on is no news.
      case true?: inTheWay = others.filter { !$0.isPassing }
      case false?: inTheWay = [own].compactMap { $0 } + others.filter { !$0.isPassing }
      }
      inTheWay.sort { !$0.isPassing && $1.isPassing }
      var start = members[index].addCheck(of: group, at: first, barrier)
      // One that nobody sees may be past the fence: then nothing of finalize may fail and be taken back.
      if barrier == .fence, members.contains(where: { $0.standing == .unseen }) {
        start = members[index].entry.changes.firstIndex { $0.action.isOfFinalize } ?? start
      }
      if barrier != .fence, members[index].hasSteps(before: start) {
        members[index].entry.lookAgainAfter = min(members[index].entry.lookAgainAfter ?? start, start)
      }
      guard members[index].entry.changes[start].waitsFor == nil, !inTheWay.isEmpty else { continue }
      members[index].entry.hold(from: start, waiting(group, barrier, inTheWay))
    }
  }

  private func waiting(_ group: SwingGroup, _ barrier: GroupBarrier, _ obstacles: [GroupObstacle]) -> Waiting {
    let shownLimit = 3
    var text = obstacles.prefix(shownLimit).map(\.text).joined(separator: "; ")
    if obstacles.count > shownLimit { text += "; and \(obstacles.count - shownLimit) more" }
    return Waiting(
      reason: .group(group.name, obstacles.first?.migration ?? MigrationName("")),
      message: "group '\(group.name)' \(barrier.words): \(text)", advice: obstacles.first?.advice ?? "")
  }

  // MARK: All go back

  /// Why those that went ahead can't stay there; nil where none did, or all may still follow. One that nobody could see
  /// may have swung as well: it keeps the others from going on, and takes nobody back.
  private func obstacleToStaying(_ members: [GroupMember]) -> GroupObstacle? {
    guard members.contains(where: \.isAhead), members.allSatisfy({ $0.entry.target >= .cmotion }) else { return nil }
    for member in members {
      if member.standing == .before, let obstacle = member.obstacle(to: .swing),
        !obstacle.isPassing || member.facts.sourceSession?.initialSynchronizationAt == nil
      {
        return obstacle
      }
      if member.facts.sourceStage == .swinging, let stuck = member.stuck { return stuck }
    }
    return nil
  }

  private func takeBack(_ members: inout [GroupMember], _ group: SwingGroup, _ obstacle: GroupObstacle) {
    let why = "group '\(group.name)' goes together: \(obstacle.text)"
    for index in members.indices {
      if members[index].isAhead {
        members[index].goBack(why)
      } else if let first = members[index].first(behind: .swing) {
        let start = members[index].addCheck(of: group, at: first, .swing)
        members[index].entry.hold(from: start, waiting(group, .swing, [obstacle]))
      }
    }
  }
}

/// One migration of a group as it stands, and what is to be done for it.
struct GroupMember {
  enum Standing {
    /// Its source's agent could not be asked.
    case unseen
    /// Nothing has begun that the others would have to follow.
    case before
    case swung
    /// The application is stopped, or the tap closed.
    case finalizing
    /// The source is fenced, or was.
    case committed
  }

  let facts: MigrationFacts
  let standing: Standing
  var entry: MigrationChanges
  /// Why a step of it is not tried again in this run.
  let stuck: GroupObstacle?

  var name: MigrationName { entry.migration }
  /// The others have to follow, or it has to come back.
  var isAhead: Bool { standing == .swung || standing == .finalizing }

  init(_ facts: MigrationFacts, _ entry: MigrationChanges, _ options: PlanningOptions) {
    self.facts = facts
    self.entry = entry
    standing = Self.standing(facts, entry, options)
    stuck = options.stuck[entry.migration].map { why in
      GroupObstacle(
        migration: entry.migration, text: why.hasPrefix("\(entry.migration)") ? why : "\(entry.migration): \(why)",
        advice: "see cmcplan status, then apply again")
    }
  }

  private static func standing(
    _ facts: MigrationFacts, _ entry: MigrationChanges, _ options: PlanningOptions
  ) -> Standing {
    if entry.isPastFence { return .committed }
    if entry.reached == .unknown { return .unseen }
    guard let stage = facts.sourceStage else {
      let hasNoAgent = facts.source?.state.map { $0.agentDigest == nil } ?? false
      return facts.source?.agent != nil || hasNoAgent ? .before : .unseen
    }
    if facts.hasFinalizeBegun(digest: options.digest) { return .finalizing }
    return stage == .swinging || stage == .standIn ? .swung : .before
  }

  // MARK: Where its way meets the others'

  /// Index of the first step that the others have to be ready for; nil where there is none, or it lies behind.
  func first(behind barrier: GroupBarrier) -> Int? {
    guard !entry.diagnostics.hasErrors else { return nil }
    return switch (barrier, standing) {
    case (.swing, .before): entry.changes.firstIndex { $0.action == .swing(name) }
    case (.finalize, .before), (.finalize, .swung): entry.changes.firstIndex { $0.action.isOfFinalize }
    case (.fence, .before), (.fence, .swung), (.fence, .finalizing):
      entry.changes.firstIndex { $0.action == .fence(name) }
    case (_, .unseen), (_, .committed), (_, .finalizing), (.swing, .swung): nil
    }
  }

  func hasSteps(before index: Int) -> Bool { entry.changes[..<index].contains { !$0.action.isCheck } }

  /// Puts the check there, and answers where what waits for the others begins: no check is made for nothing.
  mutating func addCheck(of group: SwingGroup, at index: Int, _ barrier: GroupBarrier) -> Int {
    let shownLimit = 5
    let names = group.migrations.sorted()
    var list = names.prefix(shownLimit).map(\.text).joined(separator: ", ")
    if names.count > shownLimit { list += " and \(names.count - shownLimit) more" }
    let gated = entry.changes[index]
    entry.changes.insert(
      Change(
        action: .checkGroup(group.name, barrier), towards: gated.towards,
        summary: "check that all of group \(group.name) can \(barrier.verb): \(list)",
        why: barrier.reason, waitsFor: gated.waitsFor), at: index)
    var start = index
    while start > 0, entry.changes[start - 1].action.isCheck { start -= 1 }
    return start
  }

  /// In place of whatever it was to do. A person's hold isn't crossed, not even by this; one after a failure is what this
  /// way back begins with, and may be of a run that died before it went the way.
  mutating func goBack(_ why: String) {
    guard !entry.diagnostics.hasErrors else { return }
    var steps = entry.changes.filter { if case .deployAgent = $0.action { true } else { false } }
    let holds = entry.waiting.filter { if case .hold = $0.reason { true } else { false } }
    let isStopped = holds.contains { if case .hold(let hold) = $0.reason { hold.cause != .failure } else { false } }
    for index in steps.indices { steps[index].waitsFor = nil }
    steps.append(
      Change(
        action: .revertWithGroup(name, why: why), towards: .synchronized,
        summary: "revert cMotion with its group, and hold: live I/O back to \(facts.migration.source)", why: why,
        price: Price(pauseSeconds: MigrationDiff.assumedSwingPauseSeconds, cost: .pause), reversibility: .reversible,
        waitsFor: isStopped ? 0 : nil))
    entry.changes = steps
    entry.waiting = holds
    entry.lookAgainAfter = nil
    entry.unstoppable = steps.count
  }
}

/// What keeps one migration of a group from a step that all take together.
struct GroupObstacle {
  var migration: MigrationName
  /// "erp-app is held (paused) by ann: wait".
  var text: String
  var advice: String
  /// It is on its way: the next rounds of a run may get there.
  var isPassing = false
}

extension GroupMember {
  func obstacle(to barrier: GroupBarrier) -> GroupObstacle? {
    switch (barrier, standing) {
    case (_, .committed), (.swing, .finalizing), (.finalize, .finalizing): return nil
    case (.swing, .swung): return facts.sourceStage == .swinging ? nil : trouble
    default: break
    }
    if let fault = fault ?? hold { return fault }
    if standing == .unseen {
      return obstacle("could not be seen", "see cmcplan status; the agent on \(facts.migration.source) has to answer")
    }
    if barrier == .swing, !facts.canSwing { return cannotSwing }
    guard let first = first(behind: barrier) else { return stuck ?? passing("is not as far yet") }
    if let gate = entry.changes[first].waitsFor { return gated(entry.waiting[gate]) }
    let isSynchronized = facts.sourceSession?.initialSynchronizationAt != nil
    if let trouble = stuck ?? trouble, isSynchronized || stuck != nil { return trouble }
    if barrier == .fence {
      let isThisRound = entry.lookAgainAfter.map { first < $0 } ?? true
      return isThisRound ? nil : passing("is not proven yet")
    }
    guard hasSteps(before: first) else { return nil }
    if !isSynchronized { return passing("is \(entry.reached.word), and has to be synchronized first") }
    return passing(standing == .before && barrier == .finalize ? "has not swung yet" : "has other steps to take first")
  }

  private func obstacle(_ what: String, _ advice: String) -> GroupObstacle {
    GroupObstacle(migration: name, text: "\(name) \(what)", advice: advice)
  }

  private func passing(_ what: String) -> GroupObstacle {
    GroupObstacle(migration: name, text: "\(name) \(what)", advice: "run apply again, or with --wait", isPassing: true)
  }

  private var fault: GroupObstacle? {
    entry.diagnostics.first { $0.severity == .error }.map { error in
      let text = error.message.hasPrefix("\(name)") ? error.message : "\(name): \(error.message)"
      return GroupObstacle(migration: name, text: "\(text) (\(error.code))", advice: error.advice)
    }
  }

  private var hold: GroupObstacle? {
    (facts.sourceSession?.hold ?? facts.destinationSession?.hold).map { hold in
      obstacle(
        "is held (\(hold.cause.rawValue)) by \(hold.who): \(hold.why)",
        "cmcplan resume \(name), once the reason is gone")
    }
  }

  private var cannotSwing: GroupObstacle {
    let volumes = facts.migration.volumes.filter { facts.tracking(of: $0) == .checksum }.map(\.name.text)
    return obstacle(
      "can't swing: \(volumes.joined(separator: ", ")) can only be tracked by checksum",
      "give it a tap, or take it out of the group")
  }

  private var trouble: GroupObstacle? {
    guard let source = facts.sourceSession else { return nil }
    let what = source.trouble ?? (source.connected ? nil : "its agents are not connected")
    return what.map { obstacle("is \(entry.reached.word), but \($0)", "see cmcplan status; mend it first") }
  }

  /// Its own gate is everybody's.
  private func gated(_ waiting: Waiting) -> GroupObstacle {
    switch waiting.reason {
    case .moves:
      return obstacle(
        "has to wait: \(waiting.message)", "let one run move all of the group (--max-moves, moves of guardrails)")
    case .group: return passing("waits as well")
    default: return obstacle("waits: \(waiting.message)", waiting.advice)
    }
  }
}

extension SessionObservation {
  /// Why nothing should be built on this session now; nil where all is well.
  var trouble: String? {
    if authority == .destinationOnly { return "the source's copy is lost" }
    switch health {
    case .stalled(let why): return "stalled: \(why)"
    case .disconnected(let since): return "disconnected since \(rendered(since))"
    case .degraded(let copy, let why): return "its \(copy.rawValue) is degraded: \(why)"
    case .idle, .initializing, .synchronizing, .tracking: return nil
    }
  }
}

extension MigrationPlan {
  /// The group that the migration swings with; nil where it goes by itself.
  package func group(of migration: MigrationName) -> SwingGroup? {
    groups.first { $0.migrations.contains(migration) }
  }

  /// What has to be looked at beside these: migrations of their groups, and of the waves before theirs. Nil, all of them,
  /// for nil.
  package func withRelatives(_ names: Set<MigrationName>?) -> Set<MigrationName>? {
    guard let names else { return nil }
    var all = names
    for group in groups where group.migrations.contains(where: names.contains) { all.formUnion(group.migrations) }
    guard waves.count > 1 else { return all }
    let waveOf = waveIndices
    guard let last = names.compactMap({ waveOf[$0] }).max() else { return all }
    return all.union(waves[..<last].flatMap(\.migrations))
  }
}

/// Of `ready`: whether the migrations of its group let it swing.
func groupChecks(_ entry: MigrationChanges, in plan: MigrationPlan) -> [ReadinessCheck] {
  guard let group = plan.group(of: entry.migration) else { return [] }
  for waiting in entry.waiting {
    guard case .group = waiting.reason else { continue }
    return [ReadinessCheck("group", false, waiting.message, advice: waiting.advice)]
  }
  let others = group.migrations.filter { $0 != entry.migration }.map(\.text).joined(separator: ", ")
  return [ReadinessCheck("group", true, "group '\(group.name)' doesn't keep it back: it goes together with \(others)")]
}
