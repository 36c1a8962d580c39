package import BlockModel

/// The only way to a clock.
package protocol TimeSource: Sendable {
  func monotonicNow() -> MonotonicTime
  func wallNow() -> WallTime
}

/// The only way to randomness.
package protocol RandomSource: Sendable {
  /// `count` unpredictable bytes.
  func bytes(_ count: Int) -> [UInt8]
}

extension RandomSource {
  package func uint64() -> UInt64 { bytes(8).reduce(0) { $0 << 8 | UInt64($1) } }
  /// A random version 4 UUID in lower case (RFC 9562 section 5.4).
  package func uuid() -> String {
    var raw = bytes(16)
    raw[6] = raw[6] & 0x0f | 0x40
    raw[8] = raw[8] & 0x3f | 0x80
    let digits = Array("0123456789abcdef")
    var text = ""
    for (index, byte) in raw.enumerated() {
      if [4, 6, 8, 10].contains(index) { text.append("-") }
      text.append(digits[Int(byte >> 4)])
      text.append(digits[Int(byte & 15)])
    }
    return text
  }
}
