package import BlockModel
import CLinux
import Glibc
package import Seams
import Synchronization

extension FileBlockDevice {
  /// Zeroes for where the kernel has no shorter way. Never written to.
  private static let zeroes = AlignedBuffer(byteCount: bounceBytes)

  package func writeZeroes(_ range: ByteRange, mayUnmap: Bool, durable: Bool) throws(BlockDeviceError) {
    try checkWritable()
    try checkRange(range, "zero")
    guard !range.isEmpty else { return }
    // A device zeroes whole logical blocks only; the ends are written.
    let unit = UInt64(isBlockDevice ? blockBytes : 1)
    let start = (range.offset + unit - 1) / unit * unit
    let end = range.end / unit * unit
    guard start < end else { return try writeZeroBytes(range, durable: durable) }
    try writeZeroBytes(ByteRange(from: range.offset, to: start), durable: durable)
    let middle = ByteRange(from: start, to: end)
    if try zeroInKernel(middle, mayUnmap: mayUnmap) {
      if durable { try flush() }
    } else {
      try writeZeroBytes(middle, durable: durable)
    }
    try writeZeroBytes(ByteRange(from: end, to: range.end), durable: durable)
  }

  /// False where neither the file system nor the device offers it.
  private func zeroInKernel(_ range: ByteRange, mayUnmap: Bool) throws(BlockDeviceError) -> Bool {
    if mayUnmap, try fallocate(CMC_FALLOC_PUNCH_HOLE, range, lacksPunch) { return true }
    if try fallocate(CMC_FALLOC_ZERO_RANGE, range, lacksZeroRange) { return true }
    guard isBlockDevice else { return false }
    let result = cmc_device_zero_out(descriptor.number, range.offset, range.length)
    if result >= 0 { return true }
    if Self.meansUnsupported(Int32(-result)) { return false }
    throw deviceError(.writeFailed, "zero \(range) of", Int32(-result))
  }

  private func fallocate(
    _ mode: Int32, _ range: ByteRange, _ isLacking: borrowing Atomic<Bool>
  ) throws(BlockDeviceError) -> Bool {
    if isLacking.load(ordering: .relaxed) { return false }
    let result = cmc_fallocate(descriptor.number, mode, range.offset, range.length)
    if result >= 0 { return true }
    guard Self.meansUnsupported(Int32(-result)) else {
      throw deviceError(.writeFailed, "zero \(range) of", Int32(-result))
    }
    isLacking.store(true, ordering: .relaxed)
    return false
  }

  private static func meansUnsupported(_ number: Int32) -> Bool {
    number == EOPNOTSUPP || number == ENOSYS || number == ENOTTY || number == EINVAL
  }

  private func writeZeroBytes(_ range: ByteRange, durable: Bool) throws(BlockDeviceError) {
    var offset = range.offset
    while offset < range.end {
      let count = Int(min(range.end - offset, UInt64(Self.bounceBytes)))
      let part = UnsafeRawBufferPointer(rebasing: Self.zeroes.readOnly[..<count])
      try write(at: offset, from: part, durable: durable)
      offset += UInt64(count)
    }
  }

  package func allocation(of range: ByteRange) throws(BlockDeviceError) -> [AllocationExtent] {
    try checkRange(range, "look at")
    guard !range.isEmpty else { return [] }
    guard !isBlockDevice else { return [AllocationExtent(range: range, isZero: false)] }
    var extents: [AllocationExtent] = []
    var offset = range.offset
    while offset < range.end {
      if extents.count >= Self.allocationExtentLimit - 1 {
        extents.append(AllocationExtent(range: ByteRange(from: offset, to: range.end), isZero: false))
        break
      }
      let data = try seek(offset, CMC_SEEK_DATA) ?? range.end
      if data > offset {
        let end = min(data, range.end)
        extents.append(AllocationExtent(range: ByteRange(from: offset, to: end), isZero: true))
        offset = end
        continue
      }
      let hole = try seek(offset, CMC_SEEK_HOLE) ?? range.end
      let end = hole > offset ? min(hole, range.end) : range.end
      extents.append(AllocationExtent(range: ByteRange(from: offset, to: end), isZero: false))
      offset = end
    }
    return extents
  }

  package func endOfZeroes(from offset: UInt64, to end: UInt64) throws(BlockDeviceError) -> UInt64 {
    try checkRange(ByteRange(from: offset, to: end), "look at")
    if isBlockDevice { return offset }
    // Where the next hole begins is never asked: on tmpfs that costs a walk over all the data before it.
    if let data = try seek(offset, CMC_SEEK_DATA) { return min(data, end) }
    // Past the end of a file there is no data either; but who says that it is zero there would have it lost.
    var facts = cmc_file_facts()
    let result = cmc_fstat(descriptor.number, &facts)
    guard result >= 0 else { throw deviceError(.readFailed, "look at", Int32(-result)) }
    guard facts.size_bytes >= end else {
      throw BlockDeviceError(
        .readFailed,
        "\(label) has shrunk to \(facts.size_bytes) bytes, and \(end) were to be read; give it its size again")
    }
    return end
  }

  /// Nil where there is no more data. A file system without the call answers that all is data.
  private func seek(_ offset: UInt64, _ whence: Int32) throws(BlockDeviceError) -> UInt64? {
    let result = cmc_seek(descriptor.number, offset, whence)
    if result >= 0 { return UInt64(result) }
    switch Int32(-result) {
    case ENXIO: return nil
    case EINVAL, EOPNOTSUPP: return whence == CMC_SEEK_DATA ? offset : nil
    default: throw deviceError(.readFailed, "look for holes in", Int32(-result))
    }
  }
}
