import BlockModel
import H2HProtocol

/// The application's requests wait while authority moves.
struct Barrier: Sendable {
  enum Step: Sendable {
    /// What was in flight finishes.
    case draining
    /// The destination makes the next generation durable.
    case preparing
    /// The source's record is being stored: from here on there is no way back.
    case storing
  }
  var target: CopyAuthority
  var step = Step.draining
  var startedAt: MonotonicTime
  var stepAt: MonotonicTime
  var requestID: UInt64 = 0
}

extension SourceMachine {
  // MARK: the barrier, common to swing, revert and fence

  mutating func beginBarrier(_ target: CopyAuthority, into effects: inout [SourceEffect]) {
    guard barrier == nil, fallback == nil else { return }
    barrier = Barrier(target: target, startedAt: now, stepAt: now)
    advanceBarrier(into: &effects)
  }

  mutating func advanceBarrier(into effects: inout [SourceEffect]) {
    guard let current = barrier, current.step == .draining, activeCount == 0 else { return }
    if current.target == .standIn && !isDrained {
      // A write that began before mirroring marked its blocks as it ended: drain once more.
      barrier = nil
      startWaiting(into: &effects)
      pump(into: &effects)
      return
    }
    guard transfers.isEmpty, let link else { return }
    highestGeneration = highestGeneration.next
    controlCounter += 1
    barrier?.step = .preparing
    barrier?.stepAt = now
    barrier?.requestID = WireID.control | controlCounter
    effects.append(
      .send(
        link: link.id, .control,
        H2HFrame(
          requestID: WireID.control | controlCounter, message: .prepare(highestGeneration, current.target)), .none))
  }

  /// True if it was the answer to a prepare.
  mutating func preparedAnswered(_ frame: H2HFrame, into effects: inout [SourceEffect]) -> Bool {
    guard let current = barrier, current.step == .preparing, frame.requestID == current.requestID else { return false }
    switch frame.message {
    case .prepared(highestGeneration):
      barrier?.step = .storing
      barrier?.stepAt = now
      commit(.commit(current.target), into: &effects)
    case .answer(let status, let text):
      let why = "the destination could not prepare generation \(highestGeneration) (\(status)): \(text)"
      if authority == .standIn && current.target == .source {
        failMirror(why, into: &effects)
      } else {
        abortBarrier(why, into: &effects)
      }
    default: failLink("the destination answered a prepare with something else", into: &effects)
    }
    return true
  }

  /// Before the record is being stored nothing has happened: what was prepared is void.
  mutating func abortBarrier(_ why: String, into effects: inout [SourceEffect]) {
    guard let current = barrier, current.step != .storing else { return }
    barrier = nil
    lastError = why
    effects.append(.journal("generation \(highestGeneration) was not committed: \(why)"))
    if current.target == .standIn { abortSwing(why, into: &effects) }
    startWaiting(into: &effects)
  }

  /// The record was stored, or may have been.
  mutating func committed(
    _ target: CopyAuthority, _ stored: Generation, _ isStored: Bool, into effects: inout [SourceEffect]
  ) {
    guard let current = barrier else { return }
    guard isStored else {
      // Nobody knows which record a restart would find. A newer one with authority here settles it.
      barrier = nil
      beginFallBack("the record of generation \(stored) could not be stored", into: &effects)
      return
    }
    barrier = nil
    generation = stored
    authority = target
    let pause = now.seconds(since: current.startedAt)
    longestPauseSeconds = max(longestPauseSeconds, pause)
    effects.append(.journal("generation \(generation): authority \(target.name), after a pause of \(pause) s"))
    switch target {
    case .standIn: entered(pause, into: &effects)
    case .source:
      confirmBy = nil
      isSourceDegraded = false
      setStage(afterRevert, into: &effects)
      afterRevert = .tracking
      nextPassAt = now
    case .destination:
      setStage(.fenced, into: &effects)
      effects.append(.fenceHost)
    case .destinationOnly: break
    }
    if authority != .destination { announce(into: &effects) }
    if authority == .standIn && link == nil {
      beginFallBack("the link to the destination was lost as cMotion began", into: &effects)
      return
    }
    startWaiting(into: &effects)
    answerOffer(into: &effects)
    pump(into: &effects)
  }

  private mutating func entered(_ pause: Double, into effects: inout [SourceEffect]) {
    swings += 1
    lastSwingPauseSeconds = pause
    isSwingConfirmed = configuration.confirmWithinSeconds == nil
    confirmBy = configuration.confirmWithinSeconds.map { own in
      let last = now.adding(seconds: own)
      return swingDeadline.map { min($0, last) } ?? last
    }
    swingDeadline = nil
    pass = nil
    dirtySince = nil
    setStage(.standIn, into: &effects)
  }

