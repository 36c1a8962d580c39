internal import AgentProtocol
internal import BlockModel
internal import H2HProtocol
internal import LinuxPlatform
internal import Replication
internal import Seams

extension SourceSession {
  func observation() -> SessionObservation {
    let now = resources.time.monotonicNow()
    let (seen, entry, kept, stages, limit) = state.withLock {
      ($0.machine.observation(at: now), $0.entry, $0.keptVerification, $0.stages, $0.governor.limit)
    }
    var answer = SessionObservation(
      configuration: entry.configuration, stage: SessionStage(rawValue: seen.stage.rawValue) ?? .prepared,
      authority: Authority(seen.authority), generation: seen.generation, health: ReplicationHealth(seen.health),
      connected: seen.isConnected)
    answer.volumes = entry.configuration.volumes.enumerated().map { index, volume in
      let seenVolume = seen.volumes[index]
      var observed = VolumeObservation(
        name: volume.name, devicePath: volumes[index].path, sizeBytes: volume.sizeBytes,
        blockBytes: volumes[index].device.blockBytes, dirtyBytes: seenVolume.dirtyBytes,
        copiedBytes: seenVolume.copiedBytes, wireBytes: seenVolume.wireBytes,
        tapSocket: seen.trackLost == nil ? taps.socket(of: volume.name) : nil,
        tapDevice: taps.device(of: volume.name), tapOpenCount: taps.openCount(of: volume.name),
        applicationIO: volumes[index].counters.snapshot, longestPauseSeconds: seen.longestPauseSeconds)
      observed.verifiedBytes = seenVolume.equalBytes
      observed.mismatchedExtents = seenVolume.mismatchedExtents
      return observed
    }
    if let version = seen.linkVersion {
      answer.compression = compression(seen.copyStages, version: version)
      let crew = StageCrew(
        copyingThreads: threads, lanes: entry.configuration.link.lanes,
        destinationTells: version >= H2HVersions.packing, limit: limit)
      if let (spent, elapsed) = stages.spent { answer.heldBackBy = HoldBack(spent, in: elapsed, by: crew) }
    }
    answer.connectionProof = entry.connectionProof
    answer.hold = entry.hold
    answer.approvals = entry.approvals
    answer.confirmBy = seen.confirmBy
    answer.swingConfirmed = seen.isSwingConfirmed
    answer.swings = seen.swings
    answer.swingGivenUp = seen.swingGivenUp
    answer.lastSwingPauseSeconds = seen.lastSwingPauseSeconds
    answer.standInSince = seen.standInSince
    answer.initialSynchronizationAt = seen.initialSynchronizationAt
    // The summary is written before the machine believes the receipt, and outlives one that a new write made void.
    if seen.receiptDigest != nil, entry.receipt?.digest == seen.receiptDigest { answer.receipt = entry.receipt }
    answer.verification = seen.verification.map { VerificationReport($0, kept) }
    if let why = seen.lastError {
      answer.lastError = AgentFault(.failed, why)
    } else if !seen.isConnected, let trouble {
      answer.lastError = AgentFault(.failed, "no connection with the other agent: \(trouble)")
    }
    return answer
  }

  private func compression(_ stages: CopyStages, version: UInt16) -> CompressionReport {
    let verdict: CompressionReport.State =
      switch packing.withLock({ $0.verdict }) {
      case .unknown: .measuring
      case .on: .on
      case .incompressible: .incompressible
      case .tooSlow: .tooSlow
      }
    return CompressionReport(
      state: version < H2HVersions.packing ? .unsupported : verdict, packedBytes: stages.packedBytes,
      wireBytes: stages.packedWireBytes)
  }

  func map(_ call: MapCall) throws(AgentFault) -> ChangedDataMap {
    func refuse(_ why: String) -> AgentFault { AgentFault(.badRequest, "\(session): \(why)") }
    guard let index = volumes.firstIndex(where: { $0.name == call.volume }) else {
      throw refuse("it has no volume \(call.volume)")
    }
    guard (1...MapCall.mostCells).contains(call.cells) else {
      throw refuse("a map has 1 to \(MapCall.mostCells) cells, not \(call.cells)")
    }
    let sizeBytes = configuration.volumes[index].sizeBytes
    guard call.offset < sizeBytes, call.length != 0 else {
      throw refuse("nothing of volume \(call.volume), which has \(sizeBytes) bytes, is at \(call.offset)")
    }
    let range = ByteRange(offset: call.offset, length: min(call.length ?? .max, sizeBytes - call.offset))
    let (picture, blockBytes) = state.withLock {
      ($0.machine.picture(of: index, in: range, cells: call.cells), $0.machine.blockBytes(ofVolume: index))
    }
    return ChangedDataMap(
      volume: call.volume, sizeBytes: sizeBytes, offset: picture.range.offset, length: picture.range.length,
      cellBytes: picture.cellBytes, differsBytes: picture.differsBytes, blockBytes: blockBytes,
      runs: picture.runs.map { ChangedDataMap.Run(cells: $0.cells, level: $0.level) })
  }

  func tombstone(at time: WallTime) -> Tombstone? {
    let now = resources.time.monotonicNow()
    let seen = state.withLock { $0.machine.observation(at: now) }
    // A cancelled migration may be started again; only a finished one leaves a stone.
    guard seen.stage == .fenced else { return nil }
    var stone = Tombstone(
      session: session, role: .source, phase: .retired, generation: seen.generation, receiptDigest: seen.receiptDigest,
      at: time)
    stone.plannedAs = configuration.plannedAs
    return stone
  }

  /// The tombstone of finalize is there before the session is retired: it is the file's fence as cmcplan sees it.
  func stageChanged() {
    let stage = state.withLock { $0.machine.stage }
    journal.append("stage", stage.rawValue)
    guard stage == .fenced, var stone = tombstone(at: resources.time.wallNow()) else { return }
    stone.phase = .finalized
    do throws(AgentFault) {
      try resources.catalogue.save(stone)
    } catch {
      journal.append("tombstoneNotStored", error.message)
    }
  }
}

extension Authority {
  init(_ authority: CopyAuthority) {
    self =
      switch authority {
      case .source: .source
      case .standIn: .standIn
      case .destinationOnly: .destinationOnly
      case .destination: .destination
      }
  }
}

extension ReplicationHealth {
  init(_ health: SourceHealth) {
    self =
      switch health {
      case .idle: .idle
      case .initializing: .initializing
      case .synchronizing(let percent, let rate, let eta):
        .synchronizing(percent: percent, bytesPerSecond: rate, etaSeconds: eta)
      case .tracking(let bytes, let seconds): .tracking(lagBytes: bytes, lagSeconds: seconds)
      case .stalled(let why): .stalled(why: why)
      case .disconnected(let since): .disconnected(since: since)
      case .degraded(let copy, let why): .degraded(copy: copy, why: why)
      }
  }
}
