internal import H2HProtocol

/// A catalogue's file: JSON, and after it, in 32 blanks (0) and tabs (1), its CRC-32C. So it stays JSON for people's tools,
/// and for the agent before this one, which an upgrade may be taken back to. Pure.
package enum CheckedText {
  static let checksumBytes = 32
  private static let zero = UInt8(ascii: " ")
  private static let one = UInt8(ascii: "\t")
  private static let newline = UInt8(ascii: "\n")

  package static func sealed(_ json: [UInt8]) -> [UInt8] {
    let checksum = CRC32C.checksum(json)
    let marks = (0..<UInt32(checksumBytes)).map { bit in checksum >> (31 - bit) & 1 == 1 ? one : zero }
    return json + marks + [newline]
  }

  /// The JSON, nil where its checksum says that it was damaged. One without a checksum is an older agent's.
  package static func opened(_ bytes: [UInt8]) -> [UInt8]? {
    guard bytes.count > checksumBytes, bytes.last == newline else { return bytes }
    let marks = bytes.dropLast().suffix(checksumBytes)
    guard marks.allSatisfy({ $0 == zero || $0 == one }) else { return bytes }
    let json = Array(bytes[..<marks.startIndex])
    let checksum = marks.reduce(UInt32(0)) { $0 << 1 | ($1 == one ? 1 : 0) }
    return CRC32C.checksum(json) == checksum ? json : nil
  }
}
