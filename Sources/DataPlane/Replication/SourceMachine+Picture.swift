package import BlockModel

/// How much differs in each of a row of cells.
package struct ChangePicture: Sendable, Equatable {
  package struct Run: Sendable, Equatable {
    package var cells: Int
    /// 0 none, `fullLevel` all.
    package var level: Int
    package init(cells: Int, level: Int) {
      self.cells = cells
      self.level = level
    }
  }
  package static let fullLevel = 8
  /// Whole blocks, but for the volume's end.
  package var range: ByteRange
  package var cellBytes: UInt64
  package var differsBytes: UInt64
  package var runs: [Run]
}

extension SourceMachine {
  /// A picture of `range`, which lies within the volume and is not empty, in at most `cells` cells of whole blocks. Its
  /// cost is that of the cells and of a bit for every block, counted 64 at a time: a millisecond for the largest volume.
  package func picture(of volume: Int, in range: ByteRange, cells: Int) -> ChangePicture {
    precondition(!range.isEmpty && range.fits(in: volumes[volume].sizeBytes) && cells > 0)
    let blocks = volumes[volume].blocks(of: range)
    let perCell = max(1, (blocks.count + cells - 1) / cells)
    var picture = ChangePicture(
      range: volumes[volume].bytes(ofBlocks: blocks), cellBytes: UInt64(perCell) * volumes[volume].blockBytes,
      differsBytes: 0, runs: [])
    // What is on its way is no longer marked, and differs still.
    let moving = transfers.filter { $0.volume == volume && $0.state != .claimed && $0.blocks.overlaps(blocks) }
    for start in stride(from: blocks.lowerBound, to: blocks.upperBound, by: perCell) {
      let cell = start..<min(start + perCell, blocks.upperBound)
      let count = differing(volume, cell, moving)
      if count > 0 { picture.differsBytes += UInt64(count) * volumes[volume].blockBytes }
      let level = Self.level(count, of: cell.count)
      if let last = picture.runs.indices.last, picture.runs[last].level == level {
        picture.runs[last].cells += 1
      } else {
        picture.runs.append(ChangePicture.Run(cells: 1, level: level))
      }
    }
    picture.differsBytes = min(picture.differsBytes, picture.range.length)
    return picture
  }

  /// Only none is 0 and only all is full, so that no difference, however small, looks like none.
  private static func level(_ count: Int, of all: Int) -> Int {
    if count == 0 { return 0 }
    return count == all
      ? ChangePicture.fullLevel : max(1, min(ChangePicture.fullLevel - 1, count * ChangePicture.fullLevel / all))
  }

  private func differing(_ volume: Int, _ blocks: Range<Int>, _ moving: [Transfer]) -> Int {
    if trackLost != nil { return blocks.count }
    var count = volumes[volume].dirty.blocks.count(in: blocks)
    for transfer in moving where transfer.blocks.overlaps(blocks) {
      let both = transfer.blocks.clamped(to: blocks)
      // Written again since, it is marked as well.
      count += both.count - volumes[volume].dirty.blocks.count(in: both)
    }
    return count
  }
}
