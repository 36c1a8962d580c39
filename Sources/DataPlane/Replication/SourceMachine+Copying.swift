import BlockModel
import H2HProtocol

/// A run of blocks on its way to the destination: no longer dirty, not yet known to be there.
struct Transfer: Sendable {
  enum State: Sendable {
    /// Waits for the application's writes in flight; later ones wait for it (while a swing drains).
    case claimed
    case reading
    case sent
  }
  /// Its frames have ids from here on, one for each of `pieces`.
  var id: UInt64
  var volume: Int
  var blocks: Range<Int>
  /// All bytes of `blocks`.
  var range: ByteRange
  var state: State
  /// Its part of the window and, until it is known to be zero, of the budget, in bytes.
  var charge: UInt64
  var isZero = false
  /// Of a single block: what of it was dirty.
  var parts = DirtyMap.whole
  /// What is moved; empty until it is read.
  var pieces: [ByteRange] = []
  /// A bit for every frame that the destination has not answered.
  var unanswered: UInt16 = 0
  /// Why a piece could not be written. The blocks stay taken until all pieces are answered.
  var failure: String?
  /// What was read of it goes packed, as so many bytes.
  var packedBytes: UInt64?
  /// What of it crossed the wire as data, once it is answered.
  var wireBytes: UInt64 = 0
  /// Its link is gone and its blocks are dirty again; only its read is waited for.
  var isAbandoned = false

  var movedBytes: UInt64 { pieces.isEmpty ? range.length : pieces.reduce(0) { $0 + $1.length } }
  func owns(_ frameID: UInt64) -> Bool { id <= frameID && frameID < id + UInt64(max(1, pieces.count)) }
}

/// Blocks that the destination has answered for and no flush has covered yet, in the order of the answers.
struct UnflushedRun: Sendable {
  var volume: Int
  var blocks: Range<Int>
}

/// A flush of both ends. What was answered before it began is forgotten when both are done.
struct Checkpoint: Sendable {
  var id: UInt64
  var covered: Int
  var isLocalDone = false
  var isRemoteDone = false
}

/// One sweep over what is dirty: what was changed is moved once, however often it changed.
struct Pass: Sendable {
  /// By volume: the sweep has reached the end.
  var isSwept: [Bool]
  /// Everything it found is answered; the checkpoint that covers it must be of this number or later.
  var endsWithCheckpoint: UInt64?
}

extension SourceMachine {
  // MARK: when to copy

  /// In stand-in nothing is copied: the destination is what the application reads.
  private var maySweep: Bool {
    guard link != nil, fallback == nil, barrier == nil, trackLost == nil else { return false }
    switch stage {
    case .synchronizing, .tracking: return pass != nil
    case .swinging, .proving: return true
    case .prepared, .standIn, .tapClosed, .proven, .fenced, .cancelled: return false
    }
  }
  private var wrapsAround: Bool { stage == .swinging || stage == .proving }
  var isDrained: Bool { transfers.isEmpty && volumes.allSatisfy { $0.dirty.isEmpty } }

  mutating func startPass() {
    pass = Pass(isSwept: Array(repeating: false, count: volumes.count))
    for index in volumes.indices { volumes[index].cursor = 0 }
    nextPassAt = nil
  }

  mutating func changeBudget(_ change: CopyBudget, into effects: inout [SourceEffect]) {
    budget = change.added(to: budget, limits)
    pump(into: &effects)
  }

  var hasBudget: Bool { budget.map { $0 > 0 } ?? true }

  /// Takes what is begun from the budget, whole: the last piece may overdraw it, and later grants repay that.
  mutating func charge(_ bytes: UInt64) { budget = budget.map { $0 - Int64(bytes) } }

  /// What turned out to need nothing of the link.
  private mutating func refund(_ bytes: UInt64) {
    if budget != nil { budget = CopyBudget.grant(bytes: bytes).added(to: budget, limits) }
  }

