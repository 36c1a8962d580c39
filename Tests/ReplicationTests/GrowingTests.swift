import BlockModel
import H2HProtocol
import Replication
import Seams
import Testing

/// A volume that grows while it is replicated.
@Suite struct GrowingTests {
  private static let old: UInt64 = 8 << 20

  /// A device in memory; its flushes and writes may be counted down to a failure.
  private final class MemoryDevice: BlockDevice, @unchecked Sendable {
    let label = "memory"
    var bytes: [UInt8]
    var writesLeft = Int.max
    var sizeBytes: UInt64 { UInt64(bytes.count) }
    var blockBytes: UInt32 { 512 }
    init(_ bytes: [UInt8]) { self.bytes = bytes }
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(BlockDeviceError) {
      buffer.copyBytes(from: bytes[Int(offset)..<Int(offset) + buffer.count])
    }
    func write(at offset: UInt64, from buffer: UnsafeRawBufferPointer, durable: Bool) throws(BlockDeviceError) {
      writesLeft -= 1
      if writesLeft < 0 { throw BlockDeviceError(.writeFailed, "no more writes") }
      bytes.replaceSubrange(Int(offset)..<Int(offset) + buffer.count, with: buffer)
    }
    func writeZeroes(_ range: ByteRange, mayUnmap: Bool, durable: Bool) throws(BlockDeviceError) {
      let zeroes = [UInt8](repeating: 0, count: Int(range.length))
      var failure: BlockDeviceError?
      zeroes.withUnsafeBytes { buffer in
        do throws(BlockDeviceError) { try write(at: range.offset, from: buffer, durable: durable) } catch {
          failure = error
        }
      }
      if let failure { throw failure }
    }
    func flush() throws(BlockDeviceError) {}
    func allocation(of range: ByteRange) throws(BlockDeviceError) -> [AllocationExtent] { [] }
  }

  @Test("What is new is dirty, also after a crash, and is copied once both ends agree")
  func grows() {
    let bench = SourceBench.tracking()
    bench.tell(.grown(sizes: [Self.old + (3 << 20) + 512]))
    #expect(bench.has { if case .closeLink(1, _) = $0 { true } else { false } }, "the ends have to agree anew")
    #expect(bench.observed.volumes[0].dirtyBytes == (3 << 20) + (64 << 10), "whole blocks")
    #expect(bench.observed.stage == .tracking)
    bench.settle()
    bench.connect(2)
    bench.settle(link: 2)
    bench.advance(2)
    bench.settle(link: 2)
    #expect(bench.observed.volumes[0].dirtyBytes == 0 && bench.observed.isConnected)
  }

  @Test("A link whose other end has the former sizes is refused, and nothing is lost by that")
  func refusesTheFormerSize() {
    let bench = SourceBench.tracking()
    let former = bench.hello()
    bench.tell(.grown(sizes: [Self.old * 2]))
    bench.tell(.linkOffered(link: 2, former))
    #expect(bench.has { if case .refuseHello(2, _, _) = $0 { true } else { false } })
    #expect(!bench.observed.isConnected && bench.observed.volumes[0].dirtyBytes == Self.old)
  }

  @Test("A block that was copied while it was the last one is copied again with what came behind it")
  func lastBlock() {
    let uneven: UInt64 = Self.old + 4096
    let bench = SourceBench.tracking([uneven])
    bench.tell(.grown(sizes: [uneven + 4096]))
    #expect(bench.observed.volumes[0].dirtyBytes == 64 << 10)
  }

  /// What a restart finds of a volume that is equal on both sides.
  private static func settled(_ size: UInt64) throws -> (bench: SourceBench, pages: [Int: [UInt8]]) {
    let bench = SourceBench(volumes: [size])
    var pages: [Int: [UInt8]] = [:]
    func settle() {
      for _ in 0..<40 {
        for effect in bench.effects {
          if case .storeIntent(0, let page, _, let bytes) = effect { pages[page] = bytes }
        }
        bench.settle(rounds: 1)
      }
    }
    bench.connect()
    bench.tell(.command(.synchronize, id: 1))
    settle()
    for _ in 0..<4 {
      bench.advance(6)
      settle()
    }
    try #require(!pages.isEmpty)
    let same = SourceBench(record: .ofTracking(bench), pages: [pages], volumes: [size])
    #expect(same.observed.volumes[0].dirtyBytes == 0, "the test's own ground")
    return (bench, pages)
  }

  @Test("Pages of the intent map from before it grew say that what is new may differ, and no more")
  func pagesFromBefore() throws {
    let (bench, pages) = try Self.settled(Self.old)
    let grown = SourceBench(record: .ofTracking(bench), pages: [pages], volumes: [Self.old * 2])
    // The extent of 4 MiB that used to be the last, and all behind it.
    #expect(grown.observed.volumes[0].dirtyBytes == Self.old + (4 << 20))
    let shrunk = SourceBench(record: .ofTracking(bench), pages: [pages], volumes: [Self.old / 2])
    #expect(shrunk.observed.volumes[0].dirtyBytes == Self.old / 2, "a page of a larger volume says nothing")
  }

