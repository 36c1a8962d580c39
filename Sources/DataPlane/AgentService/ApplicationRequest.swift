internal import BlockModel
internal import LinuxPlatform
internal import NBDServer
internal import Replication

/// A request of the application between the tap and the machine. The tap's payload stays ours until `completion` was
/// called, so that call waits for every frame that still reads it and every lane that still writes it.
final class ApplicationRequest: Sendable {
  private struct State: Sendable {
    var holds = 0
    var status: IOStatus?
  }

  let id: UInt64
  /// Where in the volume the payload's first byte belongs.
  let offset: UInt64
  let payload: PayloadBuffer
  let begunAt = MonotonicTime.now
  /// A flush takes as long as what was written before it, and says nothing of how fast requests are.
  let isMeasured: Bool
  private let completion: NBDCompletion
  private let state = Monitor(State())

  init(
    id: UInt64, offset: UInt64, payload: PayloadBuffer, isMeasured: Bool, completion: @escaping NBDCompletion
  ) {
    self.id = id
    self.isMeasured = isMeasured
    self.offset = offset
    self.payload = payload
    self.completion = completion
  }

  /// Part of the payload.
  func piece(_ start: Int, _ count: Int) -> UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(rebasing: payload.bytes[start..<start + count])
  }

  /// Somebody uses the payload from now on.
  func hold() { state.withLock { $0.holds += 1 } }

  /// The machine is done with the request. True: the caller is to call `answer` now; otherwise whoever drops the last
  /// hold is.
  func finish(_ status: IOStatus) -> Bool {
    state.withLock { state in
      state.status = status
      return state.holds == 0
    }
  }

  /// True: the caller is to call `answer` now.
  func drop() -> Bool {
    state.withLock { state in
      state.holds -= 1
      return state.holds == 0 && state.status != nil
    }
  }

  /// Tells the client; never waits for it.
  func answer() {
    guard let status = state.withLock({ $0.status }) else { return }
    completion(status == .ok ? .success(()) : .failure(Self.code(status)))
  }

  private static func code(_ status: IOStatus) -> NBDErrorCode {
    switch status {
    case .ok, .ioError: .inputOutput
    case .noSpace: .noSpace
    case .readOnly: .notPermitted
    case .outOfRange: .invalid
    case .refused: .shutdown
    }
  }
}

/// A piece of an application's payload on its way to the peer.
final class ApplicationSlice: FramePayload {
  private let request: ApplicationRequest
  private let offset: Int
  private let count: Int

  init(_ request: ApplicationRequest, offset: Int, count: Int) {
    self.request = request
    self.offset = offset
    self.count = count
    request.hold()
  }

  var bytes: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(request.piece(offset, count))
  }

  func release() { if request.drop() { request.answer() } }
}

/// A buffer lent from a pool; goes back with its last reference. As a frame's payload, its first `count` bytes.
///
/// `@unchecked Sendable`: `count` and `packing` are set by whoever filled the buffer, before it is handed on through a lock.
final class PooledBuffer: FramePayload, @unchecked Sendable {
  private let pool: BufferPool
  private let buffer: AlignedBuffer
  var count: Int
  /// Of what was read to be copied, whole: what is known of its way so far.
  var packing: PackingSample?

  /// Waits for a buffer.
  init(from pool: BufferPool, count: Int) {
    precondition(count <= pool.bufferBytes)
    self.pool = pool
    buffer = pool.take()
    self.count = count
  }

  deinit { pool.giveBack(buffer) }

  var target: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<count]) }
  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: buffer.readOnly[..<count]) }
  func release() {}
}

/// A part of a lent buffer, as a frame's payload.
final class BufferSlice: FramePayload {
  private let buffer: PooledBuffer
  private let offset: Int
  private let count: Int

  init(_ buffer: PooledBuffer, offset: Int, count: Int) {
    self.buffer = buffer
    self.offset = offset
    self.count = count
  }

  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: buffer.bytes[offset..<offset + count]) }
  func release() {}
}
