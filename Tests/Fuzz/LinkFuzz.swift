import H2HProtocol

/// libFuzzer's entry: a stream from the other agent, cut anywhere. No bytes may crash the decoder, make it keep more than
/// a frame and what came last, or let it go on after an error.
///
/// A byte of the input says what comes next: raw bytes as they are, or a header with a checksum that is right, which luck
/// would never find, and lengths and a type of the input's; or a copier's write whose payload says that it is packed, and
/// now and then is.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzLink(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  var input = FuzzInput(Array(UnsafeBufferPointer(start: data, count: count)))
  var decoder = FrameDecoder()
  while let kind = input.next() {
    let bytes: [UInt8] =
      switch kind & 3 {
      case 0: input.take(Int(kind >> 2))
      case 1: input.takeFrame(isPayloadLarge: false)
      case 2: input.takeFrame(isPayloadLarge: true)
      default: input.takePacked(isHonest: kind & 4 != 0)
      }
    decoder.append(bytes)
    do {
      while let (frame, payload) = try decoder.next() {
        precondition(payload.count == frame.message.payloadBytes)
        precondition(payload.count <= H2HLimits.payloadBytes)
        checkRoundTrip(frame)
      }
    } catch let failure {
      var isRepeated = false
      do { _ = try decoder.next() } catch { isRepeated = error == failure }
      precondition(isRepeated, "a stream that lost its place goes on")
      return 0
    }
    let most = H2HLimits.headerBytes + H2HLimits.fieldsBytes + H2HLimits.payloadBytes + bytes.count
    precondition(decoder.pendingBytes <= most, "\(decoder.pendingBytes) bytes are kept")
  }
  return 0
}

/// What was understood is said in the same bytes again.
func checkRoundTrip(_ frame: H2HFrame) {
  let bytes = frame.encoded()
  let again = (try? FrameHeader(decoding: bytes[..<H2HLimits.headerBytes]))
    .flatMap { try? H2HFrame(header: $0, fields: bytes[H2HLimits.headerBytes...]) }
  precondition(again == frame, "\(frame) is not what it says")
}

/// Bytes taken from the front.
struct FuzzInput {
  private var rest: ArraySlice<UInt8>
  init(_ bytes: [UInt8]) { rest = bytes[...] }

  mutating func next() -> UInt8? { rest.popFirst() }
  mutating func take(_ count: Int) -> [UInt8] {
    let taken = Array(rest.prefix(count))
    rest = rest.dropFirst(count)
    return taken
  }

  /// A copier's write with a packed payload: bytes of the input's that claim to be so, or, `isHonest`, are.
  mutating func takePacked(isHonest: Bool) -> [UInt8] {
    let length = Int(next() ?? 0) << 8 | Int(next() ?? 0)
    let raw = take(Int(next() ?? 0))
    let message = H2HMessage.write(volume: 0, offset: 0, length: UInt32(length), durable: false, kind: .copy)
    guard isHonest, length > 0 else {
      return H2HFrame(requestID: 1, message: message, packedBytes: raw.count).encoded() + raw
    }
    let plain = (0..<length).map { raw.isEmpty ? 0 : raw[$0 % raw.count] }
    var packed = [UInt8](repeating: 0, count: length)
    let count = plain.withUnsafeBytes { plain in
      packed.withUnsafeMutableBytes { PayloadPacking.pack(plain, into: $0) }
    }
    guard let count else { return H2HFrame(requestID: 1, message: message).encoded() + plain }
    return H2HFrame(requestID: 1, message: message, packedBytes: count).encoded() + packed[..<count]
  }

  /// A header that checks out, and fields and payload of lengths that it may lie about.
  mutating func takeFrame(isPayloadLarge: Bool) -> [UInt8] {
    let type = next() ?? 0
    let fields = take(Int(next() ?? 0))
    let lie = next() ?? 0
    let payload = take(Int(next() ?? 0))
    var header = ByteWriter()
    header.put(UInt32(0x434d_4348))
    header.put(UInt8(1))
    header.put(type)
    header.put(UInt16(0))
    header.put(UInt32(lie & 0xf0 == 0xf0 ? UInt32.max >> UInt32(lie & 15) : UInt32(fields.count)))
    header.put(isPayloadLarge ? UInt32(lie) << 16 : UInt32(payload.count))
    header.put(UInt64(lie))
    header.put(UInt32(0))
    header.put(CRC32C.checksum(header.bytes))
    return header.bytes + fields + payload
  }
}
