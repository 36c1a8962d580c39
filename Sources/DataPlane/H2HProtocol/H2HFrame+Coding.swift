import BlockModel

/// The 32 bytes before every message, big-endian:
/// 0 magic "CMCH" · 4 frame version · 5 type · 6 flags (16: bit 0 packed payload) · 8 fields length (32) · 12 payload
/// length as it follows (32) · 16 request id (64) · 24 microseconds of work (32) · 28 CRC-32C of the 28 bytes before it.
package struct FrameHeader: Sendable, Equatable {
  static let magic: UInt32 = 0x434d_4348
  static let version: UInt8 = 1
  static let packedFlag: UInt16 = 1

  package let type: UInt8
  package let fieldsBytes: Int
  /// As it follows, packed or not.
  package let payloadBytes: Int
  package let isPacked: Bool
  package let requestID: UInt64
  package let workMicroseconds: UInt32

  /// Reads exactly `H2HLimits.headerBytes` bytes; says what is wrong before anything is allocated for the rest.
  package init(decoding bytes: some RandomAccessCollection<UInt8>) throws(H2HProtocolError) {
    guard bytes.count == H2HLimits.headerBytes else { throw .truncated }
    let raw = Array(bytes)
    var reader = ByteReader(raw)
    guard try reader.take(UInt32.self) == Self.magic else { throw .badMagic }
    let version = try reader.take(UInt8.self)
    guard CRC32C.checksum(raw[..<28]) == raw[28...].reduce(UInt32(0), { $0 << 8 | UInt32($1) }) else {
      throw .badHeaderChecksum
    }
    guard version == Self.version else { throw .unknownFrameVersion(version) }
    type = try reader.take()
    let flags = try reader.take(UInt16.self)
    guard flags & ~Self.packedFlag == 0 else { throw .badField("flags of a frame that mean nothing here") }
    isPacked = flags & Self.packedFlag != 0
    fieldsBytes = Int(try reader.take(UInt32.self))
    payloadBytes = Int(try reader.take(UInt32.self))
    requestID = try reader.take()
    workMicroseconds = try reader.take()
    guard fieldsBytes <= H2HLimits.fieldsBytes else {
      throw .tooLarge(what: "fields", bytes: fieldsBytes, limitBytes: H2HLimits.fieldsBytes)
    }
    guard payloadBytes <= H2HLimits.payloadBytes else {
      throw .tooLarge(what: "a payload", bytes: payloadBytes, limitBytes: H2HLimits.payloadBytes)
    }
  }
}

extension H2HFrame {
  /// Header and fields; the payload, `payloadBytes` long, is sent right after them.
  package func encoded() -> [UInt8] {
    var fields = ByteWriter(reserving: 64)
    message.encode(into: &fields)
    var writer = ByteWriter(reserving: H2HLimits.headerBytes + fields.bytes.count)
    writer.put(FrameHeader.magic)
    writer.put(FrameHeader.version)
    writer.put(message.type.rawValue)
    writer.put(packedBytes == nil ? UInt16(0) : FrameHeader.packedFlag)
    writer.put(UInt32(fields.bytes.count))
    writer.put(UInt32(payloadBytes))
    writer.put(requestID)
    writer.put(workMicroseconds)
    writer.put(CRC32C.checksum(writer.bytes))
    writer.put(raw: fields.bytes)
    return writer.bytes
  }

  /// The message of a header whose `fieldsBytes` bytes these are. The payload is not needed for it.
  package init(
    header: FrameHeader, fields: some RandomAccessCollection<UInt8>
  ) throws(H2HProtocolError) {
    guard fields.count == header.fieldsBytes else { throw .truncated }
    guard let type = H2HMessage.WireType(rawValue: header.type) else { throw .unknownType(header.type) }
    var reader = ByteReader(Array(fields))
    let message = try H2HMessage(type, from: &reader)
    if header.isPacked {
      guard case .write(_, _, _, _, .copy) = message else { throw .badField("a packed payload of what is no copying") }
      guard header.payloadBytes > 0, header.payloadBytes < message.payloadBytes else {
        throw .badField("a packed payload that is not smaller than what it holds")
      }
    } else if message.payloadBytes != header.payloadBytes {
      throw .badField("a payload of another length than its message says")
    }
    self.init(
      requestID: header.requestID, message: message, packedBytes: header.isPacked ? header.payloadBytes : nil,
      workMicroseconds: header.workMicroseconds)
  }
}

extension H2HMessage {
  enum WireType: UInt8 {
    case hello = 1
    case helloAnswer = 2
    case ping = 3
    case pong = 4
    case prepare = 5
    case prepared = 6
    case committed = 7
    case write = 8
    case writeZeroes = 9
    case read = 10
    case readAnswer = 11
    case flush = 12
    case digestRequest = 13
    case digestAnswer = 14
    case cancel = 15
    case retire = 16
    case probe = 17
    case answer = 18
  }