  /// Starts what may start: claimed and new transfers, the end of a drain, comparisons.
  mutating func pump(into effects: inout [SourceEffect]) {
    defer { copyStages.set(copyGate, at: now) }
    if let retry = copyRetryAt {
      guard now >= retry else { return }
      copyRetryAt = nil
    }
    if maySweep {
      for index in transfers.indices where transfers[index].state == .claimed { startIfFree(index, into: &effects) }
      var idleVolumes = 0
      while idleVolumes < volumes.count, windowBytes < limits.copyWindowBytes, transfers.count < limits.transfers,
        hasBudget
      {
        let volume = nextVolume % volumes.count
        if startTransfer(volume, into: &effects) {
          idleVolumes = 0
        } else {
          idleVolumes += 1
          nextVolume += 1
        }
      }
      endPassIfSwept(into: &effects)
      if stage == .swinging { beginBarrierIfDrained(into: &effects) }
      if stage == .proving { advanceProof(into: &effects) }
    }
    compareWhileIdle(into: &effects)
  }

  /// Why no further transfer begins now.
  private var copyGate: CopyStages.Gate {
    guard maySweep, copyRetryAt == nil else { return .none }
    if windowBytes >= limits.copyWindowBytes || transfers.count >= limits.transfers { return .full }
    return !hasBudget && volumes.contains { !$0.dirty.isEmpty } ? .limited : .none
  }

  /// One transfer of what is not zero, at most, in bytes.
  private func pieceBytes(_ volume: Int) -> UInt64 {
    let most = budget == nil ? limits.transferBytes : min(limits.transferBytes, limits.limitedTransferBytes)
    return max(UInt64(most), volumes[volume].blockBytes)
  }

  /// Takes the volume's next dirty run; false if there is none to take now.
  private mutating func startTransfer(_ volume: Int, into effects: inout [SourceEffect]) -> Bool {
    let piece = pieceBytes(volume)
    // While writes are mirrored, a long claim would hold up more of them than a copy takes.
    let run = volumes[volume].knownZero == nil ? limits.zeroRunBytes / 8 : limits.zeroRunBytes
    let most = volumes[volume].isInZeroes && !isMirroring ? max(piece, run) : piece
    guard let blocks = nextFreeRun(volume, limit: Int(most / volumes[volume].blockBytes)) else { return false }
    volumes[volume].cursor = blocks.upperBound
    let range = volumes[volume].bytes(ofBlocks: blocks)
    let cost =
      blocks.count == 1 ? volumes[volume].dirty.dirtyBytes(of: blocks.lowerBound) : min(range.length, piece)
    transferCounter += DirtyMap.partsPerBlock
    transfers.append(
      Transfer(
        id: WireID.transfer | transferCounter, volume: volume, blocks: blocks, range: range, state: .claimed,
        charge: cost))
    windowBytes += Int(cost)
    charge(cost)
    startIfFree(transfers.count - 1, into: &effects)
    return true
  }

  /// From the cursor on, a dirty run that no transfer holds.
  private mutating func nextFreeRun(_ volume: Int, limit: Int) -> Range<Int>? {
    var start = volumes[volume].cursor
    var hasWrapped = false
    while true {
      guard let run = volumes[volume].dirty.nextRun(from: start, limit: limit) else {
        pass?.isSwept[volume] = true
        guard wrapsAround, !hasWrapped, !volumes[volume].dirty.isEmpty else { return nil }
        hasWrapped = true
        start = 0
        continue
      }
      var free = run
      var blockedUntil: Int?
      for transfer in transfers where transfer.volume == volume && transfer.blocks.overlaps(free) {
        if transfer.blocks.lowerBound <= free.lowerBound {
          blockedUntil = max(blockedUntil ?? 0, transfer.blocks.upperBound)
        } else {
          free = free.lowerBound..<transfer.blocks.lowerBound
        }
      }
      guard let next = blockedUntil else { return free }
      start = next
    }
  }

