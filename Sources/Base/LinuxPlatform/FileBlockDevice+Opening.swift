import CLinux
import Glibc

extension FileBlockDevice {
  static func open(_ path: String, _ options: Options, extraFlags: Int32) throws(SystemError) -> FileDescriptor {
    var flags = (options.isReadOnly ? O_RDONLY : O_RDWR) | extraFlags
    if options.isExclusive, try isBlockDevice(path) { flags |= O_EXCL }
    return try FileDescriptor.open(path, flags)
  }

  static func openDescriptor(
    _ path: String, _ options: Options
  ) throws(SystemError) -> (descriptor: FileDescriptor, access: Access) {
    if options.access == .direct {
      do {
        return (try open(path, options, extraFlags: CMC_O_DIRECT), .direct)
      } catch {
        // The file system has no direct I/O (tmpfs before 6.6, some FUSE).
        guard error.errorNumber == EINVAL else { throw error }
      }
    }
    return (try open(path, options, extraFlags: 0), .buffered)
  }

  private static func isBlockDevice(_ path: String) throws(SystemError) -> Bool {
    var facts = cmc_file_facts()
    _ = try check(cmc_statat(AT_FDCWD, path, 1, &facts), "open \(path)")
    return cmc_is_block_device(facts.mode) != 0
  }
}

/// What the kernel says of an open device or file.
struct DeviceFacts {
  var isBlockDevice: Bool
  var sizeBytes: UInt64
  var logicalBlockBytes: UInt32
  /// Of the device itself (BLKROGET), not of how it was opened.
  var isReadOnly: Bool
  /// What O_DIRECT needs offsets, lengths and memory to be multiples of.
  var directAlignment: UInt32

  init(_ descriptor: FileDescriptor, _ path: String) throws(SystemError) {
    var facts = cmc_file_facts()
    _ = try check(cmc_fstat(descriptor.number, &facts), "look at \(path)")
    if cmc_is_block_device(facts.mode) != 0 {
      var size: UInt64 = 0
      var block: Int32 = 0
      var readOnly: Int32 = 0
      _ = try check(cmc_device_size(descriptor.number, &size), "read the size of \(path)")
      _ = try check(cmc_device_block_bytes(descriptor.number, &block), "read the block size of \(path)")
      _ = try check(cmc_device_read_only(descriptor.number, &readOnly), "see whether \(path) is read-only")
      isBlockDevice = true
      sizeBytes = size
      logicalBlockBytes = UInt32(max(512, block))
      isReadOnly = readOnly != 0
      directAlignment = logicalBlockBytes
    } else if cmc_is_regular(facts.mode) != 0 {
      isBlockDevice = false
      sizeBytes = facts.size_bytes
      logicalBlockBytes = FileBlockDevice.fileBlockBytes
      isReadOnly = false
      let told = cmc_direct_alignment(descriptor.number)
      // Before Linux 6.1 nobody tells; a page satisfies every file system.
      directAlignment = told == 0 ? UInt32(AlignedBuffer.defaultAlignment) : max(512, told)
    } else {
      throw SystemError("use \(path) as a volume", because: "it is neither a block device nor a regular file")
    }
  }
}
