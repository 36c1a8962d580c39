import BlockModel
import H2HProtocol

extension SourceMachine {
  // MARK: opening

  private var helloState: HelloState {
    HelloState(
      session: configuration.session, role: .source, bootID: configuration.bootID,
      openEpoch: configuration.openEpoch, generation: generation, authority: authority, copyID: copyID,
      volumes: volumes.map { HelloVolume(name: $0.name, sizeBytes: $0.sizeBytes) })
  }

  /// A new connection (`state` nil: ours, to say hello on). An older one is over, whatever it believes. While authority
  /// moves, the newest one waits.
  mutating func linkOffered(
    _ id: UInt64, _ state: HelloState?, version: UInt16, into effects: inout [SourceEffect]
  ) {
    if let current = link, current.id != id {
      effects.append(.closeLink(link: current.id, why: "a newer connection of the same session"))
      linkDown(current.id, "a newer connection took its place", into: &effects)
    }
    if let pending = pendingOffer, pending.link != id {
      effects.append(.closeLink(link: pending.link, why: "a newer connection of the same session"))
    }
    pendingOffer = LinkOffer(link: id, state: state, version: version)
    answerOffer(into: &effects)
  }

  private var isAuthorityMoving: Bool {
    fallback != nil || barrier != nil || storing.map { $0.purpose != .note } ?? false || queuedCommit != nil
  }

  mutating func answerOffer(into effects: inout [SourceEffect]) {
    guard let offer = pendingOffer, !isAuthorityMoving, started != nil else { return }
    guard let state = offer.state else {
      if offer.isHelloSent { return }
      pendingOffer?.isHelloSent = true
      effects.append(.sendHello(link: offer.link, helloState))
      return
    }
    pendingOffer = nil
    if let refusal = refusal(of: state) {
      effects.append(.refuseHello(link: offer.link, .refused, why: refusal))
      refuse(refusal, into: &effects)
      return
    }
    effects.append(.answerHello(link: offer.link, helloState))
    establish(offer.link, state, version: offer.version, into: &effects)
  }

  mutating func linkUp(_ id: UInt64, _ state: HelloState, version: UInt16, into effects: inout [SourceEffect]) {
    guard let offer = pendingOffer, offer.link == id, offer.state == nil, !isAuthorityMoving else {
      if link?.id != id { effects.append(.closeLink(link: id, why: "not the newest connection of the session")) }
      return
    }
    pendingOffer = nil
    if let refusal = refusal(of: state) {
      effects.append(.closeLink(link: id, why: refusal))
      refuse(refusal, into: &effects)
      return
    }
    establish(id, state, version: version, into: &effects)
  }

  private mutating func refuse(_ why: String, into effects: inout [SourceEffect]) {
    if lastError != why { effects.append(.journal("refused the peer: \(why)")) }
    lastError = why
  }

  private func refusal(of peer: HelloState) -> String? {
    if peer.session != configuration.session { return "the peer speaks for another session" }
    if peer.role != .destination { return "the peer is a source too" }
    if stage == .cancelled { return "the session is cancelled" }
    if peer.generation > generation {
      return "the destination has seen generation \(peer.generation), this source only \(generation): an older copy of "
        + "this agent's state was restored; nothing is overwritten"
    }
    if peer.copyID == 0 { return "the peer has no copy" }
    if stage == .fenced && peer.copyID != copyID {
      return "the destination no longer has the copy that was proven identical; the source is fenced and unchanged"
    }
    let mine = volumes.map { HelloVolume(name: $0.name, sizeBytes: $0.sizeBytes) }
    let theirs = peer.volumes.map { HelloVolume(name: $0.name, sizeBytes: $0.sizeBytes) }
    if mine != theirs { return "the two agents are configured with different volumes or sizes; apply the plan again" }
    return nil
  }

  private mutating func establish(
    _ id: UInt64, _ peer: HelloState, version: UInt16, into effects: inout [SourceEffect]
  ) {
    link = Link(id: id, version: version, lastHeard: now, lastPing: now)
    effects.append(.linkEstablished(link: id))
    disconnectedSince = nil
    copyRetryAt = nil
    isFenceAnnounced = false
    fenceRequestID = nil
    if peer.copyID != copyID || adoptingCopy != nil { adoptCopy(peer, into: &effects) }
    if stage == .tracking, pass == nil, volumes.contains(where: { !$0.dirty.isEmpty }) { startPass() }
    if stage == .synchronizing, pass == nil { startPass() }
    if isHostFenced { announceFence(into: &effects) }
    pump(into: &effects)
  }

  /// Another copy than the one whose differences are known here: all of it may differ. Every extent is marked durably
  /// before the record says that the map describes this copy.
  private mutating func adoptCopy(_ peer: HelloState, into effects: inout [SourceEffect]) {
    effects.append(.journal("filling copy \(hex(peer.copyID, digits: 16)) from the beginning"))
    adoptingCopy = peer.copyID
    initialSynchronizationAt = nil
    receiptDigest = nil
    isReceiptPending = false
    if stage == .tracking { setStage(.synchronizing, into: &effects) }
    if stage == .proving || stage == .proven { setStage(.tapClosed, into: &effects) }
    for index in volumes.indices {
      volumes[index].intent.requireAll()
      volumes[index].verified.removeAll()
      volumes[index].knownZero =
        peer.volumes[index].isKnownZero ? BitSet(count: volumes[index].blockCount, all: true) : nil
      markDirty(index, 0..<volumes[index].blockCount)
      storeIntents(of: index, into: &effects)
    }
    forgetLeftDifferent()
    if pass != nil { startPass() }
    adoptCopyIfMarked(into: &effects)
  }

