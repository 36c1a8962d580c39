import BlockModel
import Glibc
import LinuxPlatform
import Seams
import Testing

@Suite struct FileBlockDeviceTests {
  let scratch: Scratch
  init() throws { scratch = try Scratch() }

  @Test(arguments: [FileBlockDevice.Access.buffered, .direct])
  func whatIsWrittenIsRead(_ access: FileBlockDevice.Access) throws {
    let device = try FileBlockDevice.create(path: scratch("disk"), sizeBytes: 4 << 20, .init(access: access))
    #expect(device.access == access)
    let data = pattern(1 << 20)
    try device.put(data, at: 1 << 20)
    try device.put(data, at: 2 << 20, durable: true)
    try device.flush()
    let again = try FileBlockDevice(path: scratch("disk"))
    #expect(try again.bytes(at: 1 << 20, 1 << 20) == data)
    #expect(try again.bytes(at: 2 << 20, 1 << 20) == data)
    #expect(try again.bytes(at: 0, 1 << 20).allSatisfy { $0 == 0 })
  }

  @Test func directAccessServesUnalignedCallers() throws {
    let size = 3 << 20
    let device = try FileBlockDevice.create(path: scratch("disk"), sizeBytes: UInt64(size), .init(access: .direct))
    var expected = [UInt8](repeating: 0, count: size)
    let places = [(1, 1), (511, 2), (4095, 4098), (100_001, 1_500_003), (size - 7, 7), (0, 513), (8192, 4096)]
    for (index, (offset, count)) in places.enumerated() {
      let data = pattern(count, seed: UInt64(index + 2))
      try device.put(data, at: UInt64(offset), durable: index.isMultiple(of: 2))
      expected.replaceSubrange(offset..<offset + count, with: data)
    }
    #expect(try device.bytes(at: 0, size) == expected)
    for (offset, count) in places {
      #expect(try device.bytes(at: UInt64(offset), count) == Array(expected[offset..<offset + count]))
    }
  }

