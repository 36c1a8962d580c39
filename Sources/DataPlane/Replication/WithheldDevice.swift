package import BlockModel
package import Seams

/// Which part of a volume is kept from the destination device until the release (DESIGN §8.9).
package struct WithheldLayout: Sendable, Equatable {
  package static let partBytes: UInt64 = 1 << 20
  package static let smallestVolumeBytes: UInt64 = 4 << 20

  package let sizeBytes: UInt64
  package let head: ByteRange
  package let tail: ByteRange

  /// Nil if the volume is smaller than 4 MiB: nothing that small is migrated.
  package init?(sizeBytes: UInt64) {
    guard sizeBytes >= Self.smallestVolumeBytes else { return nil }
    self.sizeBytes = sizeBytes
    head = ByteRange(offset: 0, length: Self.partBytes)
    tail = ByteRange(offset: sizeBytes - Self.partBytes, length: Self.partBytes)
  }

  /// What has to be done at the destination before its volume is `larger`, in an order in which a crash leaves a volume
  /// of the former size or one of the new: the new tail is complete in its own place, then what was withheld before and
  /// isn't any more is on the device. What lies beyond the former end is the copier's to fill.
  package func grow(
    to larger: WithheldLayout, base: any BlockDevice, tail: any BlockDevice, newTail: any BlockDevice
  ) throws(BlockDeviceError) {
    precondition(larger.sizeBytes >= sizeBytes && base.sizeBytes >= larger.sizeBytes)
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(Self.partBytes), alignment: 4096)
    defer { bytes.deallocate() }
    try tail.read(at: 0, into: bytes)
    try newTail.writeZeroes(ByteRange(offset: 0, length: Self.partBytes), mayUnmap: false, durable: false)
    let border = min(larger.tail.offset, self.tail.end)
    let staying = UnsafeRawBufferPointer(rebasing: bytes[Int(border - self.tail.offset)...])
    if !staying.isEmpty { try newTail.write(at: 0, from: staying, durable: false) }
    try newTail.flush()
    let leaving = UnsafeRawBufferPointer(rebasing: bytes[..<Int(border - self.tail.offset)])
    if !leaving.isEmpty { try base.write(at: self.tail.offset, from: leaving, durable: false) }
    try base.flush()
  }

  package enum Part: Sendable {
    case head
    case body
    case tail
  }

  /// Cuts `range` where it crosses a border; the ranges stay in the volume's own offsets.
  package func split(_ range: ByteRange) -> [(part: Part, range: ByteRange)] {
    let body = ByteRange(from: head.end, to: tail.offset)
    return [(Part.head, head), (.body, body), (.tail, tail)].compactMap { part, whole in
      range.intersection(whole).map { (part, $0) }
    }
  }
}

/// A destination volume as the session sees it: the middle on the device, head and tail in files of the agent. It is as
/// long as the source, however long the device is.
package final class WithheldDevice: BlockDevice {
  package let label: String
  package let sizeBytes: UInt64
  package let blockBytes: UInt32
  private let layout: WithheldLayout
  private let base: any BlockDevice
  private let head: any BlockDevice
  private let tail: any BlockDevice

  /// `head` and `tail` hold 1 MiB each; `base` has at least `layout.sizeBytes`.
  package init(layout: WithheldLayout, base: any BlockDevice, head: any BlockDevice, tail: any BlockDevice) {
    precondition(head.sizeBytes >= WithheldLayout.partBytes && tail.sizeBytes >= WithheldLayout.partBytes)
    precondition(base.sizeBytes >= layout.sizeBytes)
    self.layout = layout
    self.base = base
    self.head = head
    self.tail = tail
    label = base.label
    sizeBytes = layout.sizeBytes
    blockBytes = base.blockBytes
  }

  private func place(_ part: WithheldLayout.Part, _ range: ByteRange) -> (device: any BlockDevice, range: ByteRange) {
    switch part {
    case .head: (head, range)
    case .body: (base, range)
    case .tail: (tail, ByteRange(offset: range.offset - layout.tail.offset, length: range.length))
    }
  }

  private func check(_ range: ByteRange) throws(BlockDeviceError) {
    guard range.fits(in: sizeBytes) else {
      throw BlockDeviceError(.outOfRange, "\(label): \(range) is past the end of the volume", errorNumber: 22)
    }
  }

  package func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(BlockDeviceError) {
    let whole = ByteRange(offset: offset, length: UInt64(buffer.count))
    try check(whole)
    for (part, range) in layout.split(whole) {
      let start = Int(range.offset - offset)
      let (device, place) = place(part, range)
      try device.read(
        at: place.offset, into: UnsafeMutableRawBufferPointer(rebasing: buffer[start..<start + Int(range.length)]))
    }
  }

  package func write(at offset: UInt64, from buffer: UnsafeRawBufferPointer, durable: Bool) throws(BlockDeviceError) {
    let whole = ByteRange(offset: offset, length: UInt64(buffer.count))
    try check(whole)
    for (part, range) in layout.split(whole) {
      let start = Int(range.offset - offset)
      let (device, place) = place(part, range)
      try device.write(
        at: place.offset, from: UnsafeRawBufferPointer(rebasing: buffer[start..<start + Int(range.length)]),
        durable: durable)
    }
  }

  package func writeZeroes(_ range: ByteRange, mayUnmap: Bool, durable: Bool) throws(BlockDeviceError) {
    try check(range)
    for (part, range) in layout.split(range) {
      let (device, place) = place(part, range)
      try device.writeZeroes(place, mayUnmap: mayUnmap, durable: durable)
    }
  }

  package func flush() throws(BlockDeviceError) {
    try head.flush()
    try tail.flush()
    try base.flush()
  }

  package func allocation(of range: ByteRange) throws(BlockDeviceError) -> [AllocationExtent] {
    try check(range)
    var out: [AllocationExtent] = []
    for (part, range) in layout.split(range) {
      guard part == .body else {
        out.append(AllocationExtent(range: range, isZero: false))
        continue
      }
      out += try base.allocation(of: range)
    }
    return out
  }

  package func dropCache(of range: ByteRange) {
    for (part, range) in layout.split(range) {
      let (device, place) = place(part, range)
      device.dropCache(of: place)
    }
  }

  /// The release: head and tail go to the device, over the label, and are flushed. Idempotent. The tail goes first, so
  /// that the head, which is what makes a file system mountable, is the last thing that appears.
  package func release() throws(BlockDeviceError) {
    try base.flush()
    for (device, range) in [(tail, layout.tail), (head, layout.head)] {
      let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(range.length), alignment: 4096)
      defer { buffer.deallocate() }
      try device.read(at: 0, into: buffer)
      try base.write(at: range.offset, from: UnsafeRawBufferPointer(buffer), durable: false)
      try base.flush()
    }
  }

  /// Writes the label over the first block of the device and flushes it. Never after `release`.
  package func writeLabel(_ label: DeviceLabel) throws(BlockDeviceError) {
    let bytes = label.encoded()
    var failure: BlockDeviceError?
    bytes.withUnsafeBytes { buffer in
      do throws(BlockDeviceError) {
        try base.write(at: 0, from: buffer, durable: false)
        try base.flush()
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }
}
