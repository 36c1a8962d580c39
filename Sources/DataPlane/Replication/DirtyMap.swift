import BlockModel

/// Which blocks of a volume may differ, and of blocks that small writes touched, which sixteenths. A bit a block always;
/// the sixteenths only of so many blocks as memory is given for: past that a block is dirty as a whole.
struct DirtyMap: Sendable {
  /// A sixteenth of 64 KiB is 4 KiB.
  static let partsPerBlock: UInt64 = 16
  /// Blocks a volume whose sixteenths are known, at most: some 24 bytes each.
  static let partialLimit = 1 << 17

  /// What a transfer took out, to be put back where it fails.
  typealias Parts = UInt16
  static let whole = Parts.max

  let blockBytes: UInt64
  private(set) var sizeBytes: UInt64
  private(set) var blocks: BitSet
  /// Of dirty blocks that are not dirty all over.
  private var partial: [Int: Parts] = [:]
  /// Sixteenths of dirty blocks that are clean.
  private var spared: UInt64 = 0
  private let limit: Int

  init(sizeBytes: UInt64, blockBytes: UInt64, partialLimit: Int = DirtyMap.partialLimit) {
    self.sizeBytes = sizeBytes
    self.blockBytes = blockBytes
    limit = partialLimit
    blocks = BitSet(count: Int((sizeBytes + blockBytes - 1) / blockBytes))
  }

  /// The volume is larger from here on: what is new is dirty, and so is all of the block that used to be the last.
  mutating func grow(to newSizeBytes: UInt64) {
    // The block that the former end lay in, if it lay in one.
    let first = Int(sizeBytes / blockBytes)
    sizeBytes = newSizeBytes
    blocks.grow(to: Int((newSizeBytes + blockBytes - 1) / blockBytes))
    insert(first..<blocks.count)
  }

  private var partBytes: UInt64 { blockBytes / Self.partsPerBlock }
  var isEmpty: Bool { blocks.setCount == 0 }
  /// Every block, all of each.
  var isFull: Bool { blocks.setCount == blocks.count && partial.isEmpty }
  /// What copying would move, rounded up to sixteenths.
  var bytes: UInt64 { min(UInt64(blocks.setCount) * blockBytes - spared * partBytes, sizeBytes) }

  /// These blocks, all of each.
  mutating func insert(_ run: Range<Int>) {
    blocks.insert(run)
    forget(run)
  }

  /// What a write to `range` touches.
  mutating func insert(_ range: ByteRange) {
    guard !range.isEmpty else { return }
    let first = Int(range.offset / blockBytes)
    let last = Int((range.end - 1) / blockBytes)
    insert(parts(of: range, in: first), of: first)
    if last > first { insert(parts(of: range, in: last), of: last) }
    if last > first + 1 { insert(first + 1..<last) }
  }

  /// Puts back what `take` gave.
  mutating func insert(_ parts: Parts, of block: Int) {
    if blocks.contains(block) {
      guard !partial.isEmpty, let old = partial[block] else { return }
      spared -= UInt64((~old).nonzeroBitCount)
      set(block, old | parts)
    } else {
      blocks.insert(block..<block + 1)
      if partial.count < limit { set(block, parts) }
    }
  }

  /// The block is clean from here on; what of it was dirty.
  mutating func take(_ block: Int) -> Parts {
    let parts = partial.isEmpty ? Self.whole : partial[block] ?? Self.whole
    forget(block)
    blocks.remove(block..<block + 1)
    return parts
  }

  /// These blocks are clean from here on.
  mutating func remove(_ run: Range<Int>) {
    blocks.remove(run)
    forget(run)
  }

  /// What of the block copying would move, in bytes.
  func dirtyBytes(of block: Int) -> UInt64 {
    guard blocks.contains(block) else { return 0 }
    let start = UInt64(block) * blockBytes
    let length = min(blockBytes, sizeBytes - start)
    guard !partial.isEmpty, let parts = partial[block] else { return length }
    return min(UInt64(parts.nonzeroBitCount) * partBytes, length)
  }

  /// The first run of dirty blocks at or after `start`, at most `limit` long: one block that is partly dirty, or only
  /// such as are dirty all over.
  func nextRun(from start: Int, limit: Int) -> Range<Int>? {
    guard let run = blocks.nextRun(from: start, limit: limit) else { return nil }
    if partial.isEmpty { return run }
    if partial[run.lowerBound] != nil { return run.lowerBound..<run.lowerBound + 1 }
    for block in run where partial[block] != nil { return run.lowerBound..<block }
    return run
  }

  /// The byte ranges of these sixteenths, in order, neighbours joined, within the volume.
  func ranges(of parts: Parts, in block: Int) -> [ByteRange] {
    let start = UInt64(block) * blockBytes
    if parts == Self.whole { return [ByteRange(from: start, to: min(start + blockBytes, sizeBytes))] }
    var out: [ByteRange] = []
    var part: UInt64 = 0
    while part < Self.partsPerBlock {
      guard parts >> Parts(part) & 1 == 1 else {
        part += 1
        continue
      }
      var end = part + 1
      while end < Self.partsPerBlock, parts >> Parts(end) & 1 == 1 { end += 1 }
      let range = ByteRange(from: start + part * partBytes, to: min(start + end * partBytes, sizeBytes))
      if range.offset < sizeBytes { out.append(range) }
      part = end
    }
    return out
  }

  private func parts(of range: ByteRange, in block: Int) -> Parts {
    let start = UInt64(block) * blockBytes
    let first = range.offset <= start ? 0 : (range.offset - start) / partBytes
    let last = range.end >= start + blockBytes ? Self.partsPerBlock : (range.end - start + partBytes - 1) / partBytes
    return Parts(truncatingIfNeeded: (UInt32(1) << UInt32(last)) &- (UInt32(1) << UInt32(first)))
  }

  private mutating func set(_ block: Int, _ parts: Parts) {
    if parts == Self.whole {
      partial[block] = nil
    } else {
      partial[block] = parts
      spared += UInt64((~parts).nonzeroBitCount)
    }
  }

  /// By the shorter of both: a whole volume is not walked for the few blocks that are dirty in part.
  private mutating func forget(_ run: Range<Int>) {
    if partial.isEmpty { return }
    if run.count <= partial.count {
      for block in run { forget(block) }
    } else if run.count >= blocks.count {
      partial.removeAll()
      spared = 0
    } else {
      for block in partial.keys where run.contains(block) { forget(block) }
    }
  }

  private mutating func forget(_ block: Int) {
    if let old = partial.removeValue(forKey: block) { spared -= UInt64((~old).nonzeroBitCount) }
  }
}
