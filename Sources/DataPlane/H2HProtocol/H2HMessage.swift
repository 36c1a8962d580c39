package import BlockModel

/// Which copy answers, and who may write it (DESIGN §8.4). Raw values are on the wire and in records.
package enum CopyAuthority: UInt8, Sendable, CaseIterable {
  case source = 1
  /// cMotion: reads from the destination, writes to both.
  case standIn = 2
  /// The source's copy is lost (reserved; no version 1 agent commits it).
  case destinationOnly = 3
  /// Fenced: the destination for good.
  case destination = 4

  package var name: String {
    switch self {
    case .source: "source"
    case .standIn: "standIn"
    case .destinationOnly: "destinationOnly"
    case .destination: "destination"
    }
  }
  package init?(name: String) {
    guard let found = Self.allCases.first(where: { $0.name == name }) else { return nil }
    self = found
  }
}

/// How a request ended at the peer. Raw values are on the wire.
package enum H2HStatus: UInt8, Sendable, CaseIterable {
  case ok = 0
  case ioError = 1
  case noSpace = 2
  case outOfRange = 3
  /// An older generation, another session, a stage in which this is not done: trying again does not help.
  case refused = 4
  case gone = 5
  /// The request can't be carried out now; try again.
  case busy = 6
}

package struct HelloVolume: Sendable, Equatable {
  package var name: VolumeName
  /// What is replicated, in bytes: the source's length.
  package var sizeBytes: UInt64
  /// (destination) Reads as zeroes all over, and has never been written in this session.
  package var isKnownZero: Bool
  package init(name: VolumeName, sizeBytes: UInt64, isKnownZero: Bool = false) {
    self.name = name
    self.sizeBytes = sizeBytes
    self.isKnownZero = isKnownZero
  }
}

/// What an agent says of its half of a session when a link opens.
package struct HelloState: Sendable, Equatable {
  package var session: SessionID
  package var role: Role
  /// The kernel's boot id: changes with every boot.
  package var bootID: String
  /// Grows each time the agent opens the session's devices.
  package var openEpoch: UInt64
  package var generation: Generation
  package var authority: CopyAuthority
  /// (destination) Prepared and not known to be committed.
  package var preparedGeneration: Generation?
  /// Random name of the destination's copy, made when the session is created there. The source says the one it
  /// knows, or 0. A copy with another name has to be filled from the beginning.
  package var copyID: UInt64
  package var volumes: [HelloVolume]

  package init(
    session: SessionID, role: Role, bootID: String, openEpoch: UInt64, generation: Generation,
    authority: CopyAuthority, preparedGeneration: Generation? = nil, copyID: UInt64, volumes: [HelloVolume]
  ) {
    self.session = session
    self.role = role
    self.bootID = bootID
    self.openEpoch = openEpoch
    self.generation = generation
    self.authority = authority
    self.preparedGeneration = preparedGeneration
    self.copyID = copyID
    self.volumes = volumes
  }
}

/// First frame of every lane, sent by the agent that opened the connection.
package struct Hello: Sendable, Equatable {
  package var oldestVersion: UInt16
  package var newestVersion: UInt16
  /// Random, by the opener; all lanes of one link carry the same.
  package var link: UInt64
  /// 0 is the control lane, which comes first; the others belong to the link that it established.
  package var lane: UInt8
  package var lanes: UInt8
  package var state: HelloState
  package init(
    versions: H2HVersions = .own, link: UInt64, lane: UInt8, lanes: UInt8, state: HelloState
  ) {
    oldestVersion = versions.oldest
    newestVersion = versions.newest
    self.link = link
    self.lane = lane
    self.lanes = lanes
    self.state = state
  }

  package var versions: H2HVersions { H2HVersions(oldest: oldestVersion, newest: newestVersion) }
}

/// What the listener answers: its own state, or why not.
package struct HelloAnswer: Sendable, Equatable {
  package var version: UInt16
  package var status: H2HStatus
  /// Empty where `status` is ok.
  package var why: String
  /// Nil in a refusal.
  package var state: HelloState?
  package init(version: UInt16 = H2HVersions.own.newest, status: H2HStatus = .ok, why: String = "", state: HelloState?)
  {
    self.version = version
    self.status = status
    self.why = why
    self.state = state
  }
}