  /// Clears the dirty bits, then reads. Never beside a mirrored write of the same blocks: the destination might carry them
  /// out in the other order. While writes are mirrored, only when no write in flight touches the blocks: one that began
  /// before would mark them again, and the drain would never end.
  private mutating func startIfFree(_ index: Int, into effects: inout [SourceEffect]) {
    let transfer = transfers[index]
    for lock in locks
    where lock.volume == transfer.volume && lock.start < transfer.range.end && transfer.range.offset < lock.end {
      if isMirroring || requests[lock.slot].remoteParts != 0 { return }
    }
    transfers[index].state = .reading
    copyMeter.begin(at: now)
    var range = transfer.range
    if transfer.blocks.count == 1 {
      let block = transfer.blocks.lowerBound
      let parts = volumes[transfer.volume].dirty.take(block)
      transfers[index].parts = parts
      if parts != DirtyMap.whole {
        let pieces = volumes[transfer.volume].dirty.ranges(of: parts, in: block)
        transfers[index].pieces = pieces
        if let first = pieces.first, let last = pieces.last { range = ByteRange(from: first.offset, to: last.end) }
      }
    } else {
      volumes[transfer.volume].dirty.remove(transfer.blocks)
    }
    effects.append(
      .readForCopy(
        transfer: transfer.id, volume: UInt16(transfer.volume), range: range,
        pieceBytes: pieceBytes(transfer.volume),
        mayPack: transfers[index].pieces.count <= 1 && link.map { $0.version >= H2HVersions.packing } ?? false))
  }

  /// What the transfer took is dirty again.
  private mutating func putBack(_ transfer: Transfer) {
    if transfer.parts == DirtyMap.whole {
      markDirty(transfer.volume, transfer.blocks)
    } else {
      for piece in volumes[transfer.volume].dirty.ranges(of: transfer.parts, in: transfer.blocks.lowerBound) {
        markDirty(transfer.volume, piece)
      }
    }
  }

  /// Only the beginning of a long run was looked at: the rest is as dirty as it was.
  private mutating func shorten(_ index: Int, toBytes length: UInt64) {
    let transfer = transfers[index]
    guard length < transfer.range.length else { return }
    let count = max(1, Int(length / volumes[transfer.volume].blockBytes))
    guard count < transfer.blocks.count else { return }
    let border = transfer.blocks.lowerBound + count
    markDirty(transfer.volume, border..<transfer.blocks.upperBound)
    volumes[transfer.volume].cursor = min(volumes[transfer.volume].cursor, border)
    if pass?.endsWithCheckpoint == nil { pass?.isSwept[transfer.volume] = false }
    transfers[index].blocks = transfer.blocks.lowerBound..<border
    transfers[index].range = volumes[transfer.volume].bytes(ofBlocks: transfers[index].blocks)
  }

  // MARK: a transfer's way

