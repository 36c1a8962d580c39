import BlockModel
import H2HProtocol

/// One request of the application, from its arrival to its completion. Slots are reused.
struct Request: Sendable {
  var id: UInt64
  var volume: Int
  var operation: ApplicationOperation
  var range: ByteRange
  var durable: Bool
  /// Tells frames of this request from those of the slot's earlier ones.
  var counter: UInt32
  var isMirrored = false
  var isLocalPending = false
  /// A bit for every frame that the destination has not answered.
  var remoteParts: UInt64 = 0
  /// The destination may lack it: not before the record says that authority is here again.
  var awaitsRecord = false
  var status = IOStatus.ok
  var since: MonotonicTime

  var isWrite: Bool { operation == .write || operation == .zeroes }
}

/// A range that a request in flight holds: writers alone, readers (of stand-in) together.
struct RangeLock: Sendable {
  var volume: Int
  var slot: Int
  var isWrite: Bool
  var start: UInt64
  var end: UInt64
}

/// Request ids on the wire: kind (8 bits), part (8), slot (16), counter (32); or kind and a counter.
enum WireID {
  static let application: UInt64 = 1 << 56
  static let transfer: UInt64 = 2 << 56
  static let control: UInt64 = 3 << 56
  static let comparison: UInt64 = 4 << 56
  static let kindMask: UInt64 = 0xff << 56

  static func application(slot: Int, part: Int, counter: UInt32) -> UInt64 {
    application | UInt64(part) << 48 | UInt64(slot) << 32 | UInt64(counter)
  }
}

extension SourceStage {
  /// What is written is copied while the application goes on: it needs a tap that sees every write.
  package var mayCopy: Bool {
    switch self {
    case .synchronizing, .tracking, .swinging, .standIn: true
    case .prepared, .tapClosed, .proving, .proven, .fenced, .cancelled: false
    }
  }

  /// The tap is open.
  var takesApplicationIO: Bool {
    switch self {
    case .prepared, .synchronizing, .tracking, .swinging, .standIn, .cancelled: true
    case .tapClosed, .proving, .proven, .fenced: false
    }
  }
}

extension SourceMachine {
  /// Writes go to both copies: while a swing drains, and in stand-in.
  var isMirroring: Bool { link != nil && fallback == nil && (stage == .swinging || authority == .standIn) }
  /// New requests wait: authority is moving, or nothing is known yet.
  var isGated: Bool { barrier != nil || fallback != nil || started == nil || isOpening }
  private var readsRemotely: Bool { authority == .standIn && fallback == nil && link != nil }

  mutating func accept(
    _ id: UInt64, _ volume: UInt16, _ operation: ApplicationOperation, _ range: ByteRange, _ durable: Bool,
    into effects: inout [SourceEffect]
  ) {
    precondition(slotOfRequest.count < limits.applicationRequests && slotOfRequest[id] == nil)
    precondition(Int(volume) < volumes.count && range.length <= limits.applicationRequestBytes)
    guard stage.takesApplicationIO else {
      effects.append(.complete(id: id, .refused))
      return
    }
    guard range.fits(in: volumes[Int(volume)].sizeBytes) else {
      effects.append(.complete(id: id, .outOfRange))
      return
    }
    if range.isEmpty && operation != .flush {
      effects.append(.complete(id: id, .ok))
      return
    }
    requestCounter &+= 1
    let request = Request(
      id: id, volume: Int(volume), operation: operation, range: range, durable: durable, counter: requestCounter,
      since: now)
    let slot: Int
    if let free = freeSlots.popLast() {
      slot = free
      requests[slot] = request
    } else {
      slot = requests.count
      requests.append(request)
    }
    slotOfRequest[id] = slot
    if isGated || mustWait(slot, behind: waiting[...]) {
      if waiting.isEmpty { waitingSince = now }
      waiting.append(slot)
    } else {
      begin(slot, into: &effects)
    }
  }

  /// Whether something in flight, or an earlier request that waits itself, holds what this one needs. In arrival order,
  /// so that overlapping writes reach both copies in the same order and none starves.
  private func mustWait(_ slot: Int, behind earlier: ArraySlice<Int>) -> Bool {
    let request = requests[slot]
    if request.operation == .flush { return false }
    let needsReadLock = readsRemotely
    if !request.isWrite && !needsReadLock { return false }
    for lock in locks
    where lock.volume == request.volume && lock.start < request.range.end && request.range.offset < lock.end
      && (lock.isWrite || request.isWrite)
    {
      return true
    }
    if isMirroring {
      for transfer in transfers
      where transfer.volume == request.volume && transfer.range.overlaps(request.range) && !transfer.isAbandoned {
        return true
      }
    }
    for other in earlier where requests[other].volume == request.volume && requests[other].operation != .flush {
      let isConflict = requests[other].isWrite || request.isWrite
      if isConflict && requests[other].range.overlaps(request.range) { return true }
    }
    return false
  }

