import CFUSE
import Glibc
import NBDServer

/// The answers of a file system that has one file: the volume. Pure: kernel's request in, answer out
/// (linux/fuse.h is the protocol's reference).
struct FuseVolume: Sendable {
  static let fileName = "volume"
  static let maxTransferBytes = 1 << 20
  /// Asynchronous requests that the kernel keeps in flight.
  static let maxBackground: UInt16 = 64
  static let headerBytes = MemoryLayout<fuse_in_header>.size
  static let writePayloadStart = headerBytes + MemoryLayout<fuse_write_in>.size
  /// What a read of /dev/fuse must have room for.
  static let maxRequestBytes = maxTransferBytes + 4096
  private static let fileNode: UInt64 = 2
  private static let attributesValidSeconds: UInt64 = 3600
  /// NBD lengths have 32 bits; the largest multiple of 4 KiB.
  static let maxZeroBytes: UInt64 = (1 << 32) - 4096

  let sizeBytes: UInt64

  enum Answer: Equatable {
    /// The kernel waits for none.
    case none
    case error(Int32)
    case data([UInt8])
    /// To be answered by the agent; arena places are not filled in.
    case forward(PendingRequests.Entry)
  }

  /// `raw` is one whole request, header first.
  func answer(_ raw: UnsafeRawBufferPointer) -> Answer {
    guard raw.count >= Self.headerBytes else { return .none }
    let header = raw.loadUnaligned(as: fuse_in_header.self)
    let body = UnsafeRawBufferPointer(rebasing: raw[Self.headerBytes...])
    switch fuse_opcode(header.opcode) {
    case FUSE_READ: return read(header, body)
    case FUSE_WRITE: return write(header, body)
    case FUSE_FSYNC:
      return header.nodeid == Self.fileNode
        ? .forward(PendingRequests.Entry(unique: header.unique, command: .flush)) : .data([])
    case FUSE_FALLOCATE: return allocate(header, body)
    case FUSE_INIT: return initialize(body)
    case FUSE_LOOKUP: return lookUp(body)
    case FUSE_GETATTR, FUSE_SETATTR: return attributes(header.nodeid)
    case FUSE_OPEN: return open(header.nodeid)
    case FUSE_OPENDIR: return .data(bytes(of: fuse_open_out()))
    case FUSE_READDIR, FUSE_RELEASE, FUSE_RELEASEDIR, FUSE_DESTROY, FUSE_FSYNCDIR, FUSE_ACCESS: return .data([])
    case FUSE_STATFS: return fileSystemFacts()
    case FUSE_FORGET, FUSE_BATCH_FORGET, FUSE_INTERRUPT: return .none
    default: return .error(-ENOSYS)
    }
  }

  // MARK: data

  private func read(_ header: fuse_in_header, _ body: UnsafeRawBufferPointer) -> Answer {
    guard let request = load(fuse_read_in.self, body), header.nodeid == Self.fileNode else { return .error(-EIO) }
    guard request.offset < sizeBytes, request.size > 0 else { return .data([]) }
    let length = min(UInt64(request.size), sizeBytes - request.offset)
    return .forward(
      PendingRequests.Entry(
        unique: header.unique, command: .read, offset: request.offset, length: UInt32(length)))
  }

  private func write(_ header: fuse_in_header, _ body: UnsafeRawBufferPointer) -> Answer {
    guard let request = load(fuse_write_in.self, body), header.nodeid == Self.fileNode,
      body.count == MemoryLayout<fuse_write_in>.size + Int(request.size)
    else { return .error(-EIO) }
    guard request.size > 0 else { return .data(bytes(of: fuse_write_out())) }
    guard request.offset <= sizeBytes, UInt64(request.size) <= sizeBytes - request.offset else {
      return .error(-ENOSPC)
    }
    return .forward(
      PendingRequests.Entry(
        unique: header.unique, command: .write, offset: request.offset, length: request.size))
  }

  /// Punching a hole and zeroing: both must read as zeroes afterwards, the second keeps the space.
  private func allocate(_ header: fuse_in_header, _ body: UnsafeRawBufferPointer) -> Answer {
    guard let request = load(fuse_fallocate_in.self, body), header.nodeid == Self.fileNode else { return .error(-EIO) }
    let mode = Int32(bitPattern: request.mode)
    let isPunch = mode == FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    let isZero = mode == FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE || mode == FALLOC_FL_ZERO_RANGE
    guard isPunch || isZero else { return .error(-EOPNOTSUPP) }
    guard request.length > 0, request.offset < sizeBytes else { return .error(-EINVAL) }
    let length = min(request.length, sizeBytes - request.offset)
    guard length <= Self.maxZeroBytes else { return .error(-EOPNOTSUPP) }
    return .forward(
      PendingRequests.Entry(
        unique: header.unique, command: .writeZeroes, flags: isPunch ? 0 : NBDWire.CommandFlag.noHole,
        offset: request.offset, length: UInt32(length)))
  }

