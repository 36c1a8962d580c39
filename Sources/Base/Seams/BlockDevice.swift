package import BlockModel

/// Why a block operation failed, with the operating system's error number (0 where there is none).
package struct BlockDeviceError: Error, Sendable, Equatable, CustomStringConvertible {
  package enum Code: String, Sendable {
    case outOfRange
    case readFailed
    case writeFailed
    case flushFailed
    case noSpace
    case readOnly
    case gone
  }
  package let code: Code
  package let message: String
  package let errorNumber: Int32

  package init(_ code: Code, _ message: String, errorNumber: Int32 = 0) {
    self.code = code
    self.message = message
    self.errorNumber = errorNumber
  }
  package var description: String { message }
}

/// A run of a volume and whether it certainly reads as zeroes.
package struct AllocationExtent: Sendable, Equatable {
  package var range: ByteRange
  package var isZero: Bool
  package init(range: ByteRange, isZero: Bool) {
    self.range = range
    self.isZero = isZero
  }
}

/// A block device or file, seen as an array of bytes. Calls block the calling thread, may come from many threads at
/// once, and overlapping concurrent calls are the caller's to order. A completed write is durable after a later
/// `flush` returned, or on return where `durable` was set.
package protocol BlockDevice: AnyObject, Sendable {
  /// What to call it in messages.
  var label: String { get }
  var sizeBytes: UInt64 { get }
  /// Smallest unit that is written without reading first, in bytes; a power of two.
  var blockBytes: UInt32 { get }

  func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(BlockDeviceError)
  func write(at offset: UInt64, from buffer: UnsafeRawBufferPointer, durable: Bool) throws(BlockDeviceError)
  /// The range reads as zeroes afterwards. `mayUnmap` allows to free the space beneath.
  func writeZeroes(_ range: ByteRange, mayUnmap: Bool, durable: Bool) throws(BlockDeviceError)
  func flush() throws(BlockDeviceError)
  /// Extents that cover `range` in order. A device that can't tell answers one extent that is not zero.
  func allocation(of range: ByteRange) throws(BlockDeviceError) -> [AllocationExtent]
  /// Where the zeroes end that certainly begin at `offset`: `offset` itself where there are none or nobody can tell, at
  /// most `end`. Cheap, however long they are.
  func endOfZeroes(from offset: UInt64, to end: UInt64) throws(BlockDeviceError) -> UInt64
  /// Forgets what the page cache holds of `range`, so that a later read comes from the device. Best effort.
  func dropCache(of range: ByteRange)
}

extension BlockDevice {
  package func dropCache(of range: ByteRange) {}
  package func endOfZeroes(from offset: UInt64, to end: UInt64) throws(BlockDeviceError) -> UInt64 { offset }
}
