package import AgentProtocol
internal import BlockModel
internal import H2HProtocol
internal import LinuxPlatform
internal import Replication
internal import Seams
internal import VolumeTap

/// Makes sessions of what the catalogue or the orchestrator says: opens devices, checks them, reads the records.
package struct SessionMaker: SessionFactory {
  let resources: SessionResources
  private let fence: any SourceFence

  package init(resources: SessionResources, fence: any SourceFence) {
    self.resources = resources
    self.fence = fence
  }

  package func make(_ entry: SessionEntry, isNew: Bool) throws(AgentFault) -> any AgentSession {
    var entry = entry
    entry.openEpoch += 1
    let configuration = entry.configuration
    if isNew {
      for volume in configuration.volumes { try checkUse(of: volume, role: configuration.role) }
      if configuration.link.listens, !configuration.isWithinAgent { try checkPort(configuration.link) }
    }
    entry.identities = try checkedIdentities(entry, isNew: isNew)
    var opened: [OpenedDevice] = []
    do throws(AgentFault) {
      let isReleased = try isReleased(configuration)
      for volume in configuration.volumes {
        let device =
          configuration.role == .source
          ? try openSource(volume, session: configuration.session)
          : try open(volume, role: .destination) { path throws(BlockDeviceError) in
            try resources.openDevice(path, !isReleased)
          }
        opened.append(device)
      }
      let session: any AgentSession =
        switch configuration.role {
        case .source: try makeSource(entry, opened)
        case .destination: try makeDestination(entry, opened, isNew: isNew)
        }
      entry.bootID = resources.bootID
      try resources.catalogue.save(entry)
      return session
    } catch {
      for device in opened { device.close() }
      throw error
    }
  }

  // MARK: Checks

  private func checkUse(of volume: VolumeConfiguration, role: Role) throws(AgentFault) {
    let path = resources.root.device(volume.devicePath)
    guard let status = resources.host.status(path) else {
      throw AgentFault(.notFound, "volume \(volume.name): there is no \(path) on this host")
    }
    let topology = DeviceTopology(host: resources.host, agentRoot: resources.root.path)
    if topology.isSystem(status, path: path) {
      throw AgentFault(
        .refused,
        "volume \(volume.name): \(path) holds the root file system, swap or the agent's own files, which can't be migrated live"
      )
    }
    let users = topology.users(of: status, path: path)
    if role == .destination, !users.isEmpty {
      throw AgentFault(
        .inUse,
        "volume \(volume.name): the destination \(path) is mounted at \(users.joined(separator: ", ")); unmount it")
    }
  }

  /// Tells at once what the listener would only find out later. The port may be ours already, for another session.
  private func checkPort(_ link: LinkConfiguration) throws(AgentFault) {
    guard let address = SocketAddress(numeric: link.address, port: UInt16(clamping: link.port)) else {
      throw AgentFault(.badRequest, "\(link.address) is no numeric address to listen on")
    }
    if resources.ports.isListening(on: link.port) { return }
    do throws(SystemError) {
      try SocketListener.tcp(address).cancel()
    } catch {
      throw AgentFault(
        .inUse, "\(error); or set connection.port of migration to a free one")
    }
  }

  /// The device that keeps the volume's own table, for a tap to be put beneath the volume; nil for other taps.
  private func origin(of volume: VolumeConfiguration, session: SessionID) throws(AgentFault) -> String? {
    guard volume.attachDevice else { return nil }
    do throws(SystemError) {
      return try insertion(of: volume, session: session)?.ensureOrigin()
    } catch {
      throw AgentFault(.deviceFailed, "volume \(volume.name): \(error)")
    }
  }

  private func insertion(
    of volume: VolumeConfiguration, session: SessionID
  ) throws(SystemError) -> (any TapInsertion)? {
    try TapDevices.insertion(session: session, volume: volume, resources: resources)
  }

  /// Whether nobody can have written past the tap while no agent watched. A device with the tap beneath it, or sealed, or
  /// untouched since it came to be, is certain; of others only that the host was not started anew.
  private func wasWatched(_ volume: VolumeConfiguration, _ entry: SessionEntry) -> Bool {
    guard volume.attachDevice else { return true }
    if entry.untracked != nil { return false }
    do throws(SystemError) {
      if let insertion = try insertion(of: volume, session: entry.configuration.session) {
        if case .inserted = try insertion.state() { return true }
        if try insertion.isSealed() { return true }
        return try insertion.isUntouched()
      }
      guard resources.host.status(resources.root.device(volume.devicePath))?.kind == .block else { return true }
      return entry.bootID == nil || entry.bootID == resources.bootID
    } catch {
      resources.log("volume \(volume.name): whether it was written past its tap can't be seen: \(error)")
      return false
    }
  }

  /// A destination that was released is its host's, which may have it mounted.
  private func isReleased(_ configuration: SessionConfiguration) throws(AgentFault) -> Bool {
    guard configuration.role == .destination else { return false }
    return try record(of: configuration.half)?.stage == DestinationStage.released.rawValue
  }

  private func openSource(_ volume: VolumeConfiguration, session: SessionID) throws(AgentFault) -> OpenedDevice {
    // A fenced logical volume is not there after a new start of its host; nothing is read or written here any more.
    let path = resources.root.device(volume.devicePath)
    if resources.host.status(path) == nil, try record(of: session)?.stage == SourceStage.fenced.rawValue {
      return OpenedDevice(device: AbsentDevice(label: path, sizeBytes: volume.sizeBytes), isCached: false) {}
    }
    let origin = try origin(of: volume, session: session)
    var opened = try open(volume, role: .source) { path throws(BlockDeviceError) in
      resources.host.status(path)?.kind == .block
        ? try OpenedDevice.openSource(origin ?? path) : try resources.openDevice(path, false)
    }
    if origin != nil {
      // The origin follows what others made of the volume's table, while the tap isn't in.
      let (maker, refreshSize) = (self, opened.refreshSize)
      opened.refreshSize = {
        do throws(AgentFault) { _ = try maker.origin(of: volume, session: session) } catch {
          return .failure(BlockDeviceError(.readFailed, error.message))
        }
        return refreshSize()
      }
    }
    return opened
  }

  private func open(
    _ volume: VolumeConfiguration, role: Role, with opener: (String) throws(BlockDeviceError) -> OpenedDevice
  ) throws(AgentFault) -> OpenedDevice {
    let path = resources.root.device(volume.devicePath)
    let opened: OpenedDevice
    do throws(BlockDeviceError) {
      opened = try opener(path)
    } catch {
      let code: AgentFault.Code =
        switch error.errorNumber {
        case Errno.notFound: .notFound
        case Errno.busy, Errno.again: .inUse
        default: .deviceFailed
        }
      throw AgentFault(code, "volume \(volume.name): \(error.message)")
    }
    guard opened.device.sizeBytes >= volume.sizeBytes else {
      let size = opened.device.sizeBytes
      opened.close()
      let advice = role == .destination ? "make the destination larger" : "the source shrank: apply the plan again"
      throw AgentFault(
        .refused,
        "volume \(volume.name): \(path) has \(size) bytes, less than the volume's \(volume.sizeBytes); \(advice)")
    }
    return opened
  }

  func record(of half: SessionID) throws(AgentFault) -> SessionRecord? {
    do {
      return try resources.catalogue.state.read(SourceFiles.record(half)).map { try SessionRecord(decoding: $0) }
    } catch {
      throw AgentFault(
        .failed,
        "the record of session \(half) can't be used: \(error); nothing is started, so that nothing is overwritten")
    }
  }

  // MARK: Source

  private func makeSource(_ entry: SessionEntry, _ opened: [OpenedDevice]) throws(AgentFault) -> any AgentSession {
    let configuration = entry.configuration
    let record = try record(of: configuration.session)
    let trackLost = try record.flatMap { record throws(AgentFault) in try markUnwatched(entry, stage: record.stage) }
    let machine = SourceMachine(
      configuration: SourceConfiguration(
        session: configuration.session,
        volumes: configuration.volumes.map { .init(name: $0.name, sizeBytes: $0.sizeBytes) }, bootID: resources.bootID,
        openEpoch: entry.openEpoch, verify: VerifyMode(rawValue: configuration.verify) ?? .full,
        linkLossTimeoutSeconds: configuration.linkLossTimeoutSeconds,
        resyncIntervalSeconds: configuration.resyncIntervalSeconds,
        confirmWithinSeconds: configuration.confirmWithinSeconds),
      record: record, intentPages: configuration.volumes.map { intentPages(configuration.session, $0.name) },
      trackLost: trackLost)
    let volumes = zip(configuration.volumes, opened).map { volume, opened in
      SourceSession.Volume(
        name: volume.name, path: resources.root.device(volume.devicePath), device: opened.device,
        isInline: opened.isCached, counters: Counters(), refreshSize: opened.refreshSize, close: opened.close)
    }
    return try SourceSession(entry: entry, resources: resources, volumes: volumes, machine: machine, fence: fence)
  }

  /// Before the tap goes in again: what may have been written past it is marked durably, as a volume without a page is.
  /// Answers why writes may still go past it; nil where it is in their way, or nobody can write.
  private func markUnwatched(_ entry: SessionEntry, stage: String) throws(AgentFault) -> String? {
    let session = entry.configuration.session
    let copies = SourceStage(rawValue: stage)?.mayCopy ?? true
    var why: String?
    for volume in entry.configuration.volumes {
      if wasWatched(volume, entry) {
        if entry.tapIsOpen || copies, try isTapOut(of: volume, session: session) {
          why = why ?? "volume \(volume.name): its tap is not in place yet"
        }
        continue
      }
      let cause = entry.untracked ?? "it may have been written without its tap since this agent ended"
      why = "volume \(volume.name): \(cause)"
      resources.log("\(session), volume \(volume.name): all of it is copied again: \(cause)")
      do throws(StateStoreError) {
        try resources.catalogue.state.remove(SourceFiles.intentDirectory(session, volume.name))
      } catch {
        throw AgentFault(storeError: error)
      }
    }
    return why
  }

  private func isTapOut(of volume: VolumeConfiguration, session: SessionID) throws(AgentFault) -> Bool {
    guard volume.attachDevice else { return false }
    do throws(SystemError) {
      guard let insertion = try insertion(of: volume, session: session) else { return false }
      if case .inserted = try insertion.state() { return false }
      return true
    } catch {
      throw AgentFault(.deviceFailed, "volume \(volume.name): \(error)")
    }
  }

  /// A page that can't be read counts as missing, which costs copying and never data.
  private func intentPages(_ session: SessionID, _ volume: VolumeName) -> [Int: [UInt8]] {
    let directory = SourceFiles.intentDirectory(session, volume)
    var pages: [Int: [UInt8]] = [:]
    for name in (try? resources.catalogue.state.list(directory)) ?? [] {
      guard let page = Int(name), let bytes = try? resources.catalogue.state.read("\(directory)/\(name)") else {
        continue
      }
      pages[page] = bytes
    }
    return pages
  }

  // MARK: Destination

  private func makeDestination(
    _ entry: SessionEntry, _ opened: [OpenedDevice], isNew: Bool
  ) throws(AgentFault) -> any AgentSession {
    let configuration = entry.configuration
    let record = try record(of: configuration.half)
    var volumes: [DestinationSession.Volume] = []
    var known: [DestinationConfiguration.Volume] = []
    for (volume, opened) in zip(configuration.volumes, opened) {
      guard let layout = WithheldLayout(sizeBytes: volume.sizeBytes) else {
        throw AgentFault(
          .refused, "volume \(volume.name) is smaller than \(WithheldLayout.smallestVolumeBytes) bytes; copy it by hand"
        )
      }
      var isKnownZero = false
      if isNew {
        let content = try DestinationContent.look(at: opened.device, sizeBytes: volume.sizeBytes)
        try content.check(volume, session: configuration.session, path: opened.device.label)
        isKnownZero = content.isKnownZero
      } else {
        try checkLabel(on: opened.device, volume, configuration.session, record)
      }
      let head = try withheld(DestinationFiles.head(configuration.half, volume.name), isNew: isNew)
      let tail = try withheld(tailName(volume, configuration.half, isNew: isNew), isNew: isNew)
      volumes.append(
        .init(
          name: volume.name, path: resources.root.device(volume.devicePath),
          device: WithheldDevice(layout: layout, base: opened.device, head: head, tail: tail)
        ) {
          opened.close()
          head.close()
          tail.close()
        })
      known.append(.init(name: volume.name, sizeBytes: volume.sizeBytes, isKnownZero: isKnownZero))
    }
    let machine = DestinationMachine(
      configuration: DestinationConfiguration(
        session: configuration.session, volumes: known, bootID: resources.bootID, openEpoch: entry.openEpoch,
        peer: configuration.peerFingerprint, newCopyID: max(1, resources.random.uint64())), record: record)
    return try DestinationSession(entry: entry, resources: resources, volumes: volumes, machine: machine)
  }

  private func tailName(_ volume: VolumeConfiguration, _ half: SessionID, isNew: Bool) -> String {
    isNew
      ? DestinationFiles.tail(half, volume.name)
      : DestinationFiles.tail(half, volume.name, sizeBytes: volume.sizeBytes, in: resources.root.state)
  }

  /// The file that keeps a withheld part: made of zeroes for a new session, and never silently made anew for an old one.
  private func withheld(_ name: String, isNew: Bool) throws(AgentFault) -> FileBlockDevice {
    let path = "\(resources.root.state)/\(name)"
    do {
      if isNew {
        try resources.catalogue.state.replace(
          name, with: [UInt8](repeating: 0, count: Int(WithheldLayout.partBytes)))
      }
      return try FileBlockDevice(path: path)
    } catch {
      throw AgentFault(
        .failed, "\(path), which keeps a part of the volume that is not on the device yet, can't be opened: \(error)")
    }
  }
}

