import H2HProtocol

/// libFuzzer's entry: the way of an agent's reading thread, a header and then fields of its length. The input is the type
/// and the fields; the header checks out and is as long as they are, so that nothing but the message is in question.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzFrame(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let input = Array(UnsafeBufferPointer(start: data, count: count))
  guard let type = input.first, input.count <= H2HLimits.fieldsBytes else { return 0 }
  let fields = input.dropFirst()
  // The payload's length is in the message too: wherever it may stand, so that it can be right.
  for offset in [0, 10] where offset == 0 || fields.count >= offset + 4 {
    let payload =
      offset == 0 && fields.count < 4
      ? 0 : fields.dropFirst(offset).prefix(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
    check(type, fields, payloadBytes: payload)
    // Half of it, packed.
    check(type, fields, payloadBytes: payload / 2, isPacked: true)
  }
  check(type, fields, payloadBytes: 0)
  return 0
}

private func check(_ type: UInt8, _ fields: ArraySlice<UInt8>, payloadBytes: UInt32, isPacked: Bool = false) {
  var writer = ByteWriter()
  writer.put(UInt32(0x434d_4348))
  writer.put(UInt8(1))
  writer.put(type)
  writer.put(UInt16(isPacked ? 1 : 0))
  writer.put(UInt32(fields.count))
  writer.put(payloadBytes)
  writer.put(UInt64(7))
  writer.put(UInt32(0))
  writer.put(CRC32C.checksum(writer.bytes))
  guard let header = try? FrameHeader(decoding: writer.bytes) else {
    precondition(payloadBytes > UInt32(H2HLimits.payloadBytes), "a good header is refused")
    return
  }
  guard let frame = try? H2HFrame(header: header, fields: fields) else { return }
  precondition(frame.payloadBytes == Int(payloadBytes) && (frame.packedBytes != nil) == isPacked)
  let again = frame.encoded()
  guard let second = try? FrameHeader(decoding: again[..<H2HLimits.headerBytes]),
    let same = try? H2HFrame(header: second, fields: again[H2HLimits.headerBytes...])
  else { preconditionFailure("\(frame) can't be read back") }
  precondition(same == frame, "\(frame) is not what it says")
}