  private mutating func begin(_ slot: Int, into effects: inout [SourceEffect]) {
    activeCount += 1
    requests[slot].since = now
    let request = requests[slot]
    if request.isWrite || (request.operation == .read && readsRemotely) {
      locks.append(
        RangeLock(
          volume: request.volume, slot: slot, isWrite: request.isWrite, start: request.range.offset,
          end: request.range.end))
    }
    if request.isWrite && stage != .cancelled {
      let extents = volumes[request.volume].extents(of: request.range)
      guard volumes[request.volume].intent.require(extents) else {
        intentWaiting.append(slot)
        storeIntents(of: request.volume, into: &effects)
        return
      }
    }
    issue(slot, into: &effects)
  }

  private mutating func issue(_ slot: Int, into effects: inout [SourceEffect]) {
    let request = requests[slot]
    switch request.operation {
    case .read:
      if readsRemotely {
        sendParts(slot, into: &effects)
        return
      }
    case .write, .zeroes:
      if stage != .cancelled { markBeforeWrite(slot) }
      if requests[slot].isMirrored { sendParts(slot, into: &effects) }
      requests[slot].awaitsRecord = fallback != nil
    case .flush:
      if authority == .standIn && link != nil && fallback == nil { sendParts(slot, into: &effects) }
      requests[slot].awaitsRecord = fallback != nil
    }
    requests[slot].isLocalPending = true
    effects.append(
      .local(
        id: request.id, volume: UInt16(request.volume), request.operation, range: request.range,
        durable: request.durable))
  }

  private mutating func markBeforeWrite(_ slot: Int) {
    let request = requests[slot]
    let blocks = volumes[request.volume].blocks(of: request.range)
    // While a swing drains, a write to blocks that are all dirty stays here: they will be copied anyway, and nothing
    // grows. One that waited for its intent since before the swing may meet a transfer: it stays here too. In stand-in
    // every write goes to both.
    let isMirrored =
      isMirroring
      && (authority == .standIn
        || !volumes[request.volume].dirty.blocks.containsAll(blocks) && !isBeingCopied(request.volume, blocks))
    requests[slot].isMirrored = isMirrored
    noteContentChange(request.volume, request.range)
    if !isMirrored { markDirty(request.volume, request.range) }
  }

  private func isBeingCopied(_ volume: Int, _ blocks: Range<Int>) -> Bool {
    transfers.contains { $0.volume == volume && $0.state != .claimed && $0.blocks.overlaps(blocks) }
  }

  /// The extents' content changes: what was compared isn't any more.
  private mutating func noteContentChange(_ volume: Int, _ range: ByteRange) {
    let extents = volumes[volume].extents(of: range)
    volumes[volume].intent.noteWrite(extents)
    volumes[volume].verified.remove(extents)
    if initialSynchronizationAt != nil { volumes[volume].changed.insert(extents) }
    let blocks = volumes[volume].blocks(of: range)
    volumes[volume].knownZero?.remove(blocks)
    isVerificationIdle = false
    if !comparisons.isEmpty { spoilComparisons(volume, extents) }
  }

  mutating func markDirty(_ volume: Int, _ blocks: Range<Int>) {
    if dirtySince == nil { dirtySince = now }
    isVerificationIdle = false
    let extents = volumes[volume].extents(ofBlocks: blocks)
    volumes[volume].dirty.insert(blocks)
    volumes[volume].verified.remove(extents)
  }

  /// What a write to `range` touched; the rest of its blocks stays what it is.
  mutating func markDirty(_ volume: Int, _ range: ByteRange) {
    if dirtySince == nil { dirtySince = now }
    isVerificationIdle = false
    volumes[volume].dirty.insert(range)
    volumes[volume].verified.remove(volumes[volume].extents(of: range))
  }

  /// The destination's part of a request, in frames of at most 1 MiB.
  private mutating func sendParts(_ slot: Int, into effects: inout [SourceEffect]) {
    guard let link else { return }
    let request = requests[slot]
    let volume = UInt16(request.volume)
    func frame(_ part: Int, _ message: H2HMessage) -> H2HFrame {
      H2HFrame(
        requestID: WireID.application(slot: slot, part: part, counter: request.counter), message: message)
    }
    func send(_ frame: H2HFrame, _ payload: PayloadSource) {
      effects.append(.send(link: link.id, .application, frame, payload))
    }
    switch request.operation {
    case .flush:
      requests[slot].remoteParts = 1
      send(frame(0, .flush(volume: volume)), .none)
    case .zeroes:
      requests[slot].remoteParts = 1
      send(
        frame(0, .writeZeroes(volume: volume, range: request.range, durable: request.durable, kind: .mirror)), .none)
    case .read, .write:
      let step = UInt64(H2HLimits.payloadBytes)
      let count = Int((request.range.length + step - 1) / step)
      requests[slot].remoteParts = count == 64 ? ~0 : 1 << UInt64(count) &- 1
      for part in 0..<count {
        let offset = UInt64(part) * step
        let length = UInt32(min(step, request.range.length - offset))
        if request.operation == .read {
          send(frame(part, .read(volume: volume, offset: request.range.offset + offset, length: length)), .none)
        } else {
          send(
            frame(
              part,
              .write(
                volume: volume, offset: request.range.offset + offset, length: length, durable: request.durable,
                kind: .mirror)), .application(id: request.id, offset: UInt32(offset)))
        }
      }
    }
  }

