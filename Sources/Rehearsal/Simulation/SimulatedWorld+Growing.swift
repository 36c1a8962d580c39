import BlockModel
import Replication

/// Volumes grow in two steps, a half each, in any order and with anything in between: a crash of either agent, a link, the
/// application's writes.
enum Growth {
  case none
  /// The halves that have not taken the sizes over yet.
  case under(sizes: [UInt64], left: Set<SimulatedWorld.Side>)

  var isOver: Bool { if case .none = self { true } else { false } }
}

extension SimulatedWorld {
  /// Volumes grow so often, at most: disks are arrays.
  private static let mostCells = 4096
  /// What a destination's disk holds where nobody has written: anything.
  private static let unknown: UInt64 = 1 << 61

  mutating func beginGrowth() {
    guard growth.isOver, let source, let destination else { return }
    let wanted = sizes[0].map { size in
      chance.oneIn(3) ? size : size + SimulatedDisk.cellBytes * UInt64(1 + chance.below(300))
    }
    guard wanted != sizes[0], source.growthRefusal(to: wanted) == nil, Self.mayGrow(destination.stage),
      wanted.allSatisfy({ Int($0 / SimulatedDisk.cellBytes) < Self.mostCells })
    else { return }
    growth = .under(sizes: wanted, left: [.source, .destination])
  }

  /// Where no half has begun, none does any more: faults are over.
  mutating func settleGrowth() {
    if case .under(_, let left) = growth, left.count == 2 { growth = .none }
  }

  /// As the destination's agent has it.
  private static func mayGrow(_ stage: DestinationStage) -> Bool { stage == .prepared || stage == .receiving }

  mutating func stepGrowth() throws(SimulationFailure) {
    guard case .under(let wanted, var left) = growth else { return }
    guard isCalm || chance.oneIn(40), let side = left.randomSide(&chance) else { return }
    guard try grow(side, to: wanted) == nil else { return }
    left.remove(side)
    if left.isEmpty { report.faults["grown", default: 0] += 1 }
    growth = left.isEmpty ? .none : .under(sizes: wanted, left: left)
  }

  /// Why the half can't grow now; nil where it did.
  mutating func grow(_ side: Side, to wanted: [UInt64]) throws(SimulationFailure) -> String? {
    guard wanted != sizes[side.rawValue] else { return nil }
    switch side {
    case .source:
      guard let source else { return "the source's agent doesn't run" }
      if let why = source.growthRefusal(to: wanted) { return why }
      // Only what the session knows counts; what the device holds there was written by nobody whom it saw.
      requestCounter += 1
      enlarge(.source, to: wanted, holding: requestCounter)
      for volume in histories.indices {
        let known = histories[volume].count
        for cell in known..<disks[0][volume].current.count {
          histories[volume].append(CellHistory())
          _ = histories[volume][cell].restart(with: requestCounter, at: time)
        }
      }
      // The file says so; the machine is told, or dies before.
      if isCalm || !chance.oneIn(4) {
        tellSource(.grown(sizes: wanted))
      } else {
        try crash(.source, powerCut: chance.oneIn(2))
      }
    case .destination:
      guard let destination else { return "the destination's agent doesn't run" }
      guard Self.mayGrow(destination.stage) else { return "the destination is \(destination.stage)" }
      // It is made anew, which is no worse than a kill.
      try crash(.destination, powerCut: !isCalm && chance.oneIn(4))
      enlarge(.destination, to: wanted, holding: Self.unknown)
      if isCalm || !chance.oneIn(4) { startDestination() }
    }
    return nil
  }

  private mutating func enlarge(_ side: Side, to wanted: [UInt64], holding value: UInt64) {
    sizes[side.rawValue] = wanted
    for (volume, size) in wanted.enumerated() {
      disks[side.rawValue][volume].grow(
        to: Int((size + SimulatedDisk.cellBytes - 1) / SimulatedDisk.cellBytes), holding: value)
    }
  }
}

extension Set<SimulatedWorld.Side> {
  /// One of them, whatever order the set has.
  fileprivate func randomSide(_ chance: inout Chance) -> SimulatedWorld.Side? {
    let sides = sorted { $0.rawValue < $1.rawValue }
    return sides.isEmpty ? nil : sides[chance.below(sides.count)]
  }
}
