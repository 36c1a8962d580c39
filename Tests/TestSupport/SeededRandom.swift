import Seams
import Synchronization

/// Randomness that repeats: SplitMix64 from a seed. May be used from many threads; the order of draws then decides.
package final class SeededRandom: RandomSource {
  private let state: Mutex<UInt64>
  package let seed: UInt64

  package init(seed: UInt64) {
    self.seed = seed
    state = Mutex(seed)
  }

  package func next() -> UInt64 {
    state.withLock { state in
      state &+= 0x9e37_79b9_7f4a_7c15
      var mixed = state
      mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
      mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
      return mixed ^ (mixed >> 31)
    }
  }

  package func bytes(_ count: Int) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(count)
    while out.count < count {
      var word = next()
      for _ in 0..<min(8, count - out.count) {
        out.append(UInt8(truncatingIfNeeded: word))
        word >>= 8
      }
    }
    return out
  }

  /// Uniform in `0 ..< bound`; `bound` is at least 1.
  package func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
  package func within(_ range: ClosedRange<Int>) -> Int { range.lowerBound + below(range.count) }
  package func chance(_ probability: Double) -> Bool { Double(next() >> 11) / Double(1 << 53) < probability }
  /// Nil where there is nothing to pick from.
  package func pick<Items: RandomAccessCollection>(_ items: Items) -> Items.Element? {
    items.isEmpty ? nil : items[items.index(items.startIndex, offsetBy: below(items.count))]
  }
  package func shuffled<Element>(_ items: [Element]) -> [Element] {
    var out = items
    for index in out.indices.dropFirst() { out.swapAt(index, below(index + 1)) }
    return out
  }
}
