package import BlockModel
package import Seams
import Synchronization

/// A disk in memory with a volatile cache: what was not flushed is kept apart, so that a power cut can lose any of it.
package final class MemoryBlockDevice: BlockDevice {
  package static let sectorBytes = 512

  package enum Operation: String, Sendable, CaseIterable {
    case read
    case write
    case writeZeroes
    case flush
  }

  package struct Counts: Sendable, Equatable {
    package var reads = 0
    package var readBytes: UInt64 = 0
    package var writes = 0
    package var writeBytes: UInt64 = 0
    package var zeroWrites = 0
    package var flushes = 0
    package var cacheDrops = 0
    package init() {}
  }

  private struct Fault {
    var operation: Operation
    var remaining: Int
    var stays: Bool
    var error: BlockDeviceError
  }
  private struct PendingWrite {
    var offset: Int
    var bytes: [UInt8]
  }
  private struct State {
    var current: [UInt8]
    var durable: [UInt8]
    var pending: [PendingWrite] = []
    var counts = Counts()
    var faults: [Fault] = []
    var isGone = false
  }

  package let label: String
  package let sizeBytes: UInt64
  package let blockBytes: UInt32
  private let state: Mutex<State>

  package init(sizeBytes: UInt64, blockBytes: UInt32 = 512, label: String = "memory") {
    self.sizeBytes = sizeBytes
    self.blockBytes = blockBytes
    self.label = label
    let bytes = [UInt8](repeating: 0, count: Int(sizeBytes))
    state = Mutex(State(current: bytes, durable: bytes))
  }

  /// A disk with these durable contents.
  package convenience init(contents: [UInt8], blockBytes: UInt32 = 512, label: String = "memory") {
    self.init(sizeBytes: UInt64(contents.count), blockBytes: blockBytes, label: label)
    state.withLock {
      $0.current = contents
      $0.durable = contents
    }
  }

  // MARK: what tests ask and inject

  package var counts: Counts { state.withLock { $0.counts } }
  /// What a read sees now.
  package var contents: [UInt8] { state.withLock { $0.current } }
  /// What a power cut would certainly keep.
  package var durableContents: [UInt8] { state.withLock { $0.durable } }
  package var hasUnflushedWrites: Bool { state.withLock { !$0.pending.isEmpty } }

  /// Fails the `at`-th next operation of this kind (1 is the next one), and all after it where `stays`.
  package func fail(
    _ operation: Operation, at: Int = 1, stays: Bool = false, code: BlockDeviceError.Code? = nil, errorNumber: Int32 = 5
  ) {
    let byKind: BlockDeviceError.Code =
      switch operation {
      case .read: .readFailed
      case .write, .writeZeroes: errorNumber == 28 ? .noSpace : .writeFailed
      case .flush: .flushFailed
      }
    let error = BlockDeviceError(
      code ?? byKind, "\(label): injected \(operation.rawValue) failure", errorNumber: errorNumber)
    state.withLock {
      $0.faults.append(Fault(operation: operation, remaining: at, stays: stays, error: error))
    }
  }
  package func clearFaults() { state.withLock { $0.faults = [] } }
  /// Every call fails, as after a device was pulled; false brings it back.
  package func setGone(_ isGone: Bool) { state.withLock { $0.isGone = isGone } }
  /// Changes a bit behind everybody's back, durably.
  package func flipBit(at offset: UInt64) {
    state.withLock {
      $0.current[Int(offset)] ^= 1
      $0.durable[Int(offset)] ^= 1
    }
  }

  /// Loses any subset of the unflushed writes, in any order, torn at sectors; the rest becomes durable.
  package func powerCut(keep random: SeededRandom) {
    state.withLock { state in
      for write in random.shuffled(state.pending) {
        var position = 0
        while position < write.bytes.count {
          // A sector boundary of the disk, not of the write: a sector is written whole or not at all.
          let absolute = write.offset + position
          let stop = min(write.bytes.count, position + Self.sectorBytes - absolute % Self.sectorBytes)
          if random.chance(0.5) {
            state.durable.replaceSubrange(absolute..<absolute + stop - position, with: write.bytes[position..<stop])
          }
          position = stop
        }
      }
      state.pending = []
      state.current = state.durable
    }
  }

  // MARK: BlockDevice

  package func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(BlockDeviceError) {
    let range = ByteRange(offset: offset, length: UInt64(buffer.count))
    // The buffer outlives the call and only this thread uses it here; the address crosses the lock as a number.
    let address = UInt(bitPattern: buffer.baseAddress)
    let count = buffer.count
    try locked(.read, range) { state in
      state.counts.reads += 1
      state.counts.readBytes += range.length
      guard let target = UnsafeMutableRawPointer(bitPattern: address) else { return }
      state.current.withUnsafeBytes { bytes in
        UnsafeMutableRawBufferPointer(start: target, count: count)
          .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[Int(offset)..<Int(offset) + count]))
      }
    }
  }

  package func write(at offset: UInt64, from buffer: UnsafeRawBufferPointer, durable: Bool) throws(BlockDeviceError) {
    let bytes = Array(buffer)
    try locked(.write, ByteRange(offset: offset, length: UInt64(bytes.count))) { state in
      state.counts.writes += 1
      state.counts.writeBytes += UInt64(bytes.count)
      Self.store(bytes, at: Int(offset), durable: durable, in: &state)
    }
  }

  package func writeZeroes(_ range: ByteRange, mayUnmap: Bool, durable: Bool) throws(BlockDeviceError) {
    try locked(.writeZeroes, range) { state in
      state.counts.zeroWrites += 1
      let zeroes = [UInt8](repeating: 0, count: Int(range.length))
      Self.store(zeroes, at: Int(range.offset), durable: durable, in: &state)
    }
  }

  package func flush() throws(BlockDeviceError) {
    try locked(.flush, ByteRange(offset: 0, length: 0)) { state in
      state.counts.flushes += 1
      for write in state.pending {
        state.durable.replaceSubrange(write.offset..<write.offset + write.bytes.count, with: write.bytes)
      }
      state.pending = []
    }
  }

  package func allocation(of range: ByteRange) throws(BlockDeviceError) -> [AllocationExtent] {
    [AllocationExtent(range: range, isZero: false)]
  }

  package func dropCache(of range: ByteRange) { state.withLock { $0.counts.cacheDrops += 1 } }

  private static func store(_ bytes: [UInt8], at offset: Int, durable: Bool, in state: inout State) {
    state.current.replaceSubrange(offset..<offset + bytes.count, with: bytes)
    // A durable write must not be undone by an older unflushed one that a power cut keeps: it goes into both.
    guard durable else {
      state.pending.append(PendingWrite(offset: offset, bytes: bytes))
      return
    }
    state.durable.replaceSubrange(offset..<offset + bytes.count, with: bytes)
    for index in state.pending.indices { overlay(bytes, at: offset, onto: &state.pending[index]) }
  }

  private static func overlay(_ bytes: [UInt8], at offset: Int, onto write: inout PendingWrite) {
    let start = max(offset, write.offset)
    let end = min(offset + bytes.count, write.offset + write.bytes.count)
    guard start < end else { return }
    write.bytes.replaceSubrange(
      start - write.offset..<end - write.offset, with: bytes[start - offset..<end - offset])
  }

  private func locked(
    _ operation: Operation, _ range: ByteRange, _ body: (inout State) -> Void
  ) throws(BlockDeviceError) {
    let failure: BlockDeviceError? = state.withLock { state in
      if state.isGone { return BlockDeviceError(.gone, "\(label): the device is gone", errorNumber: 19) }
      if !range.fits(in: sizeBytes) {
        return BlockDeviceError(.outOfRange, "\(label): \(range) is past the end", errorNumber: 22)
      }
      if let error = Self.fault(operation, in: &state) { return error }
      body(&state)
      return nil
    }
    if let failure { throw failure }
  }

  private static func fault(_ operation: Operation, in state: inout State) -> BlockDeviceError? {
    for index in state.faults.indices where state.faults[index].operation == operation {
      state.faults[index].remaining -= 1
      guard state.faults[index].remaining <= 0 else { continue }
      let error = state.faults[index].error
      if !state.faults[index].stays { state.faults.remove(at: index) }
      return error
    }
    return nil
  }
}
