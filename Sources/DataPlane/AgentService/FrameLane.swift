internal import H2HProtocol
internal import LinuxPlatform
internal import Seams

/// The bytes that follow a frame, owned by the frame until it was written or given up.
protocol FramePayload: AnyObject, Sendable {
  var bytes: UnsafeRawBufferPointer { get }
  /// Called exactly once, after the last use of `bytes`.
  func release()
}

/// A frame on its way to the socket.
struct OutgoingFrame: Sendable {
  var frame: H2HFrame
  var payload: (any FramePayload)?
  init(_ frame: H2HFrame, payload: (any FramePayload)? = nil) {
    self.frame = frame
    self.payload = payload
  }
}

/// One TLS connection of a link, as frames. One thread reads, one writes (both are the owner's), any thread enqueues.
final class FrameLane: Sendable {
  /// Frames that wait to be written. The machines keep fewer in flight; more means that this end lost count, and the
  /// link is closed.
  static let queueLimit = 8192
  /// Small frames are gathered up to this many bytes, so that they share a TLS record and a system call.
  static let gatherBytes = 64 << 10
  /// Payloads up to this many bytes are copied next to other frames; longer ones go from where they are.
  static let copiedPayloadBytes = 16 << 10
  static let receiveBufferBytes = 64 << 10

  let number: Int
  let reader: FrameReader
  private let channel: any ByteChannel
  private let queue = BlockingQueue<OutgoingFrame>(capacity: queueLimit)

  /// `reader` where the handshake has read from the channel already.
  init(number: Int, channel: any ByteChannel, reader: FrameReader? = nil) {
    self.number = number
    self.channel = channel
    self.reader = reader ?? FrameReader(channel: channel)
  }

  /// Memory for the payload of the frame at hand; one thread, and until its next call. At most `H2HLimits.payloadBytes`.
  func payload(_ count: Int) -> UnsafeMutableRawBufferPointer { reader.payload(count) }

  /// Never waits. False where the lane is closed or overfull; the payload was then released.
  @discardableResult
  func enqueue(_ frame: OutgoingFrame) -> Bool {
    if queue.tryPush(frame) { return true }
    frame.payload?.release()
    return false
  }

  /// Writes the frame on the caller's thread, which may wait for the socket; frames that are queued may go before or after
  /// it. For bulk data: the thread that read it from the disk has it in its core's cache, and need wake no other.
  func transmit(_ outgoing: OutgoingFrame) throws(ChannelError) {
    defer { outgoing.payload?.release() }
    guard !queue.isClosed else { return }
    let header = outgoing.frame.encoded()
    try Self.raw {
      try header.withUnsafeBytes { header in
        if let payload = outgoing.payload {
          try channel.write(header, payload.bytes)
        } else {
          try channel.write(header)
        }
      }
    }
  }

  /// Shuts both directions at once; what waits in the queue is released by the writer.
  func close() {
    queue.close()
    channel.shutDown()
  }

  /// Writes a last frame on the caller's thread. Errors are of no more interest.
  func finish(with last: OutgoingFrame) {
    queue.close()
    try? last.frame.encoded().withUnsafeBytes { try channel.write($0) }
  }

  // MARK: Writing

  /// The writer's thread: until the lane is closed or breaks. What is left in the queue is released.
  func runWriter() -> ChannelError? {
    var gathered: [UInt8] = []
    gathered.reserveCapacity(Self.gatherBytes + Self.copiedPayloadBytes + 1024)
    var failure: ChannelError?
    while failure == nil, let first = queue.pop() {
      do throws(ChannelError) {
        try write(first, gathering: &gathered)
        // What else waits now goes along; the queue being empty is the moment to let the socket have it.
        while gathered.count < Self.gatherBytes, queue.count > 0, let next = queue.pop() {
          try write(next, gathering: &gathered)
        }
        try flush(&gathered)
      } catch {
        failure = error
      }
    }
    queue.close()
    while let left = queue.pop() { left.payload?.release() }
    return failure
  }

  private func write(_ outgoing: OutgoingFrame, gathering gathered: inout [UInt8]) throws(ChannelError) {
    gathered.append(contentsOf: outgoing.frame.encoded())
    guard let payload = outgoing.payload else { return }
    defer { payload.release() }
    let bytes = payload.bytes
    if bytes.count <= Self.copiedPayloadBytes {
      gathered.append(contentsOf: bytes)
      return
    }
    try Self.raw { try gathered.withUnsafeBytes { try channel.write($0, bytes) } }
    gathered.removeAll(keepingCapacity: true)
  }