  mutating func adoptCopyIfMarked(into effects: inout [SourceEffect]) {
    guard let copy = adoptingCopy, volumes.allSatisfy({ $0.intent.isAllDurable }) else { return }
    adoptingCopy = nil
    copyID = copy
    note(into: &effects)
  }

  // MARK: losing

  mutating func linkDown(_ id: UInt64, _ why: String, into effects: inout [SourceEffect]) {
    if pendingOffer?.link == id { pendingOffer = nil }
    guard link?.id == id else { return }
    link = nil
    disconnectedSince = wall
    effects.append(.journal("link lost: \(why)"))
    dropComparisons()
    forgetMirroring()
    abandonTransfers(into: &effects)
    if authority == .standIn {
      if barrier?.step == .storing { return }
      beginFallBack("the link to the destination was lost (\(why))", into: &effects)
      return
    }
    if let barrier, barrier.step != .storing { abortBarrier("the link was lost (\(why))", into: &effects) }
    if stage == .swinging && barrier == nil { abortSwing("the link was lost (\(why))", into: &effects) }
    finishUnmirrored(into: &effects)
  }

  /// Mirrored writes in flight count as plain ones from here on: their blocks are dirty now, and again when the local
  /// write completes. Even where the destination has answered: until this host's disk has the bytes too, a copier could
  /// read the old ones and send them after the new.
  mutating func forgetMirroring() {
    for lock in locks where lock.isWrite && requests[lock.slot].isMirrored {
      requests[lock.slot].isMirrored = false
      markDirty(lock.volume, requests[lock.slot].range)
    }
  }

  /// Authority is here: requests no longer wait for a destination that is gone.
  private mutating func finishUnmirrored(into effects: inout [SourceEffect]) {
    for slot in requests.indices where requests[slot].remoteParts != 0 {
      requests[slot].remoteParts = 0
      finishIfDone(slot, into: &effects)
    }
  }

  /// The peer broke the protocol, or is silent.
  mutating func failLink(_ why: String, into effects: inout [SourceEffect]) {
    guard let id = link?.id else { return }
    effects.append(.closeLink(link: id, why: why))
    linkDown(id, why, into: &effects)
  }

  /// Pings an idle link, and gives up one that is silent or does not answer the application's requests.
  mutating func watchLink(into effects: inout [SourceEffect]) {
    answerOffer(into: &effects)
    guard let current = link else { return }
    let timeout = configuration.linkLossTimeoutSeconds
    if now.seconds(since: current.lastHeard) > timeout {
      failLink("nothing heard for \(timeout) s", into: &effects)
      return
    }
    for slot in requests.indices
    where requests[slot].remoteParts != 0 && now.seconds(since: requests[slot].since) > timeout {
      failLink("the destination did not answer a request of the application for \(timeout) s", into: &effects)
      return
    }
    if let barrier, barrier.step == .preparing, now.seconds(since: barrier.stepAt) > timeout {
      failLink("the destination did not prepare generation \(highestGeneration) within \(timeout) s", into: &effects)
      return
    }
    if now.seconds(since: current.lastPing) > timeout / limits.pingsPerTimeout {
      link?.lastPing = now
      controlCounter += 1
      link?.pingID = WireID.control | controlCounter
      effects.append(
        .send(
          link: current.id, .control, H2HFrame(requestID: WireID.control | controlCounter, message: .ping), .none))
    }
  }

  private mutating func ponged(_ id: UInt64) {
    guard let current = link, current.pingID == id else { return }
    let seconds = now.seconds(since: current.lastPing)
    link?.pingID = nil
    link?.roundTripSeconds = min(seconds, current.roundTripSeconds ?? seconds)
    copyMeter.delaySeconds = link?.roundTripSeconds ?? 0
  }

  // MARK: frames

  mutating func message(_ id: UInt64, _ frame: H2HFrame, into effects: inout [SourceEffect]) {
    guard link?.id == id else { return }
    link?.lastHeard = now
    switch frame.requestID & WireID.kindMask {
    case WireID.application: remoteAnswer(frame.requestID, frame.message, into: &effects)
    case WireID.transfer: transferAnswered(frame, into: &effects)
    case WireID.comparison: remoteDigest(frame.requestID, frame.message, into: &effects)
    default: controlMessage(frame, into: &effects)
    }
  }

  private mutating func controlMessage(_ frame: H2HFrame, into effects: inout [SourceEffect]) {
    guard let id = link?.id else { return }
    if checkpointAnswered(frame.requestID, frame.message, into: &effects) { return }
    if preparedAnswered(frame, into: &effects) { return }
    if fenceAnswered(frame, into: &effects) { return }
    switch frame.message {
    case .ping:
      effects.append(.send(link: id, .control, H2HFrame(requestID: frame.requestID, message: .pong), .none))
    case .pong: ponged(frame.requestID)
    case .answer: break
    case .probe(_, let answerLength) where answerLength > 0:
      effects.append(
        .send(
          link: id, .bulk,
          H2HFrame(requestID: frame.requestID, message: .probe(length: answerLength, answerLength: 0)), .none))
    case .probe: break
    default: failLink("the destination sent a request that only a source sends", into: &effects)
    }
  }
}
