internal import BlockModel
internal import H2HProtocol
internal import LinuxPlatform
internal import Seams
internal import TLSChannel

/// SHA-256 of what a device holds, read past the page cache.
enum DeviceDigest {
  /// What is read at once: it stays in a core's cache until it is digested.
  static let pieceBytes = 256 << 10
  /// Comparisons that read at once on this host, at most; more wait.
  static let limit = 16
  private static let buffers = BufferPool(bufferBytes: pieceBytes, limit: limit, isLazy: true)

  /// Nil where the device can't be read.
  static func extent(_ range: ByteRange, of device: any BlockDevice) -> ExtentDigest? {
    buffers.withBuffer { extent(range, of: device, through: $0) }
  }

  private static func extent(
    _ range: ByteRange, of device: any BlockDevice, through buffer: AlignedBuffer
  ) -> ExtentDigest? {
    let hasher = SHA256Hasher()
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
