internal import BlockModel
internal import H2HProtocol
internal import LinuxPlatform
internal import Replication
internal import Seams

extension SourceSession {
  /// On a copying thread.
  func readForCopy(
    _ transfer: UInt64, _ volume: Int, _ range: ByteRange, pieceBytes: UInt64, mayPack: Bool
  ) -> SourceEvent {
    let device = volumes[volume].device
    let begun = MonotonicTime.now
    do throws(BlockDeviceError) {
      let zeroBytes = try device.endOfZeroes(from: range.offset, to: range.end) - range.offset
      if zeroBytes == range.length { return .copyRead(transfer: transfer, .ok, isZero: true) }
      if zeroBytes >= pieceBytes {
        return .copyRead(transfer: transfer, .ok, isZero: true, length: zeroBytes / pieceBytes * pieceBytes)
      }
      let count = Int(min(range.length, pieceBytes))
      let buffer = lentBuffer(count)
      try device.read(at: range.offset, into: buffer.target)
      let isZero = isAllZero(buffer.bytes)
      stageMeter.addReading(MonotonicTime.now.seconds(since: begun))
      if isZero { return .copyRead(transfer: transfer, .ok, isZero: true, length: UInt64(count)) }
      let packed = mayPack ? pack(buffer) : nil
      if packed == nil, count > FrameLane.copiedPayloadBytes, buffer.packing == nil {
        buffer.packing = PackingSample(plainBytes: count, wireBytes: count, seconds: 0, wasTried: false)
      }
      state.withLock { $0.transfers[transfer] = packed ?? buffer }
      return .copyRead(
        transfer: transfer, .ok, isZero: false, length: UInt64(count), packedBytes: packed.map { UInt64($0.count) })
    } catch {
      journal.append("copyReadFailed", error.message)
      return .copyRead(transfer: transfer, IOStatus(error), isZero: false)
    }
  }

  private func lentBuffer(_ count: Int) -> PooledBuffer {
    PooledBuffer(from: count <= Self.smallBytes ? smallBuffers : buffers, count: count)
  }

  /// The same packed, in a buffer of its own; nil where it is to go, or has to go, as it is.
  private func pack(_ plain: PooledBuffer) -> PooledBuffer? {
    let isLarge = plain.count > FrameLane.copiedPayloadBytes
    let begun = MonotonicTime.now
    guard packing.withLock({ isLarge ? $0.choose(at: begun) : $0.isOn }) else { return nil }
    let packed = lentBuffer(plain.count)
    let count = PayloadPacking.pack(plain.bytes, into: packed.target)
    let seconds = MonotonicTime.now.seconds(since: begun)
    stageMeter.addPacking(seconds)
    let sample = PackingSample(
      plainBytes: plain.count, wireBytes: count ?? plain.count, seconds: seconds, wasTried: true)
    guard let count else {
      if isLarge { plain.packing = sample }
      return nil
    }
    packed.count = count
    if isLarge { packed.packing = sample }
    return packed
  }

  /// On a copying thread, which waits for the link.
  func transmit(_ frame: OutgoingFrame, _ sample: PackingSample, on link: Link) {
    let begun = MonotonicTime.now
    link.transmitBulk(frame)
    let now = MonotonicTime.now
    let seconds = now.seconds(since: begun)
    stageMeter.addSending(seconds)
    var sample = sample
    sample.seconds += seconds
    packing.withLock { $0.sent(sample, at: now) }
  }
}
