import BlockModel
import H2HProtocol
import Replication
import TestSupport
import Testing

/// The changed data map at any zoom.
@Suite struct PictureTests {
  private let block: UInt64 = 65536

  private func levels(_ picture: ChangePicture) -> [Int] {
    picture.runs.flatMap { Array(repeating: $0.level, count: $0.cells) }
  }

  private func written(_ offsets: [UInt64]) -> SourceBench {
    let bench = SourceBench.tracking()
    for (index, offset) in offsets.enumerated() { bench.write(UInt64(100 + index), offset) }
    bench.settle()
    for index in offsets.indices { bench.tell(.localDone(id: UInt64(100 + index), .ok)) }
    return bench
  }

  @Test func everythingDiffersBeforeTheFirstCopyAndNothingAfterIt() {
    let fresh = SourceBench().machine.picture(of: 0, in: ByteRange(offset: 0, length: 8 << 20), cells: 10)
    // 128 blocks in ten cells: thirteen each, the last one shorter.
    #expect(fresh.cellBytes == 13 * block)
    #expect(fresh.runs == [ChangePicture.Run(cells: 10, level: ChangePicture.fullLevel)])
    #expect(fresh.differsBytes == 8 << 20)
    let same = SourceBench.tracking().machine.picture(of: 0, in: ByteRange(offset: 0, length: 8 << 20), cells: 4096)
    #expect(same.runs == [ChangePicture.Run(cells: 128, level: 0)], "no cell is less than a block")
    #expect(same.differsBytes == 0)
  }

  @Test func theSmallestDifferenceIsSeenAtAnyZoomAndOnlyAllIsFull() {
    let bench = written([5 * 65536])
    let all = ByteRange(offset: 0, length: 8 << 20)
    for cells in [1, 2, 7, 16, 128] {
      let picture = bench.machine.picture(of: 0, in: all, cells: cells)
      #expect(levels(picture).count { $0 > 0 } == 1)
      #expect(picture.differsBytes == block)
      #expect(levels(picture).max() == (cells == 128 ? ChangePicture.fullLevel : 1))
    }
    let near = bench.machine.picture(of: 0, in: ByteRange(offset: 4 * block + 1, length: 2 * block), cells: 8)
    #expect(near.range == ByteRange(offset: 4 * block, length: 3 * block), "whole blocks")
    #expect(levels(near) == [0, 8, 0])
  }

  @Test func whatIsOnItsWayDiffersStillAndCountsOnce() {
    let bench = written([0, 65536])
    bench.tell(.command(.resync, id: 3))
    #expect(!bench.copies.isEmpty)
    bench.write(200, 0)
    bench.settle(rounds: 0)
    let picture = bench.machine.picture(of: 0, in: ByteRange(offset: 0, length: 8 << 20), cells: 128)
    #expect(levels(picture)[..<3] == [8, 8, 0])
    #expect(picture.differsBytes == 2 * block)
  }

  @Test func whileWritesMayGoPastTheTapAllOfItMayDiffer() {
    let bench = SourceBench.tracking()
    bench.tell(.untracked(why: "the table was changed"))
    let picture = bench.machine.picture(of: 0, in: ByteRange(offset: 0, length: 8 << 20), cells: 4)
    #expect(picture.runs == [ChangePicture.Run(cells: 4, level: ChangePicture.fullLevel)])
  }

  @Test func aPictureIsWhatBlockByBlockWouldGive() {
    let random = SeededRandom(seed: 9)
    for _ in 0..<40 {
      let bench = written((0..<random.within(0...30)).map { _ in UInt64(random.below(2000)) * 4096 })
      let offset = UInt64(random.below(8 << 20))
      let range = ByteRange(offset: offset, length: UInt64(1 + random.below(8 << 20 - Int(offset))))
      let cells = random.within(1...200)
      let picture = bench.machine.picture(of: 0, in: range, cells: cells)
      let fine = bench.machine.changedDataMap(of: 0, in: picture.range, limit: 1000)
      #expect(picture.differsBytes == fine.reduce(0) { $0 + ($1.differs ? $1.range.length : 0) })
      let all = levels(picture)
      #expect(all.count <= cells)
      for (index, level) in all.enumerated() {
        let start = picture.range.offset + UInt64(index) * picture.cellBytes
        let cell = ByteRange(from: start, to: min(start + picture.cellBytes, picture.range.end))
        let differing = fine.filter { $0.differs && $0.range.overlaps(cell) }
        #expect((level > 0) == !differing.isEmpty)
        let isAll =
          differing.count == 1 && differing[0].range.offset <= cell.offset && differing[0].range.end >= cell.end
        #expect((level == ChangePicture.fullLevel) == isAll)
      }
    }
  }
}