  /// Tells the destination what was committed; its hello would too, later.
  private mutating func announce(into effects: inout [SourceEffect]) {
    guard let link else { return }
    controlCounter += 1
    effects.append(
      .send(
        link: link.id, .control,
        H2HFrame(requestID: WireID.control | controlCounter, message: .committed(generation, authority)), .none))
  }

  // MARK: swing

  mutating func beginBarrierIfDrained(into effects: inout [SourceEffect]) {
    guard stage == .swinging, barrier == nil, isDrained, link != nil else { return }
    // What the copier wrote is flushed first: the destination flushes behind the barrier too, and that must be little.
    if swingCheckpoint == nil, !unflushed.isEmpty {
      swingCheckpoint = checkpointCounter + 1
      wantsCheckpoint = true
    }
    if let wanted = swingCheckpoint, lastCheckpointDone < wanted { return considerCheckpoint(into: &effects) }
    beginBarrier(.standIn, into: &effects)
  }

  /// Back to tracking: every request of the application is released, none fails.
  mutating func abortSwing(_ why: String, into effects: inout [SourceEffect]) {
    guard stage == .swinging else { return }
    swingCheckpoint = nil
    swingDeadline = nil
    let said = "the swing was given up: \(why)"
    lastError = said
    swingGivenUp = said
    effects.append(.journal(said))
    forgetMirroring()
    dropClaims(into: &effects)
    setStage(.tracking, into: &effects)
    startPass()
    startWaiting(into: &effects)
  }

  mutating func watchSwing(into effects: inout [SourceEffect]) {
    if stage == .swinging {
      let limit = swingAbortAfterSeconds
      if let barrier, barrier.step == .draining, now.seconds(since: barrier.startedAt) > limit {
        abortBarrier("requests of the application took longer than \(limit) s", into: &effects)
      } else if barrier == nil, let since = waitingSince, now.seconds(since: since) > limit {
        abortSwing("the application would have waited longer than \(limit) s", into: &effects)
      } else if barrier == nil, let deadline = swingDeadline, now >= deadline {
        abortSwing("it took longer than its group has to be confirmed", into: &effects)
      }
    }
    if authority == .standIn, let deadline = confirmBy, !isSwingConfirmed, now >= deadline, barrier == nil,
      fallback == nil
    {
      pendingHold = (.failure, "cMotion was not confirmed in time")
      effects.append(.hold(.failure, why: "cMotion was not confirmed in time"))
      confirmBy = nil
      afterRevert = .tracking
      beginBarrier(.source, into: &effects)
    }
  }

  // MARK: fall back (DESIGN §8.4, §8.6)

  /// The destination failed in what a write, read or flush of the application needs.
  mutating func failMirror(_ why: String, into effects: inout [SourceEffect]) {
    effects.append(.journal(why))
    failLink(why, into: &effects)
  }

  /// The source alone commits the next generation. Until that is durable nothing is acknowledged that the destination may
  /// lack, and new requests wait; then everything goes on here.
  mutating func beginFallBack(_ why: String, into effects: inout [SourceEffect]) {
    guard fallback == nil else { return }
    fallback = why
    barrier = nil
    queuedCommit = nil
    confirmBy = nil
    isReceiptPending = false
    effects.append(.journal("authority returns to the source: \(why)"))
    if let id = link?.id {
      effects.append(.closeLink(link: id, why: why))
      link = nil
      disconnectedSince = wall
      dropComparisons()
      abandonTransfers(into: &effects)
    }
    forgetMirroring()
    for slot in requests.indices where requests[slot].remoteParts != 0 {
      requests[slot].remoteParts = 0
      if requests[slot].operation == .read {
        requests[slot].isLocalPending = true
        let request = requests[slot]
        effects.append(
          .local(
            id: request.id, volume: UInt16(request.volume), .read, range: request.range, durable: false))
      } else {
        requests[slot].awaitsRecord = true
      }
    }
    commit(.fallBack, into: &effects)
  }

  mutating func fellBack(_ stored: Generation, _ isStored: Bool, into effects: inout [SourceEffect]) {
    guard let why = fallback else { return }
    guard isStored else {
      queuedCommit = .fallBack
      return
    }
    fallback = nil
    generation = stored
    authority = .source
    isSourceDegraded = false
    effects.append(.hold(.failure, why: why))
    stage = .tracking
    effects.append(.stageChanged)
    // The record says the hold until the next one: that one no longer needs to.
    note(into: &effects)
    nextPassAt = now
    for slot in requests.indices where requests[slot].awaitsRecord {
      requests[slot].awaitsRecord = false
      finishIfDone(slot, into: &effects)
    }
    if afterRevert == .cancelled {
      afterRevert = .tracking
      setStage(.cancelled, into: &effects)
    }
    startWaiting(into: &effects)
    answerOffer(into: &effects)
  }

