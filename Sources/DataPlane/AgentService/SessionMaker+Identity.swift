internal import AgentProtocol
internal import BlockModel
internal import LinuxPlatform
internal import Replication
internal import Seams

/// Whether a path still leads to the device that the session knows: names of disks move from boot to boot, and what was
/// marked and withheld is of one disk only.
extension SessionMaker {
  /// What the entry is to say from now on. Throws where a device is another than the session's.
  func checkedIdentities(_ entry: SessionEntry, isNew: Bool) throws(AgentFault) -> [String: String]? {
    let configuration = entry.configuration
    if !isNew, try isDeviceDone(configuration) { return entry.identities }
    let topology = DeviceTopology(host: resources.host, agentRoot: resources.root.path)
    var identities = isNew ? [:] : entry.identities ?? [:]
    for volume in configuration.volumes {
      let path = resources.root.device(volume.devicePath)
      // A file is another one only where somebody made it so; its inode says nothing after its host was started anew.
      guard let status = resources.host.status(path), status.kind == .block else { continue }
      let now = topology.identity(of: status, path: path)
      let known = identities[volume.name.text] ?? (isNew ? nil : volume.deviceIdentity)
      if let known, now != known {
        throw AgentFault(
          .refused,
          "volume \(volume.name): \(path) is another device (\(now ?? "one that tells nothing of itself")) than the one that the session knows (\(known)); nothing of it is read or written. Have the path lead to the former device again and restart the agent; or give the session up (cmcplan agent remove HOST --force) and move the migration anew"
        )
      }
      identities[volume.name.text] = now
    }
    return identities.isEmpty ? nil : identities
  }

  /// Nothing is read from it or written to it by the session any more, and the host may have taken it away.
  private func isDeviceDone(_ configuration: SessionConfiguration) throws(AgentFault) -> Bool {
    guard let stage = try record(of: configuration.half)?.stage else { return false }
    return switch configuration.role {
    case .source: stage == SourceStage.fenced.rawValue || stage == SourceStage.cancelled.rawValue
    case .destination: stage == DestinationStage.released.rawValue || stage == DestinationStage.cancelled.rawValue
    }
  }

  /// A destination carries the label of its session from before the first byte is copied until the release. One that
  /// carries another's, or none, is another disk.
  func checkLabel(
    on device: any BlockDevice, _ volume: VolumeConfiguration, _ session: SessionID, _ record: SessionRecord?
  ) throws(AgentFault) {
    // Before the first copy a crash may have come before the label; from the release on it is not there.
    guard let record, let stage = DestinationStage(rawValue: record.stage),
      [.receiving, .standIn, .fenced].contains(stage)
    else { return }
    let buffer = AlignedBuffer(byteCount: DeviceLabel.byteCount)
    let label: DeviceLabel?
    do throws(BlockDeviceError) {
      try device.read(at: 0, into: buffer.bytes)
    } catch {
      throw AgentFault(.deviceFailed, "volume \(volume.name): \(error.message)")
    }
    do throws(RecordError) { label = try DeviceLabel.decode(buffer.readOnly) } catch {
      // Torn by a power cut while it was written, which only our own is; it is written anew when the session starts.
      return
    }
    guard label?.session == session, label?.volume == volume.name, label?.copyID == record.copyID else {
      let whose = label.map { "the label of volume \($0.volume) of session \($0.session)" } ?? "no label"
      throw AgentFault(
        .refused,
        "volume \(volume.name): \(device.label) carries \(whose), so it is another disk than the one that was copied to; nothing of it is written. Have the path lead to the former disk again and restart the agent; or give the session up (cmcplan agent remove HOST --force) and move the migration anew"
      )
    }
  }
}
