package import BlockModel

/// A request as it came: nothing in it is believed yet.
package struct NBDRequestHeader: Sendable, Equatable {
  package var flags: UInt16
  package var type: UInt16
  package var cookie: UInt64
  package var offset: UInt64
  package var length: UInt32

  package init(flags: UInt16, type: UInt16, cookie: UInt64, offset: UInt64, length: UInt32) {
    self.flags = flags
    self.type = type
    self.cookie = cookie
    self.offset = offset
    self.length = length
  }

  /// Nil where the magic number is wrong: client and server have lost each other. `raw` holds at least
  /// `NBDWire.requestBytes` bytes.
  @inline(__always)
  package init?(_ raw: UnsafeRawBufferPointer) {
    guard raw.bigEndian(at: 0, as: UInt32.self) == NBDWire.requestMagic else { return nil }
    flags = raw.bigEndian(at: 4, as: UInt16.self)
    type = raw.bigEndian(at: 6, as: UInt16.self)
    cookie = raw.bigEndian(at: 8, as: UInt64.self)
    offset = raw.bigEndian(at: 16, as: UInt64.self)
    length = raw.bigEndian(at: 24, as: UInt32.self)
  }
}

/// What a request is held to.
package struct NBDRules: Sendable {
  package var sizeBytes: UInt64
  package var minimumBlockBytes: UInt32
  package var maximumPayloadBytes: UInt32
  package var isReadOnly: Bool
  package var structuredReplies: Bool
  package var hasContexts: Bool

  package init(
    sizeBytes: UInt64, blockSizes: NBDBlockSizes, isReadOnly: Bool, structuredReplies: Bool, hasContexts: Bool
  ) {
    self.sizeBytes = sizeBytes
    minimumBlockBytes = blockSizes.minimum
    maximumPayloadBytes = blockSizes.maximum
    self.isReadOnly = isReadOnly
    self.structuredReplies = structuredReplies
    self.hasContexts = hasContexts
  }
}

package enum NBDVerdict: Sendable, Equatable {
  /// `payloadBytes`: to be received for a write, to be prepared for a read.
  case submit(NBDRequest, payloadBytes: Int)
  case blockStatus(ByteRange, onlyOne: Bool)
  /// Answer with the error, after dropping the payload that follows.
  case refuse(NBDErrorCode, skipBytes: Int)
  /// The client said goodbye.
  case leave
  /// So much payload follows a bad request that reading it would be a denial of service.
  case disconnect
}

extension NBDRules {
  /// Document sections "Request types", "Command flags" and "Error values". Where the document leaves the error open,
  /// it is nbdkit's.
  package func judge(_ header: NBDRequestHeader) -> NBDVerdict {
    guard let command = NBDWire.Command(rawValue: header.type) else { return .refuse(.invalid, skipBytes: 0) }
    if command == .disconnect { return .leave }
    if let error = fault(of: header, command) {
      guard command == .write else { return .refuse(error, skipBytes: 0) }
      return header.length > NBDLimits.maxSkippedPayloadBytes
        ? .disconnect : .refuse(error, skipBytes: Int(header.length))
    }
    let range = ByteRange(offset: header.offset, length: UInt64(header.length))
    let durable = header.flags & NBDWire.CommandFlag.fua != 0
    switch command {
    case .read: return .submit(NBDRequest(kind: .read, range: range), payloadBytes: Int(header.length))
    case .write:
      return .submit(NBDRequest(kind: .write, range: range, durable: durable), payloadBytes: Int(header.length))
    case .flush: return .submit(NBDRequest(kind: .flush, range: range), payloadBytes: 0)
    case .cache: return .submit(NBDRequest(kind: .cache, range: range), payloadBytes: 0)
    case .trim:
      return .submit(NBDRequest(kind: .zeroAndUnmap, range: range, durable: durable), payloadBytes: 0)
    case .writeZeroes:
      let keepsSpace = header.flags & NBDWire.CommandFlag.noHole != 0
      let request = NBDRequest(
        kind: keepsSpace ? .zero : .zeroAndUnmap, range: range, durable: durable,
        onlyIfFast: header.flags & NBDWire.CommandFlag.fastZero != 0)
      return .submit(request, payloadBytes: 0)
    case .blockStatus:
      return .blockStatus(range, onlyOne: header.flags & NBDWire.CommandFlag.requestOne != 0)
    case .disconnect: return .leave
    }
  }

  /// Whether the request would be right but for the size that this connection knows: the export may have grown.
  func liesBeyondEnd(_ header: NBDRequestHeader) -> Bool {
    !ByteRange(offset: header.offset, length: UInt64(header.length)).fits(in: sizeBytes)
  }

  private func fault(of header: NBDRequestHeader, _ command: NBDWire.Command) -> NBDErrorCode? {
    guard header.flags & ~allowedFlags(command) == 0 else { return .invalid }
    if command == .flush { return header.offset == 0 && header.length == 0 ? nil : .invalid }
    let changes = command == .write || command == .trim || command == .writeZeroes
    if changes && isReadOnly { return .notPermitted }
    if header.length == 0 || liesBeyondEnd(header) {
      return command == .write || command == .writeZeroes ? .noSpace : .invalid
    }
    let mask = UInt64(minimumBlockBytes) - 1
    if (header.offset | UInt64(header.length)) & mask != 0 { return .invalid }
    switch command {
    case .read: return header.length > maximumPayloadBytes ? .overflow : nil
    case .write: return header.length > maximumPayloadBytes ? .invalid : nil
    case .blockStatus: return structuredReplies && hasContexts ? nil : .invalid
    default: return nil
    }
  }

  private func allowedFlags(_ command: NBDWire.Command) -> UInt16 {
    typealias Flag = NBDWire.CommandFlag
    return switch command {
    case .read: structuredReplies ? Flag.fua | Flag.dontFragment : Flag.fua
    case .writeZeroes: Flag.fua | Flag.noHole | Flag.fastZero
    case .blockStatus: Flag.fua | Flag.requestOne
    case .write, .disconnect, .flush, .trim, .cache: Flag.fua
    }
  }
}