  private func flush(_ gathered: inout [UInt8]) throws(ChannelError) {
    guard !gathered.isEmpty else { return }
    try Self.raw { try gathered.withUnsafeBytes { try channel.write($0) } }
    gathered.removeAll(keepingCapacity: true)
  }

  /// Array's accessors still throw untyped.
  private static func raw(_ body: () throws -> Void) throws(ChannelError) {
    do {
      try body()
    } catch let error as ChannelError {
      throw error
    } catch {
      throw ChannelError(.broken, "\(error)")
    }
  }

}

/// Reads frames off a channel: headers through a buffer, payloads into memory of the caller's.
///
/// `@unchecked Sendable`: used by one thread at a time; the handshake's thread hands it to the lane's reading thread
/// by starting that thread.
final class FrameReader: @unchecked Sendable {
  private let channel: any ByteChannel
  private let buffer = AlignedBuffer(byteCount: FrameLane.receiveBufferBytes)
  private var start = 0
  private var end = 0
  /// Of the last frame's payload, where it is packed: its bytes on the link.
  private var packedBytes: Int?
  /// Made when the first payload comes.
  private lazy var payloadBuffer = AlignedBuffer(byteCount: H2HLimits.payloadBytes)
  /// Made when the first packed payload comes.
  private lazy var packedBuffer = AlignedBuffer(byteCount: H2HLimits.payloadBytes)

  init(channel: any ByteChannel) { self.channel = channel }

  func payload(_ count: Int) -> UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(rebasing: payloadBuffer.bytes[..<count])
  }

  /// The next frame; `message.payloadBytes` bytes must be read next, by `readPayload` or `skipPayload`.
  func next() throws(LinkFailure) -> H2HFrame {
    try fill(H2HLimits.headerBytes)
    let header: FrameHeader
    do throws(H2HProtocolError) {
      header = try FrameHeader(decoding: take(H2HLimits.headerBytes))
    } catch {
      throw LinkFailure("\(error)")
    }
    try fill(header.fieldsBytes)
    do throws(H2HProtocolError) {
      let frame = try H2HFrame(header: header, fields: take(header.fieldsBytes))
      packedBytes = frame.packedBytes
      return frame
    } catch {
      throw LinkFailure("\(error)")
    }
  }

  /// Unpacked, where it came packed; `target` is as long as the message says.
  func readPayload(into target: UnsafeMutableRawBufferPointer) throws(LinkFailure) {
    guard let packedBytes else { return try readRaw(into: target) }
    let packed = UnsafeMutableRawBufferPointer(rebasing: packedBuffer.bytes[..<packedBytes])
    try readRaw(into: packed)
    do throws(H2HProtocolError) {
      try PayloadPacking.unpack(UnsafeRawBufferPointer(packed), into: target)
    } catch {
      throw LinkFailure("\(error)")
    }
  }

  private func readRaw(into target: UnsafeMutableRawBufferPointer) throws(LinkFailure) {
    let buffered = min(target.count, end - start)
    if buffered > 0 {
      target.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer.bytes[start..<start + buffered]))
      start += buffered
    }
    guard buffered < target.count else { return }
    do throws(ChannelError) {
      try channel.readFully(into: UnsafeMutableRawBufferPointer(rebasing: target[buffered...]))
    } catch {
      throw LinkFailure(error.message)
    }
  }

  func skipPayload(_ count: Int) throws(LinkFailure) {
    var left = count
    while left > 0 {
      if start == end { try fill(1) }
      let step = min(left, end - start)
      start += step
      left -= step
    }
  }

  private func take(_ count: Int) -> [UInt8] {
    defer { start += count }
    return Array(buffer.bytes[start..<start + count])
  }

  /// Sees to it that `count` bytes are in the buffer.
  private func fill(_ count: Int) throws(LinkFailure) {
    precondition(count <= FrameLane.receiveBufferBytes)
    guard end - start < count else { return }
    if start > 0 {
      buffer.bytes.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer.bytes[start..<end]))
      end -= start
      start = 0
    }
    do throws(ChannelError) {
      while end < count { end += try channel.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[end...])) }
    } catch {
      throw LinkFailure(error.message)
    }
  }
}

/// Why a link ended, for people.
struct LinkFailure: Error, Sendable, Equatable, CustomStringConvertible {
  let message: String
  init(_ message: String) { self.message = message }
  var description: String { message }
}
