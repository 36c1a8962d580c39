/// A run of bytes of a volume: `offset` and `length` in bytes; `end` never overflows for ranges within a volume.
package struct ByteRange: Hashable, Sendable, CustomStringConvertible {
  package var offset: UInt64
  package var length: UInt64

  package init(offset: UInt64, length: UInt64) {
    self.offset = offset
    self.length = length
  }

  package init(from start: UInt64, to end: UInt64) {
    precondition(start <= end)
    self.init(offset: start, length: end - start)
  }

  package var end: UInt64 { offset + length }
  package var isEmpty: Bool { length == 0 }
  package func overlaps(_ other: ByteRange) -> Bool { offset < other.end && other.offset < end }
  package func contains(_ other: ByteRange) -> Bool { offset <= other.offset && other.end <= end }

  /// What both have in common, or nil.
  package func intersection(_ other: ByteRange) -> ByteRange? {
    let start = max(offset, other.offset)
    let stop = min(end, other.end)
    return start < stop ? ByteRange(from: start, to: stop) : nil
  }

  /// Whether the range lies within `0 ..< sizeBytes`, with no overflow.
  package func fits(in sizeBytes: UInt64) -> Bool { offset <= sizeBytes && length <= sizeBytes - offset }

  package var description: String { "[\(offset), +\(length))" }
}
