internal import AgentProtocol
internal import BlockModel
internal import H2HProtocol
internal import LinuxPlatform
internal import Replication
internal import Seams

extension DestinationSession {
  /// Outside the lock. `events` gets what was done at once; what is handed to a pool posts by itself.
  func perform(_ effect: DestinationEffect, _ poster: Poster, _ events: inout [DestinationEvent]) {
    switch effect {
    case .local(let link, let request, let operation):
      if case .bulkLane = poster {
        events.append(carryOut(link, request, operation))
      } else {
        submit { [self] in post(carryOut(link, request, operation)) }
      }
    case .store(let revision, let record, let label):
      var afterwards: (@Sendable () -> Bool)?
      if let label { afterwards = { [weak self] in self?.write(label) ?? false } }
      writer.replace(DestinationFiles.record(half), with: record.encoded(), afterwards: afterwards) {
        [weak self] isStored in
        self?.post(.stored(revision: revision, isStored: isStored))
      }
    case .releaseVolume(let volume):
      submit { [self] in
        do throws(BlockDeviceError) {
          try volumes[Int(volume)].device.release()
          // The host's from here on: who mounts it must not find it held.
          volumes[Int(volume)].close()
          post(.volumeReleased(volume: volume, isReleased: true))
        } catch {
          journal.append("notReleased", error.message)
          post(.volumeReleased(volume: volume, isReleased: false))
        }
      }
    case .refuseHello(let number, let status, let why):
      guard let link = state.withLock({ $0.links[number] }) else { return }
      submit { link.refuse(status, why: why) }
    case .commandAnswer(let id, let answer): commandAnswers.change { $0[id] = answer }
    case .stageChanged: submit { [self] in stageChanged() }
    case .journal(let line): journal.append("replication", line)
    case .send, .drop, .sendHello, .answerHello, .linkEstablished, .closeLink: break
    }
  }

  /// The pool takes more than a session may have outstanding; where the host gives no thread, this one does the work.
  func submit(_ job: @escaping @Sendable () -> Void) {
    do throws(SystemError) { try local.trySubmit(job) } catch { job() }
  }

  private func carryOut(_ link: UInt64, _ request: UInt64, _ operation: DestinationOperation) -> DestinationEvent {
    let key = Key(link: link, request: request)
    let begun = MonotonicTime.now
    var digests: [ExtentDigest] = []
    do throws(BlockDeviceError) {
      switch operation {
      case .write(let volume, let offset, let length, let durable):
        guard let payload = state.withLock({ $0.payloads.removeValue(forKey: key) }), payload.count == Int(length)
        else {
          throw BlockDeviceError(.writeFailed, "a write came without its bytes")
        }
        try device(volume).write(at: offset, from: payload.bytes, durable: durable)
      case .writeZeroes(let volume, let range, let durable):
        try device(volume).writeZeroes(range, mayUnmap: true, durable: durable)
      case .read(let volume, let offset, let length):
        let buffer = PooledBuffer(from: Int(length) <= Self.smallBytes ? small : large, count: Int(length))
        try device(volume).read(at: offset, into: buffer.target)
        state.withLock { $0.results[key] = buffer }
      case .flush(let volume):
        if let volume { try device(volume).flush() } else { for volume in volumes { try volume.device.flush() } }
      case .digest(let volume, let ranges):
        let device = try device(volume)
        for range in ranges {
          guard let digest = DeviceDigest.extent(range, of: device) else {
            throw BlockDeviceError(.readFailed, "\(device.label): \(range) can't be read for comparison")
          }
          digests.append(digest)
        }
      }
      // A write that took no measurable time still says that somebody measures.
      let microseconds = UInt32(clamping: max(1, Int(MonotonicTime.now.seconds(since: begun) * 1e6)))
      return .localDone(link: link, requestID: request, .ok, digests: digests, microseconds: microseconds)
    } catch {
      journal.append("localFailed", error.message)
      state.withLock { $0.linkTrouble = error.message }
      return .localDone(link: link, requestID: request, IOStatus(error), digests: [])
    }
  }

  private func device(_ volume: UInt16) throws(BlockDeviceError) -> WithheldDevice {
    guard volumes.indices.contains(Int(volume)) else {
      throw BlockDeviceError(.outOfRange, "the session has no volume number \(volume)")
    }
    return volumes[Int(volume)].device
  }

