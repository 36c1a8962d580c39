/// Writes big-endian fields. Strings are a 16-bit count of UTF-8 bytes and the bytes.
package struct ByteWriter: Sendable {
  package private(set) var bytes: [UInt8]

  package init(reserving count: Int = 0) {
    bytes = []
    bytes.reserveCapacity(count)
  }

  package mutating func put<Value: FixedWidthInteger>(_ value: Value) {
    withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
  }
  package mutating func put(_ flag: Bool) { bytes.append(flag ? 1 : 0) }
  package mutating func put(raw: some Sequence<UInt8>) { bytes.append(contentsOf: raw) }
  /// Cuts what does not fit, at a character: a name that long was refused before, a text is for people.
  package mutating func put(_ text: String, limit: Int = H2HLimits.textBytes) {
    var fitting = text
    while fitting.utf8.count > min(limit, Int(UInt16.max)) { fitting.removeLast() }
    put(UInt16(fitting.utf8.count))
    put(raw: fitting.utf8)
  }
}

/// Reads big-endian fields out of bytes that may be anything. Never traps.
package struct ByteReader<Bytes: RandomAccessCollection<UInt8>>: ~Copyable where Bytes.Index == Int {
  private let bytes: Bytes
  private var position: Int

  package init(_ bytes: Bytes) {
    self.bytes = bytes
    position = bytes.startIndex
  }

  package var remaining: Int { bytes.endIndex - position }

  package mutating func take<Value: FixedWidthInteger & UnsignedInteger>(
    _ type: Value.Type = Value.self
  ) throws(H2HProtocolError) -> Value {
    let width = Value.bitWidth / 8
    guard remaining >= width else { throw .truncated }
    var value: Value = 0
    for offset in 0..<width { value = value << 8 | Value(bytes[position + offset]) }
    position += width
    return value
  }
  package mutating func takeFlag() throws(H2HProtocolError) -> Bool {
    switch try take(UInt8.self) {
    case 0: false
    case 1: true
    default: throw .badField("a flag that is neither 0 nor 1")
    }
  }
  package mutating func takeRaw(_ count: Int) throws(H2HProtocolError) -> [UInt8] {
    guard count >= 0, remaining >= count else { throw .truncated }
    defer { position += count }
    return Array(bytes[position..<position + count])
  }
  package mutating func takeText(limit: Int = H2HLimits.textBytes) throws(H2HProtocolError) -> String {
    let count = Int(try take(UInt16.self))
    guard count <= limit else { throw .badField("a text of \(count) bytes, more than \(limit)") }
    guard let text = String(validating: try takeRaw(count), as: UTF8.self) else {
      throw .badField("a text that is not UTF-8")
    }
    return text
  }
}
