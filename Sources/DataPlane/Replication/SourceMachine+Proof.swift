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
    comparisonMeter.begin(at: now)
    let range = volumes[volume].bytes(ofExtent: extent)
    effects.append(.digestLocal(id: id, volume: UInt16(volume), range: range))
    effects.append(
      .send(
        link: link.id, .bulk,
        H2HFrame(requestID: id, message: .digestRequest(volume: UInt16(volume), ranges: [range])), .none))
  }

  mutating func dropComparisons() {
    comparisons = []
    comparisonMeter.reset()
  }

  private func isComparing(_ volume: Int, _ extent: Int) -> Bool {
    comparisons.contains { $0.volume == volume && $0.extent == extent }
  }

  // MARK: while nothing else is to do

  /// Compares quiet extents ahead of the proof, a few at a time, so that only late ones are read in the pause.
  mutating func compareWhileIdle(into effects: inout [SourceEffect]) {
    advanceVerification(into: &effects)
    let isAsked = verification?.isRunning ?? false
    guard configuration.verify == .full || isAsked, link != nil, fallback == nil, barrier == nil,
      pass == nil, trackLost == nil, hasComparisonBudget,
      !isVerificationIdle, stage == .standIn || (stage == .tracking && initialSynchronizationAt != nil)
    else { return }
    if let retry = verificationRetryAt {
      guard now >= retry else { return }
      verificationRetryAt = nil
    }
    if isAsked { return comparePending(into: &effects) }
    var examined = 0
    let total = volumes.reduce(0) { $0 + $1.extentCount }
    while comparisons.count < limits.verificationWindow, hasComparisonBudget {
      guard examined < min(Self.examinedLimit, total) else {
        // Nothing found for a while: look again later, not at every event.
        verificationRetryAt = now.adding(seconds: limits.retrySeconds)
        if volumes.allSatisfy({ $0.verified.setCount == $0.extentCount }) {
          isVerificationIdle = true
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
      chargeComparison(volumes[volume].bytes(ofExtent: extent).length)
      compare(volume, extent, into: &effects)
    }
  }

  /// Extents looked at in one event for one to compare.
  private static var examinedLimit: Int { 1024 }

  /// What a verification wants comes before all else. What is busy now is looked at again a little later.
  private mutating func comparePending(into effects: inout [SourceEffect]) {
    var examined = 0
    let total = verification?.pending.reduce(0) { $0 + $1.setCount } ?? 0
    while comparisons.count < limits.verificationWindow, hasComparisonBudget {
      guard examined < min(Self.examinedLimit, total), let (volume, extent) = nextPending() else {
        verificationRetryAt = now.adding(seconds: limits.retrySeconds)
        return
      }
      examined += 1
      verifyCursor = (volume, extent + 1)
      guard isQuiet(volume, extent) else { continue }
      chargeComparison(volumes[volume].bytes(ofExtent: extent).length)
      compare(volume, extent, into: &effects)
    }
  }

  // Comparing reads both disks and leaves the link alone, so it has a budget of its own.

  mutating func changeComparisonBudget(_ change: CopyBudget, into effects: inout [SourceEffect]) {
    comparisonBudget = change.added(to: comparisonBudget, limits)
    pump(into: &effects)
  }

  private var hasComparisonBudget: Bool { comparisonBudget.map { $0 > 0 } ?? true }

  private mutating func chargeComparison(_ bytes: UInt64) {
    comparisonBudget = comparisonBudget.map { $0 - Int64(bytes) }
  }

  private func isQuiet(_ volume: Int, _ extent: Int) -> Bool {
    let state = volumes[volume]
    if state.verified.contains(extent) || state.intent.recent.contains(extent) || isComparing(volume, extent) {
      return false
    }
    if isLeftDifferent(volume, extent) { return false }
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
      markLeftDifferent(into: &effects)
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
    let draft = receiptDraft(configuration.verify)
    comparedBytes = draft.volumes.reduce(0) { $0 + $1.comparedBytes }
    effects.append(.makeReceipt(draft))
  }

  /// What is known to be equal now.
  func receiptDraft(_ mode: VerifyMode) -> ReceiptDraft {
    var drafts: [ReceiptDraft.Volume] = []
    for volume in volumes {
      let compared =
        volume.verified.setCount == volume.extentCount
        ? volume.sizeBytes : UInt64(volume.verified.setCount) * volume.intent.extentBytes
      let digests = (0..<volume.extentCount).map { extent in
        volume.verified.contains(extent) && extent < volume.digests.count ? volume.digests[extent] : nil
      }
      drafts.append(
        ReceiptDraft.Volume(
          name: volume.name, sizeBytes: volume.sizeBytes, extentBytes: volume.intent.extentBytes,
          comparedBytes: min(compared, volume.sizeBytes), digests: digests))
    }
    return ReceiptDraft(
      session: configuration.session, generation: generation, verify: mode, at: wall, volumes: drafts)
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
        noteEqual(volume, extent)
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
    if isOnlyTold(volume, extent) {
      // Not to be forgotten in a crash either: it would be found again, but who knows when.
      volumes[volume].changed.insert(extent..<extent + 1)
      _ = volumes[volume].intent.require(extent..<extent + 1)
      return storeIntents(of: volume, into: &effects)
    }
    markRotten(volume, extent..<extent + 1, into: &effects)
    if stage == .tracking && pass == nil { startPass() }
    let key = UInt64(volume) << 32 | UInt64(extent)
    repairs[key, default: 0] += 1
    noteRepair(volume, extent, times: repairs[key, default: 0])
    if stage == .proving, repairs[key, default: 0] > Self.repairLimit {
      lastError = why + ", again after it was copied \(Self.repairLimit) times; look at both disks"
      setStage(.tapClosed, into: &effects)
    }
  }

  private mutating func endComparison(_ index: Int, failure: String?, into effects: inout [SourceEffect]) {
    if failure != nil, !comparisons[index].isSpoiled {
      noteUnreadable(comparisons[index].volume, comparisons[index].extent)
    }
    let bytes = volumes[comparisons[index].volume].bytes(ofExtent: comparisons[index].extent).length
    comparisonMeter.end(failure == nil ? bytes : 0, at: now)
    comparisons.swapAt(index, comparisons.count - 1)
    comparisons.removeLast()
    if let failure {
      lastError = failure
      effects.append(.journal(failure))
      verificationRetryAt = now.adding(seconds: limits.retrySeconds)
      if stage == .proving {
        dropComparisons()
        setStage(.tapClosed, into: &effects)
      }
    }
    pump(into: &effects)
  }
}
