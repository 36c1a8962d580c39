import BlockModel
import TestSupport
import Testing

@testable import Replication

@Suite struct DirtyMapTests {
  private static let block: UInt64 = 64 << 10

  @Test func smallWritesAddUpAndAWholeBlockForgetsItsParts() {
    var map = DirtyMap(sizeBytes: 1 << 20, blockBytes: Self.block)
    map.insert(ByteRange(offset: 0, length: 512))
    map.insert(ByteRange(offset: 4095, length: 2))
    #expect(map.bytes == 8192 && map.dirtyBytes(of: 0) < Self.block)
    for part in 0..<16 { map.insert(ByteRange(offset: UInt64(part) * 4096, length: 1)) }
    #expect(map.bytes == Self.block && map.dirtyBytes(of: 0) == Self.block)
    map.insert(ByteRange(offset: 0, length: 512))
    #expect(map.bytes == Self.block, "a small write does not make a dirty block cleaner")
    map.insert(ByteRange(from: Self.block + 100, to: 4 * Self.block + 100))
    #expect(map.bytes == Self.block + Self.block + 2 * Self.block + 4096)
    #expect(map.nextRun(from: 0, limit: 8) == 0..<4, "whole blocks together")
    #expect(map.nextRun(from: 4, limit: 8) == 4..<5, "a partial block alone")
    map.insert(3..<6)
    #expect(map.bytes == 6 * Self.block)
    map.remove(0..<6)
    #expect(map.isEmpty && map.bytes == 0)
  }

  @Test func aTornLastBlockEndsWithTheVolume() {
    var map = DirtyMap(sizeBytes: Self.block + 6144, blockBytes: Self.block)
    map.insert(ByteRange(offset: Self.block + 4096, length: 2048))
    let parts = map.take(1)
    #expect(map.ranges(of: parts, in: 1) == [ByteRange(offset: Self.block + 4096, length: 2048)])
    #expect(map.ranges(of: DirtyMap.whole, in: 1) == [ByteRange(offset: Self.block, length: 6144)])
    #expect(map.isEmpty)
  }

  @Test func pastItsLimitBlocksAreDirtyAsAWhole() {
    var map = DirtyMap(sizeBytes: 1 << 20, blockBytes: Self.block, partialLimit: 2)
    for index in 0..<4 { map.insert(ByteRange(offset: UInt64(index) * Self.block, length: 1)) }
    #expect(map.bytes == 2 * 4096 + 2 * Self.block)
  }

  @Test func aLongRunForgetsTheSixteenthsInItAndNoOthers() {
    var map = DirtyMap(sizeBytes: 100 * Self.block, blockBytes: Self.block)
    for block in [3, 50, 98] as [UInt64] { map.insert(ByteRange(offset: block * Self.block, length: 1)) }
    #expect(map.dirtyBytes(of: 3) == 4096 && map.dirtyBytes(of: 4) == 0)
    map.insert(ByteRange(offset: 3 * Self.block + 8192, length: 1))
    #expect(map.dirtyBytes(of: 3) == 2 * 4096, "two sixteenths, not one")
    map.insert(1..<60)
    #expect(map.bytes == 59 * Self.block + 4096)
    #expect(map.dirtyBytes(of: 50) == Self.block && map.dirtyBytes(of: 98) == 4096)
    #expect(!map.isFull)
    map.insert(0..<100)
    #expect(map.isFull && map.bytes == 100 * Self.block)
    map.remove(0..<100)
    #expect(map.isEmpty && map.bytes == 0)
  }

  /// Against a plain set of sixteenths.
  @Test func whateverHappensNothingDirtyIsForgotten() {
    let random = SeededRandom(seed: 11)
    for _ in 0..<40 {
      var map = DirtyMap(sizeBytes: 20 * Self.block, blockBytes: Self.block, partialLimit: 6)
      var model = Set<Int>()
      for _ in 0..<200 {
        switch random.below(4) {
        case 0, 1:
          let start = UInt64(random.below(19 * Int(Self.block)))
          let length = UInt64(1 + random.below(random.below(5) == 0 ? 200_000 : 9000))
          let range = ByteRange(from: start, to: min(start + length, 20 * Self.block))
          map.insert(range)
          for part in Int(range.offset / 4096)...Int((range.end - 1) / 4096) { model.insert(part) }
        case 2:
          let block = random.below(20)
          guard map.blocks.contains(block) else { continue }
          let wanted = model.filter { $0 / 16 == block }
          let taken = map.ranges(of: map.take(block), in: block)
          let parts = Set(taken.flatMap { Int($0.offset / 4096)..<Int($0.end / 4096) })
          #expect(parts.isSuperset(of: wanted))
          model.subtract(wanted)
        default:
          let first = random.below(18)
          map.remove(first..<first + 2)
          model = model.filter { $0 / 16 != first && $0 / 16 != first + 1 }
        }
        #expect(map.bytes >= UInt64(model.count) * 4096)
        #expect(Set(model.map { $0 / 16 }).allSatisfy { map.blocks.contains($0) })
      }
    }
  }
}
