package import BlockModel
import H2HProtocol

package struct DestinationConfiguration: Sendable, Equatable {
  package struct Volume: Sendable, Equatable {
    package var name: VolumeName
    /// The source's length; the device has at least this.
    package var sizeBytes: UInt64
    /// The device (and what is withheld) reads as zero all over. Only believed while nothing was written.
    package var isKnownZero: Bool
    package init(name: VolumeName, sizeBytes: UInt64, isKnownZero: Bool = false) {
      self.name = name
      self.sizeBytes = sizeBytes
      self.isKnownZero = isKnownZero
    }
  }
  package var session: SessionID
  package var volumes: [Volume]
  package var bootID: String
  package var openEpoch: UInt64
  /// The source agent's key; the channel has checked it, the label says it.
  package var peer: KeyFingerprint
  /// Random and not 0: the name of the copy if there is no record yet.
  package var newCopyID: UInt64

  package init(
    session: SessionID, volumes: [Volume], bootID: String, openEpoch: UInt64, peer: KeyFingerprint, newCopyID: UInt64
  ) {
    self.session = session
    self.volumes = volumes
    self.bootID = bootID
    self.openEpoch = openEpoch
    self.peer = peer
    self.newCopyID = newCopyID
  }
}

/// The destination's half of a session: decides, and does no I/O. One lock around `handle` serializes its events.
/// +Serving has the source's requests.
package struct DestinationMachine: Sendable {
  /// Requests of the link at once: more than any source has outstanding.
  static let workLimit = 16384
  /// Stands for the machine's own work in `.local` keys: no link has this number.
  static let ownLink: UInt64 = .max
  static let retrySeconds = 1.0

  package private(set) var configuration: DestinationConfiguration
  package internal(set) var stage: DestinationStage
  var record: SessionRecord
  var now = MonotonicTime(nanoseconds: 0)
  var started: (wall: WallTime, at: MonotonicTime)?
  var wall: WallTime {
    started.map { $0.wall.adding(seconds: now.seconds(since: $0.at)) } ?? WallTime(secondsSince1970: 0)
  }

  enum StorePurpose: Sendable, Equatable {
    case created
    case note
    case inconsistent
    case prepared(requestID: UInt64)
    case committed(requestID: UInt64)
    /// The record now says what the hello of this link said.
    case adopted(link: UInt64)
    case releasing
    case released
  }
  var storeRevision: UInt64 = 0
  var storing: (revision: UInt64, purposes: [StorePurpose])?
  var queued: [StorePurpose] = []
  var storeRetryAt: MonotonicTime?

  struct Offer: Sendable {
    var link: UInt64
    /// Nil: our own connection, to say hello on.
    var state: HelloState?
    var isHelloSent = false
    var isStoring = false
  }
  var link: UInt64?
  var offer: Offer?
  var work: [DestinationWork] = []
  var isMarkingInconsistent = false
  var preparing: (requestID: UInt64, generation: Generation, authority: CopyAuthority)?
  var unreleased: Set<UInt16> = []
  var releaseRetryAt: MonotonicTime?
  var counters: [DestinationVolumeObservation]
  var lastError: String?

  package init(configuration: DestinationConfiguration, record: SessionRecord?) {
    precondition(configuration.newCopyID != 0)
    self.configuration = configuration
    var fresh = SessionRecord(
      session: configuration.session, role: .destination, generation: Generation(0), authority: .source,
      stage: DestinationStage.prepared.rawValue)
    fresh.copyID = configuration.newCopyID
    self.record = record ?? fresh
    stage = DestinationStage(rawValue: self.record.stage) ?? .receiving
    counters = configuration.volumes.map { _ in DestinationVolumeObservation() }
  }

  package mutating func handle(
    _ event: DestinationEvent, at now: MonotonicTime, into effects: inout [DestinationEffect]
  ) {
    self.now = now
    switch event {
    case .message(let link, let frame): message(link, frame, into: &effects)
    case .localDone(let link, let requestID, let status, let digests, let microseconds):
      localDone(link, requestID, status, digests, microseconds, into: &effects)
    case .start(let wall): start(wall, into: &effects)
    case .tick: tick(into: &effects)
    case .command(let command, let id): effects.append(.commandAnswer(id: id, perform(command, into: &effects)))
    case .linkOpening(let link): offered(link, nil, into: &effects)
    case .linkOffered(let link, let state): offered(link, state, into: &effects)
    case .linkUp(let link, let state): linkUp(link, state, into: &effects)
    case .linkDown(let link, let why): linkDown(link, why, into: &effects)
    case .stored(let revision, let isStored): stored(revision, isStored, into: &effects)
    case .volumeReleased(let volume, let isReleased): volumeReleased(volume, isReleased, into: &effects)
    }
  }

  /// Whether this host may open the device: only after the release (DESIGN §8.7, §8.9).
  package var mayOpenLocally: Bool { stage == .released }

  package func observation() -> DestinationObservation {
    DestinationObservation(
      stage: stage, authority: record.authority, generation: record.generation, isConnected: link != nil,
      inconsistentSince: record.inconsistentSince, copyID: record.copyID, volumes: counters, lastError: lastError)
  }

  private mutating func start(_ wall: WallTime, into effects: inout [DestinationEffect]) {
    guard started == nil else { return }
    started = (wall, now)
    // A record and a label before anything else, so that the copy's name outlives this process.
    store(.created, into: &effects)
    if stage == .releasing { beginRelease(into: &effects) }
  }

  private mutating func tick(into effects: inout [DestinationEffect]) {
    guard started != nil else { return }
    storeNext(into: &effects)
    if let retry = releaseRetryAt, now >= retry {
      releaseRetryAt = nil
      for volume in unreleased.sorted() { effects.append(.releaseVolume(volume: volume)) }
    }
    answerOffer(into: &effects)
  }

  mutating func changeStage(_ next: DestinationStage, into effects: inout [DestinationEffect]) {
    guard stage != next else { return }
    stage = next
    record.stage = next.rawValue
    effects.append(.stageChanged)
  }

  // MARK: the record

  /// Stores what the record says now; `purpose` is told when that is durable.
  mutating func store(_ purpose: StorePurpose, into effects: inout [DestinationEffect]) {
    queued.append(purpose)
    storeNext(into: &effects)
  }

  /// The source's key was replaced: later labels name the new one.
  package mutating func changePeer(_ peer: KeyFingerprint) { configuration.peer = peer }

  private mutating func storeNext(into effects: inout [DestinationEffect]) {
    guard storing == nil, !queued.isEmpty, started != nil else { return }
    if let retry = storeRetryAt {
      guard now >= retry else { return }
      storeRetryAt = nil
    }
    storeRevision += 1
    storing = (storeRevision, queued)
    queued = []
    let isOurs = stage != .releasing && stage != .released
    let label = configuration.volumes.first.map { volume in
      DeviceLabel(
        session: configuration.session, volume: volume.name, sizeBytes: volume.sizeBytes,
        generation: record.generation, authority: record.authority, peer: configuration.peer, copyID: record.copyID,
        inconsistentSince: record.inconsistentSince ?? (stage == .prepared ? wall : nil),
        isCancelled: stage == .cancelled)
    }
    effects.append(.store(revision: storeRevision, record, label: isOurs ? label : nil))
  }

  private mutating func stored(_ revision: UInt64, _ isStored: Bool, into effects: inout [DestinationEffect]) {
    guard let current = storing, current.revision == revision else { return }
    storing = nil
    guard isStored else {
      lastError = "the session's record or label could not be stored at the destination"
      storeRetryAt = now.adding(seconds: Self.retrySeconds)
      queued = current.purposes + queued
      return
    }
    for purpose in current.purposes { finish(purpose, into: &effects) }
    storeNext(into: &effects)
    answerOffer(into: &effects)
  }

  private mutating func finish(_ purpose: StorePurpose, into effects: inout [DestinationEffect]) {
    switch purpose {
    case .created, .note: break
    case .inconsistent:
      isMarkingInconsistent = false
      startWaiting(into: &effects)
    case .prepared(let requestID):
      if let prepared = record.prepared { send(requestID, .prepared(prepared), into: &effects) }
    case .committed(let requestID): answer(requestID, .ok, "", into: &effects)
    case .adopted(let adopted):
      guard let current = offer, current.link == adopted, current.isStoring else { return }
      offer = nil
      if !current.isHelloSent { effects.append(.answerHello(link: adopted, helloState)) }
      link = adopted
      effects.append(.linkEstablished(link: adopted))
    case .releasing: for volume in unreleased.sorted() { effects.append(.releaseVolume(volume: volume)) }
    case .released: changeStage(.released, into: &effects)
    }
  }

  // MARK: links

  private var helloState: HelloState {
    let isUntouched = record.inconsistentSince == nil && stage == .prepared
    return HelloState(
      session: configuration.session, role: .destination, bootID: configuration.bootID,
      openEpoch: configuration.openEpoch, generation: record.generation, authority: record.authority,
      preparedGeneration: record.prepared, copyID: record.copyID,
      volumes: configuration.volumes.map {
        HelloVolume(name: $0.name, sizeBytes: $0.sizeBytes, isKnownZero: $0.isKnownZero && isUntouched)
      })
  }

  private mutating func offered(_ id: UInt64, _ state: HelloState?, into effects: inout [DestinationEffect]) {
    if let current = link, current != id {
      effects.append(.closeLink(link: current, why: "a newer connection of the same session"))
      linkDown(current, "a newer connection took its place", into: &effects)
    }
    if let current = offer, current.link != id {
      effects.append(.closeLink(link: current.link, why: "a newer connection of the same session"))
    }
    offer = Offer(link: id, state: state)
    answerOffer(into: &effects)
  }

  /// Not before every write of an older link is finished (DESIGN §8.2) and our own record is durable.
  mutating func answerOffer(into effects: inout [DestinationEffect]) {
    guard let current = offer, !current.isStoring, started != nil, work.isEmpty, preparing == nil, storing == nil,
      queued.isEmpty
    else { return }
    guard let state = current.state else {
      if current.isHelloSent { return }
      offer?.isHelloSent = true
      effects.append(.sendHello(link: current.link, helloState))
      return
    }
    if let refusal = refusal(of: state) {
      offer = nil
      if current.isHelloSent {
        effects.append(.closeLink(link: current.link, why: refusal))
      } else {
        effects.append(.refuseHello(link: current.link, .refused, why: refusal))
      }
      if lastError != refusal { effects.append(.journal("refused the peer: \(refusal)")) }
      lastError = refusal
      return
    }
    adopt(state, into: &effects)
    offer?.isStoring = true
    store(.adopted(link: current.link), into: &effects)
  }

  private mutating func linkUp(_ id: UInt64, _ state: HelloState, into effects: inout [DestinationEffect]) {
    guard let current = offer, current.link == id, current.isHelloSent, current.state == nil else {
      if link != id { effects.append(.closeLink(link: id, why: "not the newest connection of the session")) }
      return
    }
    offer?.state = state
    answerOffer(into: &effects)
  }

  private func refusal(of peer: HelloState) -> String? {
    if peer.session != configuration.session { return "the peer speaks for another session" }
    if peer.role != .source { return "the peer is a destination too" }
    if stage == .cancelled { return "the session is cancelled" }
    if peer.generation < record.generation {
      return "generation \(peer.generation) is older than \(record.generation), which this destination has seen"
    }
    if peer.generation == record.generation && peer.authority != record.authority {
      return "generation \(peer.generation) has another authority here"
    }
    if record.authority == .destination && peer.authority != .destination {
      return "this destination is final; the source was fenced"
    }
    let mine = configuration.volumes.map { HelloVolume(name: $0.name, sizeBytes: $0.sizeBytes) }
    let theirs = peer.volumes.map { HelloVolume(name: $0.name, sizeBytes: $0.sizeBytes) }
    if mine != theirs { return "the two agents are configured with different volumes or sizes; apply the plan again" }
    return nil
  }

  /// The source's record decides; what was prepared and is not what it says is void. That the source is fenced is taken
  /// from `committed` only, which it says when its host refuses the source.
  private mutating func adopt(_ peer: HelloState, into effects: inout [DestinationEffect]) {
    if peer.authority == .destination { return }
    record.prepared = nil
    record.preparedAuthority = nil
    if peer.generation > record.generation {
      record.generation = peer.generation
      record.authority = peer.authority
      showAuthority(into: &effects)
    }
  }

  private mutating func showAuthority(into effects: inout [DestinationEffect]) {
    switch record.authority {
    case .standIn:
      record.inconsistentSince = nil
      changeStage(.standIn, into: &effects)
    case .destination:
      record.inconsistentSince = nil
      changeStage(.fenced, into: &effects)
    case .source: if stage == .standIn { changeStage(.receiving, into: &effects) }
    case .destinationOnly: break
    }
  }

  private mutating func linkDown(_ id: UInt64, _ why: String, into effects: inout [DestinationEffect]) {
    if offer?.link == id { offer = nil }
    guard link == id else { return }
    link = nil
    effects.append(.journal("link lost: \(why)"))
    // What waits is dropped; what runs is waited for before a new hello is answered.
    for item in work where !item.isRunning {
      effects.append(.drop(link: item.link, requestID: item.requestID))
    }
    work.removeAll { !$0.isRunning }
  }

  mutating func fail(_ why: String, into effects: inout [DestinationEffect]) {
    guard let id = link else { return }
    effects.append(.closeLink(link: id, why: why))
    linkDown(id, why, into: &effects)
  }

  // MARK: generations

  mutating func prepare(
    _ requestID: UInt64, _ generation: Generation, _ authority: CopyAuthority,
    into effects: inout [DestinationEffect]
  ) {
    guard generation > record.generation, whyNotPrepared == nil else {
      answer(
        requestID, .refused, whyNotPrepared ?? "generation \(generation) is not newer than \(record.generation)",
        into: &effects)
      return
    }
    guard preparing == nil else {
      answer(requestID, .busy, "another generation is being prepared", into: &effects)
      return
    }
    preparing = (requestID, generation, authority)
    effects.append(.local(link: Self.ownLink, requestID: requestID, .flush(volume: nil)))
  }

  private var whyNotPrepared: String? {
    switch stage {
    case .prepared, .receiving, .standIn: nil
    case .fenced, .releasing, .released: "the destination is final"
    case .cancelled: "the session is cancelled"
    }
  }

  mutating func preparedFlushed(_ requestID: UInt64, _ status: IOStatus, into effects: inout [DestinationEffect]) {
    guard let current = preparing, current.requestID == requestID else { return }
    preparing = nil
    guard status == .ok else {
      lastError = "the destination's disk could not be flushed"
      answer(requestID, .ioError, "the destination's disk could not be flushed", into: &effects)
      answerOffer(into: &effects)
      return
    }
    guard link != nil else {
      answerOffer(into: &effects)
      return
    }
    record.prepared = current.generation
    record.preparedAuthority = current.authority
    store(.prepared(requestID: requestID), into: &effects)
  }

  mutating func committed(
    _ requestID: UInt64, _ generation: Generation, _ authority: CopyAuthority,
    into effects: inout [DestinationEffect]
  ) {
    if generation == record.generation && authority == record.authority {
      answer(requestID, .ok, "", into: &effects)
      return
    }
    guard generation > record.generation,
      authority != .destination || (record.prepared == generation && record.preparedAuthority == authority)
    else {
      answer(requestID, .refused, "generation \(generation) was not prepared here", into: &effects)
      return
    }
    record.generation = generation
    record.authority = authority
    record.prepared = nil
    record.preparedAuthority = nil
    showAuthority(into: &effects)
    store(.committed(requestID: requestID), into: &effects)
  }

  // MARK: commands

  private mutating func perform(
    _ command: DestinationCommand, into effects: inout [DestinationEffect]
  ) -> CommandAnswer {
    switch command {
    case .release:
      switch stage {
      case .releasing, .released: return .accepted
      case .fenced:
        changeStage(.releasing, into: &effects)
        beginRelease(into: &effects)
        return .accepted
      default: return .refused(why: "the source is not fenced: the destination may not be opened yet")
      }
    case .retire:
      return stage == .released || stage == .cancelled
        ? .accepted
        : .refused(why: "only a released or cancelled destination is retired; this one is \(stage.rawValue)")
    case .cancel:
      if [.fenced, .releasing, .released].contains(stage) {
        return .refused(why: "the source is fenced: this is the only copy in use; release it")
      }
      cancel(into: &effects)
      return .accepted
    }
  }

  private mutating func beginRelease(into effects: inout [DestinationEffect]) {
    unreleased = Set(configuration.volumes.indices.map(UInt16.init))
    store(.releasing, into: &effects)
  }

  private mutating func volumeReleased(
    _ volume: UInt16, _ isReleased: Bool, into effects: inout [DestinationEffect]
  ) {
    guard stage == .releasing, unreleased.contains(volume) else { return }
    guard isReleased else {
      lastError = "the withheld parts of a volume could not be written; it is tried again"
      releaseRetryAt = now.adding(seconds: Self.retrySeconds)
      return
    }
    unreleased.remove(volume)
    guard unreleased.isEmpty else { return }
    // Nobody learns of it before it is durable: an agent that forgot it would write the withheld parts once more, over
    // what the host has written since.
    record.stage = DestinationStage.released.rawValue
    store(.released, into: &effects)
  }

  mutating func cancel(into effects: inout [DestinationEffect]) {
    switch stage {
    case .fenced, .releasing, .released, .cancelled: return
    case .prepared, .receiving, .standIn: break
    }
    if record.inconsistentSince == nil { record.inconsistentSince = wall }
    changeStage(.cancelled, into: &effects)
    store(.note, into: &effects)
  }
}
