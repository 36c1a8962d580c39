package import BlockModel
import H2HProtocol

extension SourceMachine {
  /// What the orchestrator and people see now. Cheap: no scan.
  package func observation(at now: MonotonicTime) -> SourceObservation {
    SourceObservation(
      stage: stage, authority: authority, generation: generation, health: health(at: now), isConnected: link != nil,
      volumes: volumes.enumerated().map { index, volume in
        var counters = volume.counters
        // What is on its way isn't there yet; what was written again meanwhile is not counted beyond the volume.
        counters.dirtyBytes = min(volume.dirtyBytes + bytesOnTheirWay(ofVolume: index), volume.sizeBytes)
        counters.equalBytes = volume.equalBytes
        return counters
      }, swings: swings, lastSwingPauseSeconds: lastSwingPauseSeconds,
      standInSince: authority == .standIn ? standInSince : nil, longestPauseSeconds: longestPauseSeconds,
      confirmBy: (confirmBy ?? swingDeadline).map { wallTime(of: $0) }, isSwingConfirmed: isSwingConfirmed,
      initialSynchronizationAt: initialSynchronizationAt, receiptDigest: receiptDigest, comparedBytes: comparedBytes,
      requestsInFlight: slotOfRequest.count, trackLost: trackLost, lastError: lastError, swingGivenUp: swingGivenUp,
      verification: verificationObservation, copyPace: copyPace,
      comparisonPace: comparisonPace, copyStages: copyStages.upTo(now),
      linkVersion: link?.version)
  }

  /// What a governor looks at between two observations.
  package var copyPace: PaceObservation { pace(copyMeter, budget) }
  package var comparisonPace: PaceObservation { pace(comparisonMeter, comparisonBudget) }

  private func pace(_ meter: BusyMeter, _ budget: Int64?) -> PaceObservation {
    var pace = PaceObservation()
    pace.busyBytes = meter.bytes
    pace.busySeconds = meter.seconds
    pace.budgetBytes = budget
    pace.isBusy = meter.isBusy
    pace.bursts = meter.bursts
    return pace
  }

  private func bytesOnTheirWay(ofVolume index: Int) -> UInt64 {
    transfers.reduce(0) { sum, transfer in
      transfer.volume == index && transfer.state != .claimed && !transfer.isAbandoned ? sum + transfer.movedBytes : sum
    }
  }

  /// Whether the block is certainly equal on both copies: not dirty, nothing in flight, covered by a flush. For checks;
  /// too slow for anything else.
  package func isSettled(volume: Int, block: Int) -> Bool {
    let range = volumes[volume].bytes(ofBlocks: block..<block + 1)
    if trackLost != nil || volumes[volume].dirty.blocks.contains(block) { return false }
    if transfers.contains(where: { $0.volume == volume && $0.blocks.contains(block) }) { return false }
    if unflushed.contains(where: { $0.volume == volume && $0.blocks.contains(block) }) { return false }
    return !locks.contains {
      $0.isWrite && $0.volume == volume && $0.start < range.end && range.offset < $0.end
    }
  }

  /// Whether the destination's copy is the one whose differences are known here.
  package var copyIsKnown: Bool { copyID != 0 && adoptingCopy == nil }

  /// In bytes: how finely differences of a volume are known.
  package func blockBytes(ofVolume volume: Int) -> UInt64 { volumes[volume].blockBytes }

  private func wallTime(of time: MonotonicTime) -> WallTime {
    guard let started else { return WallTime(secondsSince1970: 0) }
    return started.wall.adding(seconds: time.seconds(since: started.at))
  }

  private func health(at now: MonotonicTime) -> SourceHealth {
    if isSourceDegraded { return .degraded(copy: .source, why: lastError ?? "a write failed on the source's disk") }
    switch stage {
    case .prepared, .tapClosed, .proven, .fenced, .cancelled:
      if let fallback { return .stalled(why: fallback) }
      return .idle
    case .synchronizing, .tracking, .swinging, .standIn, .proving: break
    }
    if let fallback { return .stalled(why: fallback) }
    if let trackLost { return .stalled(why: trackLost) }
    guard link != nil else { return disconnectedSince.map(SourceHealth.disconnected) ?? .initializing }
    if let lastError, copyRetryAt != nil { return .stalled(why: lastError) }
    let size = volumes.reduce(0) { $0 + $1.sizeBytes }
    let behind = volumes.reduce(0) { $0 + $1.dirtyBytes } + transfers.reduce(0) { $0 + $1.movedBytes }
    guard stage == .synchronizing else {
      return .tracking(lagBytes: behind, lagSeconds: dirtySince.map { now.seconds(since: $0) } ?? 0)
    }
    guard let progress = rate.lastProgressAt else { return .initializing }
    if now.seconds(since: progress) > max(10, 2 * limits.retrySeconds), behind > 0, budget == nil {
      return .stalled(why: lastError ?? "no transfer was answered for \(Int(now.seconds(since: progress))) s")
    }
    let percent = size == 0 ? 100 : 100 * (1 - Double(min(behind, size)) / Double(size))
    let speed = rate.bytesPerSecond
    return .synchronizing(
      percent: percent, bytesPerSecond: speed, etaSeconds: speed > 0 ? Double(behind) / speed : nil)
  }
}

extension SourceMachine {
  /// A stretch of a volume that differs all over, or nowhere, as far as blocks tell.
  package struct MapRun: Sendable, Equatable {
    package var range: ByteRange
    package var differs: Bool
    package init(range: ByteRange, differs: Bool) {
      self.range = range
      self.differs = differs
    }
  }

  /// The changed data map of `range`, which lies within the volume, from its beginning: at most `limit` runs, and fewer
  /// bytes than asked for where more would be needed. What is on its way differs still. Looks at every block of the range.
  package func changedDataMap(of volume: Int, in range: ByteRange, limit: Int) -> [MapRun] {
    guard !range.isEmpty, limit > 0 else { return [] }
    let blocks = volumes[volume].blocks(of: range)
    var differs = blocks.map { trackLost != nil || volumes[volume].dirty.blocks.contains($0) }
    for transfer in transfers where transfer.volume == volume {
      for block in transfer.blocks.clamped(to: blocks) { differs[block - blocks.lowerBound] = true }
    }
    var runs: [MapRun] = []
    var start = blocks.lowerBound
    for block in blocks
    where block + 1 == blocks.upperBound || differs[block + 1 - blocks.lowerBound] != differs[block - blocks.lowerBound]
    {
      let bytes = volumes[volume].bytes(ofBlocks: start..<block + 1)
      runs.append(
        MapRun(
          range: ByteRange(from: max(bytes.offset, range.offset), to: min(bytes.end, range.end)),
          differs: differs[block - blocks.lowerBound]))
      if runs.count == limit { break }
      start = block + 1
    }
    return runs
  }
}
