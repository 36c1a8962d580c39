package import BlockModel

/// A picture of where a volume's copies differ, no larger than asked for, however large the volume is: a row of cells of
/// equal size, each with how much of it differs. To the source's agent; needs no lease, and costs little enough to be
/// asked every second.
package struct MapCall: SessionCall {
  package typealias Answer = ChangedDataMap
  package static let method = "map"
  /// Most cells of an answer.
  package static let mostCells = 4096
  package var session: SessionID
  package var volume: VolumeName
  /// The part of the volume that is wanted; a length past its end is cut, and none means all from `offset` on.
  package var offset: UInt64
  package var length: UInt64?
  /// Into how many cells; fewer where a cell would be less than a block.
  package var cells: Int
  package init(session: SessionID, volume: VolumeName, offset: UInt64, length: UInt64?, cells: Int) {
    self.session = session
    self.volume = volume
    self.offset = offset
    self.length = length
    self.cells = cells
  }
}

package struct ChangedDataMap: Codable, Sendable, Equatable {
  /// Neighbouring cells of one level.
  package struct Run: Codable, Sendable, Equatable {
    package var cells: Int
    /// 0 where both copies are equal, `fullLevel` where all of the cell differs or may, between them in proportion.
    package var level: Int
    package init(cells: Int, level: Int) {
      self.cells = cells
      self.level = level
    }
  }
  package static let fullLevel = 8

  package var volume: VolumeName
  /// Of the whole volume.
  package var sizeBytes: UInt64
  /// What the cells show: from here on, so much.
  package var offset: UInt64
  package var length: UInt64
  /// The last one may be shorter.
  package var cellBytes: UInt64
  /// Of what is shown, in whole blocks.
  package var differsBytes: UInt64
  package var blockBytes: UInt64
  /// In order, without a gap.
  package var runs: [Run]
  package init(
    volume: VolumeName, sizeBytes: UInt64, offset: UInt64, length: UInt64, cellBytes: UInt64, differsBytes: UInt64,
    blockBytes: UInt64, runs: [Run]
  ) {
    self.volume = volume
    self.sizeBytes = sizeBytes
    self.offset = offset
    self.length = length
    self.cellBytes = cellBytes
    self.differsBytes = differsBytes
    self.blockBytes = blockBytes
    self.runs = runs
  }
}
