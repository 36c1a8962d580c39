import Glibc

/// Memory for I/O, aligned for direct access to devices. Freed with the last reference.
/// Sharing is the owner's affair: two threads never touch the same bytes at the same time.
package final class AlignedBuffer: @unchecked Sendable {
  // Sendable: the pointer never changes; who may touch the bytes when is handed on by the queues that carry buffers.
  package static let defaultAlignment = 4096

  package let bytes: UnsafeMutableRawBufferPointer
  package var count: Int { bytes.count }
  package var readOnly: UnsafeRawBufferPointer { UnsafeRawBufferPointer(bytes) }

  /// Zeroed memory. `alignment` is a power of two, at least 16. Like any allocation in Swift it stops the process
  /// where there is none left, which is why I/O paths take their buffers from a pool at the start.
  package init(byteCount: Int, alignment: Int = defaultAlignment) {
    precondition(byteCount >= 0 && alignment >= 16 && alignment & (alignment - 1) == 0)
    bytes = .allocate(byteCount: byteCount, alignment: alignment)
    if let base = bytes.baseAddress { memset(base, 0, byteCount) }
  }

  deinit { bytes.deallocate() }
}

/// At most so many buffers, for paths that must not allocate without bound.
package final class BufferPool: Sendable {
  private struct Buffers: Sendable {
    var free: [AlignedBuffer]
    var made: Int
  }

  package let bufferBytes: Int
  package let limit: Int
  private let buffers: Monitor<Buffers>

  /// All buffers are made at the start, for paths that must not allocate at all, unless `isLazy`: then each is made when
  /// it is first needed, and kept.
  package init(bufferBytes: Int, limit: Int, isLazy: Bool = false) {
    precondition(limit >= 1)
    self.bufferBytes = bufferBytes
    self.limit = limit
    let atStart = isLazy ? 0 : limit
    var free = (0..<atStart).map { _ in AlignedBuffer(byteCount: bufferBytes) }
    free.reserveCapacity(limit)
    buffers = Monitor(Buffers(free: free, made: atStart))
  }

  /// Lends a buffer for the time of `body`, waiting for one.
  package func withBuffer<Result, Failure: Error>(
    _ body: (AlignedBuffer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let buffer = take()
    defer { giveBack(buffer) }
    return try body(buffer)
  }

  /// Waits for a buffer; it must come back by `giveBack`. Its bytes are what the last user left.
  package func take() -> AlignedBuffer {
    while true {
      // With no deadline the wait ends only with a buffer, or with leave to make one.
      let found: AlignedBuffer?? = buffers.wait { buffers -> AlignedBuffer?? in
        Self.next(&buffers, limit: limit)
      }
      if let found { return found ?? AlignedBuffer(byteCount: bufferBytes) }
    }
  }

  /// A buffer, or nil where all are lent. Never waits.
  package func tryTake() -> AlignedBuffer? {
    let found = buffers.withLock { Self.next(&$0, limit: limit) }
    guard let found else { return nil }
    return found ?? AlignedBuffer(byteCount: bufferBytes)
  }

  package func giveBack(_ buffer: AlignedBuffer) {
    buffers.withLock { $0.free.append(buffer) }
    buffers.notifyOne()
  }

  /// Nil: all are lent. `.some(nil)`: one more is to be made.
  private static func next(_ buffers: inout Buffers, limit: Int) -> AlignedBuffer?? {
    if let buffer = buffers.free.popLast() { return .some(buffer) }
    guard buffers.made < limit else { return nil }
    buffers.made += 1
    return .some(nil)
  }
}
