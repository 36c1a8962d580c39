package import AgentProtocol
internal import BlockModel
internal import LinuxPlatform
internal import Replication
internal import Seams

/// Larger volumes of a session that lives.
///
/// Each half takes its new sizes by one durable replacement of its entry, and what has to be there before is there: the
/// destination's larger tail and label, the source's larger device. Until both halves have them the link is refused, which
/// costs nothing but time while the source has authority. So the halves may grow in any order, and a crash at any point
/// leaves each with one size or the other.
extension SessionMaker {
  package func checkRoom(for grown: SessionConfiguration) throws(AgentFault) {
    for volume in grown.volumes {
      let path = resources.root.device(volume.devicePath)
      var size = try sizeBytes(of: path, volume)
      // A disk that grew beneath a running host is noticed when somebody looks.
      if size < volume.sizeBytes, let status = resources.host.status(path), status.kind == .block {
        try? Files.writeKernelFile("/sys/dev/block/\(status.device)/device/rescan", "1")
        size = try sizeBytes(of: path, volume)
      }
      guard size >= volume.sizeBytes else {
        throw AgentFault(
          .refused,
          "volume \(volume.name): \(path) has \(size) bytes, and the volume is to have \(volume.sizeBytes); make it larger, then apply again"
        )
      }
    }
  }

  private func sizeBytes(of path: String, _ volume: VolumeConfiguration) throws(AgentFault) -> UInt64 {
    do throws(SystemError) {
      let device = try FileBlockDevice(path: path, .init(isReadOnly: true))
      defer { device.close() }
      return device.sizeBytes
    } catch {
      throw AgentFault(.deviceFailed, "volume \(volume.name): \(error)")
    }
  }

  package func grow(_ entry: SessionEntry, to grown: SessionConfiguration) throws(AgentFault) -> SessionEntry {
    var left: [String] = []
    for (old, new) in zip(entry.configuration.volumes, grown.volumes) where old.sizeBytes < new.sizeBytes {
      left.append(try growWithheld(old, to: new, of: entry.configuration))
    }
    var next = entry
    next.configuration = grown
    // From here on it has the new sizes.
    try resources.catalogue.save(next)
    for name in left {
      do throws(StateStoreError) { try resources.catalogue.state.remove(name) } catch {
        resources.log(
          "\(name) of session \(entry.configuration.session) is of no use any more and can't be removed: \(error)")
      }
    }
    return next
  }

  /// Answers the file that nobody needs once the entry has the new size.
  private func growWithheld(
    _ old: VolumeConfiguration, to new: VolumeConfiguration, of configuration: SessionConfiguration
  ) throws(AgentFault) -> String {
    guard let former = WithheldLayout(sizeBytes: old.sizeBytes), let larger = WithheldLayout(sizeBytes: new.sizeBytes)
    else { throw AgentFault(.refused, "volume \(old.name) is too small to have anything withheld") }
    let path = resources.root.device(new.devicePath)
    let name = DestinationFiles.tail(
      configuration.half, old.name, sizeBytes: old.sizeBytes, in: resources.root.state)
    let newName = DestinationFiles.tail(configuration.half, new.name, grownTo: new.sizeBytes)
    do {
      let base = try resources.openDevice(path, true)
      defer { base.close() }
      let tail = try FileBlockDevice(path: "\(resources.root.state)/\(name)")
      defer { tail.close() }
      try resources.catalogue.state.replace(
        newName, with: [UInt8](repeating: 0, count: Int(WithheldLayout.partBytes)))
      let newTail = try FileBlockDevice(path: "\(resources.root.state)/\(newName)")
      defer { newTail.close() }
      try former.grow(to: larger, base: base.device, tail: tail, newTail: newTail)
      try relabel(base.device, configuration.session, new)
    } catch {
      throw AgentFault(
        .deviceFailed, "volume \(new.name): \(path) keeps \(old.sizeBytes) bytes, for it could not be grown: \(error)")
    }
    return name
  }

  /// Before the entry has the new size, so that a rescue, which knows the label only, finds the tail that belongs to it.
  private func relabel(
    _ device: any BlockDevice, _ session: SessionID, _ volume: VolumeConfiguration
  ) throws(BlockDeviceError) {
    let buffer = AlignedBuffer(byteCount: DeviceLabel.byteCount)
    try device.read(at: 0, into: buffer.bytes)
    // One that is damaged or not there is written when the session starts.
    guard let found = try? DeviceLabel.decode(buffer.readOnly), found.session == session else { return }
    let bytes = found.forVolume(found.volume, sizeBytes: volume.sizeBytes).encoded()
    buffer.bytes.copyBytes(from: bytes)
    try device.write(at: 0, from: buffer.readOnly, durable: false)
    try device.flush()
  }
}
