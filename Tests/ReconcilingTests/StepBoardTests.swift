import BlockModel
import Planning
import TestSupport
import Testing

@testable import Reconciling

/// What the board keeps up to date, against what each step says of itself.
@Suite struct StepBoardTests {
  private static func graph(_ random: SeededRandom) -> [ActionGraph.Node] {
    (0..<random.within(1...40)).map { index in
      let earlier = (0..<index).filter { _ in random.chance(0.15) }
      let requires = earlier.filter { _ in random.chance(0.6) }
      let migration = MigrationName("m\(random.below(4))")
      return ActionGraph.Node(
        action: .openTap(migration), requires: requires, after: earlier.filter { !requires.contains($0) },
        migrations: [migration])
    }
  }

  private static func check(_ board: StepBoard, _ seed: UInt64) {
    let states = board.states
    let startable = board.nodes.indices.filter { index in
      let node = board.nodes[index]
      return states[index] == .pending && node.requires.allSatisfy { states[$0] == .done }
        && node.after.allSatisfy { states[$0].isSettled }
    }
    #expect(board.startable.items == startable.reversed(), "seed \(seed)")
    #expect(board.openCount == states.count { !$0.isSettled }, "seed \(seed)")
    #expect(board.runningCount == states.count { if case .running = $0 { true } else { false } }, "seed \(seed)")
    for index in board.nodes.indices where states[index] == .pending {
      let isBlocked = board.nodes[index].requires.contains { states[$0].isSettled && states[$0] != .done }
      #expect(!isBlocked, "seed \(seed): \(index) can't be done any more")
    }
    for name in Set(board.nodes.compactMap(\.action.migration)) {
      #expect(board.steps(of: name) == board.nodes.indices.filter { board.nodes[$0].action.migration == name })
    }
  }

  @Test func whatMayStartIsWhatTheGraphSays() {
    let now = MonotonicTime(nanoseconds: 1)
    let error = GatewayError(code: "CMC4999", message: "", advice: "", disposition: .terminal)
    for seed in UInt64(1)...300 {
      let random = SeededRandom(seed: seed)
      var board = StepBoard(Self.graph(random))
      Self.check(board, seed)
      for _ in 0..<400 where board.openCount > 0 {
        let open = board.nodes.indices.filter { !board.states[$0].isSettled }
        let index = random.pick(board.startable.items) ?? open[0]
        switch random.below(10) {
        case 0: board.set(open[random.below(open.count)], .parked(why: "held"))
        case 1:
          let added = board.append(
            .revert(MigrationName("m0")), for: MigrationName("m0"), after: open.filter { _ in random.chance(0.2) })
          board.put(open[random.below(open.count)], after: added)
        case 2: board.set(index, .failed(error))
        case 3: board.set(index, .running(attempt: 1, since: now))
        default: board.set(index, .done)
        }
        Self.check(board, seed)
      }
    }
  }

  @Test func timersComeInTheirOrder() {
    for seed in UInt64(1)...100 {
      let random = SeededRandom(seed: seed)
      var timers = RunTimers()
      var expected: [(at: UInt64, step: Int)] = []
      var seen: [Int] = []
      for step in 0..<60 {
        let at = UInt64(random.below(20))
        timers.set(.retry(step: step), at: MonotonicTime(nanoseconds: at))
        expected.append((at, step))
      }
      while let first = timers.first {
        if case .retry(let step) = first.reason { seen.append(step) }
        timers.removeFirst()
      }
      // Sorting keeps the order of those that are equal only by luck: the number decides.
      #expect(seen == expected.sorted { ($0.at, $0.step) < ($1.at, $1.step) }.map(\.step), "seed \(seed)")
    }
  }
}
