internal import AgentProtocol
internal import BlockModel
internal import LinuxPlatform
internal import Seams
internal import VolumeTap

/// How a tap's device goes away.
enum TapEnding: Sendable {
  /// For finalize: nobody may use the volume, and nobody can write it past the tap afterwards.
  case sealed
  /// For good: the application goes on without a tap where the device was put beneath it.
  case free
}

/// Makes a block device of a volume's export, by the best that the host and the volume's device allow, and takes it away.
/// `TapService` calls it, one call at a time; `watch` runs beside.
final class TapDevices: Sendable {
  private struct Made: Sendable {
    var kernel: KernelTap
    var insertion: MapperInsertion?
    var isLost = false
  }

  private let session: SessionID
  private let migration: MigrationName
  private let resources: SessionResources
  private let journal: Journal
  private let made = Monitor([VolumeName: Made]())

  init(session: SessionID, migration: MigrationName, resources: SessionResources, journal: Journal) {
    self.session = session
    self.migration = migration
    self.resources = resources
    self.journal = journal
  }

  // MARK: Choice

  static func choice(for path: String, offer: TapOffer) -> TapChoice {
    offer.choice(insertionRefusal: MapperInsertion.refusal(of: path))
  }

  /// The insertion of a volume whose device and host allow one; nil where another method is taken.
  static func insertion(
    session: SessionID, volume: VolumeName, path: String, offer: TapOffer
  ) throws(SystemError) -> MapperInsertion? {
    guard choice(for: path, offer: offer).method == .insertion else { return nil }
    return try MapperInsertion(path: path, key: "\(session.text)/\(volume.text)")
  }

  /// Whether the volume can stay in use while its tap opens.
  func staysInUse(_ volume: VolumeConfiguration) -> Bool {
    volume.attachDevice
      && Self.choice(for: resources.root.device(volume.devicePath), offer: resources.tapOffer).method == .insertion
  }

  // MARK: Making

  /// Answers the path of the device that the application uses. Finds what an earlier agent made.
  func attach(_ volume: VolumeConfiguration) throws(AgentFault) -> String {
    let path = resources.root.device(volume.devicePath)
    protectMemory()
    do {
      switch Self.choice(for: path, offer: resources.tapOffer).method {
      case .insertion:
        guard let insertion = try MapperInsertion(path: path, key: "\(session.text)/\(volume.name.text)") else { break }
        return try insert(insertion, volume, path)
      case .kernelNBD:
        if let known = made.withLock({ $0[volume.name] }) { return known.kernel.path }
        try loadModule()
        let tap = try KernelTap.attach(
          socket: resources.root.tapSocket(migration, volume.name), exportName: volume.name.text,
          blockBytes: blockBytes(of: path))
        made.change { $0[volume.name] = Made(kernel: tap) }
        return tap.path
      case .fuseLoop: return try attachHolder(volume)
      case .socket: break
      }
    } catch let error as TapError {
      throw AgentFault(
        error.code == .notPermitted ? .refused : .failed,
        "volume \(volume.name) can't be made a device: \(error.message)")
    } catch {
      throw AgentFault(.failed, "volume \(volume.name) can't be made a device: \(error)")
    }
    let why = Self.choice(for: path, offer: resources.tapOffer).reason
    throw AgentFault(.refused, "volume \(volume.name) can't be made a device: \(why)")
  }

  private func insert(
    _ insertion: MapperInsertion, _ volume: VolumeConfiguration, _ path: String
  ) throws -> String {
    if let known = made.withLock({ $0[volume.name] }), !known.isLost { return path }
    try loadModule()
    var index: Int?
    if case .inserted(let found) = try insertion.state() { index = found }
    let tap: KernelTap
    if let lost = made.withLock({ $0[volume.name] }) {
      tap = lost.kernel
    } else {
      tap = try KernelTap.attach(
        socket: resources.root.tapSocket(migration, volume.name), exportName: volume.name.text,
        blockBytes: blockBytes(of: path), known: index)
    }
    if index == nil {
      _ = try insertion.ensureOrigin()
      let pause = try insertion.insert(nbdIndex: tap.index, sizeBytes: volume.sizeBytes)
      journal.append("tapInserted", "\(insertion.name), I/O held for \(milliseconds(pause)) ms")
    }
    made.change { $0[volume.name] = Made(kernel: tap, insertion: insertion) }
    return path
  }