  // MARK: answers

  mutating func localDone(_ id: UInt64, _ status: IOStatus, into effects: inout [SourceEffect]) {
    guard let slot = slotOfRequest[id], requests[slot].isLocalPending else { return }
    requests[slot].isLocalPending = false
    let request = requests[slot]
    if request.isWrite && stage != .cancelled {
      // Again after it completed: a copier that read in between may have seen the old bytes.
      noteContentChange(request.volume, request.range)
      if !request.isMirrored || status != .ok {
        markDirty(request.volume, request.range)
      }
    }
    if status != .ok {
      requests[slot].status = status
      lastError = "volume \(volumes[request.volume].name): \(request.operation) failed on the source's disk"
      if authority == .standIn { isSourceDegraded = true }
    }
    finishIfDone(slot, into: &effects)
  }

  /// An answer to one frame of an application's request.
  mutating func remoteAnswer(_ wireID: UInt64, _ message: H2HMessage, into effects: inout [SourceEffect]) {
    let slot = Int(wireID >> 32 & 0xffff)
    let bit = UInt64(1) << (wireID >> 48 & 0x3f)
    guard slot < requests.count,
      requests[slot].counter == UInt32(truncatingIfNeeded: wireID), requests[slot].remoteParts & bit != 0
    else { return }
    let request = requests[slot]
    switch message {
    case .readAnswer(let length) where request.operation == .read:
      let offset = (wireID >> 48 & 0x3f) * UInt64(H2HLimits.payloadBytes)
      guard UInt64(length) == min(UInt64(H2HLimits.payloadBytes), request.range.length - offset) else {
        failLink("the destination answered a read with the wrong length", into: &effects)
        return
      }
      effects.append(.deliver(id: request.id, offset: UInt32(offset), length: length))
    case .answer(.ok, _) where request.operation != .read: break
    case .answer(let status, let text):
      failMirror("the destination answered \(request.operation) with \(status): \(text)", into: &effects)
      return
    default:
      failLink("the destination answered \(request.operation) with another kind of message", into: &effects)
      return
    }
    requests[slot].remoteParts &= ~bit
    if requests[slot].remoteParts == 0 && request.isWrite {
      appendUnflushed(request.volume, volumes[request.volume].blocks(of: request.range))
    }
    finishIfDone(slot, into: &effects)
  }

  mutating func finishIfDone(_ slot: Int, into effects: inout [SourceEffect]) {
    let request = requests[slot]
    guard !request.isLocalPending, request.remoteParts == 0, !request.awaitsRecord else { return }
    slotOfRequest[request.id] = nil
    if let index = locks.firstIndex(where: { $0.slot == slot }) {
      locks.swapAt(index, locks.count - 1)
      locks.removeLast()
    }
    freeSlots.append(slot)
    activeCount -= 1
    effects.append(.complete(id: request.id, request.status))
    if !waiting.isEmpty { startWaiting(into: &effects) }
    if activeCount == 0 && barrier != nil { advanceBarrier(into: &effects) }
    if stage == .swinging && request.isWrite { pump(into: &effects) }
  }

  /// Starts what may start now, in arrival order.
  mutating func startWaiting(into effects: inout [SourceEffect]) {
    if isGated || waiting.isEmpty { return }
    let queue = waiting
    waiting = []
    waiting.reserveCapacity(queue.count)
    for slot in queue {
      if mustWait(slot, behind: waiting[...]) {
        waiting.append(slot)
      } else {
        let waited = now.seconds(since: requests[slot].since)
        longestPauseSeconds = max(longestPauseSeconds, waited)
        begin(slot, into: &effects)
      }
    }
    waitingSince = waiting.first.map { requests[$0].since }
  }

  mutating func intentStored(
    _ volume: UInt16, _ page: Int, _ revision: UInt64, _ isStored: Bool, into effects: inout [SourceEffect]
  ) {
    let index = Int(volume)
    guard index < volumes.count else { return }
    volumes[index].intent.stored(page: page, revision: revision, isStored: isStored)
    if isStored {
      storeIntents(of: index, into: &effects)
    } else {
      lastError = "the write-intent map could not be stored; free space in the agent's state directory"
      intentRetryAt = now.adding(seconds: limits.retrySeconds)
    }
    adoptCopyIfMarked(into: &effects)
    let queue = intentWaiting
    intentWaiting = []
    for slot in queue {
      let request = requests[slot]
      if volumes[request.volume].intent.require(volumes[request.volume].extents(of: request.range)) {
        requests[slot].since = now
        issue(slot, into: &effects)
      } else {
        intentWaiting.append(slot)
        if intentRetryAt == nil { storeIntents(of: request.volume, into: &effects) }
      }
    }
  }

  mutating func storeIntents(of volume: Int, into effects: inout [SourceEffect]) {
    for page in volumes[volume].intent.pages.indices {
      if let store = volumes[volume].intent.nextStore(page: page) {
        effects.append(
          .storeIntent(volume: UInt16(volume), page: page, revision: store.revision, bytes: store.bytes))
      }
    }
  }
}
