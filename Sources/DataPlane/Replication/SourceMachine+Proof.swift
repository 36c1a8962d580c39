import BlockModel
import H2HProtocol

/// An extent being read on both sides.
struct Comparison: Sendable {
  var id: UInt64
  var volume: Int
  var extent: Int
  var local: ExtentDigest?
  var remote: ExtentDigest?
  /// Written meanwhile: the result says nothing.
  var isSpoiled = false
}

extension SourceMachine {
  /// An extent that differs again after so many repairs is a fault that copying does not mend.
  static var repairLimit: Int { 3 }

  mutating func spoilComparisons(_ volume: Int, _ extents: Range<Int>) {
    for index in comparisons.indices
    where comparisons[index].volume == volume && extents.contains(comparisons[index].extent) {
      comparisons[index].isSpoiled = true
    }
  }

  private mutating func compare(_ volume: Int, _ extent: Int, into effects: inout [SourceEffect]) {
    guard let link else { return }
    comparisonCounter += 1
    let id = WireID.comparison | comparisonCounter
    comparisons.append(Comparison(id: id, volume: volume, extent: extent))
    let range = volumes[volume].bytes(ofExtent: extent)
    effects.append(.digestLocal(id: id, volume: UInt16(volume), range: range))
    effects.append(
      .send(
        link: link.id, .bulk,
        H2HFrame(requestID: id, message: .digestRequest(volume: UInt16(volume), ranges: [range])), .none))
  }

  private func isComparing(_ volume: Int, _ extent: Int) -> Bool {
    comparisons.contains { $0.volume == volume && $0.extent == extent }
  }

  // MARK: while nothing else is to do

  /// Compares quiet extents ahead of the proof, a few at a time, so that only late ones are read in the pause.
  mutating func compareWhileIdle(into effects: inout [SourceEffect]) {
    guard configuration.verify == .full || isVerificationAsked, link != nil, fallback == nil, barrier == nil,
      pass == nil, trackLost == nil, hasBudget,
      !isVerificationIdle, stage == .standIn || (stage == .tracking && initialSynchronizationAt != nil)
    else { return }
    if let retry = verificationRetryAt {
      guard now >= retry else { return }
      verificationRetryAt = nil
    }
    var examined = 0
    let total = volumes.reduce(0) { $0 + $1.extentCount }
    while comparisons.count < limits.verificationWindow, hasBudget {
      guard examined < min(1024, total) else {
        // Nothing found for a while: look again later, not at every event.
        verificationRetryAt = now.adding(seconds: limits.retrySeconds)
        if volumes.allSatisfy({ $0.verified.setCount == $0.extentCount }) {
          isVerificationIdle = true
          isVerificationAsked = false
        }
        return
      }
      examined += 1
      let (volume, extent) = verifyCursor
      if extent >= volumes[volume].extentCount {
        verifyCursor = ((volume + 1) % volumes.count, 0)
        continue
      }
      verifyCursor.extent += 1
      guard isQuiet(volume, extent) else { continue }
      charge(volumes[volume].bytes(ofExtent: extent).length)
      compare(volume, extent, into: &effects)
    }
  }

  /// All extents anew, while the application runs: what was found equal once may have rotted since.
  mutating func verify(into effects: inout [SourceEffect]) -> CommandAnswer {
    guard initialSynchronizationAt != nil, stage == .tracking || stage == .standIn else {
      return .refused(why: "volumes are compared once they are synchronized; the session is at \(stage.rawValue)")
    }
    for index in volumes.indices { volumes[index].verified.removeAll() }
    for index in comparisons.indices { comparisons[index].isSpoiled = true }
    verifyCursor = (0, 0)
    isVerificationIdle = false
    isVerificationAsked = true
    verificationRetryAt = nil
    pump(into: &effects)
    return .accepted
  }

  private func isQuiet(_ volume: Int, _ extent: Int) -> Bool {
    let state = volumes[volume]
    if state.verified.contains(extent) || state.intent.recent.contains(extent) || isComparing(volume, extent) {
      return false
    }
    if state.dirty.blocks.containsAny(state.blocks(ofExtents: extent..<extent + 1)) { return false }
    let range = state.bytes(ofExtent: extent)
    for lock in locks where lock.isWrite && lock.volume == volume && lock.start < range.end && range.offset < lock.end {
      return false
    }
    return !transfers.contains { $0.volume == volume && $0.range.overlaps(range) }
  }

  // MARK: the proof

  mutating func prove(into effects: inout [SourceEffect]) -> CommandAnswer {
    switch stage {
    case .proving, .proven, .fenced: return .accepted
    case .tapClosed:
      if let refusal = trackRefusal { return refusal }
      guard link != nil else { return .refused(why: "the destination is not connected; prove again when it is") }
      guard initialSynchronizationAt != nil else { return .refused(why: "initial synchronization has not finished") }
      repairs = [:]
      receiptDigest = nil
      isReceiptPending = false
      setStage(.proving, into: &effects)
      wantsCheckpoint = true
      considerCheckpoint(into: &effects)
      pump(into: &effects)
      return .accepted
    default: return .refused(why: "close the tap first; the session is at \(stage.rawValue)")
    }
  }

  /// Called whenever something moved: copies what differs, flushes it, compares what has to be compared.
  mutating func advanceProof(into effects: inout [SourceEffect]) {
    guard stage == .proving, link != nil, barrier == nil, !isReceiptPending, isDrained else { return }
    guard unflushed.isEmpty, checkpoint == nil, !wantsCheckpoint else {
      if !unflushed.isEmpty && checkpoint == nil { wantsCheckpoint = true }
      considerCheckpoint(into: &effects)
      return
    }
    if configuration.verify == .none {
      setStage(.proven, into: &effects)
      return
    }
    for volume in volumes.indices {
      var extent = 0
      while comparisons.count < limits.proofWindow, let next = nextToCompare(volume, from: extent) {
        extent = next + 1
        if !isComparing(volume, next) { compare(volume, next, into: &effects) }
      }
    }
    if comparisons.isEmpty { makeReceipt(into: &effects) }
  }