  private func milliseconds(_ seconds: Double) -> Int { Int((seconds * 1000).rounded()) }

  private func attachHolder(_ volume: VolumeConfiguration) throws -> String {
    guard let executable = resources.executable else {
      throw TapError(.notPermitted, "this agent does not know its own program's path")
    }
    let directory = resources.root.holderDirectory(migration, volume.name)
    try Files.makeDirectories(directory, mode: 0o700)
    return try HolderControl(executable: executable).attach(
      HolderSettings(
        directory: directory, agentSocket: resources.root.tapSocket(migration, volume.name),
        exportName: volume.name.text)
    ).device
  }

  private func blockBytes(of path: String) -> UInt32 {
    guard let status = resources.host.status(path) else { return 512 }
    return DeviceTopology(host: resources.host, agentRoot: resources.root.path).logicalBlockBytes(of: status)
  }

  private func loadModule() throws {
    guard !KernelNBD.isLoaded else { return }
    let result = try PosixChildProcesses().run(
      ChildCommand(
        executable: "/bin/sh", arguments: ["-c", "exec modprobe nbd 2>&1"],
        environment: ["PATH": "/usr/sbin:/sbin:/usr/bin:/bin"], timeoutSeconds: 20))
    guard KernelNBD.isLoaded else {
      throw TapError(
        .systemFailed, "modprobe nbd failed: \(String(decoding: result.output.prefix(500), as: UTF8.self).trimmedLine)")
    }
  }

  /// Under the page cache (DESIGN section 8.12): what the kernel gives; a host that gives less is no reason not to run.
  private func protectMemory() {
    do throws(SystemError) { try ProcessSetup.lockTouchedMemory() } catch {
      journal.append("memoryNotLocked", error.description)
    }
  }

  // MARK: Taking away

  /// Throws `.inUse` and names who; then nothing was changed.
  func detach(_ volume: VolumeConfiguration, _ ending: TapEnding) throws(AgentFault) {
    let path = resources.root.device(volume.devicePath)
    do {
      let key = "\(session.text)/\(volume.name.text)"
      if resources.tapOffer.isRoot, let insertion = try MapperInsertion(path: path, key: key) {
        try takeOut(insertion, volume, ending)
      }
      if let known = made.withLock({ $0[volume.name] }) {
        if known.insertion == nil { try refuseUsers(of: known.kernel.path, openCount: 0) }
        try known.kernel.detach()
        made.change { $0[volume.name] = nil }
      }
      try detachHolder(volume)
    } catch let error as TapError {
      throw AgentFault(
        error.code == .inUse ? .inUse : .failed,
        "the device of volume \(volume.name) can't be taken away: \(error.message)")
    } catch {
      throw AgentFault(.failed, "the device of volume \(volume.name) can't be taken away: \(error)")
    }
  }

