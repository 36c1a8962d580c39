import BlockModel
import Seams

// Direct I/O for callers whose offset, length or memory is not aligned: through a bounce buffer, and for partial
// blocks by reading the block first. Partial blocks take a lock, because two callers may each own one half of a block.
// A caller that writes whole blocks overlaps both halves, and ordering overlapping calls is the callers' affair.
extension FileBlockDevice {
  func isAligned(_ offset: UInt64, _ buffer: UnsafeRawBufferPointer) -> Bool {
    guard alignment > 1 else { return true }
    let address = UInt64(UInt(bitPattern: buffer.baseAddress))
    return (offset | UInt64(buffer.count) | address) & (alignment - 1) == 0
  }

  func readUnaligned(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(BlockDeviceError) {
    guard let bounce else { return try readAll(at: offset, into: buffer) }
    var done = 0
    while done < buffer.count {
      done += try bounce.withBuffer { scratch throws(BlockDeviceError) in
        let window = window(at: offset + UInt64(done), upTo: buffer.count - done)
        let whole = UnsafeMutableRawBufferPointer(rebasing: scratch.bytes[..<window.wholeBytes])
        try readAll(at: window.start, into: whole)
        UnsafeMutableRawBufferPointer(rebasing: buffer[done...]).copyMemory(
          from: UnsafeRawBufferPointer(rebasing: whole[window.skip..<window.skip + window.count]))
        return window.count
      }
    }
  }

  func writeUnaligned(
    at offset: UInt64, from buffer: UnsafeRawBufferPointer, durable: Bool
  ) throws(BlockDeviceError) {
    guard bounce != nil else { return try writeAll(at: offset, from: buffer, durable: durable) }
    var done = 0
    while done < buffer.count {
      let window = window(at: offset + UInt64(done), upTo: buffer.count - done)
      let part = UnsafeRawBufferPointer(rebasing: buffer[done..<done + window.count])
      if window.isWhole {
        try writeWindow(window, part, durable)
      } else {
        try partialBlocks.withLock { _ throws(BlockDeviceError) in try writeWindow(window, part, durable) }
      }
      done += window.count
    }
  }

  /// An aligned stretch of the device, at most one bounce buffer long, and which part of it the caller means.
  private struct Window {
    var start: UInt64
    var wholeBytes: Int
    var skip: Int
    var count: Int
    var isWhole: Bool { skip == 0 && count == wholeBytes }
  }

  private func window(at offset: UInt64, upTo count: Int) -> Window {
    let start = offset & ~(alignment - 1)
    let skip = Int(offset - start)
    let taken = min(count, Self.bounceBytes - skip)
    let whole = (UInt64(skip + taken) + alignment - 1) & ~(alignment - 1)
    return Window(start: start, wholeBytes: Int(whole), skip: skip, count: taken)
  }

  private func writeWindow(
    _ window: Window, _ part: UnsafeRawBufferPointer, _ durable: Bool
  ) throws(BlockDeviceError) {
    guard let bounce else { return }
    try bounce.withBuffer { scratch throws(BlockDeviceError) in
      let whole = UnsafeMutableRawBufferPointer(rebasing: scratch.bytes[..<window.wholeBytes])
      if !window.isWhole { try readAll(at: window.start, into: whole) }
      UnsafeMutableRawBufferPointer(rebasing: whole[window.skip..<window.skip + window.count]).copyMemory(from: part)
      try writeAll(at: window.start, from: UnsafeRawBufferPointer(whole), durable: durable)
    }
  }
}
