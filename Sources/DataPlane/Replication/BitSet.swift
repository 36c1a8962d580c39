/// Bits with a count and a summary (one bit a word), so that the next set bit is found in a volume of 16 Mi blocks
/// without reading 2 MiB. All ranges must lie within `0 ..< count`.
struct BitSet: Sendable {
  private(set) var count: Int
  private(set) var setCount = 0
  private var words: [UInt64]
  private var summary: [UInt64]

  init(count: Int, all: Bool = false) {
    self.count = count
    words = [UInt64](repeating: 0, count: (count + 63) / 64)
    summary = [UInt64](repeating: 0, count: (words.count + 63) / 64)
    if all { insert(0..<count) }
  }

  /// At least as many bits as now; the new ones are clear.
  mutating func grow(to newCount: Int) {
    precondition(newCount >= count, "bits only come to be")
    count = newCount
    words += [UInt64](repeating: 0, count: (count + 63) / 64 - words.count)
    summary += [UInt64](repeating: 0, count: (words.count + 63) / 64 - summary.count)
  }

  func contains(_ bit: Int) -> Bool { words[bit >> 6] >> UInt64(bit & 63) & 1 == 1 }

  private static func mask(_ bits: Range<Int>, ofWord word: Int) -> UInt64 {
    let low = max(bits.lowerBound - word << 6, 0)
    let high = min(bits.upperBound - word << 6, 64)
    return (~UInt64(0) << UInt64(low)) & (high == 64 ? ~0 : (UInt64(1) << UInt64(high)) &- 1)
  }

  mutating func insert(_ bits: Range<Int>) {
    if bits.isEmpty { return }
    for word in bits.lowerBound >> 6...(bits.upperBound - 1) >> 6 {
      let old = words[word]
      let new = old | Self.mask(bits, ofWord: word)
      if new != old {
        words[word] = new
        setCount += (new ^ old).nonzeroBitCount
        summary[word >> 6] |= 1 << UInt64(word & 63)
      }
    }
  }

  mutating func remove(_ bits: Range<Int>) {
    if bits.isEmpty { return }
    for word in bits.lowerBound >> 6...(bits.upperBound - 1) >> 6 {
      let old = words[word]
      let new = old & ~Self.mask(bits, ofWord: word)
      if new != old {
        words[word] = new
        setCount -= (new ^ old).nonzeroBitCount
        if new == 0 { summary[word >> 6] &= ~(1 << UInt64(word & 63)) }
      }
    }
  }

  mutating func removeAll() {
    if setCount == 0 { return }
    self = BitSet(count: count)
  }

  func containsAll(_ bits: Range<Int>) -> Bool {
    if bits.isEmpty { return true }
    for word in bits.lowerBound >> 6...(bits.upperBound - 1) >> 6 {
      let mask = Self.mask(bits, ofWord: word)
      if words[word] & mask != mask { return false }
    }
    return true
  }

  func containsAny(_ bits: Range<Int>) -> Bool {
    if bits.isEmpty { return false }
    for word in bits.lowerBound >> 6...(bits.upperBound - 1) >> 6 where words[word] & Self.mask(bits, ofWord: word) != 0
    {
      return true
    }
    return false
  }

  func count(in bits: Range<Int>) -> Int {
    if bits.isEmpty || setCount == 0 { return 0 }
    let (first, last) = (bits.lowerBound >> 6, (bits.upperBound - 1) >> 6)
    if first == last { return (words[first] & Self.mask(bits, ofWord: first)).nonzeroBitCount }
    var count = (words[first] & Self.mask(bits, ofWord: first)).nonzeroBitCount
    count += (words[last] & Self.mask(bits, ofWord: last)).nonzeroBitCount
    for word in first + 1..<last { count += words[word].nonzeroBitCount }
    return count
  }

  /// The first set bit at or after `start`, or nil.
  func next(from start: Int) -> Int? {
    guard start < count, setCount > 0 else { return nil }
    let first = start >> 6
    let rest = words[first] & (~UInt64(0) << UInt64(start & 63))
    if rest != 0 { return first << 6 + rest.trailingZeroBitCount }
    var word = first + 1
    guard word < words.count else { return nil }
    var group = word >> 6
    var candidates = summary[group] & (~UInt64(0) << UInt64(word & 63))
    while candidates == 0 {
      group += 1
      guard group < summary.count else { return nil }
      candidates = summary[group]
    }
    word = group << 6 + candidates.trailingZeroBitCount
    return word << 6 + words[word].trailingZeroBitCount
  }

  /// The first run of set bits at or after `start`, at most `limit` long.
  func nextRun(from start: Int, limit: Int) -> Range<Int>? {
    guard let first = next(from: start) else { return nil }
    var end = first + 1
    while end < count, end - first < limit, contains(end) { end += 1 }
    return first..<end
  }

  /// 64 bits beginning at bit `word * 64`.
  func word(_ word: Int) -> UInt64 { words[word] }
  mutating func setWord(_ word: Int, to value: UInt64) {
    let old = words[word]
    words[word] = value
    setCount += value.nonzeroBitCount - old.nonzeroBitCount
    if value == 0 {
      summary[word >> 6] &= ~(1 << UInt64(word & 63))
    } else {
      summary[word >> 6] |= 1 << UInt64(word & 63)
    }
  }
  var wordCount: Int { words.count }
}