  mutating func copyRead(
    _ id: UInt64, _ status: IOStatus, _ isZero: Bool, _ length: UInt64, _ packedBytes: UInt64?,
    into effects: inout [SourceEffect]
  ) {
    guard let index = transfers.firstIndex(where: { $0.id == id }), transfers[index].state == .reading else { return }
    if status == .ok, !transfers[index].isAbandoned { shorten(index, toBytes: length) }
    let transfer = transfers[index]
    guard !transfer.isAbandoned, let link else {
      endTransfer(index, into: &effects)
      return
    }
    guard status == .ok else {
      failTransfer(index, "reading \(transfer.range) of \(volumes[transfer.volume].name) failed", into: &effects)
      return
    }
    volumes[transfer.volume].isInZeroes = isZero
    if isZero { refund(transfer.charge) }
    if isZero, let zero = volumes[transfer.volume].knownZero, zero.containsAll(transfer.blocks) {
      // There already. It was never written, so there is nothing for a flush to cover.
      account(index, wireBytes: 0)
      endTransfer(index, into: &effects)
      pump(into: &effects)
      return
    }
    if !isZero { volumes[transfer.volume].knownZero?.remove(transfer.blocks) }
    let pieces = transfer.pieces.isEmpty ? [transfer.range] : transfer.pieces
    precondition(packedBytes == nil || (pieces.count == 1 && !isZero), "packed unasked")
    if let packedBytes {
      transfers[index].packedBytes = packedBytes
      refund(transfer.charge - min(transfer.charge, packedBytes))
    }
    transfers[index].state = .sent
    transfers[index].isZero = isZero
    transfers[index].pieces = pieces
    transfers[index].unanswered = UInt16.max >> UInt16(16 - pieces.count)
    let volume = UInt16(transfer.volume)
    for (number, piece) in pieces.enumerated() {
      let message: H2HMessage =
        isZero
        ? .writeZeroes(volume: volume, range: piece, durable: false, kind: .copy)
        : .write(volume: volume, offset: piece.offset, length: UInt32(piece.length), durable: false, kind: .copy)
      effects.append(
        .send(
          link: link.id, .bulk,
          H2HFrame(requestID: id + UInt64(number), message: message, packedBytes: packedBytes.map { Int($0) }),
          isZero ? .none : .transfer(id, offset: UInt32(piece.offset - pieces[0].offset))))
    }
  }

  mutating func transferAnswered(_ frame: H2HFrame, into effects: inout [SourceEffect]) {
    let id = frame.requestID
    guard let index = transfers.firstIndex(where: { $0.owns(id) }), transfers[index].state == .sent else { return }
    let transfer = transfers[index]
    copyStages.destinationSeconds += Double(frame.workMicroseconds) / 1e6
    guard case .answer(let status, let text) = frame.message else {
      failLink("the destination answered a transfer with another kind of message", into: &effects)
      return
    }
    if status != .ok {
      transfers[index].failure =
        "the destination could not write \(transfer.range) of \(volumes[transfer.volume].name): \(text)"
    }
    transfers[index].unanswered &= ~(1 << UInt16(id - transfer.id))
    guard transfers[index].unanswered == 0 else { return }
    if let failure = transfers[index].failure {
      failTransfer(index, failure, into: &effects)
      return
    }
    appendUnflushed(transfer.volume, transfer.blocks)
    account(index, wireBytes: transfer.isZero ? 0 : transfer.packedBytes ?? transfer.movedBytes)
    if !transfer.isZero { bytesSinceCheckpoint += transfer.movedBytes }
    if let packedBytes = transfer.packedBytes {
      copyStages.packedBytes += transfer.movedBytes
      copyStages.packedWireBytes += packedBytes
    }
    endTransfer(index, into: &effects)
    considerCheckpoint(into: &effects)
    pump(into: &effects)
  }

  private mutating func account(_ index: Int, wireBytes: UInt64) {
    transfers[index].wireBytes = wireBytes
    let transfer = transfers[index]
    volumes[transfer.volume].counters.copiedBytes += transfer.movedBytes
    volumes[transfer.volume].counters.wireBytes += wireBytes
    rate.add(transfer.movedBytes, at: now)
    if copyRetryAt == nil && link != nil { lastError = nil }
  }

  private mutating func endTransfer(_ index: Int, into effects: inout [SourceEffect]) {
    let transfer = transfers[index]
    windowBytes -= Int(transfer.charge)
    transfers.swapAt(index, transfers.count - 1)
    transfers.removeLast()
    if transfer.state != .claimed {
      copyMeter.end(transfer.wireBytes, at: now)
      effects.append(.releaseTransfer(transfer.id))
    }
    if !waiting.isEmpty { startWaiting(into: &effects) }
    if barrier != nil && transfers.isEmpty { advanceBarrier(into: &effects) }
  }

