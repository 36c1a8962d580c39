internal import AgentProtocol
internal import BlockModel
internal import LinuxPlatform
internal import NBDServer
internal import Replication
internal import Seams
internal import VolumeTap

/// A session's taps: for each volume an NBD server on a Unix socket and, where one was asked for, a block device that
/// a holder process makes of it. The holder outlives the agent; the socket's path stays the same.
final class TapService: Sendable {
  private struct Tap: Sendable {
    var export: TapExport
    var listener: TapListener
    var device: String?
  }

  private let migration: MigrationName
  private let resources: SessionResources
  private let configured: Monitor<[VolumeConfiguration]>
  private var volumes: [VolumeConfiguration] { configured.withLock { $0 } }
  private let journal: Journal
  private let taps = Monitor([VolumeName: Tap]())
  /// One opening or closing at a time.
  private let turn = Monitor(())

  init(
    migration: MigrationName, resources: SessionResources, volumes: [VolumeConfiguration], journal: Journal
  ) {
    self.migration = migration
    self.resources = resources
    configured = Monitor(volumes)
    self.journal = journal
  }

  /// Names and order stay; whether a device is asked for may change.
  func change(volumes: [VolumeConfiguration]) { configured.withLock { $0 = volumes } }

  var isServing: Bool { taps.withLock { !$0.isEmpty } }
  func socket(of volume: VolumeName) -> String? {
    taps.withLock { $0[volume] == nil ? nil : resources.root.tapSocket(migration, volume) }
  }
  func device(of volume: VolumeName) -> String? { taps.withLock { $0[volume]?.device } }
  func openCount(of volume: VolumeName) -> Int { taps.withLock { $0[volume]?.export.connections ?? 0 } }

  /// Serves every volume's socket. Does nothing for those that are served.
  func serve(_ makeExport: (Int, VolumeConfiguration) -> TapExport) throws(AgentFault) {
    try turn.withLock { _ throws(AgentFault) in
      do {
        try Files.makeDirectories(resources.root.taps, mode: 0o700)
        try Files.makeDirectories(resources.root.tapDirectory(migration), mode: 0o700)
        for (index, volume) in volumes.enumerated() {
          if let tap = taps.withLock({ $0[volume.name] }) {
            tap.export.open()
            continue
          }
          let export = makeExport(index, volume)
          let server = NBDServer()
          server.add(export)
          let listener = try TapListener(path: resources.root.tapSocket(migration, volume.name), server: server)
          taps.change { $0[volume.name] = Tap(export: export, listener: listener) }
        }
      } catch {
        throw AgentFault(.failed, "the tap of \(migration) can't be served: \(error)")
      }
    }
  }

  /// Makes devices of the volumes that ask for one. Blocks for as long as a holder takes.
  func attach() throws(AgentFault) {
    try turn.withLock { _ throws(AgentFault) in
      for volume in volumes where volume.attachDevice {
        guard let executable = resources.executable else {
          throw AgentFault(.refused, "this agent can't make devices: it does not know its own program's path")
        }
        let link = resources.root.tapDevice(migration, volume.name)
        do {
          let directory = resources.root.holderDirectory(migration, volume.name)
          try Files.makeDirectories(directory, mode: 0o700)
          let status = try HolderControl(executable: executable).attach(
            HolderSettings(
              directory: directory, agentSocket: resources.root.tapSocket(migration, volume.name),
              exportName: volume.name.text))
          try Files.remove(link)
          try Files.makeSymbolicLink(link, to: status.device)
          taps.change { $0[volume.name]?.device = link }
        } catch let error as TapError {
          throw AgentFault(
            error.code == .notPermitted ? .refused : .failed,
            "volume \(volume.name) can't be made a device: \(error.message)")
        } catch {
          throw AgentFault(.failed, "volume \(volume.name) can't be made a device: \(error)")
        }
      }
    }
  }

  /// Takes devices away and closes the doors. Throws `.inUse` and names who; what was closed is then open again.
  func close() throws(AgentFault) {
    try turn.withLock { _ throws(AgentFault) in
      for volume in volumes { try detach(volume) }
      let current = taps.withLock { $0 }
      for volume in volumes {
        guard let tap = current[volume.name], !Self.closesSoon(tap.export) else { continue }
        for tap in current.values { tap.export.open() }
        throw AgentFault(
          .inUse,
          "the tap of volume \(volume.name) has \(tap.export.connections) open connections on \(tap.listener.path); stop who uses it (ss -xp | grep \(volume.name).sock), then close the tap again"
        )
      }
    }
  }

  /// A client that disconnected a moment ago may still be counted.
  private static func closesSoon(_ export: TapExport) -> Bool {
    for _ in 0..<20 {
      if export.closeIfIdle() { return true }
      pauseThread(milliseconds: 25)
    }
    return false
  }

  private func detach(_ volume: VolumeConfiguration) throws(AgentFault) {
    let directory = resources.root.holderDirectory(migration, volume.name)
    guard Files.exists(directory) else { return }
    let link = resources.root.tapDevice(migration, volume.name)
    if let executable = resources.executable {
      do throws(TapError) {
        try HolderControl(executable: executable).detach(directory: directory)
      } catch {
        throw AgentFault(
          error.code == .inUse ? .inUse : .failed,
          "the device of volume \(volume.name) can't be taken away: \(error.message)")
      }
    }
    do throws(SystemError) {
      try Files.remove(link)
      try Files.removeTree(directory)
    } catch {
      journal.append("tapFilesLeft", error.description)
    }
    taps.change { $0[volume.name]?.device = nil }
  }

  /// Stops serving. Holders are left alone: they wait for the next agent.
  func stop() {
    let current = taps.change { taps in
      defer { taps = [:] }
      return taps
    }
    for tap in current.values { tap.listener.stop() }
  }

  /// After `close`: no socket, no directory stays.
  func remove() {
    stop()
    do throws(SystemError) {
      try Files.removeTree(resources.root.tapDirectory(migration))
    } catch {
      journal.append("tapFilesLeft", error.description)
    }
  }
}
