internal import AgentProtocol
internal import BlockModel
internal import LinuxPlatform
internal import Seams
internal import VolumeTap

/// Devices made of taps follow their volumes. The table of a device with the tap beneath it is its own owner's to change:
/// whoever makes it larger takes the tap out with that, and it is put in again with the new size (`attach`).
extension TapDevices {
  func checkGrowth(_ volume: VolumeConfiguration) throws(AgentFault) {
    guard let status = try holder(of: volume), !status.canGrow else { return }
    throw AgentFault(
      .refused,
      "volume \(volume.name): the holder of \(status.device) (process \(status.processID)) is of an earlier version and can't make it larger; unmount it, close and open the tap, then apply again"
    )
  }

  func grow(_ volume: VolumeConfiguration) throws(AgentFault) {
    do {
      if let known = connection(of: volume) { try known.grow(to: volume.sizeBytes) }
      guard try holder(of: volume) != nil, let executable = resources.executable else { return }
      let size = try HolderControl(executable: executable).grow(
        directory: resources.root.holderDirectory(migration, volume.name))
      guard size >= volume.sizeBytes else {
        throw TapError(.holderFailed, "it has \(size) bytes, not \(volume.sizeBytes)")
      }
    } catch {
      throw AgentFault(.failed, "the device of volume \(volume.name) keeps its former size: \(error)")
    }
  }

  private func holder(of volume: VolumeConfiguration) throws(AgentFault) -> HolderStatus? {
    let directory = resources.root.holderDirectory(migration, volume.name)
    guard let executable = resources.executable, Files.exists(directory) else { return nil }
    do throws(TapError) {
      return try HolderControl(executable: executable).status(directory: directory)
    } catch {
      throw AgentFault(.failed, "volume \(volume.name): \(error.message)")
    }
  }
}