/// Why a block is written at the destination.
package enum WriteKind: UInt8, Sendable {
  /// By the copier.
  case copy = 1
  /// An application's write, mirrored.
  case mirror = 2
}

/// SHA-256 of an extent.
package struct ExtentDigest: Hashable, Sendable, CustomStringConvertible {
  package static let byteCount = 32
  package let bytes: [32 of UInt8]

  /// Nil unless there are exactly 32 bytes.
  package init?(_ source: some RandomAccessCollection<UInt8>) {
    guard source.count == Self.byteCount else { return nil }
    var filled = [32 of UInt8](repeating: 0)
    for (index, byte) in source.enumerated() { filled[index] = byte }
    bytes = filled
  }
  package var array: [UInt8] { bytes.indices.map { bytes[$0] } }
  package var description: String {
    let digits = Array("0123456789abcdef")
    return String(array.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
  }
  package static func == (left: Self, right: Self) -> Bool {
    for index in left.bytes.indices where left.bytes[index] != right.bytes[index] { return false }
    return true
  }
  package func hash(into hasher: inout Hasher) { for index in bytes.indices { hasher.combine(bytes[index]) } }
}

/// What is said on the link. `requestID` is in the frame's header; an answer carries its request's. Bulk data follows
/// as the frame's payload and is never inside the message. Volumes are counted in the order of the source's hello.
package enum H2HMessage: Sendable, Equatable {
  indirect case hello(Hello)
  indirect case helloAnswer(HelloAnswer)
  case ping
  case pong
  /// (source) Flush everything, store this durably, then answer `prepared`.
  case prepare(Generation, CopyAuthority)
  case prepared(Generation)
  /// (source) The source's record says so durably; a request of its own, answered with `answer`.
  case committed(Generation, CopyAuthority)
  /// Payload: the bytes.
  case write(volume: UInt16, offset: UInt64, length: UInt32, durable: Bool, kind: WriteKind)
  case writeZeroes(volume: UInt16, range: ByteRange, durable: Bool, kind: WriteKind)
  case read(volume: UInt16, offset: UInt64, length: UInt32)
  /// Payload: the bytes.
  case readAnswer(length: UInt32)
  /// Everything answered before it is durable once it is answered; nil: all volumes.
  case flush(volume: UInt16?)
  case digestRequest(volume: UInt16, ranges: [ByteRange])
  case digestAnswer([ExtentDigest])
  /// (source) The session ends before finalize: label the copy incomplete.
  case cancel
  /// (source) The session ends after finalize.
  case retire
  /// Payload: anything; proves the connection. Answered with a probe of `answerLength` bytes, which asks for none.
  case probe(length: UInt32, answerLength: UInt32)
  case answer(H2HStatus, text: String)

  /// Bytes of payload that belong to the message; packed, fewer follow its fields.
  package var payloadBytes: Int {
    switch self {
    case .write(_, _, let length, _, _), .readAnswer(let length), .probe(let length, _): Int(length)
    default: 0
    }
  }
}

/// A message with its number.
package struct H2HFrame: Sendable, Equatable {
  package var requestID: UInt64
  package var message: H2HMessage
  /// How many bytes the payload is on the link, where it goes packed (`PayloadPacking`); only of a copier's write, and
  /// only to a peer that speaks `H2HVersions.packing`.
  package var packedBytes: Int?
  /// In an answer: how long its disk took. 0 where nobody said.
  package var workMicroseconds: UInt32
  package init(requestID: UInt64, message: H2HMessage, packedBytes: Int? = nil, workMicroseconds: UInt32 = 0) {
    self.requestID = requestID
    self.message = message
    self.packedBytes = packedBytes
    self.workMicroseconds = workMicroseconds
  }

  /// What follows the fields, in bytes.
  package var payloadBytes: Int { packedBytes ?? message.payloadBytes }
}
