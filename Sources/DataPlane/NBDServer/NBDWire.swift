/// The numbers of the NBD protocol document (NetworkBlockDevice/nbd, doc/proto.md, section "Values").
package enum NBDWire {
  package static let serverMagic: UInt64 = 0x4e42_444d_4147_4943  // "NBDMAGIC"
  package static let optionMagic: UInt64 = 0x4948_4156_454f_5054  // "IHAVEOPT"
  package static let optionReplyMagic: UInt64 = 0x0003_e889_0455_65a9
  package static let requestMagic: UInt32 = 0x2560_9513
  package static let simpleReplyMagic: UInt32 = 0x6744_6698
  package static let structuredReplyMagic: UInt32 = 0x668e_33ef

  package static let requestBytes = 28
  package static let simpleReplyBytes = 16
  package static let structuredHeaderBytes = 20
  package static let optionHeaderBytes = 16
  package static let optionReplyHeaderBytes = 20

  package enum HandshakeFlag {
    package static let fixedNewstyle: UInt16 = 1 << 0
    package static let noZeroes: UInt16 = 1 << 1
  }

  package enum TransmissionFlag {
    package static let hasFlags: UInt16 = 1 << 0
    package static let readOnly: UInt16 = 1 << 1
    package static let sendFlush: UInt16 = 1 << 2
    package static let sendFUA: UInt16 = 1 << 3
    package static let sendTrim: UInt16 = 1 << 5
    package static let sendWriteZeroes: UInt16 = 1 << 6
    package static let sendDF: UInt16 = 1 << 7
    package static let canMultiConn: UInt16 = 1 << 8
    package static let sendCache: UInt16 = 1 << 10
    package static let sendFastZero: UInt16 = 1 << 11
  }

  package enum Option: UInt32 {
    case exportName = 1
    case abort = 2
    case list = 3
    case startTLS = 5
    case info = 6
    case go = 7
    case structuredReply = 8
    case listMetaContext = 9
    case setMetaContext = 10
  }

  package enum OptionReply {
    package static let ack: UInt32 = 1
    package static let server: UInt32 = 2
    package static let info: UInt32 = 3
    package static let metaContext: UInt32 = 4
    package static let errorUnsupported: UInt32 = 1 << 31 | 1
    package static let errorInvalid: UInt32 = 1 << 31 | 3
    package static let errorUnknown: UInt32 = 1 << 31 | 6
    package static let errorShutdown: UInt32 = 1 << 31 | 7
    package static let errorTooBig: UInt32 = 1 << 31 | 9
  }

  package enum Info {
    package static let export: UInt16 = 0
    package static let name: UInt16 = 1
    package static let blockSize: UInt16 = 3
  }

  package enum Command: UInt16, Sendable {
    case read = 0
    case write = 1
    case disconnect = 2
    case flush = 3
    case trim = 4
    case cache = 5
    case writeZeroes = 6
    case blockStatus = 7
  }

  package enum CommandFlag {
    package static let fua: UInt16 = 1 << 0
    package static let noHole: UInt16 = 1 << 1
    package static let dontFragment: UInt16 = 1 << 2
    package static let requestOne: UInt16 = 1 << 3
    package static let fastZero: UInt16 = 1 << 4
  }

  package enum ReplyFlag {
    package static let done: UInt16 = 1 << 0
  }

  package enum ReplyType {
    package static let none: UInt16 = 0
    package static let offsetData: UInt16 = 1
    package static let blockStatus: UInt16 = 5
    package static let error: UInt16 = 1 << 15 | 1
  }
}

/// Big-endian reading and writing. Callers have checked the bounds; the standard library's own checks stay on.
extension UnsafeRawBufferPointer {
  @inline(__always)
  package func bigEndian<Number: FixedWidthInteger & BitwiseCopyable>(at offset: Int, as type: Number.Type) -> Number {
    Number(bigEndian: loadUnaligned(fromByteOffset: offset, as: type))
  }
}

extension UnsafeMutableRawBufferPointer {
  @inline(__always)
  package func storeBigEndian<Number: FixedWidthInteger & BitwiseCopyable>(_ number: Number, at offset: Int) {
    storeBytes(of: number.bigEndian, toByteOffset: offset, as: Number.self)
  }
}

extension [UInt8] {
  /// Appends in network byte order.
  package mutating func appendBigEndian<Number: FixedWidthInteger>(_ number: Number) {
    var shift = Number.bitWidth
    while shift > 0 {
      shift -= 8
      append(UInt8(truncatingIfNeeded: number >> Number(shift)))
    }
  }
}

/// Reads a message front to back; every read past its end is nil.
struct NBDCursor {
  private let bytes: ArraySlice<UInt8>
  private var position: Int

  init(_ bytes: ArraySlice<UInt8>) {
    self.bytes = bytes
    position = bytes.startIndex
  }

  var remaining: Int { bytes.endIndex - position }

  mutating func number<Number: FixedWidthInteger>(_ type: Number.Type) -> Number? {
    let size = Number.bitWidth / 8
    guard remaining >= size else { return nil }
    var value: Number = 0
    for byte in bytes[position..<position + size] { value = value << 8 | Number(byte) }
    position += size
    return value
  }

  /// A string after its 32-bit length: UTF-8 without NUL, of at most `maxNameBytes`.
  mutating func text() -> String? {
    guard let length = number(UInt32.self), length <= NBDLimits.maxNameBytes, remaining >= Int(length) else {
      return nil
    }
    let raw = bytes[position..<position + Int(length)]
    position += Int(length)
    return nbdText(raw)
  }
}

/// A string of the protocol, or nil where it breaks the document's rules for strings.
func nbdText(_ raw: ArraySlice<UInt8>) -> String? {
  guard raw.count <= NBDLimits.maxNameBytes, !raw.contains(0) else { return nil }
  return String(validating: raw, as: UTF8.self)
}