/// What lies on a destination before anything is written to it.
struct DestinationContent {
  var isBlank: Bool
  /// Reads as zeroes all over, as its file system says; stronger than `isBlank`.
  var isKnownZero: Bool
  var label: DeviceLabel?
  /// Samples between head and tail, evenly spread.
  static let samples = 64
  static let sampleBytes = 64 << 10

  /// Reads head and tail whole, samples in between, and the label.
  static func look(at device: any BlockDevice, sizeBytes: UInt64) throws(AgentFault) -> DestinationContent {
    do throws(BlockDeviceError) {
      let buffer = AlignedBuffer(byteCount: Int(WithheldLayout.partBytes))
      try device.read(at: 0, into: buffer.bytes)
      // A damaged label is no label of ours; it is not blank either.
      let label = (try? DeviceLabel.decode(buffer.readOnly.prefix(DeviceLabel.byteCount))) ?? nil
      var isBlank = isAllZero(buffer.readOnly)
      let whole = ByteRange(offset: 0, length: sizeBytes)
      let allocation = try device.allocation(of: whole)
      let isKnownZero = isBlank && allocation.allSatisfy(\.isZero)
      if isKnownZero { return DestinationContent(isBlank: true, isKnownZero: true, label: nil) }
      var offsets = [device.sizeBytes - WithheldLayout.partBytes]
      let step = sizeBytes / UInt64(samples + 1)
      for number in 1...UInt64(samples) { offsets.append(number * step / 4096 * 4096) }
      for (index, offset) in offsets.enumerated() where isBlank {
        let count = index == 0 ? buffer.count : min(sampleBytes, Int(device.sizeBytes - offset))
        let piece = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<count])
        try device.read(at: offset, into: piece)
        isBlank = isAllZero(UnsafeRawBufferPointer(piece))
      }
      return DestinationContent(isBlank: isBlank, isKnownZero: false, label: label)
    } catch {
      throw AgentFault(.deviceFailed, "the destination can't be read: \(error.message)")
    }
  }

  func check(_ volume: VolumeConfiguration, session: SessionID, path: String) throws(AgentFault) {
    if isBlank || volume.overwrite || label?.session == session { return }
    let whose = label.map { "carries the label of session \($0.session)" } ?? "holds data that isn't ours"
    throw AgentFault(
      .notBlank,
      "volume \(volume.name): the destination \(path) \(whose); give another disk, or say --overwrite \(volume.name) to lose what is there"
    )
  }
}
