import BlockModel
import H2HProtocol
import TestSupport
import Testing

private let state = HelloState(
  session: SessionID("6f1c/erp-db"), role: .destination, bootID: "b7e1", openEpoch: 3, generation: Generation(7),
  authority: .standIn, preparedGeneration: Generation(8), copyID: 0xfeed_beef_0000_0001,
  volumes: [
    HelloVolume(name: VolumeName("data"), sizeBytes: 1 << 30, isKnownZero: true),
    HelloVolume(name: VolumeName("log"), sizeBytes: 4 << 20),
  ])

private let digest = ExtentDigest((0..<32).map { UInt8($0) })

private let everyMessage: [H2HMessage] = [
  .hello(Hello(link: 42, lane: 1, lanes: 3, state: state)),
  .helloAnswer(HelloAnswer(state: state)),
  .helloAnswer(HelloAnswer(status: .refused, why: "another session", state: nil)),
  .ping, .pong, .prepare(Generation(9), .standIn), .prepared(Generation(9)), .committed(Generation(9), .destination),
  .write(volume: 1, offset: 4096, length: 5, durable: true, kind: .mirror),
  .writeZeroes(volume: 0, range: ByteRange(offset: 0, length: 1 << 30), durable: false, kind: .copy),
  .read(volume: 0, offset: 512, length: 1 << 20), .readAnswer(length: 3), .flush(volume: nil), .flush(volume: 1),
  .digestRequest(volume: 0, ranges: [ByteRange(offset: 0, length: 4), ByteRange(offset: 8, length: 4)]),
  .digestAnswer(digest.map { [$0, $0] } ?? []), .cancel, .retire, .probe(length: 2, answerLength: 7),
  .answer(.noSpace, text: "no space left on /dev/sdb"),
]

private func wire(_ message: H2HMessage, id: UInt64 = 77) -> [UInt8] {
  H2HFrame(requestID: id, message: message).encoded() + (0..<message.payloadBytes).map { UInt8($0 & 0xff) }
}

@Suite struct FrameCodingTests {
  @Test(arguments: everyMessage) func aMessageArrivesAsItWasSent(_ message: H2HMessage) throws {
    var decoder = FrameDecoder()
    decoder.append(wire(message))
    let (frame, payload) = try #require(try decoder.next())
    #expect(frame == H2HFrame(requestID: 77, message: message))
    #expect(payload.count == message.payloadBytes)
    #expect(try decoder.next() == nil)
    #expect(decoder.pendingBytes == 0)
  }

  @Test func aStreamCutAnywhereGivesTheSameFrames() throws {
    let messages = everyMessage.filter { $0.payloadBytes < 100 }
    let stream = messages.flatMap { wire($0) }
    for cut in stride(from: 0, through: stream.count, by: 1) {
      var decoder = FrameDecoder()
      var found: [H2HMessage] = []
      for part in [stream[..<cut], stream[cut...]] {
        decoder.append(part)
        while let next = try decoder.next() { found.append(next.frame.message) }
      }
      #expect(found == messages)
    }
    var decoder = FrameDecoder()
    var found: [H2HMessage] = []
    for byte in stream {
      decoder.append([byte])
      while let next = try decoder.next() { found.append(next.frame.message) }
    }
    #expect(found == messages)
  }

  @Test(arguments: everyMessage) func aMessageCutShortIsNeverAFrame(_ message: H2HMessage) throws {
    let bytes = H2HFrame(requestID: 1, message: message).encoded()
    let header = try FrameHeader(decoding: bytes[..<H2HLimits.headerBytes])
    for count in 0..<header.fieldsBytes {
      let fields = bytes[H2HLimits.headerBytes..<H2HLimits.headerBytes + count]
      #expect(throws: H2HProtocolError.self) { try H2HFrame(header: header, fields: fields) }
    }
    var decoder = FrameDecoder()
    decoder.append(wire(message).dropLast())
    #expect(try decoder.next() == nil)
  }

  @Test func aDamagedHeaderIsRefusedWhicheverBitFlipped() throws {
    let bytes = wire(.ping)
    for bit in 0..<H2HLimits.headerBytes * 8 {
      var damaged = bytes
      damaged[bit / 8] ^= 1 << UInt8(bit % 8)
      var decoder = FrameDecoder()
      decoder.append(damaged)
      #expect(throws: H2HProtocolError.self) { try decoder.next() }
      #expect(throws: H2HProtocolError.self, "the stream stays unusable") { try decoder.next() }
    }
  }

