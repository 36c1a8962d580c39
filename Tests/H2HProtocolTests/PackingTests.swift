import BlockModel
import H2HProtocol
import TestSupport
import Testing

private func packed(_ plain: [UInt8]) -> [UInt8]? {
  var target = [UInt8](repeating: 0xee, count: plain.count)
  let count = plain.withUnsafeBytes { plain in
    target.withUnsafeMutableBytes { PayloadPacking.pack(plain, into: $0) }
  }
  return count.map { Array(target[..<$0]) }
}

private func text(_ count: Int) -> [UInt8] { (0..<count).map { UInt8($0 / 7 % 50) } }

private func stream(_ frame: H2HFrame, _ payload: [UInt8]) -> [UInt8] { frame.encoded() + payload }

private func write(_ length: Int, _ kind: WriteKind = .copy) -> H2HMessage {
  .write(volume: 1, offset: 65536, length: UInt32(length), durable: false, kind: kind)
}

@Suite("Payloads that go packed")
struct PackingTests {
  @Test("What was packed arrives as it was, of any length", arguments: [2048, 4096, 65536, 524_288, 1 << 20])
  func arrives(_ length: Int) throws {
    let plain = text(length)
    let small = try #require(packed(plain))
    #expect(small.count < length / 2)
    let frame = H2HFrame(requestID: 9, message: write(length), packedBytes: small.count)
    #expect(frame.payloadBytes == small.count)
    var decoder = FrameDecoder()
    decoder.append(stream(frame, small))
    let (found, payload) = try #require(try decoder.next())
    #expect(found == frame)
    #expect(payload == plain)
    #expect(decoder.pendingBytes == 0)
  }

  @Test("What would not shrink by an eighth isn't packed, nor what is short")
  func notWorthIt() {
    let random = SeededRandom(seed: 3)
    #expect(packed(random.bytes(65536)) == nil)
    #expect(packed(text(1024)) == nil)
  }

  @Test("A packed payload that gives more or fewer bytes than its message says ends the stream")
  func wrongLength() throws {
    let small = try #require(packed(text(65536)))
    for length in [65535, 65537, 1 << 20] {
      var decoder = FrameDecoder()
      decoder.append(stream(H2HFrame(requestID: 1, message: write(length), packedBytes: small.count), small))
      #expect(throws: H2HProtocolError.self) { try decoder.next() }
      #expect(throws: H2HProtocolError.self, "the stream stays unusable") { try decoder.next() }
    }
  }

  @Test("Only a copier's write is packed, and into less than it is")
  func wrongFrame() throws {
    let small = try #require(packed(text(65536)))
    let wrong = [
      H2HFrame(requestID: 1, message: write(65536, .mirror), packedBytes: small.count),
      H2HFrame(requestID: 1, message: .readAnswer(length: 65536), packedBytes: small.count),
      H2HFrame(requestID: 1, message: write(65536), packedBytes: 65536),
      H2HFrame(requestID: 1, message: write(65536), packedBytes: 0),
    ]
    for frame in wrong {
      var decoder = FrameDecoder()
      decoder.append(stream(frame, small))
      #expect(throws: H2HProtocolError.self) { try decoder.next() }
    }
  }

  @Test("A length past the limit is refused before a byte is unpacked")
  func pastTheLimit() throws {
    var bytes = H2HFrame(requestID: 1, message: write(65536), packedBytes: 100).encoded()
    // The message's length, in its fields: more than any payload may be.
    for index in 0..<4 { bytes[H2HLimits.headerBytes + 10 + index] = 0xff }
    var decoder = FrameDecoder()
    decoder.append(bytes)
    #expect(throws: H2HProtocolError.tooLarge(what: "a payload", bytes: Int(UInt32.max), limitBytes: 1 << 20)) {
      try decoder.next()
    }
  }

  @Test("Packed bytes that were changed never write past their place, and mostly end the stream")
  func damaged() throws {
    let plain = text(8192)
    let small = try #require(packed(plain))
    let random = SeededRandom(seed: 11)
    var refused = 0
    for _ in 0..<5000 {
      var bytes = small
      for _ in 0...random.below(4) { bytes[random.below(bytes.count)] = UInt8(random.below(256)) }
      var target = [UInt8](repeating: 0xaa, count: plain.count + 64)
      let isRefused = bytes.withUnsafeBytes { bytes in
        target.withUnsafeMutableBytes { target in
          do {
            try PayloadPacking.unpack(bytes, into: UnsafeMutableRawBufferPointer(rebasing: target[..<plain.count]))
            return false
          } catch { return true }
        }
      }
      if isRefused { refused += 1 }
      #expect(target[plain.count...].allSatisfy { $0 == 0xaa })
    }
    #expect(refused > 1000)
  }

  @Test("Flags that mean nothing yet are refused, and a frame without any is what version 1 says")
  func flags() throws {
    let plain = H2HFrame(requestID: 5, message: .ping).encoded()
    #expect(Array(plain[6..<8]) == [0, 0])
    #expect(Array(plain[24..<28]) == [0, 0, 0, 0])
    var writer = ByteWriter()
    writer.put(raw: plain[..<6])
    writer.put(UInt16(2))
    writer.put(raw: plain[8..<28])
    writer.put(CRC32C.checksum(writer.bytes))
    #expect(throws: H2HProtocolError.self) { try FrameHeader(decoding: writer.bytes) }
  }

  @Test("An answer says how long its disk took")
  func work() throws {
    let frame = H2HFrame(requestID: 5, message: .answer(.ok, text: ""), workMicroseconds: 1234)
    var decoder = FrameDecoder()
    decoder.append(frame.encoded())
    #expect(try decoder.next()?.frame.workMicroseconds == 1234)
  }
}
