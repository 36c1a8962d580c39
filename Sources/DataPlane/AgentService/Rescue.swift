package import AgentProtocol
internal import BlockModel
internal import LinuxPlatform
internal import Replication
package import Seams

/// The way out when everything else is gone (DESIGN sections 8.9 and 8.10): `cmcagent rescue`, run by a person on the
/// host, while no agent runs in `root`. Nothing here asks the other host, so each step says what the person must know.
package struct Rescue: Sendable {
  private let root: AgentRoot
  private let host: any HostView
  private let catalogue: Catalogue
  private let devices: DeviceFence
  private let lock: FileLock

  /// Takes the agent's root; `.inUse` while an agent runs there.
  package init(root: AgentRoot, host: any HostView, children: any ChildProcesses) throws(AgentFault) {
    self.root = root
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
      let stage = (try? record(of: configuration.session))?.stage ?? "unknown"
      for volume in configuration.volumes {
        lines.append(
          "\(configuration.session), volume \(volume.name): \(configuration.role.rawValue) \(root.device(volume.devicePath)), stage \(stage)"
        )
        lines.append("  " + advice(configuration.role, stage: stage, path: root.device(volume.devicePath)))
      }
    }
    for stone in catalogue.tombstones().entries.sorted(by: { $0.session < $1.session }) {
      lines.append(
        "\(stone.session): \(stone.phase.rawValue) as \(stone.role.rawValue) at generation \(stone.generation)"
          + (stone.role == .source ? "; its fence stays: rescue --unfence DEVICE lifts it" : ""))
    }
    return lines.isEmpty ? "nothing of cmcplan is in \(root.path)\n" : lines.joined(separator: "\n") + "\n"
  }

  private func advice(_ role: Role, stage: String, path: String) -> String {
    switch (role, stage) {
    case (.source, SourceStage.fenced.rawValue):
      "the destination has the newer data; only if it is lost for good: rescue --unfence \(path)"
    case (.source, _): "this copy counts; an agent goes on with it, or use it as it is"
    case (.destination, DestinationStage.released.rawValue): "it is this host's own; use it"
    case (.destination, DestinationStage.fenced.rawValue), (.destination, DestinationStage.releasing.rawValue):
      "it is the newest copy; an agent and 'cmcplan apply' finish this, or: rescue --write-ends \(path)"
    case (.destination, _):
      "the source decides which copy counts; only if it is lost for good: rescue --write-ends \(path)"
    }
  }

  private func record(of session: SessionID) throws(AgentFault) -> SessionRecord? {
    do {
      return try catalogue.state.read(SourceFiles.record(session)).map { try SessionRecord(decoding: $0) }
    } catch {
      throw AgentFault(.failed, "the record of session \(session) can't be used: \(error)")
    }
  }

  // MARK: A source

  /// Makes a fenced source usable here again. Answers what was done.
  package func unfence(_ path: String) throws(AgentFault) -> String {
    guard let status = host.status(path) else { throw AgentFault(.notFound, "there is no \(path)") }
    switch status.kind {
    case .block:
      guard try devices.isRaised(path, status) else { throw AgentFault(.refused, "\(path) is not fenced") }
      try devices.lift(path, status)
    case .file: try unfenceFile(path)
    case .other: throw AgentFault(.badRequest, "\(path) is neither a block device nor a file")
    }
    return
      "\(path) can be used on this host again. What the application wrote at the destination since is not in it: keep that copy, and never run both\n"
  }

  private func unfenceFile(_ path: String) throws(AgentFault) {
    let ending = ".\(Catalogue.fileName(path)).mode"
    do {
      let names = try catalogue.tombstoneFiles.list("fences").filter { $0.hasSuffix(ending) }
      guard let name = names.first, let bytes = try catalogue.tombstoneFiles.read("fences/\(name)"),
        let mode = String(decoding: bytes, as: UTF8.self).split(separator: " ").first.flatMap({ UInt32($0, radix: 8) })
      else { throw AgentFault(.refused, "\(path) is not fenced by the agent of \(root.path)") }
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
          path: "\(root.state)/\(DestinationFiles.head(label.session, label.volume))", .init(isReadOnly: true))
        tail = try FileBlockDevice(
          path: "\(root.state)/\(DestinationFiles.tail(label.session, label.volume))", .init(isReadOnly: true))
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
