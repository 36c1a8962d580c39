internal import BlockModel
internal import Seams

/// Stands for a source that its fence keeps away.
final class AbsentDevice: BlockDevice {
  let label: String
  let sizeBytes: UInt64
  var blockBytes: UInt32 { 512 }

  init(label: String, sizeBytes: UInt64) {
    self.label = label
    self.sizeBytes = sizeBytes
  }

  private var gone: BlockDeviceError { BlockDeviceError(.gone, "\(label) is fenced, and not there") }

  func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(BlockDeviceError) { throw gone }
  func write(at offset: UInt64, from buffer: UnsafeRawBufferPointer, durable: Bool) throws(BlockDeviceError) {
    throw gone
  }
  func writeZeroes(_ range: ByteRange, mayUnmap: Bool, durable: Bool) throws(BlockDeviceError) { throw gone }
  func flush() throws(BlockDeviceError) { throw gone }
  func allocation(of range: ByteRange) throws(BlockDeviceError) -> [AllocationExtent] { throw gone }
}
