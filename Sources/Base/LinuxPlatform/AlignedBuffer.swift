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

/// A fixed number of buffers, made at the start, for paths that must not allocate.
package final class BufferPool: Sendable {
  package let bufferBytes: Int
  package let limit: Int
  private let free: Monitor<[AlignedBuffer]>

  package init(bufferBytes: Int, limit: Int) {
    precondition(limit >= 1)
    self.bufferBytes = bufferBytes
    self.limit = limit
    free = Monitor((0..<limit).map { _ in AlignedBuffer(byteCount: bufferBytes) })
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
      // With no deadline the wait ends only with a buffer.
      if let buffer = free.wait({ $0.popLast() }) { return buffer }
    }
  }

  /// A buffer, or nil where all are lent. Never waits.
  package func tryTake() -> AlignedBuffer? { free.withLock { $0.popLast() } }

  package func giveBack(_ buffer: AlignedBuffer) {
    free.withLock { $0.append(buffer) }
    free.notifyOne()
  }
}
