import BlockModel
import Planning

/// The steps of a run with their states, and which of them may start: kept up to date with each change, for a run over
/// thousands of migrations has hundreds of thousands of steps, and hears of one of them at a time.
struct StepBoard: Sendable {
  private struct Dependent {
    var step: Int
    /// It waits for the step to be done; otherwise for it to be settled, however.
    var isRequirement: Bool
  }

  private(set) var nodes: [ActionGraph.Node] = []
  private(set) var states: [Reconciler.NodeState] = []
  private(set) var runningCount = 0
  /// Not settled yet.
  private(set) var openCount = 0
  /// Pending with nothing left to wait for, or backing off with their time come.
  private(set) var startable = OrderedIndexes()
  private var dependents: [[Dependent]] = []
  /// How many of those that a step waits for are still in its way.
  private var blockers: [Int] = []
  private var ofMigration: [MigrationName: [Int]] = [:]

  init(_ nodes: [ActionGraph.Node]) {
    self.nodes = nodes
    states = Array(repeating: .pending, count: nodes.count)
    openCount = nodes.count
    dependents = Array(repeating: [], count: nodes.count)
    blockers = nodes.map { $0.requires.count + $0.after.count }
    for (index, node) in nodes.enumerated() {
      for other in node.requires { dependents[other].append(Dependent(step: index, isRequirement: true)) }
      for other in node.after { dependents[other].append(Dependent(step: index, isRequirement: false)) }
      if let migration = node.action.migration { ofMigration[migration, default: []].append(index) }
      if blockers[index] == 0 { startable.insert(index) }
    }
  }

  /// Ascending.
  func steps(of migration: MigrationName) -> [Int] { ofMigration[migration] ?? [] }

  mutating func set(_ index: Int, _ state: Reconciler.NodeState) {
    let old = states[index]
    if case .running = old { runningCount -= 1 }
    if case .running = state { runningCount += 1 }
    states[index] = state
    startable.remove(index)
    guard state.isSettled, !old.isSettled else { return }
    openCount -= 1
    for dependent in dependents[index] {
      if !dependent.isRequirement || state == .done {
        unblock(dependent.step)
      } else if states[dependent.step] == .pending {
        set(dependent.step, .skipped)
      }
    }
  }

  private mutating func unblock(_ index: Int) {
    blockers[index] -= 1
    if blockers[index] == 0, states[index] == .pending { startable.insert(index) }
  }

  /// A step that backs off may be tried again.
  mutating func letStart(_ index: Int) { startable.insert(index) }

  /// A step that nobody planned; no step is before it but those that it comes `after`.
  mutating func append(_ action: Action, for migration: MigrationName, after: [Int]) -> Int {
    let index = nodes.count
    nodes.append(ActionGraph.Node(action: action, requires: [], after: after, migrations: [migration]))
    states.append(.pending)
    openCount += 1
    dependents.append([])
    blockers.append(0)
    if let migration = action.migration { ofMigration[migration, default: []].append(index) }
    for other in after where !states[other].isSettled {
      blockers[index] += 1
      dependents[other].append(Dependent(step: index, isRequirement: false))
    }
    if blockers[index] == 0 { startable.insert(index) }
    return index
  }

  /// `index` waits for `other` from here on.
  mutating func put(_ index: Int, after other: Int) {
    nodes[index].after.append(other)
    guard !states[other].isSettled, states[index] == .pending else { return }
    blockers[index] += 1
    dependents[other].append(Dependent(step: index, isRequirement: false))
    startable.remove(index)
  }
}

/// A set of small numbers, of which the smallest is taken first.
struct OrderedIndexes: Sendable {
  /// Descending, so that taking the smallest moves no other.
  private(set) var items: [Int] = []

  var first: Int? { items.last }

  private func place(of index: Int) -> Int {
    var (low, high) = (0, items.count)
    while low < high {
      let middle = (low + high) / 2
      if items[middle] > index { low = middle + 1 } else { high = middle }
    }
    return low
  }

  mutating func insert(_ index: Int) {
    let place = place(of: index)
    if place == items.count || items[place] != index { items.insert(index, at: place) }
  }

  mutating func remove(_ index: Int) {
    let place = place(of: index)
    if place < items.count, items[place] == index { items.remove(at: place) }
  }
}