  /// What the kernel is told when the agent carried out `entry` (a read's data comes in its place). No allocation.
  func withSuccess(of entry: PendingRequests.Entry, _ body: (UnsafeRawBufferPointer) -> Void) {
    guard entry.command == .write else { return body(UnsafeRawBufferPointer(start: nil, count: 0)) }
    var out = fuse_write_out()
    out.size = entry.length
    withUnsafeBytes(of: out, body)
  }

  // MARK: the file system

  private func initialize(_ body: UnsafeRawBufferPointer) -> Answer {
    guard body.count >= 16 else { return .error(-EPROTO) }
    let major = body.loadUnaligned(as: UInt32.self)
    let minor = body.loadUnaligned(fromByteOffset: 4, as: UInt32.self)
    let offered = body.loadUnaligned(fromByteOffset: 12, as: UInt32.self)
    // 7.23 has the long form of the answer (Linux 3.15); nothing older runs Swift.
    guard major == UInt32(FUSE_KERNEL_VERSION), minor >= 23 else { return .error(-EPROTO) }
    let wanted = UInt32(FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_MAX_PAGES)
    var out = fuse_init_out()
    out.major = UInt32(FUSE_KERNEL_VERSION)
    out.minor = min(minor, UInt32(FUSE_KERNEL_MINOR_VERSION))
    out.max_readahead = 0
    out.flags = wanted & offered
    out.max_background = Self.maxBackground
    out.congestion_threshold = Self.maxBackground
    out.max_write = UInt32(Self.maxTransferBytes)
    out.time_gran = 1
    out.max_pages = UInt16(Self.maxTransferBytes / 4096)
    return .data(bytes(of: out))
  }

  private func lookUp(_ body: UnsafeRawBufferPointer) -> Answer {
    guard body.prefix(while: { $0 != 0 }).elementsEqual(Self.fileName.utf8) else { return .error(-ENOENT) }
    var out = fuse_entry_out()
    out.nodeid = Self.fileNode
    out.entry_valid = Self.attributesValidSeconds
    out.attr_valid = Self.attributesValidSeconds
    out.attr = attribute(of: Self.fileNode)
    return .data(bytes(of: out))
  }

  private func attributes(_ node: UInt64) -> Answer {
    var out = fuse_attr_out()
    out.attr_valid = Self.attributesValidSeconds
    out.attr = attribute(of: node)
    return .data(bytes(of: out))
  }

  private func attribute(of node: UInt64) -> fuse_attr {
    var attribute = fuse_attr()
    attribute.ino = node
    attribute.nlink = 1
    attribute.blksize = 4096
    if node == Self.fileNode {
      attribute.mode = S_IFREG | 0o600
      attribute.size = sizeBytes
      attribute.blocks = sizeBytes / 512
    } else {
      attribute.mode = S_IFDIR | 0o700
      attribute.nlink = 2
    }
    return attribute
  }

  /// Direct I/O: what is cached above the loop device is not cached again here; writes go out side by side.
  private func open(_ node: UInt64) -> Answer {
    guard node == Self.fileNode else { return .error(-EISDIR) }
    var out = fuse_open_out()
    out.open_flags = UInt32(FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES)
    return .data(bytes(of: out))
  }

  /// The loop device takes its discard granularity from here.
  private func fileSystemFacts() -> Answer {
    var out = fuse_statfs_out()
    out.st.bsize = 4096
    out.st.frsize = 4096
    out.st.blocks = sizeBytes / 4096
    out.st.namelen = 255
    return .data(bytes(of: out))
  }

  private func load<Structure: BitwiseCopyable>(_ type: Structure.Type, _ body: UnsafeRawBufferPointer) -> Structure? {
    body.count >= MemoryLayout<Structure>.size ? body.loadUnaligned(as: type) : nil
  }

  private func bytes<Structure: BitwiseCopyable>(of structure: Structure) -> [UInt8] {
    withUnsafeBytes(of: structure) { Array($0) }
  }
}