  @Test func garbageIsRefusedAndNeverTraps() {
    let random = SeededRandom(seed: 5)
    for _ in 0..<20_000 {
      var decoder = FrameDecoder()
      var bytes = random.bytes(random.within(0...200))
      if random.chance(0.7), let message = random.pick(everyMessage.filter({ $0.payloadBytes < 10 })) {
        // A right header over wrong fields reaches the field decoders.
        let whole = wire(message)
        bytes = whole
        for _ in 0..<random.within(0...4) where whole.count > H2HLimits.headerBytes {
          bytes[random.within(H2HLimits.headerBytes...whole.count - 1)] = UInt8(random.below(256))
        }
      }
      decoder.append(bytes)
      while (try? decoder.next()) != nil {}
      #expect(decoder.pendingBytes <= bytes.count)
    }
  }

  @Test func lengthsPastTheLimitAreRefusedBeforeTheirBytesArrive() throws {
    func header(fields: UInt32, payload: UInt32) -> [UInt8] {
      var writer = ByteWriter()
      writer.put(UInt32(0x434d_4348))
      writer.put(UInt8(1))
      writer.put(UInt8(8))
      writer.put(UInt16(0))
      writer.put(fields)
      writer.put(payload)
      writer.put(UInt64(1))
      writer.put(UInt32(0))
      writer.put(CRC32C.checksum(writer.bytes))
      return writer.bytes
    }
    #expect(throws: H2HProtocolError.self) { try FrameHeader(decoding: header(fields: 1 << 20, payload: 0)) }
    #expect(throws: H2HProtocolError.self) { try FrameHeader(decoding: header(fields: 0, payload: .max)) }
    #expect(try FrameHeader(decoding: header(fields: 24, payload: 1 << 20)).payloadBytes == 1 << 20)
  }

  @Test func aPayloadOfAnotherLengthThanItsMessageSaysIsRefused() throws {
    let write = H2HFrame(
      requestID: 1, message: .write(volume: 0, offset: 0, length: 8, durable: false, kind: .copy)
    ).encoded()
    let other = H2HFrame(requestID: 1, message: .ping).encoded()
    let header = try FrameHeader(decoding: other[..<32])
    #expect(header.payloadBytes == 0)
    #expect(throws: H2HProtocolError.self) { try H2HFrame(header: header, fields: write[32...]) }
  }

  @Test func fieldsThatALaterVersionAppendsAreIgnored() throws {
    var decoder = FrameDecoder()
    let frame = H2HFrame(requestID: 3, message: .prepared(Generation(5))).encoded()
    var writer = ByteWriter()
    writer.put(raw: frame[..<8])
    writer.put(UInt32(12))
    writer.put(raw: frame[12..<28])
    writer.put(CRC32C.checksum(writer.bytes))
    writer.put(raw: frame[32...])
    writer.put(UInt32(0xdead))
    decoder.append(writer.bytes)
    #expect(try decoder.next()?.frame.message == .prepared(Generation(5)))
  }

  @Test func versionsMeetAtTheHighestBothSpeak() {
    let ours = H2HVersions(oldest: 2, newest: 3)
    #expect(ours.common(with: H2HVersions(oldest: 1, newest: 9)) == 3)
    #expect(ours.common(with: H2HVersions(oldest: 1, newest: 2)) == 2)
    #expect(ours.common(with: H2HVersions(oldest: 4, newest: 9)) == nil)
    #expect(ours.common(with: H2HVersions(oldest: 0, newest: 1)) == nil)
    #expect(ours.contains(2) && ours.contains(3) && !ours.contains(1) && !ours.contains(4))
  }

  @Test func theChecksumIsCRC32C() {
    // RFC 3720 appendix B.4.
    #expect(CRC32C.checksum([UInt8](repeating: 0, count: 32)) == 0x8a91_36aa)
    #expect(CRC32C.checksum([UInt8](repeating: 0xff, count: 32)) == 0x62a8_ab43)
    #expect(CRC32C.checksum([UInt8]("123456789".utf8)) == 0xe306_9283)
  }
}