  var type: WireType {
    switch self {
    case .hello: .hello
    case .helloAnswer: .helloAnswer
    case .ping: .ping
    case .pong: .pong
    case .prepare: .prepare
    case .prepared: .prepared
    case .committed: .committed
    case .write: .write
    case .writeZeroes: .writeZeroes
    case .read: .read
    case .readAnswer: .readAnswer
    case .flush: .flush
    case .digestRequest: .digestRequest
    case .digestAnswer: .digestAnswer
    case .cancel: .cancel
    case .retire: .retire
    case .probe: .probe
    case .answer: .answer
    }
  }

  func encode(into writer: inout ByteWriter) {
    switch self {
    case .hello(let hello): hello.encode(into: &writer)
    case .helloAnswer(let answer): answer.encode(into: &writer)
    case .ping, .pong, .cancel, .retire: break
    case .prepare(let generation, let authority), .committed(let generation, let authority):
      writer.put(generation.number)
      writer.put(authority.rawValue)
    case .prepared(let generation): writer.put(generation.number)
    case .write(let volume, let offset, let length, let durable, let kind):
      writer.put(volume)
      writer.put(offset)
      writer.put(length)
      writer.put(durable)
      writer.put(kind.rawValue)
    case .writeZeroes(let volume, let range, let durable, let kind):
      writer.put(volume)
      writer.put(range.offset)
      writer.put(range.length)
      writer.put(durable)
      writer.put(kind.rawValue)
    case .read(let volume, let offset, let length):
      writer.put(volume)
      writer.put(offset)
      writer.put(length)
    case .readAnswer(let length): writer.put(length)
    case .flush(let volume):
      writer.put(volume != nil)
      writer.put(volume ?? 0)
    case .digestRequest(let volume, let ranges):
      writer.put(volume)
      writer.put(UInt16(ranges.count))
      for range in ranges {
        writer.put(range.offset)
        writer.put(range.length)
      }
    case .digestAnswer(let digests):
      writer.put(UInt16(digests.count))
      for digest in digests { writer.put(raw: digest.array) }
    case .probe(let length, let answerLength):
      writer.put(length)
      writer.put(answerLength)
    case .answer(let status, let text):
      writer.put(status.rawValue)
      writer.put(text)
    }
  }

  init(_ type: WireType, from reader: inout ByteReader<[UInt8]>) throws(H2HProtocolError) {
    switch type {
    case .hello: self = .hello(try Hello(from: &reader))
    case .helloAnswer: self = .helloAnswer(try HelloAnswer(from: &reader))
    case .ping: self = .ping
    case .pong: self = .pong
    case .cancel: self = .cancel
    case .retire: self = .retire
    case .prepare: self = .prepare(Generation(try reader.take()), try reader.takeAuthority())
    case .committed: self = .committed(Generation(try reader.take()), try reader.takeAuthority())
    case .prepared: self = .prepared(Generation(try reader.take()))
    case .write:
      self = .write(
        volume: try reader.take(), offset: try reader.take(), length: try reader.takePayloadLength(),
        durable: try reader.takeFlag(), kind: try reader.takeKind())
    case .writeZeroes:
      self = .writeZeroes(
        volume: try reader.take(), range: try reader.takeRange(), durable: try reader.takeFlag(),
        kind: try reader.takeKind())
    case .read:
      self = .read(volume: try reader.take(), offset: try reader.take(), length: try reader.takePayloadLength())
    case .readAnswer: self = .readAnswer(length: try reader.takePayloadLength())
    case .flush:
      let isOne = try reader.takeFlag()
      let volume = try reader.take(UInt16.self)
      self = .flush(volume: isOne ? volume : nil)
    case .digestRequest:
      let volume = try reader.take(UInt16.self)
      let count = try reader.takeCount(limit: H2HLimits.digestRanges, bytesEach: 16)
      var ranges: [ByteRange] = []
      for _ in 0..<count { ranges.append(try reader.takeRange()) }
      self = .digestRequest(volume: volume, ranges: ranges)
    case .digestAnswer:
      let count = try reader.takeCount(limit: H2HLimits.digestRanges, bytesEach: ExtentDigest.byteCount)
      var digests: [ExtentDigest] = []
      for _ in 0..<count {
        guard let digest = ExtentDigest(try reader.takeRaw(ExtentDigest.byteCount)) else { throw .truncated }
        digests.append(digest)
      }
      self = .digestAnswer(digests)
    case .probe: self = .probe(length: try reader.takePayloadLength(), answerLength: try reader.takePayloadLength())
    case .answer:
      guard let status = H2HStatus(rawValue: try reader.take()) else { throw .badField("an unknown status") }
      self = .answer(status, text: try reader.takeText())
    }
  }
}

