internal import AgentProtocol
internal import BlockModel
internal import LinuxPlatform
internal import NBDServer
internal import Replication
internal import Seams
internal import VolumeTap

/// Who is told of writes that may go past taps: in the order in which it happened, on any thread, never twice at once.
protocol TapWatcher: AnyObject, Sendable {
  /// A table is about to be swapped: until `regainedTrack` a crash must find the volumes' writes unseen. Throws where
  /// that can't be noted; then nothing is swapped.
  func willInsert() throws(AgentFault)
  /// Writes may go past the tap, or went.
  func lostTrack(_ why: String)
  /// Every write comes through a tap, or nobody can write. Throws where what was lost can't be noted.
  func regainedTrack() throws(AgentFault)
}

/// A session's taps: for each volume an NBD server on a Unix socket and, where one was asked for, a block device that
/// `TapDevices` makes of it. The device outlives the agent; the socket's path stays the same.
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
  private let devices: TapDevices
  private let watching = Monitor(false)
  private static let lookSeconds = 0.2

  init(
    session: SessionID, migration: MigrationName, resources: SessionResources, volumes: [VolumeConfiguration],
    journal: Journal
  ) {
    devices = TapDevices(session: session, migration: migration, resources: resources, journal: journal)
    self.migration = migration
    self.resources = resources
    configured = Monitor(volumes)
    self.journal = journal
  }

  /// Names and order stay; whether a device is asked for may change.
  func change(volumes: [VolumeConfiguration]) { configured.withLock { $0 = volumes } }

  /// Throws where a device that was made of a tap can't follow its volume. Changes nothing.
  func checkGrowth() throws(AgentFault) {
    for volume in volumes where volume.attachDevice { try devices.checkGrowth(volume) }
  }

  /// The volumes have these sizes from here on: exports show them, and devices made of them follow.
  func grow(volumes: [VolumeConfiguration]) throws(AgentFault) {
    try turn.withLock { _ throws(AgentFault) in
      configured.withLock { $0 = volumes }
      for volume in volumes {
        taps.withLock { $0[volume.name] }?.export.grow(to: volume.sizeBytes)
        if volume.attachDevice { try devices.grow(volume) }
      }
    }
  }

  var isServing: Bool { taps.withLock { !$0.isEmpty } }
  func socket(of volume: VolumeName) -> String? {
    taps.withLock { $0[volume] == nil ? nil : resources.root.tapSocket(migration, volume) }
  }
  func staysInUse(_ volume: VolumeConfiguration) -> Bool { devices.staysInUse(volume) }
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
  func attach(telling watcher: any TapWatcher) throws(AgentFault) {
    try turn.withLock { _ throws(AgentFault) in
      for volume in volumes where volume.attachDevice {
        let link = resources.root.tapDevice(migration, volume.name)
        let attached = try devices.attach(volume) { gap throws(AgentFault) in
          try watcher.willInsert()
          if let gap { watcher.lostTrack("volume \(volume.name): \(gap)") }
        }
        if let gap = attached.gap { watcher.lostTrack("volume \(volume.name): \(gap)") }
        do throws(SystemError) {
          try Files.remove(link)
          try Files.makeSymbolicLink(link, to: attached.path)
        } catch {
          throw AgentFault(.failed, "the link to the device of volume \(volume.name) can't be made: \(error)")
        }
        taps.change { $0[volume.name]?.device = link }
      }
      try watcher.regainedTrack()
    }
    startWatching(watcher)
  }

  /// Takes devices away and closes the doors. Throws `.inUse` and names who; of several volumes some may then be closed:
  /// `attach` opens them again. What is closed already is looked at once more.
  func close(_ ending: TapEnding, telling watcher: any TapWatcher) throws(AgentFault) {
    try turn.withLock { _ throws(AgentFault) in
      for volume in volumes {
        if let gap = try detach(volume, ending) { watcher.lostTrack("volume \(volume.name): \(gap)") }
      }
      let current = taps.withLock { $0 }
      for volume in volumes {
        guard let tap = current[volume.name], !Self.closesSoon(tap.export) else { continue }
        for tap in current.values { tap.export.open() }
        throw AgentFault(
          .inUse,
          "the tap of volume \(volume.name) has \(tap.export.connections) open connections on \(tap.listener.path); stop who uses it (ss -xp | grep \(volume.name).sock), then close the tap again"
        )
      }
      if case .sealed = ending { try watcher.regainedTrack() }
    }
  }

  /// For a host that goes down: takes the devices of these volumes away and keeps the sockets, whose clients end with the
  /// host. Answers why for each of which it can't.
  func withdraw(
    _ ending: TapEnding, from names: [VolumeName], telling watcher: any TapWatcher
  ) -> [(VolumeName, AgentFault)] {
    // From here on a table that changes is no news.
    watching.change { $0 = false }
    return turn.withLock { _ in
      volumes.filter { names.contains($0.name) }.compactMap { volume in
        do throws(AgentFault) {
          if let gap = try detach(volume, ending) { watcher.lostTrack("volume \(volume.name): \(gap)") }
          return nil
        } catch {
          return (volume.name, error)
        }
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

  private func detach(_ volume: VolumeConfiguration, _ ending: TapEnding) throws(AgentFault) -> String? {
    guard volume.attachDevice else { return nil }
    let gap = try devices.detach(volume, ending)
    do throws(SystemError) {
      try Files.remove(resources.root.tapDevice(migration, volume.name))
    } catch {
      journal.append("tapFilesLeft", error.description)
    }
    taps.change { $0[volume.name]?.device = nil }
    return gap
  }

  // MARK: Watching

  /// A thread of its own as long as there are devices to look after: their connections, and what others do to tables.
  private func startWatching(_ watcher: any TapWatcher) {
    let mustStart = watching.withLock { watching in
      guard !watching, !devices.isEmpty else { return false }
      watching = true
      return true
    }
    guard mustStart else { return }
    do throws(SystemError) {
      try PlatformThread.start(name: "tap-watch") { [weak self, weak watcher] in
        while let watcher, self?.watchOnce(watcher) == true {}
      }
    } catch {
      watching.withLock { $0 = false }
      resources.log("the devices of migration \(migration) are not watched: \(error)")
    }
  }

  private func watchOnce(_ watcher: any TapWatcher) -> Bool {
    let until = MonotonicTime.now.adding(seconds: Self.lookSeconds)
    guard watching.wait(until: until, { $0 ? nil : true }) == nil else { return false }
    // An opening or closing under way changes tables itself.
    turn.withLock { _ in
      for (volume, why) in devices.look() { watcher.lostTrack("volume \(volume): \(why)") }
    }
    return true
  }

  /// Stops serving. Holders are left alone: they wait for the next agent.
  func stop() {
    watching.change { $0 = false }
    let current = taps.change { taps in
      defer { taps = [:] }
      return taps
    }
    for tap in current.values { tap.listener.stop() }
  }

  /// After `close`: no socket, no directory stays.
  func remove() {
    stop()
    for volume in volumes {
      do throws(AgentFault) { try devices.removeOrigin(of: volume) } catch {
        journal.append("originLeft", error.message)
      }
    }
    do throws(SystemError) {
      try Files.removeTree(resources.root.tapDirectory(migration))
    } catch {
      journal.append("tapFilesLeft", error.description)
    }
  }
}
