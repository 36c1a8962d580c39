package import BlockModel
package import MigrationModel

/// The steps of one round and what each needs first.
package struct ActionGraph: Sendable, Equatable {
  package struct Node: Sendable, Equatable {
    package var action: Action
    /// Nodes that must have succeeded.
    package var requires: [Int]
    /// Nodes that must have ended, whichever way.
    package var after: [Int]
    /// For whom it is done.
    package var migrations: [MigrationName]
    package init(action: Action, requires: [Int], after: [Int], migrations: [MigrationName]) {
      self.action = action
      self.requires = requires
      self.after = after
      self.migrations = migrations
    }
  }
  /// Indices in `requires` and `after` are smaller than the node's own: no cycle can be written down.
  package var nodes: [Node]
  /// Of the migrations that swing with others.
  package var groups: [MigrationName: Mates]
  package init(nodes: [Node], groups: [MigrationName: Mates] = [:]) {
    self.nodes = nodes
    self.groups = groups
  }

  /// With whom a migration goes forward or back.
  package struct Mates: Sendable, Equatable {
    package var group: String
    package var others: [MigrationName]
    /// One of them is past the fence: none is taken back any more.
    package var isCommitted: Bool
    package init(group: String, others: [MigrationName], isCommitted: Bool) {
      self.group = group
      self.others = others
      self.isCommitted = isCommitted
    }
  }
}

/// Orders what can be done now. Pure.
///
/// Within a migration one step follows the other, but for its disks, which are made at once. A host's deployment is
/// shared, and so is attaching: all disks of one virtual machine go in one call, whichever migrations they belong to,
/// and those whose disk failed are left out. Leases are taken after deploying and before anything is written. A wave is
/// checked once, whoever waits for it. What a group does together waits until all of it is as far, and was checked.
package func schedule(_ changes: ChangeSet, plan: MigrationPlan) -> ActionGraph {
  var builder = GraphBuilder(plan: plan, groups: mates(changes, plan))
  let active = changes.migrations.filter { !$0.actionable.isEmpty }
  builder.addDeployments(active)
  for entry in active { builder.addLeaseAndDisks(entry) }
  builder.addAttachments(active)
  builder.addChecks(active)
  builder.addChains(active)
  builder.addRemovals(active)
  return ActionGraph(nodes: builder.nodes, groups: builder.groups)
}

private func mates(_ changes: ChangeSet, _ plan: MigrationPlan) -> [MigrationName: ActionGraph.Mates] {
  guard !plan.groups.isEmpty else { return [:] }
  let committed = Set(changes.migrations.filter(\.isPastFence).map(\.migration))
  var found: [MigrationName: ActionGraph.Mates] = [:]
  for group in plan.groups {
    let isCommitted = group.migrations.contains(where: committed.contains)
    for name in group.migrations {
      found[name] = ActionGraph.Mates(
        group: group.name, others: group.migrations.filter { $0 != name }.sorted(), isCommitted: isCommitted)
    }
  }
  return found
}

private struct GraphBuilder {
  let plan: MigrationPlan
  let groups: [MigrationName: ActionGraph.Mates]
  var nodes: [ActionGraph.Node] = []
  var deployments: [HostName: Int] = [:]
  /// What the migration's next step requires.
  var heads: [MigrationName: [Int]] = [:]
  var own: [MigrationName: [Int]] = [:]
  var leases: [MigrationName: Int] = [:]
  var releases: [MigrationName: Int] = [:]
  var checks: [Action: Int] = [:]

  mutating func add(
    _ action: Action, requires: [Int], after: [Int] = [], for migrations: [MigrationName]
  ) -> Int {
    nodes.append(ActionGraph.Node(action: action, requires: requires, after: after, migrations: migrations))
    for migration in migrations { own[migration, default: []].append(nodes.count - 1) }
    return nodes.count - 1
  }

  mutating func addDeployments(_ active: [MigrationChanges]) {
    var users: [HostName: [MigrationName]] = [:]
    for entry in active {
      for change in entry.actionable {
        if case .deployAgent(let host) = change.action { users[host, default: []].append(entry.migration) }
      }
    }
    for (host, migrations) in users.sorted(by: { $0.key < $1.key }) {
      deployments[host] = add(.deployAgent(host), requires: [], for: migrations)
    }
  }

  /// Whether something is done that only the holder of the lease may do.
  static func needsLease(_ action: Action) -> Bool {
    switch action {
    case .deployAgent, .removeAgent, .tagDisks(_, .retired), .rename(_, sessions: false): false
    default: true
    }
  }

  mutating func addLeaseAndDisks(_ entry: MigrationChanges) {
    let name = entry.migration
    guard let migration = plan.migrations[name] else { return }
    let deployed = Set([migration.source, migration.destination]).sorted().compactMap { deployments[$0] }
    heads[name] = deployed
    guard entry.actionable.contains(where: { Self.needsLease($0.action) }) else { return }
    var head = add(.acquireLease(name), requires: deployed, for: [name])
    leases[name] = head
    var disks: [Int] = []
    for change in entry.actionable {
      switch change.action {
      case .checkDevices, .giveUpSession, .orphanDisk: head = add(change.action, requires: [head], for: [name])
      case .ensureDisk: disks.append(add(change.action, requires: [head], for: [name]))
      default: break
      }
    }
    heads[name] = disks.isEmpty ? [head] : disks
  }

