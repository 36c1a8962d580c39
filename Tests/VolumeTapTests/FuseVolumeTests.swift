import CFUSE
import Glibc
import NBDServer
import TestSupport
import Testing

@testable import VolumeTap

@Suite("the file system with one file") struct FuseVolumeTests {
  private let volume = FuseVolume(sizeBytes: 1 << 20)

  private func ask(_ opcode: fuse_opcode, node: UInt64 = 2, _ body: [UInt8] = []) -> FuseVolume.Answer {
    var header = fuse_in_header()
    header.opcode = UInt32(opcode.rawValue)
    header.nodeid = node
    header.unique = 77
    header.len = UInt32(FuseVolume.headerBytes + body.count)
    let bytes = withUnsafeBytes(of: header) { Array($0) } + body
    return bytes.withUnsafeBytes { volume.answer($0) }
  }

  private func write(_ offset: UInt64, _ count: Int) -> FuseVolume.Answer {
    var request = fuse_write_in()
    request.offset = offset
    request.size = UInt32(count)
    return ask(FUSE_WRITE, withUnsafeBytes(of: request) { Array($0) } + [UInt8](repeating: 1, count: count))
  }

  private func allocate(_ mode: Int32, _ offset: UInt64, _ length: UInt64) -> FuseVolume.Answer {
    var request = fuse_fallocate_in()
    request.mode = UInt32(bitPattern: mode)
    request.offset = offset
    request.length = length
    return ask(FUSE_FALLOCATE, withUnsafeBytes(of: request) { Array($0) })
  }

  @Test("fsync becomes a flush") func fsync() {
    #expect(ask(FUSE_FSYNC) == .forward(PendingRequests.Entry(unique: 77, command: .flush)))
  }

  @Test("a write goes to the agent whole; past the end there is no space") func writing() {
    #expect(
      write(4096, 512)
        == .forward(PendingRequests.Entry(unique: 77, command: .write, offset: 4096, length: 512)))
    #expect(write((1 << 20) - 511, 512) == .error(-ENOSPC))
    #expect(write(.max, 512) == .error(-ENOSPC))
  }

  @Test("a read past the end is cut") func reading() {
    var request = fuse_read_in()
    request.offset = (1 << 20) - 512
    request.size = 4096
    #expect(
      ask(FUSE_READ, withUnsafeBytes(of: request) { Array($0) })
        == .forward(PendingRequests.Entry(unique: 77, command: .read, offset: (1 << 20) - 512, length: 512)))
  }

  @Test("punching and zeroing both zero, and only punching unmaps; what else fallocate can do is not supported")
  func allocation() {
    let punch = PendingRequests.Entry(unique: 77, command: .writeZeroes, offset: 0, length: 4096)
    #expect(allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == .forward(punch))
    var zero = punch
    zero.flags = NBDWire.CommandFlag.noHole
    #expect(allocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4096) == .forward(zero))
    #expect(allocate(0, 0, 4096) == .error(-EOPNOTSUPP))
    #expect(allocate(FALLOC_FL_COLLAPSE_RANGE, 0, 4096) == .error(-EOPNOTSUPP))
  }

  @Test("what it doesn't know it doesn't do, and garbage is not answered with a crash") func garbage() {
    #expect(ask(FUSE_MKNOD, node: 1) == .error(-ENOSYS))
    #expect(ask(FUSE_INTERRUPT) == .none)
    let random = SeededRandom(seed: 3)
    for _ in 0..<5000 {
      let bytes = random.bytes(random.within(0...200))
      _ = bytes.withUnsafeBytes { volume.answer($0) }
      _ = ask(fuse_opcode(rawValue: UInt32(random.below(50))), bytes)
    }
  }
}