  private func takeOut(_ insertion: MapperInsertion, _ volume: VolumeConfiguration, _ ending: TapEnding) throws {
    switch (try insertion.state(), ending) {
    case (.inserted(let index), .sealed):
      try refuseUsed(insertion, volume)
      let pause = try insertion.takeOut(isSealed: true)
      // Somebody may have come between the look and the swap: what they have open is the sealed device now.
      if try insertion.isUsed() {
        _ = try insertion.insert(nbdIndex: index, sizeBytes: volume.sizeBytes)
        try refuseUsed(insertion, volume)
      }
      journal.append("tapTakenOut", "\(insertion.name) is sealed, I/O held for \(milliseconds(pause)) ms")
    case (.inserted, .free):
      let pause = try insertion.takeOut(isSealed: false)
      journal.append("tapTakenOut", "\(insertion.name), I/O held for \(milliseconds(pause)) ms")
    case (.absent, .free) where try insertion.isSealed(): _ = try insertion.takeOut(isSealed: false)
    case (.absent, .sealed) where try !insertion.isSealed():
      try refuseUsed(insertion, volume)
      _ = try insertion.ensureOrigin()
      _ = try insertion.takeOut(isSealed: true)
    case (.absent, _): break
    case (.foreign, _): journal.append("foreignTable", "\(insertion.name) keeps the table that others gave it")
    }
  }

  /// After `detach`: the origin, which the session's own descriptor keeps until it is closed.
  func removeOrigin(of volume: VolumeConfiguration) throws(AgentFault) {
    guard resources.tapOffer.isRoot, volume.attachDevice else { return }
    do throws(SystemError) {
      let path = resources.root.device(volume.devicePath)
      try MapperInsertion(path: path, key: "\(session.text)/\(volume.name.text)")?.removeOrigin()
    } catch {
      throw AgentFault(.failed, "volume \(volume.name): \(error)")
    }
  }

  private func refuseUsed(_ insertion: MapperInsertion, _ volume: VolumeConfiguration) throws {
    guard try insertion.isUsed() else { return }
    try refuseUsers(of: resources.root.device(volume.devicePath), openCount: try insertion.openCount())
  }

  /// Throws `.inUse` where somebody has the device open, or `openCount` says so. The agent itself must not open it: a
  /// process that waits for I/O which it must carry out itself can't be killed.
  private func refuseUsers(of path: String, openCount: Int) throws {
    var users: [String] = []
    if let status = resources.host.status(path) {
      let topology = DeviceTopology(host: resources.host, agentRoot: resources.root.path)
      users = topology.users(of: status, path: path).map { "mounted at \($0)" }
    }
    users += ((try? DeviceUse.openers(of: path)) ?? []).map { "open in process \($0)" }
    guard !users.isEmpty || openCount > 0 else { return }
    let who = users.isEmpty ? "\(openCount) openers" : users.joined(separator: ", ")
    throw TapError(.inUse, "\(path) is in use (\(who)); stop the application and unmount it")
  }

  private func detachHolder(_ volume: VolumeConfiguration) throws {
    let directory = resources.root.holderDirectory(migration, volume.name)
    guard Files.exists(directory) else { return }
    if let executable = resources.executable {
      try HolderControl(executable: executable).detach(directory: directory)
    }
    do throws(SystemError) { try Files.removeTree(directory) } catch {
      journal.append("tapFilesLeft", error.description)
    }
  }

  // MARK: Watching

  /// Looks once whether connections of the kernel ended, which are made again, and whether others changed the table of a
  /// device with the tap beneath it. Answers the volumes that are no longer tracked, each once, with why.
  func look() -> [(VolumeName, String)] {
    var lost: [(VolumeName, String)] = []
    for (name, known) in made.withLock({ $0 }).sorted(by: { $0.key.text < $1.key.text }) where !known.isLost {
      do {
        if try known.kernel.mend() { journal.append("tapReconnected", known.kernel.path) }
        guard let insertion = known.insertion, try insertion.state() != .inserted(nbdIndex: known.kernel.index) else {
          continue
        }
        made.change { $0[name]?.isLost = true }
        lost.append(
          (name, "the table of \(insertion.name) was changed by somebody else, so writes went past the tap"))
      } catch {
        journal.append("tapTrouble", "\(name): \(error)")
      }
    }
    return lost
  }

  var isEmpty: Bool { made.withLock { $0.isEmpty } }
  func isLost(_ volume: VolumeName) -> Bool { made.withLock { $0[volume]?.isLost ?? false } }
}