  mutating func addAttachments(_ active: [MigrationChanges]) {
    struct Machine: Hashable, Comparable {
      var integration: String
      var reference: String
      static func < (left: Machine, right: Machine) -> Bool {
        (left.integration, left.reference) < (right.integration, right.reference)
      }
    }
    var volumes: [Machine: [VolumeKey]] = [:]
    for entry in active {
      for change in entry.actionable {
        guard case .attachDisks(let integration, let reference, let keys) = change.action else { continue }
        volumes[Machine(integration: integration, reference: reference), default: []] += keys
      }
    }
    for (machine, keys) in volumes.sorted(by: { $0.key < $1.key }) {
      let migrations = Set(keys.map(\.migration)).sorted()
      let before = migrations.flatMap { heads[$0] ?? [] }
      let node = add(
        .attachDisks(integration: machine.integration, machine: machine.reference, volumes: keys.sorted()),
        requires: [], after: before, for: migrations)
      for migration in migrations { heads[migration, default: []].append(node) }
    }
  }

  /// A check is not run for nothing: whoever has no lease doesn't go on to the steps behind it.
  mutating func addChecks(_ active: [MigrationChanges]) {
    var users: [(check: Action, migrations: [MigrationName])] = []
    for entry in active {
      for change in entry.actionable {
        guard case .checkWave = change.action else { continue }
        if let index = users.firstIndex(where: { $0.check == change.action }) {
          users[index].migrations.append(entry.migration)
        } else {
          users.append((change.action, [entry.migration]))
        }
      }
    }
    for (check, migrations) in users {
      checks[check] = add(check, requires: [], after: migrations.compactMap { leases[$0] }, for: migrations)
    }
  }

  /// All chains up to where their groups meet, then these meetings, and so on.
  mutating func addChains(_ active: [MigrationChanges]) {
    var rest = active.map { ArraySlice($0.actionable.map(\.action)) }
    var meetings: [(check: Action, there: [Int])]
    repeat {
      for index in active.indices { addChain(active[index].migration, &rest[index]) }
      meetings = Self.meetings(rest)
      for (check, there) in meetings {
        let names = there.map { active[$0].migration }
        let node = add(check, requires: names.flatMap { heads[$0] ?? [] }, for: names)
        for index in there {
          heads[active[index].migration] = [node]
          rest[index].removeFirst()
        }
      }
    } while !meetings.isEmpty
    let steps = own
    for entry in active { addLeaseRelease(entry, after: steps) }
  }

  /// Checks of groups that all who have them on their way have come to.
  private static func meetings(_ rest: [ArraySlice<Action>]) -> [(check: Action, there: [Int])] {
    var there: [Action: [Int]] = [:]
    var later: Set<Action> = []
    for (index, actions) in rest.enumerated() {
      guard let first = actions.first else { continue }
      there[first, default: []].append(index)
      later.formUnion(actions.dropFirst().filter(\.isCheck))
    }
    return there.filter { !later.contains($0.key) }.map { (check: $0.key, there: $0.value) }
      .sorted { ($0.check.subject, $0.check.kind) < ($1.check.subject, $1.check.kind) }
  }

  /// Ends before the next meeting of its group.
  private mutating func addChain(_ name: MigrationName, _ rest: inout ArraySlice<Action>) {
    while let action = rest.first {
      switch action {
      case .checkGroup: return
      case .deployAgent, .checkDevices, .giveUpSession, .orphanDisk, .ensureDisk, .attachDisks, .removeAgent,
        .tagDisks(_, .retired):
        break
      case .checkWave:
        if let check = checks[action] { heads[name, default: []].append(check) }
      default: heads[name] = [add(action, requires: heads[name] ?? [], for: [name])]
      }
      rest.removeFirst()
    }
  }

  private mutating func addLeaseRelease(_ entry: MigrationChanges, after steps: [MigrationName: [Int]]) {
    let name = entry.migration
    if entry.actionable.contains(where: { Self.needsLease($0.action) }) {
      // What goes forward with others may have to come back with them: its lease is kept until all are through.
      let together = [name] + (groups[name]?.others ?? [])
      let after = Set(together.flatMap { steps[$0] ?? [] }).sorted()
      let release = add(.releaseLease(name), requires: [], after: after, for: [name])
      releases[name] = release
    }
  }

  /// Agents go last of all, and after them the tags that say so: until then the next run looks at these hosts again.
  mutating func addRemovals(_ active: [MigrationChanges]) {
    var removals: [HostName: Int] = [:]
    var usersOf: [HostName: [MigrationName]] = [:]
    for name in active.map(\.migration) {
      for host in hosts(of: name) { usersOf[host, default: []].append(name) }
    }
    for entry in active {
      for change in entry.actionable {
        guard case .removeAgent(let host) = change.action else { continue }
        let users = usersOf[host] ?? []
        // Both halves of each must be gone: without this agent nobody could lease the other.
        removals[host] = add(
          .removeAgent(host), requires: users.flatMap { heads[$0] ?? [] }, after: users.compactMap { releases[$0] },
          for: [entry.migration])
      }
    }
    for entry in active {
      for change in entry.actionable {
        guard case .tagDisks(let name, .retired) = change.action else { continue }
        let gone = hosts(of: name).sorted().compactMap { removals[$0] }
        _ = add(
          change.action, requires: (heads[name] ?? []) + gone, after: releases[name].map { [$0] } ?? [], for: [name])
      }
    }
  }

  private func hosts(of name: MigrationName) -> Set<HostName> {
    plan.migrations[name].map { [$0.source, $0.destination] } ?? []
  }
}