  private mutating func failTransfer(_ index: Int, _ why: String, into effects: inout [SourceEffect]) {
    putBack(transfers[index])
    lastError = why
    effects.append(.journal(why))
    copyRetryAt = now.adding(seconds: limits.retrySeconds)
    if pass != nil { startPass() }
    endTransfer(index, into: &effects)
    if stage == .swinging { abortSwing(why, into: &effects) }
  }

  /// The link is gone: what was not covered by a flush may not be there.
  mutating func abandonTransfers(into effects: inout [SourceEffect]) {
    for index in transfers.indices.reversed() {
      let transfer = transfers[index]
      if transfer.state != .claimed { putBack(transfer) }
      if transfer.state == .reading {
        transfers[index].isAbandoned = true
      } else {
        endTransfer(index, into: &effects)
      }
    }
    for run in unflushed { markDirty(run.volume, run.blocks) }
    unflushed = []
    checkpoint = nil
    if pass != nil { startPass() }
  }

  /// The drain is over or given up: what only waited its turn is simply dirty.
  mutating func dropClaims(into effects: inout [SourceEffect]) {
    for index in transfers.indices.reversed() where transfers[index].state == .claimed {
      endTransfer(index, into: &effects)
    }
  }

  // MARK: passes

  private mutating func endPassIfSwept(into effects: inout [SourceEffect]) {
    guard let current = pass, current.endsWithCheckpoint == nil, current.isSwept.allSatisfy({ $0 }), transfers.isEmpty
    else { return }
    pass?.endsWithCheckpoint = checkpointCounter + 1
    wantsCheckpoint = true
    considerCheckpoint(into: &effects)
  }

  private mutating func passEnded(into effects: inout [SourceEffect]) {
    pass = nil
    nextPassAt = now.adding(seconds: configuration.resyncIntervalSeconds)
    dirtySince = volumes.contains { !$0.dirty.isEmpty } ? now : nil
    if stage == .synchronizing {
      initialSynchronizationAt = wall
      effects.append(.journal("initial synchronization finished"))
      setStage(.tracking, into: &effects)
    }
  }

  // MARK: checkpoints

  mutating func appendUnflushed(_ volume: Int, _ blocks: Range<Int>) {
    if let last = unflushed.indices.last, last >= (checkpoint?.covered ?? 0), unflushed[last].volume == volume,
      unflushed[last].blocks.lowerBound <= blocks.lowerBound, blocks.lowerBound <= unflushed[last].blocks.upperBound
    {
      let end = max(unflushed[last].blocks.upperBound, blocks.upperBound)
      unflushed[last].blocks = unflushed[last].blocks.lowerBound..<end
    } else {
      unflushed.append(UnflushedRun(volume: volume, blocks: blocks))
      if unflushed.count >= limits.unflushedRuns { wantsCheckpoint = true }
    }
  }

  mutating func considerCheckpoint(into effects: inout [SourceEffect]) {
    // A fenced source has nothing to forget, and its destination, once released, takes no flush.
    guard checkpoint == nil, let link, fallback == nil, barrier == nil, started != nil, stage != .fenced else { return }
    if let retry = checkpointRetryAt {
      guard now >= retry else { return }
      checkpointRetryAt = nil
    }
    let isDue =
      wantsCheckpoint || bytesSinceCheckpoint >= limits.checkpointBytes
      || (now.seconds(since: lastCheckpointAt) >= limits.checkpointSeconds && hasSomethingToForget)
    guard isDue else { return }
    wantsCheckpoint = false
    bytesSinceCheckpoint = 0
    lastCheckpointAt = now
    checkpointCounter += 1
    checkpoint = Checkpoint(id: WireID.control | 1 << 48 | checkpointCounter, covered: unflushed.count)
    for index in volumes.indices { volumes[index].intent.beginCheckpoint() }
    effects.append(.flushLocal(checkpoint: WireID.control | 1 << 48 | checkpointCounter))
    effects.append(
      .send(
        link: link.id, .control,
        H2HFrame(requestID: WireID.control | 1 << 48 | checkpointCounter, message: .flush(volume: nil)), .none))
  }

