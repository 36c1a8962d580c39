internal import BlockModel
internal import H2HProtocol
internal import LinuxPlatform
internal import Seams
internal import TLSChannel

/// SHA-256 of what a device holds, read past the page cache.
enum DeviceDigest {
  static let pieceBytes = 1 << 20

  /// Nil where the device can't be read.
  static func extent(_ range: ByteRange, of device: any BlockDevice) -> ExtentDigest? {
    let hasher = SHA256Hasher()
    let buffer = AlignedBuffer(byteCount: pieceBytes)
    device.dropCache(of: range)
    var offset = range.offset
    while offset < range.end {
      let count = Int(min(UInt64(pieceBytes), range.end - offset))
      let piece = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<count])
      do throws(BlockDeviceError) { try device.read(at: offset, into: piece) } catch { return nil }
      hasher.update(UnsafeRawBufferPointer(piece))
      offset += UInt64(count)
    }
    return ExtentDigest(hasher.finish())
  }

  static func of(_ bytes: [UInt8]) -> ExtentDigest {
    guard let digest = ExtentDigest(Digests.sha256(bytes)) else { preconditionFailure("SHA-256 has 32 bytes") }
    return digest
  }
}
