import CLZ4

/// A frame's payload, smaller: one LZ4 block. Pure, and with no memory of its own but 16 KiB of stack.
package enum PayloadPacking {
  /// Less than this is not worth a look.
  package static let leastBytes = 2048

  /// What packing must come down to: at least an eighth has to be saved, or the frame goes as it is.
  package static func most(of plainBytes: Int) -> Int { plainBytes - plainBytes / 8 }

  /// The bytes written to the front of `target`; nil where they would be more than `most(of:)`, which is found out early.
  /// `target` has room for so many, `plain` is at most `H2HLimits.payloadBytes`.
  package static func pack(_ plain: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) -> Int? {
    let most = most(of: plain.count)
    guard plain.count >= leastBytes, plain.count <= H2HLimits.payloadBytes, target.count >= most,
      let from = plain.baseAddress, let to = target.baseAddress
    else { return nil }
    let count = LZ4_compress_default(
      from.assumingMemoryBound(to: CChar.self), to.assumingMemoryBound(to: CChar.self), CInt(plain.count), CInt(most))
    return count > 0 ? Int(count) : nil
  }

  /// Fills all of `target`, or throws: nothing is ever written past it, whatever the bytes are.
  package static func unpack(
    _ packed: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
  ) throws(H2HProtocolError) {
    guard packed.count <= H2HLimits.payloadBytes, target.count <= H2HLimits.payloadBytes,
      let from = packed.baseAddress, let to = target.baseAddress
    else { throw .badField("a packed payload of no length") }
    let count = LZ4_decompress_safe(
      from.assumingMemoryBound(to: CChar.self), to.assumingMemoryBound(to: CChar.self), CInt(packed.count),
      CInt(target.count))
    guard Int(count) == target.count else {
      throw .badField("a packed payload that does not unpack to the \(target.count) bytes its message says")
    }
  }
}
