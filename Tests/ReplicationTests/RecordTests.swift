import BlockModel
import H2HProtocol
import Replication
import Seams
import TestSupport
import Testing

@Suite struct RecordTests {
  private var record: SessionRecord {
    var record = SessionRecord(
      session: SessionID("6f1c/erp\ndb %0a"), role: .destination, generation: Generation(12), authority: .standIn,
      stage: "standIn")
    record.prepared = Generation(13)
    record.preparedAuthority = .destination
    record.copyID = .max
    record.swings = 4
    record.standInSince = WallTime(secondsSince1970: 1_893_456_789.5)
    record.initialSynchronizationAt = WallTime(secondsSince1970: 1_893_456_000.25)
    record.receiptDigest = "abc"
    record.holdCause = .failure
    record.holdWhy = "link = lost"
    record.inconsistentSince = WallTime(secondsSince1970: 5)
    record.unknown = ["fromTheFuture=yes"]
    return record
  }

  @Test func aRecordComesBackAsItWasStored() throws {
    #expect(try SessionRecord(decoding: record.encoded()) == record)
  }

  @Test func aRecordOfAnAgentThatDidNotNoteTheSwingIsRead() throws {
    var old = record
    old.standInSince = nil
    #expect(!String(decoding: old.encoded(), as: UTF8.self).contains("standInSince"))
    #expect(try SessionRecord(decoding: old.encoded()) == old)
  }

  @Test func aRecordCutOrChangedAnywhereIsRefused() {
    let bytes = record.encoded()
    for count in bytes.indices {
      #expect(throws: RecordError.self) { try SessionRecord(decoding: Array(bytes[..<count])) }
    }
    for index in bytes.indices {
      var damaged = bytes
      damaged[index] ^= 0x20
      #expect(throws: RecordError.self) { try SessionRecord(decoding: damaged) }
    }
    #expect(throws: RecordError.self) { try SessionRecord(decoding: []) }
  }

  @Test func aLabelIsFoundRefusedOrAbsent() throws {
    let label = DeviceLabel(
      session: SessionID("6f1c/erp"), volume: VolumeName("data"), sizeBytes: 8 << 20, generation: Generation(3),
      authority: .source, peer: KeyFingerprint("SHA256:00"), copyID: 9,
      inconsistentSince: WallTime(secondsSince1970: 7), isCancelled: false)
    let block = label.encoded()
    #expect(block.count == DeviceLabel.byteCount)
    #expect(try DeviceLabel.decode(block) == label)
    #expect(try DeviceLabel.decode([UInt8](repeating: 0, count: 4096)) == nil)
    #expect(try DeviceLabel.decode(SeededRandom(seed: 1).bytes(4096)) == nil)
    var damaged = block
    damaged[40] ^= 1
    #expect(throws: RecordError.self) { try DeviceLabel.decode(damaged) }
  }

  @Test func theReceiptListsWhatWasComparedAndItsRoot() throws {
    let digest = try #require(ExtentDigest([UInt8](repeating: 0xab, count: 32)))
    let draft = ReceiptDraft(
      session: SessionID("p/m"), generation: Generation(4), verify: .changed, at: WallTime(secondsSince1970: 9),
      volumes: [
        .init(
          name: VolumeName("data"), sizeBytes: 8 << 20, extentBytes: 4 << 20, comparedBytes: 4 << 20,
          digests: [nil, digest])
      ])
    var hashed: [UInt8] = []
    let text = Receipt.text(draft) { bytes in
      hashed = bytes
      return digest
    }
    #expect(hashed == [UInt8](repeating: 0, count: 32) + digest.array)
    let lines = String(decoding: text, as: UTF8.self).split(separator: "\n")
    #expect(lines[0] == "cmcplan-receipt 1")
    #expect(lines[5] == "volume=data size=8388608 extent=4194304 compared=4194304 root=\(digest)")
    #expect(lines[6] == "1 \(digest)")
  }
}

/// DESIGN §8.9.
@Suite struct WithheldDeviceTests {
  private struct Disks {
    let base = MemoryBlockDevice(sizeBytes: 9 << 20)
    let head = MemoryBlockDevice(sizeBytes: 1 << 20)
    let tail = MemoryBlockDevice(sizeBytes: 1 << 20)
    let device: WithheldDevice
    init() throws {
      let layout = try #require(WithheldLayout(sizeBytes: (8 << 20) + 512))
      device = WithheldDevice(layout: layout, base: base, head: head, tail: tail)
    }
  }

  private func write(_ device: WithheldDevice, _ offset: UInt64, _ bytes: [UInt8]) throws {
    try bytes.withUnsafeBytes { try device.write(at: offset, from: $0, durable: false) }
  }
  private func read(_ device: WithheldDevice, _ offset: UInt64, _ count: Int) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    try bytes.withUnsafeMutableBytes { try device.read(at: offset, into: $0) }
    return bytes
  }

  @Test func headAndTailStayOffTheDeviceUntilTheRelease() throws {
    let disks = try Disks()
    let size = Int(disks.device.sizeBytes)
    let contents = SeededRandom(seed: 3).bytes(size)
    try write(disks.device, 0, contents)
    #expect(try read(disks.device, 0, size) == contents)
    #expect(disks.base.contents[..<(1 << 20)].allSatisfy { $0 == 0 })
    #expect(disks.base.contents[(size - 1 << 20)...].allSatisfy { $0 == 0 })

    let label = DeviceLabel(
      session: SessionID("p/m"), volume: VolumeName("v"), sizeBytes: UInt64(size), generation: .initial,
      authority: .source, peer: KeyFingerprint("x"), copyID: 1, inconsistentSince: nil, isCancelled: false)
    try disks.device.writeLabel(label)
    #expect(try DeviceLabel.decode(disks.base.durableContents.prefix(4096)) == label)
    #expect(try read(disks.device, 0, 8192) == Array(contents[..<8192]), "the label is not in the volume")

    disks.base.fail(.write, at: 2)
    #expect(throws: BlockDeviceError.self) { try disks.device.release() }
    #expect(try DeviceLabel.decode(disks.base.durableContents.prefix(4096)) == label, "still labelled")
    try disks.device.release()
    try disks.device.release()
    #expect(Array(disks.base.durableContents[..<size]) == contents)
  }

  @Test func requestsAreCutAtTheBorders() throws {
    let disks = try Disks()
    let random = SeededRandom(seed: 4)
    let size = Int(disks.device.sizeBytes)
    var model = [UInt8](repeating: 0, count: size)
    for _ in 0..<60 {
      let borders = [1 << 20, size - 1 << 20, 0, size / 2]
      let start = max(0, min(size - 1, (random.pick(borders) ?? 0) - 3000 + random.below(6000)))
      let count = min(size - start, 1 + random.below(5000))
      if random.chance(0.3) {
        let range = ByteRange(offset: UInt64(start), length: UInt64(count))
        try disks.device.writeZeroes(range, mayUnmap: true, durable: false)
        for index in start..<start + count { model[index] = 0 }
      } else {
        let bytes = random.bytes(count)
        try write(disks.device, UInt64(start), bytes)
        model.replaceSubrange(start..<start + count, with: bytes)
      }
    }
    #expect(try read(disks.device, 0, size) == model)
    let all = try disks.device.allocation(of: ByteRange(offset: 0, length: UInt64(size)))
    #expect(all.map(\.range.length).reduce(0, +) == UInt64(size))
    #expect(throws: BlockDeviceError.self) { try write(disks.device, UInt64(size - 1), [1, 2]) }
    #expect(WithheldLayout(sizeBytes: (4 << 20) - 1) == nil)
  }
}
