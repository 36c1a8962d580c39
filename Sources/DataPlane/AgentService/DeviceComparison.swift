internal import AgentProtocol
internal import BlockModel
@preconcurrency internal import Glibc
internal import H2HProtocol
internal import LinuxPlatform
internal import Seams

/// Two devices of this host, or one and a receipt, read to their ends and compared, with no session and no agent. Reads
/// only. For people who want to see for themselves.
enum DeviceComparison {
  /// What a difference is reported in.
  static let extentBytes: UInt64 = 4 << 20
  static let pieceBytes = 1 << 20
  /// Differing extents that are named; the others are counted.
  static let namedLimit = 64

  struct Result {
    var lines: [String] = []
    var differing = 0
    var compared: UInt64 = 0

    mutating func differs(_ line: String) {
      differing += 1
      if differing <= DeviceComparison.namedLimit { lines.append(line) }
    }
    var isEqual: Bool { differing == 0 }
    var text: String {
      var all = lines
      if differing > DeviceComparison.namedLimit {
        all.append("and \(differing - DeviceComparison.namedLimit) more extents")
      }
      return all.map { $0 + "\n" }.joined()
    }
  }

  static func open(_ path: String) throws(AgentFault) -> FileBlockDevice {
    do throws(SystemError) {
      return try FileBlockDevice(path: path, .init(isReadOnly: true))
    } catch {
      throw AgentFault(.notFound, error.description)
    }
  }

  /// Over the length of the shorter one: a destination may be longer than its source.
  static func compare(_ first: any BlockDevice, _ second: any BlockDevice) throws(AgentFault) -> Result {
    var result = Result()
    let end = min(first.sizeBytes, second.sizeBytes)
    let here = AlignedBuffer(byteCount: pieceBytes)
    let there = AlignedBuffer(byteCount: pieceBytes)
    var extent = ByteRange(offset: 0, length: min(extentBytes, end))
    while !extent.isEmpty {
      first.dropCache(of: extent)
      second.dropCache(of: extent)
      var differing: UInt64 = 0
      var firstAt: UInt64?
      var offset = extent.offset
      while offset < extent.end {
        let count = Int(min(UInt64(pieceBytes), extent.end - offset))
        let left = UnsafeMutableRawBufferPointer(rebasing: here.bytes[..<count])
        let right = UnsafeMutableRawBufferPointer(rebasing: there.bytes[..<count])
        try read(first, offset, into: left)
        try read(second, offset, into: right)
        if let start = left.baseAddress, let other = right.baseAddress, memcmp(start, other, count) != 0 {
          for index in 0..<count where left[index] != right[index] {
            firstAt = firstAt ?? offset + UInt64(index)
            differing += 1
          }
        }
        offset += UInt64(count)
      }
      if let firstAt {
        result.differs("extent \(extent) differs: \(differing) bytes, the first at \(firstAt)")
      }
      result.compared += extent.length
      extent = ByteRange(from: extent.end, to: min(extent.end + extentBytes, end))
    }
    if first.sizeBytes != second.sizeBytes {
      result.lines.append(
        "\(first.label) has \(first.sizeBytes) bytes, \(second.label) \(second.sizeBytes): compared over the shorter")
    }
    return result
  }

  /// The extents whose digests the receipt has.
  static func compare(_ device: any BlockDevice, with volume: ReceiptCheck.Volume) throws(AgentFault) -> Result {
    var result = Result()
    guard device.sizeBytes >= volume.sizeBytes else {
      throw AgentFault(
        .failed,
        "\(device.label) has \(device.sizeBytes) bytes, volume \(volume.name) of the receipt \(volume.sizeBytes): it is another device"
      )
    }
    for index in volume.digests.keys.sorted() {
      let offset = UInt64(index) * volume.extentBytes
      let range = ByteRange(from: offset, to: min(offset + volume.extentBytes, volume.sizeBytes))
      guard let digest = DeviceDigest.extent(range, of: device) else {
        throw AgentFault(.deviceFailed, "\(range) of \(device.label) can't be read; see the host's kernel log")
      }
      if digest != volume.digests[index] { result.differs("extent \(range) is not what the receipt says") }
      result.compared += range.length
    }
    return result
  }

  private static func read(
    _ device: any BlockDevice, _ offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(AgentFault) {
    do throws(BlockDeviceError) {
      try device.read(at: offset, into: buffer)
    } catch {
      throw AgentFault(.deviceFailed, error.message)
    }
  }
}