  // MARK: fence

  mutating func hostFenced(_ isFenced: Bool, into effects: inout [SourceEffect]) {
    guard stage == .fenced else { return }
    isHostFenced = isFenced
    if isFenced {
      announceFence(into: &effects)
    } else {
      lastError = "the source's host could not be fenced; it is tried again"
      fenceRetryAt = now.adding(seconds: limits.retrySeconds)
    }
  }

  mutating func retryHostFence(into effects: inout [SourceEffect]) {
    guard let retry = fenceRetryAt, now >= retry else { return }
    fenceRetryAt = nil
    effects.append(.fenceHost)
  }

  /// The destination learns that it may be released only when the source's host is fenced.
  mutating func announceFence(into effects: inout [SourceEffect]) {
    guard stage == .fenced, isHostFenced, !isFenceAnnounced, fenceRequestID == nil, let link else { return }
    controlCounter += 1
    fenceRequestID = WireID.control | controlCounter
    effects.append(
      .send(
        link: link.id, .control,
        H2HFrame(requestID: WireID.control | controlCounter, message: .committed(generation, .destination)), .none))
  }

  mutating func fenceAnswered(_ frame: H2HFrame, into effects: inout [SourceEffect]) -> Bool {
    guard let id = fenceRequestID, frame.requestID == id else { return false }
    fenceRequestID = nil
    if case .answer(.ok, _) = frame.message {
      isFenceAnnounced = true
      lastError = nil
    } else {
      failLink("the destination did not take generation \(generation)", into: &effects)
    }
    return true
  }

  // MARK: commands

  mutating func perform(_ command: SourceCommand, into effects: inout [SourceEffect]) -> CommandAnswer {
    guard started != nil else { return .refused(why: "the session is still starting") }
    switch command {
    case .synchronize: return synchronize(into: &effects)
    case .stopSynchronizing: return stopSynchronizing(into: &effects)
    case .resync:
      if stage == .tracking && pass == nil { startPass() }
      pump(into: &effects)
      return stage == .prepared ? .refused(why: "nothing is synchronized yet; synchronize first") : .accepted
    case .verify(let request): return verify(request, into: &effects)
    case .swing:
      let answer = swing(into: &effects)
      if answer != .accepted { swingDeadline = nil }
      return answer
    case .confirmWithin(let seconds):
      limitConfirmation(seconds)
      return .accepted
    case .revert: return revert(to: .tracking, into: &effects)
    case .confirmSwing:
      guard authority == .standIn else { return .refused(why: "there is no swing to confirm") }
      isSwingConfirmed = true
      confirmBy = nil
      return .accepted
    case .openTap: return openTap(into: &effects)
    case .closeTap: return closeTap(into: &effects)
    case .prove: return prove(into: &effects)
    case .fence: return fence(into: &effects)
    case .retire: return retire(into: &effects)
    case .cancel: return cancel(into: &effects)
    }
  }

  private mutating func synchronize(into effects: inout [SourceEffect]) -> CommandAnswer {
    if stage == .cancelled { return .refused(why: "the session is cancelled") }
    guard stage == .prepared else { return .accepted }
    setStage(initialSynchronizationAt == nil ? .synchronizing : .tracking, into: &effects)
    startPass()
    pump(into: &effects)
    return .accepted
  }

  private mutating func stopSynchronizing(into effects: inout [SourceEffect]) -> CommandAnswer {
    switch stage {
    case .prepared: return .accepted
    case .synchronizing, .tracking:
      pass = nil
      nextPassAt = nil
      setStage(.prepared, into: &effects)
      return .accepted
    default: return .refused(why: "the session is at \(stage.rawValue); revert first")
    }
  }

  /// Only ever earlier: asked again it has less time left, or as much.
  private mutating func limitConfirmation(_ seconds: Double) {
    guard let own = configuration.confirmWithinSeconds else { return }
    let deadline = now.adding(seconds: max(0, min(seconds, own)))
    switch stage {
    case .standIn: confirmBy = confirmBy.map { min($0, deadline) }
    case .swinging: swingDeadline = swingDeadline.map { min($0, deadline) } ?? deadline
    default: swingDeadline = deadline
    }
  }

