package import AgentProtocol
internal import BlockModel
internal import H2HProtocol
internal import LinuxPlatform
internal import Replication
package import Seams
package import VolumeTap

/// The way out when everything else is gone (DESIGN sections 8.9 and 8.10): `cmcagent rescue`, run by a person on the
/// host, while no agent runs in `root`. Nothing here asks the other host, so each step says what the person must know.
package struct Rescue: Sendable {
  private let root: AgentRoot
  private let host: any HostView
  private let catalogue: Catalogue
  private let devices: DeviceFence
  private let kernel: any TapKernel
  private let time: any TimeSource
  private let lock: FileLock

  /// Takes the agent's root; `.inUse` while an agent runs there.
  package init(
    root: AgentRoot, host: any HostView, children: any ChildProcesses, kernel: any TapKernel = HostTapKernel(),
    time: any TimeSource = SystemTime()
  ) throws(AgentFault) {
    self.root = root
    self.kernel = kernel
    self.time = time
    self.host = host
    do {
      guard Files.exists(root.path) else {
        throw AgentFault(.notFound, "there is no \(root.path); name the agent's --root")
      }
      guard let lock = try FileLock.take(root.lock) else {
        throw AgentFault(
          .inUse, "an agent runs in \(root.path) and would undo this; stop it first (systemctl stop cmcagent)")
      }
      self.lock = lock
      catalogue = Catalogue(
        state: try DirectoryStateStore(path: root.state), tombstones: try DirectoryStateStore(path: root.tombstones))
    } catch let fault as AgentFault {
      throw fault
    } catch {
      throw AgentFault(.failed, "\(error)")
    }
    devices = DeviceFence(host: host, children: children)
  }

  // MARK: What there is

  /// One paragraph a volume of every session, then the tombstones.
  package func overview() -> String {
    let (entries, faults) = catalogue.sessions()
    var lines: [String] = faults
    for entry in entries.sorted(by: { $0.configuration.session < $1.configuration.session }) {
      let configuration = entry.configuration
      let stage = (try? record(of: configuration.half))?.stage ?? "unknown"
      for volume in configuration.volumes {
        lines.append(
          "\(configuration.session), volume \(volume.name): \(configuration.role.rawValue) \(root.device(volume.devicePath)), stage \(stage)"
        )
        lines.append("  " + advice(configuration, volume, stage: stage))
      }
    }
    for stone in catalogue.tombstones().entries.sorted(by: { $0.session < $1.session }) {
      lines.append(
        "\(stone.session): \(stone.phase.rawValue) as \(stone.role.rawValue) at generation \(stone.generation)"
          + (stone.rescued.map { "; \($0)" }
            ?? (stone.role == .source ? "; its fence stays: rescue --unfence DEVICE lifts it" : "")))
    }
    return lines.isEmpty ? "nothing of cmcplan is in \(root.path)\n" : lines.joined(separator: "\n") + "\n"
  }

  private func advice(_ configuration: SessionConfiguration, _ volume: VolumeConfiguration, stage: String) -> String {
    let path = root.device(volume.devicePath)
    return switch (configuration.role, stage) {
    case (.source, SourceStage.fenced.rawValue):
      "the destination has the newer data; only if it is lost for good: rescue --unfence \(path)"
    case (.source, _): "this copy counts" + use(of: volume, in: configuration)
    case (.destination, DestinationStage.released.rawValue): "it is this host's own; use it"
    case (.destination, DestinationStage.fenced.rawValue), (.destination, DestinationStage.releasing.rawValue):
      "it is the newest copy; an agent and 'cmcplan apply' finish this, or: rescue --write-ends \(path)"
    case (.destination, _):
      "the source decides which copy counts; only if it is lost for good: rescue --write-ends \(path)"
    }
  }

  /// How a source that counts can be used; what keeps it from being used is said, with the way out.
  private func use(of volume: VolumeConfiguration, in configuration: SessionConfiguration) -> String {
    let path = root.device(volume.devicePath)
    let out = "rescue --take-out \(path)"
    guard volume.attachDevice else { return "; an agent goes on with it, or use it as it is" }
    guard let insertion = try? insertion(of: volume, configuration.session) else {
      return
        "; an agent goes on with it. The application has it through its tap's device, which waits for an agent: stop "
        + "the application, then use \(path) as it is"
    }
    if case .inserted? = try? insertion.state() {
      return ", and its I/O waits for an agent: start one, or give the migration up with \(out)"
    }
    if (try? insertion.isSealed()) == true {
      return "; it was closed for the proof and refuses writes: start an agent, or give the migration up with \(out)"
    }
    return "; an agent goes on with it and copies all of it again, or use it as it is"
  }

  private func insertion(of volume: VolumeConfiguration, _ session: SessionID) throws -> (any TapInsertion)? {
    try kernel.insertion(of: root.device(volume.devicePath), key: TapDevices.key(session, volume))
  }

  private func record(of half: SessionID) throws(AgentFault) -> SessionRecord? {
    do {
      return try catalogue.state.read(SourceFiles.record(half)).map { try SessionRecord(decoding: $0) }
    } catch {
      throw AgentFault(.failed, "the record of session \(half) can't be used: \(error)")
    }
  }

  // MARK: The mark

  /// Before a device is touched: no agent goes on with its session, or starts it anew, which would undo what a person did.
  private func mark(_ configuration: SessionConfiguration, _ what: String) throws(AgentFault) {
    let session = configuration.session
    let record = try record(of: configuration.half)
    var stone =
      try catalogue.tombstone(of: session, role: configuration.role)
      ?? Tombstone(
        session: session, role: configuration.role, phase: Self.phase(of: record),
        generation: record?.generation ?? .initial, receiptDigest: record?.receiptDigest, at: time.wallNow())
    stone.rescued = "rescued by hand: \(what)"
    try catalogue.save(stone)
    guard var entry = catalogue.sessions().entries.first(where: { $0.configuration.half == configuration.half }) else {
      return
    }
    entry.hold = Hold(cause: .failure, who: "cmcagent rescue", why: what, at: time.wallNow())
    entry.untracked = what
    try catalogue.save(entry)
  }

  private static func phase(of record: SessionRecord?) -> Phase {
    switch record?.authority {
    case .destination: .finalized
    case .standIn, .destinationOnly: .cmotion
    case .source, nil: record?.initialSynchronizationAt == nil ? .prepared : .synchronized
    }
  }

  /// The session of this role that has the device, under whatever name.
  private func session(of path: String, role: Role) -> SessionConfiguration? {
    let status = host.status(path)
    return catalogue.sessions().entries.map(\.configuration).first { configuration in
      configuration.role == role
        && configuration.volumes.contains { volume in
          let own = root.device(volume.devicePath)
          guard own != path, let status, let other = host.status(own) else { return own == path }
          return status.kind == .block
            ? other.kind == .block && other.device == status.device
            : DeviceTopology.fileID(other) == DeviceTopology.fileID(status)
        }
    }
  }

  // MARK: A source

  /// Takes the taps of the device's session out, so that the application goes on without an agent. What waits is carried
  /// out first. Answers what was done.
  package func takeOut(_ path: String) throws(AgentFault) -> String {
    guard let configuration = session(of: path, role: .source) else {
      throw AgentFault(.notFound, "\(path) is no source of a session in \(root.path)")
    }
    if try record(of: configuration.half)?.authority == .destination {
      throw AgentFault(.refused, "\(path) is fenced, and the destination has the newer data; see rescue --unfence")
    }
    try mark(configuration, "its taps were taken out")
    var lines: [String] = []
    for volume in configuration.volumes { lines.append(try takeOut(volume, configuration)) }
    return lines.joined(separator: "\n")
      + "\n\(configuration.session) is given up: an agent that starts leaves it alone. Its destination is not to be used\n"
  }

  private func takeOut(_ volume: VolumeConfiguration, _ configuration: SessionConfiguration) throws(AgentFault)
    -> String
  {
    let path = root.device(volume.devicePath)
    do {
      guard volume.attachDevice, let insertion = try insertion(of: volume, configuration.session) else {
        return "\(path) has no tap beneath it: stop what uses the tap's own device, and use \(path)"
      }
      switch try insertion.state() {
      case .inserted(let index):
        let rest = try PlainTap(volume, root.tapSocket(configuration.migration, volume.name), insertion.ensureOrigin())
        defer { rest.stop() }
        let tap = try kernel.attach(
          socket: rest.socket, exportName: volume.name.text, blockBytes: rest.blockBytes, known: index)
        _ = try insertion.takeOut(isSealed: false)
        try tap.detach()
      case .absent: if try insertion.isSealed() { _ = try insertion.takeOut(isSealed: false) }
      case .foreign: break
      }
      try insertion.removeOrigin()
      return "\(path) is on its own table and can be written"
    } catch {
      throw AgentFault(.failed, "the tap of \(path) can't be taken out: \(error); repeat this, or start an agent")
    }
  }

  /// Makes a fenced source usable here again. Answers what was done.
  package func unfence(_ path: String) throws(AgentFault) -> String {
    let status = host.status(path)
    guard status != nil || path.hasPrefix("/dev/") else { throw AgentFault(.notFound, "there is no \(path)") }
    let configuration = session(of: path, role: .source)
    switch status?.kind {
    case .block, nil:
      guard try devices.isRaised(path, status) else { throw AgentFault(.refused, "\(path) is not fenced") }
      if let configuration { try mark(configuration, "its fence was lifted") }
      try devices.lift(path, status)
    case .file: try unfenceFile(path, configuration)
    case .other: throw AgentFault(.badRequest, "\(path) is neither a block device nor a file")
    }
    return
      "\(path) can be used on this host again. What the application wrote at the destination since is not in it: keep that copy, and never run both\n"
  }

  private func unfenceFile(_ path: String, _ configuration: SessionConfiguration?) throws(AgentFault) {
    let ending = ".\(Catalogue.fileName(path)).mode"
    do {
      let names = try catalogue.tombstoneFiles.list("fences").filter { $0.hasSuffix(ending) }
      guard let name = names.first, let bytes = try catalogue.tombstoneFiles.read("fences/\(name)"),
        let mode = String(decoding: bytes, as: UTF8.self).split(separator: " ").first.flatMap({ UInt32($0, radix: 8) })
      else { throw AgentFault(.refused, "\(path) is not fenced by the agent of \(root.path)") }
      if let configuration { try mark(configuration, "its fence was lifted") }
      try Files.setMode(path, mode & 0o7777)
      for name in names { try catalogue.tombstoneFiles.remove("fences/\(name)") }
    } catch let fault as AgentFault {
      throw fault
    } catch {
      throw AgentFault(.failed, "the fence of \(path) can't be lifted: \(error)")
    }
  }

  // MARK: A destination

  /// Writes the withheld first and last MiB onto a destination, over its label: from the agent's own files, or from the
  /// source's copy where those are gone. Refuses an incomplete copy unless told otherwise. Answers what was done.
  package func writeEnds(_ path: String, from copy: String?, evenIncomplete: Bool) throws(AgentFault) -> String {
    guard let label = DeviceInspector.label(of: path) else {
      throw AgentFault(.refused, "\(path) carries no label of a session, so nothing is withheld from it")
    }
    if (label.inconsistentSince != nil || label.isCancelled) && !evenIncomplete {
      throw AgentFault(
        .refused,
        "\(path) is an incomplete copy of volume \(label.volume); repair the source instead, or say --incomplete to use what is there"
      )
    }
    guard let layout = WithheldLayout(sizeBytes: label.sizeBytes) else {
      throw AgentFault(.failed, "the label of \(path) names an impossible size")
    }
    let configuration = session(of: path, role: .destination)
    if let configuration { try mark(configuration, "its ends were written") }
    let half = configuration?.half ?? label.session
    do {
      let device = try FileBlockDevice(path: path, .init(isExclusive: true))
      defer { device.close() }
      let head: FileBlockDevice
      let tail: FileBlockDevice
      var places = (head: UInt64(0), tail: UInt64(0))
      if let copy {
        head = try FileBlockDevice(path: copy, .init(isReadOnly: true))
        tail = head
        places = (0, layout.tail.offset)
      } else {
        head = try FileBlockDevice(
          path: "\(root.state)/\(DestinationFiles.head(half, label.volume))", .init(isReadOnly: true))
        tail = try FileBlockDevice(
          path:
            "\(root.state)/\(DestinationFiles.tail(half, label.volume, sizeBytes: label.sizeBytes, in: root.state))",
          .init(isReadOnly: true))
      }
      // The head last: it is what makes a file system mountable.
      try Self.copy(from: tail, at: places.tail, to: device, layout.tail)
      try Self.copy(from: head, at: places.head, to: device, layout.head)
      return
        "\(path) is volume \(label.volume) of \(label.session) as of generation \(label.generation), whole. Check its file system before use, and never run both copies\n"
    } catch {
      throw AgentFault(.deviceFailed, "the ends of \(path) can't be written: \(error)")
    }
  }

  private static func copy(
    from source: FileBlockDevice, at offset: UInt64, to device: FileBlockDevice, _ range: ByteRange
  ) throws(BlockDeviceError) {
    let buffer = AlignedBuffer(byteCount: Int(range.length))
    try source.read(at: offset, into: buffer.bytes)
    try device.write(at: range.offset, from: buffer.readOnly, durable: true)
    try device.flush()
  }

  /// Gives the root back.
  package func finish() { lock.release() }
}