extension ByteReader<[UInt8]> {
  fileprivate mutating func takeAuthority() throws(H2HProtocolError) -> CopyAuthority {
    guard let authority = CopyAuthority(rawValue: try take()) else { throw .badField("an unknown authority") }
    return authority
  }
  fileprivate mutating func takeKind() throws(H2HProtocolError) -> WriteKind {
    guard let kind = WriteKind(rawValue: try take()) else { throw .badField("an unknown kind of write") }
    return kind
  }
  /// A range whose end doesn't overflow.
  fileprivate mutating func takeRange() throws(H2HProtocolError) -> ByteRange {
    let range = ByteRange(offset: try take(), length: try take())
    guard range.fits(in: UInt64(Int64.max)) else { throw .badField("a range past the end of any device") }
    return range
  }
  fileprivate mutating func takePayloadLength() throws(H2HProtocolError) -> UInt32 {
    let length = try take(UInt32.self)
    guard length <= H2HLimits.payloadBytes else {
      throw .tooLarge(what: "a payload", bytes: Int(length), limitBytes: H2HLimits.payloadBytes)
    }
    return length
  }
  fileprivate mutating func takeCount(limit: Int, bytesEach: Int) throws(H2HProtocolError) -> Int {
    let count = Int(try take(UInt16.self))
    guard count <= limit else { throw .tooLarge(what: "a list", bytes: count, limitBytes: limit) }
    guard remaining >= count * bytesEach else { throw .truncated }
    return count
  }
}

extension Hello {
  func encode(into writer: inout ByteWriter) {
    writer.put(oldestVersion)
    writer.put(newestVersion)
    writer.put(link)
    writer.put(lane)
    writer.put(lanes)
    state.encode(into: &writer)
  }
  init(from reader: inout ByteReader<[UInt8]>) throws(H2HProtocolError) {
    self.init(
      versions: H2HVersions(oldest: try reader.take(), newest: try reader.take()), link: try reader.take(),
      lane: try reader.take(), lanes: try reader.take(), state: try HelloState(from: &reader))
    guard lane < lanes, lanes <= H2HLimits.lanes else { throw .badField("lane \(lane) of \(lanes)") }
  }
}

extension HelloAnswer {
  func encode(into writer: inout ByteWriter) {
    writer.put(version)
    writer.put(status.rawValue)
    writer.put(why)
    writer.put(state != nil)
    state?.encode(into: &writer)
  }
  init(from reader: inout ByteReader<[UInt8]>) throws(H2HProtocolError) {
    let version = try reader.take(UInt16.self)
    guard let status = H2HStatus(rawValue: try reader.take()) else { throw .badField("an unknown status") }
    let why = try reader.takeText()
    let state = try reader.takeFlag() ? try HelloState(from: &reader) : nil
    if status == .ok && state == nil { throw .badField("a hello answer without a state") }
    self.init(version: version, status: status, why: why, state: state)
  }
}

extension HelloState {
  func encode(into writer: inout ByteWriter) {
    writer.put(session.text)
    writer.put(UInt8(role == .source ? 1 : 2))
    writer.put(bootID)
    writer.put(openEpoch)
    writer.put(generation.number)
    writer.put(authority.rawValue)
    writer.put(preparedGeneration != nil)
    writer.put(preparedGeneration?.number ?? 0)
    writer.put(copyID)
    writer.put(UInt16(min(volumes.count, H2HLimits.volumes)))
    for volume in volumes.prefix(H2HLimits.volumes) {
      writer.put(volume.name.text, limit: 128)
      writer.put(volume.sizeBytes)
      writer.put(volume.isKnownZero)
    }
  }
  init(from reader: inout ByteReader<[UInt8]>) throws(H2HProtocolError) {
    let session = SessionID(try reader.takeText())
    let role: Role
    switch try reader.take(UInt8.self) {
    case 1: role = .source
    case 2: role = .destination
    default: throw .badField("an unknown role")
    }
    let bootID = try reader.takeText()
    let openEpoch = try reader.take(UInt64.self)
    let generation = Generation(try reader.take())
    let authority = try reader.takeAuthority()
    let hasPrepared = try reader.takeFlag()
    let prepared = Generation(try reader.take())
    let copyID = try reader.take(UInt64.self)
    let count = try reader.takeCount(limit: H2HLimits.volumes, bytesEach: 11)
    var volumes: [HelloVolume] = []
    for _ in 0..<count {
      let name = VolumeName(try reader.takeText(limit: 128))
      volumes.append(
        HelloVolume(name: name, sizeBytes: try reader.take(), isKnownZero: try reader.takeFlag()))
    }
    self.init(
      session: session, role: role, bootID: bootID, openEpoch: openEpoch, generation: generation,
      authority: authority, preparedGeneration: hasPrepared ? prepared : nil, copyID: copyID, volumes: volumes)
  }
}
