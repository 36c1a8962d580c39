/// How large anything on the link may be. Both ends refuse what is larger, before they make room for it.
package enum H2HLimits {
  /// Data of one frame: a write's or a read's bytes.
  package static let payloadBytes = 1 << 20
  /// Everything of a frame that is neither header nor payload.
  package static let fieldsBytes = 16 << 10
  package static let headerBytes = 32
  /// Names and texts.
  package static let textBytes = 1024
  package static let volumes = 64
  /// Extents of one digest request; 32 bytes of answer each.
  package static let digestRanges = 256
  package static let lanes = 16
}

/// Versions of what is said on the link (README: the ladder). A hello offers a range, the answer picks the highest shared.
package struct H2HVersions: Sendable, Equatable, CustomStringConvertible {
  package var oldest: UInt16
  package var newest: UInt16
  package init(oldest: UInt16, newest: UInt16) {
    self.oldest = oldest
    self.newest = newest
  }

  /// What this build speaks.
  package static let own = H2HVersions(oldest: 1, newest: 2)
  /// Since this one a copier's payload may be packed.
  package static let packing: UInt16 = 2

  /// The highest version both speak, or nil.
  package func common(with theirs: H2HVersions) -> UInt16? {
    let highest = min(newest, theirs.newest)
    return highest >= max(oldest, theirs.oldest) ? highest : nil
  }

  package func contains(_ version: UInt16) -> Bool { version >= oldest && version <= newest }
  package var description: String { oldest == newest ? "version \(newest)" : "versions \(oldest) to \(newest)" }
}

/// What makes bytes from the link unusable. The only answer to any of them is to close the connection.
package enum H2HProtocolError: Error, Sendable, Equatable, CustomStringConvertible {
  case badMagic
  case unknownFrameVersion(UInt8)
  case badHeaderChecksum
  case unknownType(UInt8)
  case tooLarge(what: String, bytes: Int, limitBytes: Int)
  case truncated
  case badField(String)

  package var description: String {
    switch self {
    case .badMagic: "the peer does not speak the cmcplan link protocol"
    case .unknownFrameVersion(let version): "the peer sent a frame of version \(version), newer than this agent"
    case .badHeaderChecksum: "a frame header arrived damaged"
    case .unknownType(let type): "the peer sent an unknown message type \(type)"
    case .tooLarge(let what, let bytes, let limit): "the peer sent \(what) of \(bytes) bytes, more than \(limit)"
    case .truncated: "the peer sent a message that ends too early"
    case .badField(let what): "the peer sent \(what)"
    }
  }
}
