/// CRC-32C (Castagnoli, RFC 3720 appendix B.4): guards headers and stored records against accident, not attack.
package struct CRC32C: Sendable {
  private static let table: [UInt32] = (0..<256).map { index in
    var value = UInt32(index)
    for _ in 0..<8 { value = value & 1 == 1 ? value >> 1 ^ 0x82f6_3b78 : value >> 1 }
    return value
  }

  package static func checksum(_ bytes: [UInt8]) -> UInt32 { checksum(bytes[...]) }

  /// Not generic: other modules can't specialize it, and it runs over every intent page that is stored.
  package static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    bytes.withUnsafeBufferPointer { bytes in
      table.withUnsafeBufferPointer { table in
        var value = ~UInt32(0)
        for byte in bytes { value = table[Int(truncatingIfNeeded: (value ^ UInt32(byte)) & 0xff)] ^ value >> 8 }
        return ~value
      }
    }
  }
}
