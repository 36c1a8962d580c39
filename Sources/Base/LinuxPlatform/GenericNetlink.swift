import CLinux
import Glibc

/// Messages of generic netlink (linux/netlink.h, linux/genetlink.h). Pure: what is sent and how answers are read.
enum NetlinkMessage {
  static let headerBytes = 16
  static let genericHeaderBytes = 4
  static let attributeHeaderBytes = 4
  static let errorType: UInt16 = 2
  static let doneType: UInt16 = 3
  private static let request: UInt16 = 1
  private static let wantsAnswer: UInt16 = 4
  static let nested: UInt16 = 0x8000
  private static let typeMask: UInt16 = 0x3fff

  /// One request with its attributes; an acknowledgement is asked for.
  static func encode(family: UInt16, command: UInt8, version: UInt8, sequence: UInt32, _ attributes: [UInt8]) -> [UInt8]
  {
    var bytes: [UInt8] = []
    append(UInt32(headerBytes + genericHeaderBytes + attributes.count), to: &bytes)
    append(family, to: &bytes)
    append(request | wantsAnswer, to: &bytes)
    append(sequence, to: &bytes)
    append(UInt32(0), to: &bytes)
    bytes += [command, version, 0, 0]
    return bytes + attributes
  }

  static func attribute(_ type: UInt16, _ payload: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    append(UInt16(attributeHeaderBytes + payload.count), to: &bytes)
    append(type, to: &bytes)
    bytes += payload
    while bytes.count % 4 != 0 { bytes.append(0) }
    return bytes
  }

  static func attribute(_ type: UInt16, _ number: some FixedWidthInteger) -> [UInt8] {
    var payload: [UInt8] = []
    append(number, to: &payload)
    return attribute(type, payload)
  }

  /// Text with its final zero.
  static func attribute(_ type: UInt16, _ text: String) -> [UInt8] { attribute(type, Array(text.utf8) + [0]) }

  struct Answer: Equatable {
    /// 0 of an acknowledgement, an errno of a refusal; nil of an answer with content.
    var errorNumber: Int32?
    var sequence: UInt32
    /// Attributes of an answer with content: the last of each type.
    var attributes: [UInt16: [UInt8]] = [:]
  }

  /// The answers in what one read returned. What doesn't fit is left out.
  static func decode(_ bytes: [UInt8]) -> [Answer] {
    var found: [Answer] = []
    var rest = bytes[...]
    while rest.count >= headerBytes {
      let length = Int(number(rest, 0, UInt32.self))
      guard length >= headerBytes, length <= rest.count else { return found }
      let type = number(rest, 4, UInt16.self)
      let sequence = number(rest, 8, UInt32.self)
      let body = rest.dropFirst(headerBytes).prefix(length - headerBytes)
      if type == errorType, body.count >= 4 {
        found.append(Answer(errorNumber: -number(body, 0, Int32.self), sequence: sequence))
      } else if type > doneType, body.count >= genericHeaderBytes {
        let attributes = attributes(in: body.dropFirst(genericHeaderBytes))
        found.append(Answer(errorNumber: nil, sequence: sequence, attributes: attributes))
      }
      rest = rest.dropFirst(min((length + 3) & ~3, rest.count))
    }
    return found
  }

  private static func attributes(in bytes: ArraySlice<UInt8>) -> [UInt16: [UInt8]] {
    var found: [UInt16: [UInt8]] = [:]
    var rest = bytes
    while rest.count >= attributeHeaderBytes {
      let length = Int(number(rest, 0, UInt16.self))
      guard length >= attributeHeaderBytes, length <= rest.count else { return found }
      found[number(rest, 2, UInt16.self) & typeMask] = Array(
        rest.dropFirst(attributeHeaderBytes).prefix(length - attributeHeaderBytes))
      rest = rest.dropFirst(min((length + 3) & ~3, rest.count))
    }
    return found
  }

  static func number<Number: FixedWidthInteger>(
    _ bytes: ArraySlice<UInt8>, _ offset: Int, _ type: Number.Type
  ) -> Number {
    var value: Number = 0
    withUnsafeMutableBytes(of: &value) { raw in
      for index in raw.indices where offset + index < bytes.count {
        raw[index] = bytes[bytes.startIndex + offset + index]
      }
    }
    return value
  }

  /// Netlink is in the machine's own byte order.
  private static func append(_ number: some FixedWidthInteger, to bytes: inout [UInt8]) {
    withUnsafeBytes(of: number) { bytes += Array($0) }
  }
}

/// One conversation with a generic netlink family.
struct GenericNetlink {
  private static let controllerID: UInt16 = 16
  private static let getFamily: UInt8 = 3
  private static let familyID: UInt16 = 1
  private static let familyName: UInt16 = 2
  private static let answerLimitBytes = 64 << 10
  /// Messages read for one request, at most.
  private static let answersPerRequest = 64
  private static let timeoutSeconds: Int32 = 20

  private let socket: FileDescriptor
  private let family: UInt16

  /// ENOENT where the kernel has no such family (its module isn't loaded).
  init(family name: String) throws(SystemError) {
    let operation = "use the kernel's \(name) interface"
    let number = try check(cmc_netlink_socket(Self.timeoutSeconds), operation)
    socket = FileDescriptor(owning: Int32(number))
    let answers = try Self.ask(
      socket,
      NetlinkMessage.encode(
        family: Self.controllerID, command: Self.getFamily, version: 1, sequence: 1,
        NetlinkMessage.attribute(Self.familyName, name)), sequence: 1, operation)
    guard let id = answers[Self.familyID] else { throw SystemError(operation, errorNumber: ENOENT) }
    family = NetlinkMessage.number(id[...], 0, UInt16.self)
  }

  /// Sends one command and waits for its acknowledgement; answers the attributes that came with it.
  func command(
    _ command: UInt8, _ attributes: [UInt8], _ operation: String
  ) throws(SystemError) -> [UInt16: [UInt8]] {
    try Self.ask(
      socket,
      NetlinkMessage.encode(family: family, command: command, version: 1, sequence: 2, attributes), sequence: 2,
      operation)
  }

  private static func ask(
    _ socket: FileDescriptor, _ message: [UInt8], sequence: UInt32, _ operation: String
  ) throws(SystemError) -> [UInt16: [UInt8]] {
    _ = try check(message.withUnsafeBytes { cmc_send(socket.number, $0.baseAddress, $0.count) }, operation)
    var found: [UInt16: [UInt8]] = [:]
    var bytes = [UInt8](repeating: 0, count: answerLimitBytes)
    for _ in 0..<answersPerRequest {
      let count = bytes.withUnsafeMutableBytes { cmc_receive(socket.number, $0.baseAddress, $0.count) }
      if count == -Int(EAGAIN) { throw SystemError(operation, errorNumber: ETIMEDOUT) }
      _ = try check(count, operation)
      for answer in NetlinkMessage.decode(Array(bytes[..<count])) where answer.sequence == sequence {
        guard let number = answer.errorNumber else {
          found.merge(answer.attributes) { $1 }
          continue
        }
        if number != 0 { throw SystemError(operation, errorNumber: number) }
        return found
      }
    }
    throw SystemError(operation, because: "the kernel does not acknowledge it")
  }
}