  private var hasSomethingToForget: Bool {
    if !unflushed.isEmpty { return true }
    return initialSynchronizationAt != nil
      && volumes.contains { $0.intent.recent.setCount > 0 || $0.intent.earlier.setCount > 0 }
  }

  mutating func localFlushed(_ id: UInt64, _ isFlushed: Bool, into effects: inout [SourceEffect]) {
    guard checkpoint?.id == id else { return }
    guard isFlushed else {
      failCheckpoint("flushing the source's disk failed", into: &effects)
      return
    }
    checkpoint?.isLocalDone = true
    endCheckpointIfDone(into: &effects)
  }

  /// True if it was the answer of a checkpoint.
  mutating func checkpointAnswered(_ id: UInt64, _ message: H2HMessage, into effects: inout [SourceEffect]) -> Bool {
    guard checkpoint?.id == id else { return false }
    guard case .answer(.ok, _) = message else {
      failCheckpoint("the destination could not flush", into: &effects)
      return true
    }
    checkpoint?.isRemoteDone = true
    endCheckpointIfDone(into: &effects)
    return true
  }

  /// A failed flush may have lost what was written before it: all of that is copied again.
  private mutating func failCheckpoint(_ why: String, into effects: inout [SourceEffect]) {
    lastError = why
    effects.append(.journal(why))
    checkpoint = nil
    checkpointRetryAt = now.adding(seconds: limits.retrySeconds)
    if authority == .standIn {
      failMirror(why, into: &effects)
      return
    }
    for run in unflushed { markDirty(run.volume, run.blocks) }
    unflushed = []
    if pass != nil { startPass() }
    if stage == .swinging { abortSwing(why, into: &effects) }
    wantsCheckpoint = true
  }

  private mutating func endCheckpointIfDone(into effects: inout [SourceEffect]) {
    guard let done = checkpoint, done.isLocalDone, done.isRemoteDone else { return }
    checkpoint = nil
    unflushed.removeFirst(done.covered)
    if adoptingCopy == nil { for index in volumes.indices { clearIntents(index, into: &effects) } }
    let number = done.id & 0xffff_ffff_ffff
    lastCheckpointDone = number
    if let end = pass?.endsWithCheckpoint, number >= end { passEnded(into: &effects) }
    considerCheckpoint(into: &effects)
    pump(into: &effects)
  }

  /// Takes extents out of the intent map whose blocks are equal and durable on both sides, and which nobody wrote since
  /// before the last two checkpoints began.
  private mutating func clearIntents(_ index: Int, into effects: inout [SourceEffect]) {
    var busy = BitSet(count: volumes[index].extentCount)
    for lock in locks where lock.volume == index && lock.isWrite {
      busy.insert(volumes[index].intent.extents(from: lock.start, to: lock.end))
    }
    for transfer in transfers where transfer.volume == index {
      busy.insert(volumes[index].extents(ofBlocks: transfer.blocks))
    }
    for run in unflushed where run.volume == index { busy.insert(volumes[index].extents(ofBlocks: run.blocks)) }
    var position = 0
    while let extent = volumes[index].intent.wanted.next(from: position) {
      position = extent + 1
      if volumes[index].intent.recent.contains(extent) || volumes[index].intent.earlier.contains(extent) { continue }
      if busy.contains(extent) { continue }
      if isLeftDifferent(index, extent) { continue }
      if volumes[index].dirty.blocks.containsAny(volumes[index].blocks(ofExtents: extent..<extent + 1)) { continue }
      volumes[index].intent.clear(extent)
    }
    storeIntents(of: index, into: &effects)
  }
}