  private func nextToCompare(_ volume: Int, from start: Int) -> Int? {
    var extent = start
    while extent < volumes[volume].extentCount {
      if configuration.verify == .changed {
        guard let changed = volumes[volume].changed.next(from: extent) else { return nil }
        extent = changed
      }
      if !volumes[volume].verified.contains(extent) { return extent }
      extent += 1
    }
    return nil
  }

  private mutating func makeReceipt(into effects: inout [SourceEffect]) {
    isReceiptPending = true
    comparedBytes = 0
    var drafts: [ReceiptDraft.Volume] = []
    for volume in volumes {
      let compared =
        volume.verified.setCount == volume.extentCount
        ? volume.sizeBytes : UInt64(volume.verified.setCount) * volume.intent.extentBytes
      comparedBytes += min(compared, volume.sizeBytes)
      let digests = (0..<volume.extentCount).map { extent in
        volume.verified.contains(extent) && extent < volume.digests.count ? volume.digests[extent] : nil
      }
      drafts.append(
        ReceiptDraft.Volume(
          name: volume.name, sizeBytes: volume.sizeBytes, extentBytes: volume.intent.extentBytes,
          comparedBytes: min(compared, volume.sizeBytes), digests: digests))
    }
    effects.append(
      .makeReceipt(
        ReceiptDraft(
          session: configuration.session, generation: generation, verify: configuration.verify, at: wall,
          volumes: drafts)))
  }

  mutating func receiptStored(_ digest: String?, into effects: inout [SourceEffect]) {
    guard stage == .proving, isReceiptPending else { return }
    isReceiptPending = false
    guard let digest else {
      lastError = "the receipt could not be stored; free space in the agent's state directory, then prove again"
      setStage(.tapClosed, into: &effects)
      return
    }
    receiptDigest = digest
    setStage(.proven, into: &effects)
  }

  // MARK: results

  mutating func localDigest(_ id: UInt64, _ digest: ExtentDigest?, into effects: inout [SourceEffect]) {
    guard let index = comparisons.firstIndex(where: { $0.id == id }) else { return }
    guard let digest else {
      endComparison(
        index, failure: "an extent of \(volumes[comparisons[index].volume].name) could not be read here",
        into: &effects)
      return
    }
    comparisons[index].local = digest
    judge(index, into: &effects)
  }

  mutating func remoteDigest(_ id: UInt64, _ message: H2HMessage, into effects: inout [SourceEffect]) {
    guard let index = comparisons.firstIndex(where: { $0.id == id }) else { return }
    guard case .digestAnswer(let digests) = message, let digest = digests.first, digests.count == 1 else {
      endComparison(
        index, failure: "an extent of \(volumes[comparisons[index].volume].name) could not be read at the destination",
        into: &effects)
      return
    }
    comparisons[index].remote = digest
    judge(index, into: &effects)
  }

  private mutating func judge(_ index: Int, into effects: inout [SourceEffect]) {
    guard let local = comparisons[index].local, let remote = comparisons[index].remote else { return }
    let comparison = comparisons[index]
    let volume = comparison.volume
    let extent = comparison.extent
    volumes[volume].counters.comparedBytes += volumes[volume].bytes(ofExtent: extent).length
    if !comparison.isSpoiled {
      if local == remote {
        if volumes[volume].digests.isEmpty {
          volumes[volume].digests = Array(repeating: nil, count: volumes[volume].extentCount)
        }
        volumes[volume].digests[extent] = local
        volumes[volume].verified.insert(extent..<extent + 1)
      } else {
        mismatch(volume, extent, into: &effects)
      }
    }
    endComparison(index, failure: nil, into: &effects)
  }

  /// The copies differ where nothing says that they may: reported as what it is, and the extent copied again.
  private mutating func mismatch(_ volume: Int, _ extent: Int, into effects: inout [SourceEffect]) {
    volumes[volume].counters.mismatchedExtents += 1
    let range = volumes[volume].bytes(ofExtent: extent)
    let why = "volume \(volumes[volume].name): the copies differ at \(range) though nothing was written there"
    effects.append(.journal(why))
    lastError = why
    volumes[volume].changed.insert(extent..<extent + 1)
    _ = volumes[volume].intent.require(extent..<extent + 1)
    storeIntents(of: volume, into: &effects)
    markDirty(volume, volumes[volume].blocks(ofExtents: extent..<extent + 1))
    if stage == .tracking && pass == nil { startPass() }
    let key = UInt64(volume) << 32 | UInt64(extent)
    repairs[key, default: 0] += 1
    if stage == .proving, repairs[key, default: 0] > Self.repairLimit {
      lastError = why + ", again after it was copied \(Self.repairLimit) times; look at both disks"
      setStage(.tapClosed, into: &effects)
    }
  }

  private mutating func endComparison(_ index: Int, failure: String?, into effects: inout [SourceEffect]) {
    comparisons.swapAt(index, comparisons.count - 1)
    comparisons.removeLast()
    if let failure {
      lastError = failure
      effects.append(.journal(failure))
      verificationRetryAt = now.adding(seconds: limits.retrySeconds)
      if stage == .proving {
        comparisons = []
        setStage(.tapClosed, into: &effects)
      }
    }
    pump(into: &effects)
  }
}