  @Test func neighboursInOneBlockDoNotLoseEachOthersBytes() throws {
    let device = try FileBlockDevice.create(path: scratch("disk"), sizeBytes: 8192, .init(access: .direct))
    let threads = try (0..<4).map { index in
      try PlatformThread.start(name: "writer \(index)") {
        for round in 1...50 {
          try? device.put([UInt8](repeating: UInt8(round), count: 100), at: UInt64(index * 100))
        }
      }
    }
    for thread in threads { #expect(thread.join(until: soon)) }
    #expect(try device.bytes(at: 0, 400) == [UInt8](repeating: 50, count: 400))
  }

  @Test func directAccessToAFileOfOddLengthFallsBackAndSaysSo() throws {
    let device = try FileBlockDevice.create(path: scratch("disk"), sizeBytes: 10_001, .init(access: .direct))
    #expect(device.access == .buffered)
    try device.put([1, 2, 3], at: 9_998)
    #expect(try device.bytes(at: 9_998, 3) == [1, 2, 3])
    #expect(device.sizeBytes == 10_001)
  }

  @Test func rangesPastTheEndAreRefused() throws {
    let device = try FileBlockDevice.create(path: scratch("disk"), sizeBytes: 4096)
    for (offset, count) in [(4096, 1), (4000, 97), (.max, 1)] as [(UInt64, Int)] {
      #expect { try device.put([UInt8](repeating: 1, count: count), at: offset) } throws: { isError($0, .outOfRange) }
      #expect { try device.bytes(at: offset, count) } throws: { isError($0, .outOfRange) }
    }
    let beyond = ByteRange(offset: .max, length: .max)
    #expect { try device.writeZeroes(beyond, mayUnmap: true, durable: false) } throws: { isError($0, .outOfRange) }
    #expect { try device.allocation(of: beyond) } throws: { isError($0, .outOfRange) }
    try device.put([], at: 4096)
  }

  @Test(arguments: [true, false], [FileBlockDevice.Access.buffered, .direct])
  func zeroedRangesReadAsZeroes(_ mayUnmap: Bool, _ access: FileBlockDevice.Access) throws {
    let size = 3 << 20
    let device = try FileBlockDevice.create(path: scratch("disk"), sizeBytes: UInt64(size), .init(access: access))
    var expected = pattern(size)
    try device.put(expected, at: 0)
    for range in [1000..<1001, 4096..<8192, 10_000..<2_500_000, size - 3..<size] {
      let zeroed = ByteRange(offset: UInt64(range.lowerBound), length: UInt64(range.count))
      try device.writeZeroes(zeroed, mayUnmap: mayUnmap, durable: true)
      expected.replaceSubrange(range, with: [UInt8](repeating: 0, count: range.count))
    }
    #expect(try device.bytes(at: 0, size) == expected)
    #expect(try Files.facts(scratch("disk")).sizeBytes == UInt64(size))
  }

  @Test func unmappedSpaceIsFreed() throws {
    let device = try FileBlockDevice.create(path: scratch("disk"), sizeBytes: 4 << 20)
    try device.put(pattern(4 << 20), at: 0, durable: true)
    try device.writeZeroes(ByteRange(offset: 0, length: 4 << 20), mayUnmap: true, durable: true)
    #expect(try Files.facts(scratch("disk")).allocatedBytes < 1 << 20)
  }

  @Test func holesAreKnownToBeZero() throws {
    let device = try FileBlockDevice.create(path: scratch("disk"), sizeBytes: 8 << 20)
    try device.put(pattern(1 << 20), at: 2 << 20)
    try device.flush()
    let extents = try device.allocation(of: ByteRange(offset: 0, length: 8 << 20))
    #expect(extents.map(\.isZero) == [true, false, true])
    #expect(extents[1].range == ByteRange(offset: 2 << 20, length: 1 << 20))
    #expect(extents[2].range.end == 8 << 20)
    #expect(try device.endOfZeroes(from: 0, to: 8 << 20) == 2 << 20)
    #expect(try device.endOfZeroes(from: 0, to: 1 << 20) == 1 << 20)
    #expect(try device.endOfZeroes(from: 2 << 20, to: 8 << 20) == 2 << 20)
    #expect(try device.endOfZeroes(from: 3 << 20, to: 8 << 20) == 8 << 20)
    let inside = try device.allocation(of: ByteRange(offset: (2 << 20) + 4096, length: 4096))
    #expect(inside == [AllocationExtent(range: ByteRange(offset: (2 << 20) + 4096, length: 4096), isZero: false)])
    #expect(try device.allocation(of: ByteRange(offset: 8 << 20, length: 0)).isEmpty)
  }

  @Test func whatAFileThatShrankDoesNotHaveIsNoZeroes() throws {
    let device = try FileBlockDevice.create(path: scratch("disk"), sizeBytes: 8 << 20)
    #expect(truncate(scratch("disk"), 2 << 20) == 0)
    #expect(try device.endOfZeroes(from: 0, to: 2 << 20) == 2 << 20, "what is left may be told")
    for start in [UInt64(0), 1 << 20, 2 << 20, 3 << 20] {
      #expect {
        try device.endOfZeroes(from: start, to: 4 << 20)
      } throws: { error in
        isError(error, .readFailed) && "\(error)".contains("has shrunk to 2097152 bytes")
      }
    }
  }

  @Test func aReadOnlyDeviceRefusesWrites() throws {
    _ = try FileBlockDevice.create(path: scratch("disk"), sizeBytes: 4096)
    let device = try FileBlockDevice(path: scratch("disk"), .init(isReadOnly: true))
    #expect { try device.put([1], at: 0) } throws: { isError($0, .readOnly) }
    let all = ByteRange(offset: 0, length: 4096)
    #expect { try device.writeZeroes(all, mayUnmap: true, durable: false) } throws: { isError($0, .readOnly) }
    try device.flush()
  }