  private func write(_ label: DeviceLabel) -> Bool {
    var isWritten = true
    for volume in volumes {
      do throws(BlockDeviceError) {
        try volume.device.writeLabel(label.forVolume(volume.name, sizeBytes: volume.device.sizeBytes))
      } catch {
        journal.append("labelNotWritten", error.message)
        isWritten = false
      }
    }
    return isWritten
  }

  // MARK: The catalogue

  func save(_ body: @Sendable (inout SessionEntry) -> Void) throws(AgentFault) {
    try saving.withLock { _ throws(AgentFault) in
      let entry = state.withLock { state in
        body(&state.entry)
        return state.entry
      }
      try resources.catalogue.save(entry)
    }
  }

  // MARK: Commands

  func perform(_ command: SessionCommand, confirmWithinSeconds _: Double?) throws(AgentFault) {
    try commands.withLock { _ throws(AgentFault) in
      journal.append("command", command.rawValue)
      switch command {
      case .release: try ask(.release)
      case .retire: try ask(.retire)
      case .cancel: try ask(.cancel)
      case .proveConnection, .synchronize, .stopSynchronizing, .openTap, .resync, .verify, .swing, .revert,
        .confirmSwing,
        .closeTap, .prove, .fence:
        throw AgentFault(
          .badRequest, "\(session): \(command.rawValue) is for the source's agent; this is the destination's")
      }
    }
  }

  func verify(_ scope: VerificationScope, repairs: Bool) throws(AgentFault) {
    throw AgentFault(.badRequest, "\(session): verify is for the source's agent; this is the destination's")
  }

  func map(_ call: MapCall) throws(AgentFault) -> ChangedDataMap {
    throw AgentFault(.badRequest, "\(session): what differs is known to the source's agent; this is the destination's")
  }

  private func ask(_ command: DestinationCommand) throws(AgentFault) {
    let id = state.withLock { state in
      defer { state.nextID += 1 }
      return state.nextID
    }
    post(.command(command, id: id))
    let until = MonotonicTime.now.adding(seconds: Self.commandSeconds)
    switch commandAnswers.wait(until: until, { $0.removeValue(forKey: id) }) {
    case .accepted: return
    case .refused(let why): throw AgentFault(.wrongStage, "\(session): \(why)")
    case nil:
      throw AgentFault(
        .failed, "\(session): \(command) was not answered within \(Int(Self.commandSeconds)) s; observe, and repeat it")
    }
  }

  func mustBeRemade(for new: SessionConfiguration) throws(AgentFault) -> Bool {
    let old = configuration
    let hasData = state.withLock { $0.machine.stage } != .prepared
    try ConfigurationRules.checkChange(from: old, to: new, hasData: hasData)
    return !hasData && ConfigurationRules.needsRemake(from: old, to: new)
  }

  /// What is withheld moves with the end of the device, so that this half is made anew: nobody but the source's copier
  /// waits for it.
  func grow(to grown: SessionConfiguration) throws(AgentFault) -> Bool {
    let stage = state.withLock { $0.machine.stage }
    switch stage {
    case .prepared, .receiving: return false
    case .standIn:
      throw AgentFault(
        .wrongStage,
        "\(session): the application's I/O lives here, and a volume grows before cMotion or after it; revert, then apply again"
      )
    case .fenced, .releasing, .released, .cancelled:
      throw AgentFault(.wrongStage, "\(session): it is \(stage.rawValue), and its size is final")
    }
  }

  func reconfigure(_ new: SessionConfiguration) throws(AgentFault) {
    let old = configuration
    guard old != new else { return }
    try save { entry in
      entry.configuration = new
      entry.approvals.removeAll { $0.configurationDigest != new.configurationDigest }
    }
    if old.plannedAs != new.plannedAs {
      try resources.catalogue.rename(new)
      journal.append("renamed", new.plannedAs?.migration.text ?? new.migration.text)
    }
    journal.append("reconfigured", new.configurationDigest)
    if old.peerKeys != new.peerKeys {
      journal.append("peerKeys", new.peerKeys.map(\.text).sorted().joined(separator: " "))
      state.withLock { $0.machine.changePeer(new.peerFingerprint) }
    }
    if old.link.listens, !new.link.listens || old.link.port != new.link.port {
      resources.ports.leave(old.link, session: session)
    }
    if !old.link.listens, new.link.listens { dialer.change { $0.take()?.stop() } }
    openLink(new)
  }

