package import BlockModel
import CLinux
import Glibc
package import Seams
import Synchronization

/// A block device or a regular file as an array of bytes. See `BlockDevice` for threads and durability.
///
/// A failed flush (or durable write) stays failed: the kernel reports a lost write once and marks the pages clean, so
/// that a second fsync would lie. Open the device again to go on.
package final class FileBlockDevice: BlockDevice {
  package enum Access: String, Sendable {
    /// Through the page cache.
    case buffered
    /// O_DIRECT. Unaligned callers are served through an aligned buffer.
    case direct
  }

  /// How to open. `isExclusive` is O_EXCL on a block device (EBUSY while mounted or otherwise claimed) and flock(2) on
  /// a file.
  package struct Options: Sendable {
    package var access: Access
    package var isReadOnly: Bool
    package var isExclusive: Bool
    package init(access: Access = .buffered, isReadOnly: Bool = false, isExclusive: Bool = false) {
      self.access = access
      self.isReadOnly = isReadOnly
      self.isExclusive = isExclusive
    }
  }

  /// Size of the buffers through which unaligned direct I/O goes, and their number.
  package static let bounceBytes = 1 << 20
  package static let bounceBuffers = 4
  /// Longest answer of `allocation`; what lies past that many extents counts as data.
  package static let allocationExtentLimit = 65_536
  /// Logical block size that a regular file shows.
  package static let fileBlockBytes: UInt32 = 512

  package let label: String
  package let isBlockDevice: Bool
  package let isReadOnly: Bool
  /// How it was really opened: `.buffered` where the file system or the size of the file refused direct access.
  package let access: Access
  package let blockBytes: UInt32

  let descriptor: FileDescriptor
  private let size: Atomic<UInt64>
  private let failedFlush = Atomic<Int32>(0)
  private let lacksDurableWrite = Atomic<Bool>(false)
  let lacksPunch = Atomic<Bool>(false)
  let lacksZeroRange = Atomic<Bool>(false)
  /// What direct I/O must be aligned to: offset, length and memory.
  let alignment: UInt64
  let bounce: BufferPool?
  let partialBlocks = Monitor(Turn())

  /// Opens an existing device or file.
  package init(path: String, _ options: Options = Options()) throws(SystemError) {
    let opened = try Self.openDescriptor(path, options)
    let facts = try DeviceFacts(opened.descriptor, path)
    var access = opened.access
    var alignment = UInt64(1)
    if access == .direct {
      alignment = UInt64(facts.directAlignment)
      // The last, partial block could neither be read nor written directly without growing the file.
      if facts.sizeBytes % alignment != 0 {
        access = .buffered
        alignment = 1
      }
    }
    label = path
    descriptor =
      access == opened.access ? opened.descriptor : try Self.open(path, options, extraFlags: 0)
    isBlockDevice = facts.isBlockDevice
    isReadOnly = options.isReadOnly || facts.isReadOnly
    self.access = access
    self.alignment = alignment
    blockBytes = max(facts.logicalBlockBytes, UInt32(access == .direct ? alignment : 1))
    size = Atomic(facts.sizeBytes)
    bounce = access == .direct ? BufferPool(bufferBytes: Self.bounceBytes, limit: Self.bounceBuffers) : nil
    if options.isExclusive, !facts.isBlockDevice {
      _ = try check(cmc_flock(descriptor.number, LOCK_EX | LOCK_NB), "lock \(path) for exclusive use")
    }
  }

  /// Makes a regular file of holes and opens it; EEXIST where there is one already.
  package static func create(
    path: String, sizeBytes: UInt64, _ options: Options = Options()
  ) throws(SystemError) -> FileBlockDevice {
    do {
      let made = try FileDescriptor.open(path, O_RDWR | O_CREAT | O_EXCL)
      _ = try check(cmc_ftruncate(made.number, sizeBytes), "set the size of \(path)")
    }
    return try FileBlockDevice(path: path, options)
  }

  package var sizeBytes: UInt64 { size.load(ordering: .relaxed) }

  /// Lets go of the device at once; calls under way finish, later ones throw `.gone`.
  package func close() { descriptor.close() }

  /// Reads the size again, after the device grew. Returns it.
  @discardableResult
  package func refreshSize() throws(SystemError) -> UInt64 {
    let facts = try DeviceFacts(descriptor, label)
    size.store(facts.sizeBytes, ordering: .relaxed)
    return facts.sizeBytes
  }

  package func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(BlockDeviceError) {
    try checkRange(ByteRange(offset: offset, length: UInt64(buffer.count)), "read")
    if isAligned(offset, UnsafeRawBufferPointer(buffer)) {
      try readAll(at: offset, into: buffer)
    } else {
      try readUnaligned(at: offset, into: buffer)
    }
  }

  package func write(
    at offset: UInt64, from buffer: UnsafeRawBufferPointer, durable: Bool
  ) throws(BlockDeviceError) {
    try checkWritable()
    try checkRange(ByteRange(offset: offset, length: UInt64(buffer.count)), "write")
    if isAligned(offset, buffer) {
      try writeAll(at: offset, from: buffer, durable: durable)
    } else {
      try writeUnaligned(at: offset, from: buffer, durable: durable)
    }
  }

  package func flush() throws(BlockDeviceError) {
    try checkNoFailedFlush()
    let result = cmc_fdatasync(descriptor.number)
    guard result >= 0 else { throw noteFailedFlush(Int32(-result)) }
  }

  package func dropCache(of range: ByteRange) {
    guard range.fits(in: sizeBytes) else { return }
    // Only whole pages are dropped, so the range grows to page boundaries.
    let page = UInt64(AlignedBuffer.defaultAlignment)
    let start = range.offset / page * page
    let end = (range.end + page - 1) / page * page
    _ = cmc_drop_cache(descriptor.number, start, end - start)
  }

  // MARK: plain reads and writes

  func readAll(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(BlockDeviceError) {
    var done = 0
    while done < buffer.count {
      let count = cmc_pread(
        descriptor.number, buffer.baseAddress.map { $0 + done }, buffer.count - done, offset + UInt64(done))
      guard count > 0 else {
        if count == 0 {
          throw BlockDeviceError(.gone, "\(label) ends before its size of \(sizeBytes) bytes; has it shrunk?")
        }
        throw deviceError(.readFailed, "read \(buffer.count) bytes at \(offset) of", Int32(-count))
      }
      done += count
    }
  }

  func writeAll(at offset: UInt64, from buffer: UnsafeRawBufferPointer, durable: Bool) throws(BlockDeviceError) {
    if durable { try checkNoFailedFlush() }
    let isDurableWrite = durable && !lacksDurableWrite.load(ordering: .relaxed)
    var done = 0
    while done < buffer.count {
      let start = buffer.baseAddress.map { $0 + done }
      let count =
        isDurableWrite
        ? cmc_pwrite_durable(descriptor.number, start, buffer.count - done, offset + UInt64(done))
        : cmc_pwrite(descriptor.number, start, buffer.count - done, offset + UInt64(done))
      if isDurableWrite, count == -Int(EOPNOTSUPP) || count == -Int(ENOSYS) || count == -Int(EINVAL) {
        lacksDurableWrite.store(true, ordering: .relaxed)
        try writeAll(at: offset, from: buffer, durable: false)
        return try flush()
      }
      guard count > 0 else {
        let number = count == 0 ? EIO : Int32(-count)
        let error = deviceError(.writeFailed, "write \(buffer.count) bytes at \(offset) of", number)
        // A durable write that failed may have taken the report of an earlier lost write with it.
        if durable, error.code == .writeFailed { _ = noteFailedFlush(number) }
        throw error
      }
      done += count
    }
    if durable, !isDurableWrite { try flush() }
  }

  // MARK: checks and errors

  func checkRange(_ range: ByteRange, _ verb: String) throws(BlockDeviceError) {
    guard range.fits(in: sizeBytes) else {
      throw BlockDeviceError(.outOfRange, "cannot \(verb) \(range) of \(label): it has \(sizeBytes) bytes")
    }
  }

  func checkWritable() throws(BlockDeviceError) {
    if isReadOnly { throw BlockDeviceError(.readOnly, "\(label) is open for reading only", errorNumber: EROFS) }
  }

  private func checkNoFailedFlush() throws(BlockDeviceError) {
    let number = failedFlush.load(ordering: .acquiring)
    guard number == 0 else {
      throw BlockDeviceError(
        .flushFailed,
        "an earlier flush of \(label) failed (\(SystemError.text(of: number))), so what was written before is not certain; open it again and compare",
        errorNumber: number)
    }
  }

  private func noteFailedFlush(_ number: Int32) -> BlockDeviceError {
    let error = deviceError(.flushFailed, "flush", number)
    if error.code != .gone { failedFlush.store(number, ordering: .releasing) }
    return error
  }

  func deviceError(_ code: BlockDeviceError.Code, _ verb: String, _ number: Int32) -> BlockDeviceError {
    let mapped: BlockDeviceError.Code =
      switch number {
      case ENOSPC, EDQUOT: .noSpace
      case EROFS: .readOnly
      case EPERM where code == .writeFailed: .readOnly
      case ENODEV, ENXIO, ENOMEDIUM, EBADF, ESHUTDOWN: .gone
      default: code
      }
    return BlockDeviceError(
      mapped, "cannot \(verb) \(label): \(SystemError.text(of: number))", errorNumber: number)
  }
}
