/// Frames out of a stream that may be cut anywhere. Not for the hot path: a driver that reads header, fields and
/// payload into buffers of its own uses `FrameHeader` and `H2HFrame(header:fields:)`, the same code this uses.
/// After an error the stream is unusable: every further call throws the same error.
package struct FrameDecoder: Sendable {
  private var buffer: [UInt8] = []
  private var consumed = 0
  private var failure: H2HProtocolError?

  package init() {}

  /// Takes any number of bytes.
  package mutating func append(_ bytes: some Sequence<UInt8>) {
    if consumed > 0 {
      buffer.removeFirst(consumed)
      consumed = 0
    }
    buffer.append(contentsOf: bytes)
  }

  /// The next whole frame and its payload, unpacked, or nil if more bytes are needed.
  package mutating func next() throws(H2HProtocolError) -> (frame: H2HFrame, payload: [UInt8])? {
    if let failure { throw failure }
    do throws(H2HProtocolError) {
      return try decode()
    } catch {
      failure = error
      throw error
    }
  }

  /// Bytes that belong to a frame not yet whole. Never more than one frame's limit plus what was appended last.
  package var pendingBytes: Int { buffer.count - consumed }

  private mutating func decode() throws(H2HProtocolError) -> (frame: H2HFrame, payload: [UInt8])? {
    guard pendingBytes >= H2HLimits.headerBytes else { return nil }
    let fieldsStart = consumed + H2HLimits.headerBytes
    let header = try FrameHeader(decoding: buffer[consumed..<fieldsStart])
    guard buffer.count - fieldsStart >= header.fieldsBytes else { return nil }
    let payloadStart = fieldsStart + header.fieldsBytes
    let frame = try H2HFrame(header: header, fields: buffer[fieldsStart..<payloadStart])
    guard buffer.count - payloadStart >= header.payloadBytes else { return nil }
    let end = payloadStart + header.payloadBytes
    let payload = try Self.plain(buffer[payloadStart..<end], of: frame)
    consumed = end
    return (frame, payload)
  }

  private static func plain(_ bytes: ArraySlice<UInt8>, of frame: H2HFrame) throws(H2HProtocolError) -> [UInt8] {
    guard frame.packedBytes != nil else { return Array(bytes) }
    var plain = [UInt8](repeating: 0, count: frame.message.payloadBytes)
    var failure: H2HProtocolError?
    bytes.withUnsafeBytes { packed in
      plain.withUnsafeMutableBytes { target in
        do throws(H2HProtocolError) { try PayloadPacking.unpack(packed, into: target) } catch { failure = error }
      }
    }
    if let failure { throw failure }
    return plain
  }
}
