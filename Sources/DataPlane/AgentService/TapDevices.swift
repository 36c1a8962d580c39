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
    var kernel: any TapConnection
    var insertion: (any TapInsertion)?
    var isLost = false
  }

  /// A volume's device, and why its writes may have gone past the tap since it was last in their way.
  struct Attached: Sendable {
    var path: String
    var gap: String?
  }

  private let session: SessionID
  let migration: MigrationName
  let resources: SessionResources
  private let journal: Journal
  private let made = Monitor([VolumeName: Made]())

  init(session: SessionID, migration: MigrationName, resources: SessionResources, journal: Journal) {
    self.session = session
    self.migration = migration
    self.resources = resources
    self.journal = journal
  }

  // MARK: Choice

  /// The insertion of a volume whose device and host allow one; nil where another method is taken.
  static func insertion(
    session: SessionID, volume: VolumeConfiguration, resources: SessionResources
  ) throws(SystemError) -> (any TapInsertion)? {
    let path = resources.root.device(volume.devicePath)
    guard resources.tapChoice(path).method == .insertion else { return nil }
    return try resources.tapKernel.insertion(of: path, key: key(session, volume))
  }

  static func key(_ session: SessionID, _ volume: VolumeConfiguration) -> String {
    "\(session.text)/\(volume.name.text)"
  }

  /// Of a volume whatever its device's table is now.
  private func insertion(of volume: VolumeConfiguration) throws(SystemError) -> (any TapInsertion)? {
    guard resources.tapOffer.isRoot else { return nil }
    return try resources.tapKernel.insertion(
      of: resources.root.device(volume.devicePath), key: Self.key(session, volume))
  }

  /// Whether the volume can stay in use while its tap opens.
  func staysInUse(_ volume: VolumeConfiguration) -> Bool {
    volume.attachDevice && resources.tapChoice(resources.root.device(volume.devicePath)).method == .insertion
  }

  // MARK: Making

  /// Before a table is swapped: from there on a crash must not find writes trusted that nobody saw. With why some are
  /// known to have gone past the tap already.
  typealias WillInsert = (_ gap: String?) throws(AgentFault) -> Void

  /// Answers the device that the application uses. Finds what an earlier agent made.
  func attach(
    _ volume: VolumeConfiguration, _ willInsert: WillInsert
  ) throws(AgentFault) -> Attached {
    let path = resources.root.device(volume.devicePath)
    protectMemory()
    do {
      switch resources.tapChoice(path).method {
      case .insertion:
        guard let insertion = try insertion(of: volume) else { break }
        return Attached(path: path, gap: try insert(insertion, volume, path, willInsert))
      case .kernelNBD:
        if let known = made.withLock({ $0[volume.name] }) { return Attached(path: known.kernel.path) }
        try loadModule()
        let tap = try connect(volume, path, known: nil)
        made.change { $0[volume.name] = Made(kernel: tap) }
        return Attached(path: tap.path)
      case .fuseLoop: return Attached(path: try attachHolder(volume))
      case .socket: break
      }
    } catch let fault as AgentFault {
      throw fault
    } catch let error as TapError {
      throw AgentFault(
        error.code == .notPermitted ? .refused : .failed,
        "volume \(volume.name) can't be made a device: \(error.message)")
    } catch {
      throw AgentFault(.failed, "volume \(volume.name) can't be made a device: \(error)")
    }
    let why = resources.tapChoice(path).reason
    throw AgentFault(.refused, "volume \(volume.name) can't be made a device: \(why)")
  }

  private func connect(_ volume: VolumeConfiguration, _ path: String, known: Int?) throws -> any TapConnection {
    try resources.tapKernel.attach(
      socket: resources.root.tapSocket(migration, volume.name), exportName: volume.name.text,
      blockBytes: blockBytes(of: path), known: known)
  }

  /// Answers why writes may have gone past the tap until now; nil where it was in their way, or nobody wrote.
  private func insert(
    _ insertion: any TapInsertion, _ volume: VolumeConfiguration, _ path: String, _ willInsert: WillInsert
  ) throws -> String? {
    let known = made.withLock { $0[volume.name] }
    var index: Int?
    if case .inserted(let found) = try insertion.state() { index = found }
    if let known, !known.isLost, index == known.kernel.index { return nil }
    try loadModule()
    let tap = try known?.kernel ?? connect(volume, path, known: index)
    var gap: String?
    if index != tap.index {
      do {
        gap = try swapIn(tap, insertion, volume, wasIn: known != nil, willInsert)
      } catch {
        // A device of the kernel that nothing leads to would stay for ever.
        if known == nil { try? tap.detach() }
        throw error
      }
    }
    made.change { $0[volume.name] = Made(kernel: tap, insertion: insertion) }
    return gap
  }

  private func swapIn(
    _ tap: any TapConnection, _ insertion: any TapInsertion, _ volume: VolumeConfiguration, wasIn: Bool,
    _ willInsert: WillInsert
  ) throws -> String? {
    let wasSealed = try insertion.isSealed()
    try willInsert(wasIn && !wasSealed ? Self.changedTable(insertion.name) : nil)
    _ = try insertion.ensureOrigin()
    let pause = try insertion.insert(nbdIndex: tap.index, sizeBytes: volume.sizeBytes)
    journal.append("tapInserted", "\(insertion.name), I/O held for \(milliseconds(pause)) ms")
    // Looked at behind the swap, so that nobody comes between the look and the tap.
    if wasSealed || (try? insertion.isUntouched()) == true { return nil }
    return "\(insertion.name) was used without its tap"
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
    guard !resources.tapKernel.hasModule else { return }
    let result = try PosixChildProcesses().run(
      ChildCommand(
        executable: "/bin/sh", arguments: ["-c", "exec modprobe nbd 2>&1"],
        environment: ["PATH": "/usr/sbin:/sbin:/usr/bin:/bin"], timeoutSeconds: 20))
    guard resources.tapKernel.hasModule else {
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

  /// Throws `.inUse` and names who; then nothing was changed. Answers why writes went past the tap, or will; nil where
  /// nobody could write without it, or can now. Sealing what is sealed already looks whether it still was.
  func detach(_ volume: VolumeConfiguration, _ ending: TapEnding) throws(AgentFault) -> String? {
    do {
      var gap: String?
      var index: Int?
      if let insertion = try insertion(of: volume) {
        if case .inserted(let found) = try insertion.state() { index = found }
        gap = try takeOut(insertion, volume, ending)
      }
      if let known = made.withLock({ $0[volume.name] }) {
        if known.insertion == nil { try refuseUsers(of: known.kernel.path) }
        try known.kernel.detach()
        made.change { $0[volume.name] = nil }
      } else if let index {
        try resources.tapKernel.disconnect(index)
      }
      try detachHolder(volume)
      return gap
    } catch let error as TapError {
      throw AgentFault(
        error.code == .inUse ? .inUse : .failed,
        "the device of volume \(volume.name) can't be taken away: \(error.message)")
    } catch {
      throw AgentFault(.failed, "the device of volume \(volume.name) can't be taken away: \(error)")
    }
  }

  private func takeOut(
    _ insertion: any TapInsertion, _ volume: VolumeConfiguration, _ ending: TapEnding
  ) throws -> String? {
    switch (try insertion.state(), ending) {
    case (.inserted(let index), .sealed):
      try refuseUsed(insertion, volume)
      let pause = try insertion.takeOut(isSealed: true)
      // Somebody may have come between the look and the swap: what they have open is the sealed device now.
      if try insertion.isUsed() {
        _ = try insertion.insert(nbdIndex: index, sizeBytes: volume.sizeBytes)
        throw inUse(insertion, volume)
      }
      journal.append("tapTakenOut", "\(insertion.name) is sealed, I/O held for \(milliseconds(pause)) ms")
      return nil
    case (.absent, .sealed) where try insertion.isSealed(): return nil
    case (.absent, .sealed):
      try refuseUsed(insertion, volume)
      _ = try insertion.ensureOrigin()
      _ = try insertion.takeOut(isSealed: true)
      if try insertion.isUsed() {
        _ = try insertion.takeOut(isSealed: false)
        throw inUse(insertion, volume)
      }
      journal.append("sealed", insertion.name)
      return try insertion.isUntouched() ? nil : "\(insertion.name) could be written while it was to be closed"
    case (.foreign, .sealed):
      throw TapError(
        .invalid,
        "\(insertion.name) has a table that others gave it, past the tap; open the tap again, so that all of it is copied anew, and then close it"
      )
    case (.inserted, .free):
      let pause = try insertion.takeOut(isSealed: false)
      journal.append("tapTakenOut", "\(insertion.name), I/O held for \(milliseconds(pause)) ms")
    case (.absent, .free):
      guard try insertion.isSealed() else { return nil }
      _ = try insertion.takeOut(isSealed: false)
    case (.foreign, .free): journal.append("foreignTable", "\(insertion.name) keeps the table that others gave it")
    }
    return "the tap of \(insertion.name) was taken out"
  }

  /// After `detach`: the origin, which the session's own descriptor keeps until it is closed.
  func removeOrigin(of volume: VolumeConfiguration) throws(AgentFault) {
    guard volume.attachDevice else { return }
    do throws(SystemError) { try insertion(of: volume)?.removeOrigin() } catch {
      throw AgentFault(.failed, "volume \(volume.name): \(error)")
    }
  }

  private func refuseUsed(_ insertion: any TapInsertion, _ volume: VolumeConfiguration) throws {
    if try insertion.isUsed() { throw inUse(insertion, volume) }
  }

  /// Whoever it was may have left since.
  private func inUse(_ insertion: any TapInsertion, _ volume: VolumeConfiguration) -> TapError {
    let path = resources.root.device(volume.devicePath)
    return inUse(path, users(of: path), openCount: (try? insertion.openCount()) ?? 0)
  }

  private func inUse(_ path: String, _ users: [String], openCount: Int) -> TapError {
    let who = !users.isEmpty ? users.joined(separator: ", ") : openCount > 0 ? "\(openCount) openers" : "a moment ago"
    return TapError(.inUse, "\(path) is in use (\(who)); stop the application and unmount it")
  }

  /// Throws `.inUse` where somebody has the device open.
  private func refuseUsers(of path: String) throws {
    let users = users(of: path)
    if !users.isEmpty { throw inUse(path, users, openCount: 0) }
  }

  /// The agent itself must not open the device: a process that waits for I/O which it must carry out itself can't be
  /// killed.
  private func users(of path: String) -> [String] {
    var users: [String] = []
    if let status = resources.host.status(path) {
      let topology = DeviceTopology(host: resources.host, agentRoot: resources.root.path)
      users = topology.users(of: status, path: path).map { "mounted at \($0)" }
    }
    return users + ((try? DeviceUse.openers(of: path)) ?? []).map { "open in process \($0)" }
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
        lost.append((name, Self.changedTable(insertion.name)))
      } catch {
        journal.append("tapTrouble", "\(name): \(error)")
      }
    }
    return lost
  }

  private static func changedTable(_ name: String) -> String {
    "the table of \(name) was changed by somebody else, so writes went past the tap"
  }

  func connection(of volume: VolumeConfiguration) -> (any TapConnection)? {
    made.withLock { $0[volume.name]?.kernel }
  }

  var isEmpty: Bool { made.withLock { $0.isEmpty } }
}
