internal import AgentProtocol
internal import BlockModel
internal import LinuxPlatform
internal import Replication
internal import Seams

extension SourceSession {
  /// The device first, then the entry durably, then the machine and with it what may be asked of the tap.
  func grow(to grown: SessionConfiguration) throws(AgentFault) -> Bool {
    try commands.withLock { _ throws(AgentFault) in
      let sizes = grown.volumes.map(\.sizeBytes)
      if let why = state.withLock({ $0.machine.growthRefusal(to: sizes) }) {
        throw AgentFault(.wrongStage, "\(session): \(why)")
      }
      try taps.checkGrowth()
      for (volume, wanted) in zip(volumes, grown.volumes) where try size(of: volume) < wanted.sizeBytes {
        throw AgentFault(
          .refused,
          "volume \(volume.name): \(volume.path) has \(volume.device.sizeBytes) bytes, less than the \(wanted.sizeBytes) that the volume is to have; make it larger, or apply the plan again"
        )
      }
      try save { entry in
        for (index, volume) in grown.volumes.enumerated() {
          entry.configuration.volumes[index].sizeBytes = volume.sizeBytes
        }
      }
      post(.grown(sizes: sizes))
      journal.append("grown", grown.volumes.map { "\($0.name) \($0.sizeBytes)" }.joined(separator: ", "))
      do throws(AgentFault) {
        try taps.grow(volumes: configuration.volumes)
      } catch {
        throw AgentFault(
          error.code,
          "\(error.message); the session has the new size already, and the tap's device follows when the agent is started anew"
        )
      }
    }
    return true
  }

  private func size(of volume: Volume) throws(AgentFault) -> UInt64 {
    do throws(BlockDeviceError) { return try volume.refreshSize().get() } catch {
      throw AgentFault(.deviceFailed, "volume \(volume.name): \(error.message)")
    }
  }
}
