/// SplitMix64: the only source of chance in a simulation.
struct Chance {
  private var state: UInt64
  init(seed: UInt64) { state = seed &* 0x2545_f491_4f6c_dd1d ^ 0x1234_5678_9abc_def0 }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
  /// Uniform in `0 ..< bound`.
  mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
  /// True once in `times`.
  mutating func oneIn(_ times: Int) -> Bool { below(times) == 0 }
}

/// Cells of 4 KiB, each holding the number of the write that filled it; 0 is zeroes.
struct SimulatedDisk {
  static let cellBytes: UInt64 = 4096
  private(set) var current: [UInt64]
  private(set) var durable: [UInt64]
  private var pending: [(cell: Int, value: UInt64)] = []

  init(cells: Int) {
    current = Array(repeating: 0, count: cells)
    durable = current
  }

  /// What is new holds this, durably.
  mutating func grow(to cells: Int, holding value: UInt64) {
    current += Array(repeating: value, count: cells - current.count)
    durable += Array(repeating: value, count: cells - durable.count)
  }

  mutating func write(_ cell: Int, _ value: UInt64, durably: Bool) {
    current[cell] = value
    if durably {
      durable[cell] = value
      pending.removeAll { $0.cell == cell }
    } else {
      pending.append((cell, value))
    }
  }
  mutating func flush() {
    for (cell, value) in pending { durable[cell] = value }
    pending = []
  }
  /// What the cell holds is something that nobody wrote.
  mutating func rot(_ cell: Int) {
    current[cell] ^= 1 << 62
    durable[cell] = current[cell]
  }
  /// Set in what a cell holds that was being written when the power went: neither the old nor the new.
  static let torn: UInt64 = 1 << 63
  /// Any subset of what was not flushed survives, in any order, some of it torn.
  mutating func powerCut(_ chance: inout Chance) {
    while !pending.isEmpty {
      let (cell, value) = pending.remove(at: chance.below(pending.count))
      switch chance.below(8) {
      case 0: durable[cell] = Self.torn | chance.next()
      case 1..<4: durable[cell] = value
      default: break
      }
    }
    current = durable
  }
}

/// What one cell may hold, given which writes began, ended, were flushed and were seen. Writes have numbers of their own, so
/// a read names the write it saw. Sound: it complains only if no order of the operations explains what was read.
struct CellHistory {
  struct Entry {
    var value: UInt64
    var request: UInt64
    var start: Int
    /// By then it had certainly taken effect: it ended, or a read that ended saw it.
    var known: Int?
    var ended: Int?
    var isDurable: Bool
    /// The application was told that it failed: it took effect, in part, or not at all, and a read that saw it proves
    /// nothing about the next one.
    var hasFailed = false
  }
  private(set) var entries = [Entry(value: 0, request: 0, start: -2, known: -1, ended: -1, isDurable: true)]

  mutating func begin(_ request: UInt64, value: UInt64, at time: Int) {
    entries.append(Entry(value: value, request: request, start: time, known: nil, ended: nil, isDurable: false))
  }
  /// `oldestRead` is when the oldest read still in flight began.
  mutating func end(_ request: UInt64, at time: Int, isDurable: Bool, oldestRead: Int) {
    for index in entries.indices where entries[index].request == request {
      entries[index].known = min(entries[index].known ?? time, time)
      entries[index].ended = time
      if isDurable { entries[index].isDurable = true }
    }
    prune(oldestRead)
  }
  mutating func fail(_ request: UInt64, at time: Int) {
    for index in entries.indices where entries[index].request == request {
      entries[index].known = time
      entries[index].hasFailed = true
    }
  }
  /// It never happened.
  mutating func forget(_ request: UInt64) { entries.removeAll { $0.request == request && $0.ended == nil } }

  mutating func flushed(start: Int, oldestRead: Int) {
    for index in entries.indices {
      if let ended = entries[index].ended, ended < start { entries[index].isDurable = true }
    }
    prune(oldestRead)
  }

  private func isOverwritten(_ entry: Entry, by time: Int) -> Bool {
    guard let known = entry.known else { return false }
    return entries.contains { other in
      !other.hasFailed && known < other.start && other.known.map { $0 < time } ?? false
    }
  }

  /// False if nothing explains that a read from `start` to `end` saw `value`.
  mutating func read(_ value: UInt64, start: Int, end: Int) -> Bool {
    let seen = entries.indices.filter { entries[$0].value == value }
    guard seen.contains(where: { !isOverwritten(entries[$0], by: start) }) else { return false }
    if seen.count == 1, !entries[seen[0]].hasFailed { entries[seen[0]].known = min(entries[seen[0]].known ?? end, end) }
    return true
  }

  /// After a power cut the disk holds `value`. False if a flushed write was lost.
  mutating func restart(with value: UInt64, at time: Int) -> Bool {
    let isTorn = value & SimulatedDisk.torn != 0 && entries.contains { !$0.isDurable }
    let isExplained =
      isTorn
      || entries.contains { entry in
        guard entry.value == value else { return false }
        guard let known = entry.known else { return true }
        return !entries.contains { $0.isDurable && known < $0.start }
      }
    entries = [Entry(value: value, request: 0, start: -2, known: -1, ended: -1, isDurable: true)]
    return isExplained
  }

  private mutating func prune(_ oldestRead: Int) {
    guard entries.count > 1 else { return }
    let all = entries
    entries.removeAll { entry in
      guard let known = entry.known else { return false }
      return all.contains { $0.isDurable && known < $0.start && ($0.known.map { $0 < oldestRead } ?? false) }
    }
  }
}