  func setHold(_ hold: Hold?, clearing: Hold?) throws(AgentFault) {
    try HoldRules.set(hold, clearing: clearing, in: self)
    journal.append("hold", hold.map { "\($0.cause.rawValue) by \($0.who): \($0.why)" } ?? "cleared")
  }

  func store(_ approval: Approval) throws(AgentFault) { try ApprovalRules.store(approval, in: self) }

  // MARK: Observing

  func observation() -> SessionObservation {
    let (seen, entry) = state.withLock { ($0.machine.observation(), $0.entry) }
    let health: ReplicationHealth =
      switch seen.stage {
      case .prepared, .cancelled, .released, .fenced, .releasing: .idle
      case .receiving, .standIn: .tracking(lagBytes: 0, lagSeconds: 0)
      }
    var answer = SessionObservation(
      configuration: entry.configuration, stage: Self.stage(seen.stage), authority: Authority(seen.authority),
      generation: seen.generation, health: health, connected: seen.isConnected)
    answer.volumes = entry.configuration.volumes.enumerated().map { index, volume in
      let counts = seen.volumes[index]
      var io = IOCounters()
      io.reads = counts.reads
      io.readBytes = counts.readBytes
      io.writes = counts.mirroredWrites
      io.writeBytes = counts.mirroredBytes
      io.flushes = counts.flushes
      return VolumeObservation(
        name: volume.name, devicePath: volumes[index].path, sizeBytes: volume.sizeBytes,
        blockBytes: volumes[index].device.blockBytes, dirtyBytes: 0, copiedBytes: counts.copiedBytes,
        wireBytes: counts.copiedBytes, tapSocket: nil, tapDevice: nil, tapOpenCount: 0, applicationIO: io,
        longestPauseSeconds: 0)
    }
    answer.hold = entry.hold
    answer.approvals = entry.approvals
    if let why = seen.lastError {
      answer.lastError = AgentFault(.failed, why)
    } else if !seen.isConnected, let trouble {
      answer.lastError = AgentFault(.failed, "no connection with the other agent: \(trouble)")
    }
    return answer
  }

  private static func stage(_ stage: DestinationStage) -> SessionStage {
    switch stage {
    case .prepared: .prepared
    case .receiving: .synchronizing
    case .standIn: .standIn
    case .fenced, .releasing: .fenced
    case .released: .released
    case .cancelled: .cancelled
    }
  }

  func tombstone(at time: WallTime) -> Tombstone? {
    let seen = state.withLock { $0.machine.observation() }
    guard seen.stage == .released else { return nil }
    var stone = Tombstone(
      session: session, role: .destination, phase: .retired, generation: seen.generation, receiptDigest: nil, at: time)
    stone.plannedAs = configuration.plannedAs
    return stone
  }

  func stageChanged() {
    let stage = state.withLock { $0.machine.stage }
    journal.append("stage", stage.rawValue)
    guard stage == .released, var stone = tombstone(at: resources.time.wallNow()) else { return }
    stone.phase = .finalized
    do throws(AgentFault) {
      try resources.catalogue.save(stone)
    } catch {
      journal.append("tombstoneNotStored", error.message)
    }
  }
}

/// Where a destination keeps what its machine wants durable, and what is withheld from the device.
enum DestinationFiles {
  static func record(_ half: SessionID) -> String { "\(Catalogue.directory(of: half))/record" }
  static func withheldDirectory(_ half: SessionID) -> String { "\(Catalogue.directory(of: half))/withheld" }
  static func head(_ half: SessionID, _ volume: VolumeName) -> String {
    "\(withheldDirectory(half))/\(Catalogue.fileName(volume.text)).head"
  }
  /// Of a volume that never grew.
  static func tail(_ half: SessionID, _ volume: VolumeName) -> String {
    "\(withheldDirectory(half))/\(Catalogue.fileName(volume.text)).tail"
  }
  /// The tail moves with the volume's end: one that grew has it under another name, so that for a moment both are there.
  static func tail(_ half: SessionID, _ volume: VolumeName, grownTo sizeBytes: UInt64) -> String {
    "\(tail(half, volume)).\(sizeBytes)"
  }
  /// The one that belongs to a volume of this size; `state` is the agent's directory of state.
  static func tail(_ half: SessionID, _ volume: VolumeName, sizeBytes: UInt64, in state: String) -> String {
    let grown = tail(half, volume, grownTo: sizeBytes)
    return Files.exists("\(state)/\(grown)") ? grown : tail(half, volume)
  }
}