  @Test func aClosedDeviceIsGone() throws {
    let device = try FileBlockDevice.create(path: scratch("disk"), sizeBytes: 4096)
    device.close()
    #expect { try device.put([1], at: 0) } throws: { isError($0, .gone) }
    #expect { try device.bytes(at: 0, 1) } throws: { isError($0, .gone) }
    #expect { try device.flush() } throws: { isError($0, .gone) }
  }

  @Test func anExclusiveFileIsOpenedOnce() throws {
    let first = try FileBlockDevice.create(path: scratch("disk"), sizeBytes: 4096, .init(isExclusive: true))
    #expect { try FileBlockDevice(path: scratch("disk"), .init(isExclusive: true)) } throws: {
      ($0 as? SystemError)?.isBusy == true
    }
    first.close()
    _ = try FileBlockDevice(path: scratch("disk"), .init(isExclusive: true))
  }

  @Test func aFullDeviceSaysNoSpace() throws {
    // Every write to /dev/full fails with ENOSPC, but it is no volume; what is told is the reason and the path.
    #expect { try FileBlockDevice(path: "/dev/full") } throws: { "\($0)".contains("/dev/full") }
    #expect { try FileBlockDevice(path: scratch("missing")) } throws: {
      ($0 as? SystemError)?.isNotFound == true && "\($0)".contains("missing")
    }
  }

  @Test func aGrownFileShowsItsNewSize() throws {
    let device = try FileBlockDevice.create(path: scratch("disk"), sizeBytes: 4096)
    try Files.append(scratch("disk"), [UInt8](repeating: 7, count: 4096))
    #expect(device.sizeBytes == 4096)
    #expect(try device.refreshSize() == 8192)
    #expect(try device.bytes(at: 8191, 1) == [7])
  }
}

func isError(_ error: any Error, _ code: BlockDeviceError.Code) -> Bool { (error as? BlockDeviceError)?.code == code }

/// Needs root and free loop devices; skipped elsewhere.
@Suite(.enabled(if: ProcessSetup.effectiveUserID == 0 && Files.exists("/dev/loop-control")))
struct LoopDeviceTests {
  let scratch: Scratch
  init() throws { scratch = try Scratch() }

  @Test(arguments: [FileBlockDevice.Access.buffered, .direct])
  func aLoopDeviceIsABlockDevice(_ access: FileBlockDevice.Access) throws {
    let size = 4 << 20
    _ = try FileBlockDevice.create(path: scratch("backing"), sizeBytes: UInt64(size))
    let loop = try LoopDevice.attach(backing: scratch("backing"))
    defer { try? loop.detach() }
    #expect(try loop.isAttached())
    #expect(loop.backingPath() == scratch("backing"))
    let device = try FileBlockDevice(path: loop.path, .init(access: access, isExclusive: true))
    #expect(device.isBlockDevice && device.sizeBytes == UInt64(size) && device.access == access)
    #expect(device.blockBytes == 512)
    #expect(try DeviceUse.isClaimed(loop.path))
    #expect(try !DeviceUse.openers(of: loop.path).isEmpty)
    var expected = pattern(size)
    try device.put(expected, at: 0, durable: true)
    for range in [700..<701, 513..<200_001, 1 << 20..<2 << 20] {
      try device.writeZeroes(
        ByteRange(offset: UInt64(range.lowerBound), length: UInt64(range.count)), mayUnmap: range.count > 1000,
        durable: false)
      expected.replaceSubrange(range, with: [UInt8](repeating: 0, count: range.count))
    }
    try device.flush()
    device.dropCache(of: ByteRange(offset: 0, length: UInt64(size)))
    #expect(try device.bytes(at: 0, size) == expected)
    let whole = ByteRange(offset: 0, length: UInt64(size))
    #expect(try device.allocation(of: whole) == [AllocationExtent(range: whole, isZero: false)])
    device.close()
    #expect(try !DeviceUse.isClaimed(loop.path))
  }
}