  @Test("A volume that grew within its last extent is known to have grown, by a crash right after")
  func pagesFromBeforeWithAsManyExtents() throws {
    let size = Self.old + (1 << 20)
    let (bench, pages) = try Self.settled(size)
    for grownBy in [512, 4096, 3 << 20] as [UInt64] {
      let grown = SourceBench(record: .ofTracking(bench), pages: [pages], volumes: [size + grownBy])
      #expect(grown.observed.volumes[0].dirtyBytes >= (1 << 20) + grownBy, "by \(grownBy)")
    }
    // As agents wrote them that knew of no growing.
    var former = pages
    for (number, page) in pages {
      var bytes = page
      bytes.replaceSubrange(6..<8, with: [0, 0])
      let sum = CRC32C.checksum(bytes[..<(bytes.count - 4)])
      bytes.replaceSubrange((bytes.count - 4)..., with: (0..<4).map { UInt8(truncatingIfNeeded: sum >> (24 - 8 * $0)) })
      former[number] = bytes
    }
    let upgraded = SourceBench(record: .ofTracking(bench), pages: [former], volumes: [size])
    #expect(upgraded.observed.volumes[0].dirtyBytes == 1 << 20, "the last extent, once")
  }

  @Test("A write behind the former end waits for its intent like any other")
  func writesBehindTheFormerEnd() {
    let bench = SourceBench.tracking()
    bench.tell(.grown(sizes: [Self.old * 2]))
    bench.write(5, Self.old + 8192)
    #expect(!bench.takeLocal(5), "its extent is not durably marked yet")
    bench.settle()
    #expect(bench.takeLocal(5))
  }

  @Test("Nothing grows, or shrinks, where both copies matter at once")
  func refusals() {
    let bench = SourceBench.tracking()
    #expect(bench.machine.growthRefusal(to: [Self.old / 2])?.contains("can't shrink") == true)
    #expect(bench.machine.growthRefusal(to: [8 << 40])?.contains("cancel the session") == true)
    #expect(bench.machine.growthRefusal(to: [Self.old * 2]) == nil)
    bench.tell(.command(.swing, id: 1))
    bench.settle()
    #expect(bench.observed.stage == .standIn)
    #expect(bench.machine.growthRefusal(to: [Self.old * 2])?.contains("revert") == true)
    let closed = SourceBench.tracking()
    closed.tell(.command(.closeTap, id: 1))
    closed.settle()
    #expect(closed.machine.growthRefusal(to: [Self.old * 2])?.contains("finalize") == true)
  }

  @Test("The withheld tail moves: every write of it may be the last, and the volume is whole with either size")
  func withheldTail() throws {
    let part = Int(WithheldLayout.partBytes)
    for grownBy in [512, part / 2, part, 3 * part] {
      let size = 6 << 20
      let content = (0..<size).map { UInt8(truncatingIfNeeded: $0 / 512 &* 7) }
      let former = try #require(WithheldLayout(sizeBytes: UInt64(size)))
      let larger = try #require(WithheldLayout(sizeBytes: UInt64(size + grownBy)))
      for writes in [0, 1, 2, 3, Int.max] {
        let base = MemoryDevice(content + [UInt8](repeating: 0xee, count: 4 * part))
        let head = MemoryDevice(Array(content[..<part]))
        let tail = MemoryDevice(Array(content[(size - part)...]))
        let newTail = MemoryDevice([UInt8](repeating: 0x77, count: part))
        base.bytes.replaceSubrange(size - part..<size, with: [UInt8](repeating: 0, count: part))
        base.writesLeft = writes
        newTail.writesLeft = writes
        let isDone: Bool
        do throws(BlockDeviceError) {
          try former.grow(to: larger, base: base, tail: tail, newTail: newTail)
          isDone = true
        } catch { isDone = false }
        // A crash before the entry says the new size leaves the volume as it was.
        let asBefore = WithheldDevice(layout: former, base: base, head: head, tail: tail)
        #expect(Self.all(of: asBefore, size) == content, "grown by \(grownBy), \(writes) writes")
        guard isDone else { continue }
        let after = WithheldDevice(layout: larger, base: base, head: head, tail: newTail)
        #expect(Self.all(of: after, size) == content, "grown by \(grownBy)")
        base.writesLeft = .max
        try after.release()
        #expect(Array(base.bytes[..<size]) == content)
      }
    }
  }

  private static func all(of device: WithheldDevice, _ count: Int) -> [UInt8]? {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 4096)
    defer { buffer.deallocate() }
    do throws(BlockDeviceError) { try device.read(at: 0, into: buffer) } catch { return nil }
    return Array(buffer)
  }
}