  private mutating func swing(into effects: inout [SourceEffect]) -> CommandAnswer {
    switch stage {
    case .swinging, .standIn: return .accepted
    case .tracking:
      guard link != nil else { return .refused(why: "the destination is not connected; swing again when it is") }
      if fallback != nil { return .refused(why: "authority is just returning to the source; try again") }
      if adoptingCopy != nil { return .refused(why: "the destination's copy is new; synchronize first") }
      if let refusal = trackRefusal { return refusal }
      pass = nil
      swingCheckpoint = nil
      swingGivenUp = nil
      markLeftDifferent(into: &effects)
      effects.append(.journal("swing: draining \(volumes.reduce(0) { $0 + $1.dirtyBytes }) bytes"))
      setStage(.swinging, into: &effects)
      pump(into: &effects)
      return .accepted
    default: return .refused(why: "a swing begins at tracking; the session is at \(stage.rawValue)")
    }
  }

  private mutating func revert(to next: SourceStage, into effects: inout [SourceEffect]) -> CommandAnswer {
    if stage == .fenced { return .refused(why: "the source is fenced: there is no way back from here") }
    if let barrier, barrier.step == .storing, barrier.target != .source {
      return .refused(why: "authority is just moving; try again")
    }
    if barrier?.target == .source || fallback != nil {
      afterRevert = next
      return .accepted
    }
    if barrier != nil { abortBarrier("revert was asked for", into: &effects) }
    if stage == .swinging { abortSwing("revert was asked for", into: &effects) }
    dropComparisons()
    isReceiptPending = false
    guard authority == .standIn else {
      if next == .cancelled {
        dropClaims(into: &effects)
        pass = nil
        setStage(.cancelled, into: &effects)
      } else if [.tapClosed, .proving, .proven].contains(stage) {
        receiptDigest = nil
        setStage(.tracking, into: &effects)
        nextPassAt = now
      }
      return .accepted
    }
    receiptDigest = nil
    afterRevert = next
    dropClaims(into: &effects)
    // What the copier of a proof still has under way has to be answered first; the barrier waits for it.
    if stage != .standIn { setStage(.standIn, into: &effects) }
    beginBarrier(.source, into: &effects)
    return .accepted
  }

  private mutating func openTap(into effects: inout [SourceEffect]) -> CommandAnswer {
    switch stage {
    case .tapClosed, .proving, .proven:
      if barrier != nil { return .refused(why: "authority is just moving; try again") }
      dropComparisons()
      isReceiptPending = false
      receiptDigest = nil
      let open: SourceStage = initialSynchronizationAt == nil ? .synchronizing : .tracking
      setStage(authority == .standIn ? .standIn : open, into: &effects)
      if stage == .synchronizing { startPass() } else { nextPassAt = now }
      return .accepted
    case .fenced: return .refused(why: "the source is fenced")
    default: return .accepted
    }
  }

  private mutating func closeTap(into effects: inout [SourceEffect]) -> CommandAnswer {
    switch stage {
    case .tapClosed, .proving, .proven, .fenced: return .accepted
    case .tracking, .standIn:
      if barrier != nil || fallback != nil { return .refused(why: "authority is just moving; try again") }
      if let refusal = trackRefusal { return refusal }
      guard activeCount == 0 && waiting.isEmpty else {
        return .refused(why: "\(slotOfRequest.count) requests of the application are in flight; stop it first")
      }
      pass = nil
      setStage(.tapClosed, into: &effects)
      return .accepted
    default: return .refused(why: "the session is at \(stage.rawValue); wait until it tracks")
    }
  }

  private mutating func fence(into effects: inout [SourceEffect]) -> CommandAnswer {
    switch stage {
    case .fenced: return .accepted
    case .proven:
      if let refusal = trackRefusal { return refusal }
      guard link != nil else { return .refused(why: "the destination is not connected; fence again when it is") }
      guard isDrained else { return .refused(why: "the copies differ; prove again") }
      beginBarrier(.destination, into: &effects)
      return .accepted
    default: return .refused(why: "the copies are not proven identical; the session is at \(stage.rawValue)")
    }
  }

  private mutating func retire(into effects: inout [SourceEffect]) -> CommandAnswer {
    switch stage {
    case .fenced:
      if let link {
        controlCounter += 1
        effects.append(
          .send(
            link: link.id, .control, H2HFrame(requestID: WireID.control | controlCounter, message: .retire), .none))
      }
      return .accepted
    case .cancelled: return .accepted
    default: return .refused(why: "only a finalized or cancelled session is retired; this one is at \(stage.rawValue)")
    }
  }

  private mutating func cancel(into effects: inout [SourceEffect]) -> CommandAnswer {
    if stage == .cancelled { return .accepted }
    let answer = revert(to: .cancelled, into: &effects)
    if answer == .accepted, let link {
      controlCounter += 1
      effects.append(
        .send(
          link: link.id, .control, H2HFrame(requestID: WireID.control | controlCounter, message: .cancel), .none))
    }
    return answer
  }
}
