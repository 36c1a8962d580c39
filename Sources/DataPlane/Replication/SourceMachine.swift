package import BlockModel
import H2HProtocol

/// The source's half of a session: decides, and does no I/O. One lock around `handle` serializes its events.
///
/// Parts: +Application (the tap's requests), +Copying (copier and checkpoints), +Link, +Authority (swing, revert, fall
/// back, fence), +Commands, +Proof, +Verification, +Observing.
package struct SourceMachine: Sendable {
  package internal(set) var configuration: SourceConfiguration
  package internal(set) var stage: SourceStage = .prepared
  var limits: ReplicationLimits { configuration.limits }

  // What the record says.
  var generation: Generation
  var authority: CopyAuthority
  var copyID: UInt64
  var initialSynchronizationAt: WallTime?
  var swings: Int
  var receiptDigest: String?
  var pendingHold: (cause: HoldCause, why: String)?
  let unknownLines: [String]
  /// Never to be used again, though a commit may have failed.
  var highestGeneration: Generation

  // Time.
  var now = MonotonicTime(nanoseconds: 0)
  var started: (wall: WallTime, at: MonotonicTime)?
  var wall: WallTime {
    started.map { $0.wall.adding(seconds: now.seconds(since: $0.at)) } ?? WallTime(secondsSince1970: 0)
  }

  // The record's store: one at a time; a note is written from what holds when its turn comes.
  enum StorePurpose: Sendable, Equatable {
    case note
    case commit(CopyAuthority)
    case fallBack
  }
  var storeRevision: UInt64 = 0
  var storing: (revision: UInt64, purpose: StorePurpose, generation: Generation)?
  var queuedCommit: StorePurpose?
  var wantsNote = false
  /// The stage in the record being stored.
  var storingStage = ""
  /// The tap was opened again and the record does not say so yet: after a restart it would refuse what is sent again.
  var isOpening = false
  var storeRetryAt: MonotonicTime?

  // Volumes and application requests.
  var volumes: [VolumeState]
  var requests: [Request] = []
  var freeSlots: [Int] = []
  var slotOfRequest: [UInt64: Int] = [:]
  var locks: [RangeLock] = []
  var waiting: [Int] = []
  var waitingSince: MonotonicTime?
  var intentWaiting: [Int] = []
  /// Issued or waiting for an intent; not those in `waiting`.
  var activeCount = 0
  var requestCounter: UInt32 = 0

  // Link.
  struct Link: Sendable {
    var id: UInt64
    /// Of the protocol, as both ends agreed.
    var version: UInt16
    var lastHeard: MonotonicTime
    var lastPing: MonotonicTime
    /// The last ping's frame, until it is answered.
    var pingID: UInt64?
    /// The shortest time there and back.
    var roundTripSeconds: Double?
  }
  var link: Link?
  var pendingOffer: LinkOffer?
  var disconnectedSince: WallTime?
  var controlCounter: UInt64 = 0
  /// The record may name the destination's copy once every extent is durably marked.
  var adoptingCopy: UInt64?

  struct LinkOffer: Sendable {
    var link: UInt64
    /// Nil: our own connection, to say hello on.
    var state: HelloState?
    var version: UInt16
    var isHelloSent = false
  }

  // Copier.
  var transfers: [Transfer] = []
  var transferCounter: UInt64 = 0
  var windowBytes = 0
  /// Below zero: taken beyond what was granted, and repaid from later grants.
  var budget: Int64?
  var pass: Pass?
  var nextPassAt: MonotonicTime?
  var copyRetryAt: MonotonicTime?
  var nextVolume = 0
  var rate = RateMeter()
  var copyMeter = BusyMeter()
  var copyStages = CopyStages()
  var dirtySince: MonotonicTime?

  // Checkpoints.
  var unflushed: [UnflushedRun] = []
  var checkpoint: Checkpoint?
  var checkpointCounter: UInt64 = 0
  var lastCheckpointDone: UInt64 = 0
  /// The one that must be done before the barrier of the swing under way.
  var swingCheckpoint: UInt64?
  var lastCheckpointAt = MonotonicTime(nanoseconds: 0)
  var bytesSinceCheckpoint: UInt64 = 0
  var wantsCheckpoint = false
  var checkpointRetryAt: MonotonicTime?
  var intentRetryAt: MonotonicTime?

  // Authority.
  var barrier: Barrier?
  var fallback: String?
  var swingAbortAfterSeconds: Double { configuration.linkLossTimeoutSeconds }
  var confirmBy: MonotonicTime?
  /// Of a swing that is asked for or under way, where it has one with others.
  var swingDeadline: MonotonicTime?
  var isSwingConfirmed = false
  var lastSwingPauseSeconds: Double?
  /// When the record that gives authority to the stand-in was last written; means something only while it has it.
  var standInSince: WallTime?
  var longestPauseSeconds = 0.0
  var isHostFenced = false
  var fenceRetryAt: MonotonicTime?
  var isFenceAnnounced = false
  var fenceRequestID: UInt64?
  /// What a finished revert leads to.
  var afterRevert: SourceStage = .tracking

  // Proof.
  var comparisons: [Comparison] = []
  var comparisonCounter: UInt64 = 0
  var comparedBytes: UInt64 = 0
  var verifyCursor: (volume: Int, extent: Int) = (0, 0)
  var isVerificationIdle = false
  /// The one that a command asked for, whatever the configuration says of proofs.
  var verification: Verification?
  /// As `budget`, of what is read to be compared.
  var comparisonBudget: Int64?
  var comparisonMeter = BusyMeter()
  var isReceiptPending = false
  var verificationRetryAt: MonotonicTime?
  /// Times that an extent (volume, extent) was found different since the proof began.
  var repairs: [UInt64: Int] = [:]

  // The tap.
  /// Why writes of the application may go past the tap now; nil while all of them come through here. Nothing is copied,
  /// compared or handed over meanwhile: what was read may be old a moment later, and no mark would say so.
  var trackLost: String?
  /// Not every mark that the loss made is certainly durable.
  var isLossUnnoted = false

  // For people.
  var lastError: String?
  var swingGivenUp: String?
  var isSourceDegraded = false

  /// `record` and `intentPages` (by volume, then page number) are what the state store holds, nil and empty at first. A
  /// missing or damaged page costs copying again, never data. `trackLost`: why the tap is not in the application's way
  /// now, where it should be; `.tracked` tells that it is.
  package init(
    configuration: SourceConfiguration, record: SessionRecord?, intentPages: [[Int: [UInt8]]], trackLost: String? = nil
  ) {
    precondition(!configuration.volumes.isEmpty && configuration.volumes.count <= H2HLimits.volumes)
    self.configuration = configuration
    generation = record?.generation ?? .initial
    highestGeneration = generation
    authority = record?.authority ?? .source
    copyID = record?.copyID ?? 0
    initialSynchronizationAt = record?.initialSynchronizationAt
    swings = record?.swings ?? 0
    standInSince = record?.standInSince
    receiptDigest = record?.receiptDigest
    unknownLines = record?.unknown ?? []
    volumes = configuration.volumes.enumerated().map { index, volume in
      VolumeState(
        volume, configuration.limits, intentPages: intentPages.indices.contains(index) ? intentPages[index] : [:],
        isChangedUnknown: record?.initialSynchronizationAt != nil)
    }
    if let cause = record?.holdCause, let why = record?.holdWhy { pendingHold = (cause, why) }
    stage = Self.restored(record)
    self.trackLost = trackLost
  }

  /// What a stage is after a restart: no swing, proof or closed barrier outlives the process.
  private static func restored(_ record: SessionRecord?) -> SourceStage {
    guard let record, let stage = SourceStage(rawValue: record.stage) else { return .prepared }
    if record.authority == .destination { return .fenced }
    switch stage {
    case .swinging, .standIn: return .tracking
    case .proving, .proven: return .tapClosed
    case .prepared, .synchronizing, .tracking, .tapClosed, .cancelled: return stage
    case .fenced: return .tapClosed
    }
  }

  /// Changes what may change of a running session; volumes and session stay.
  package mutating func reconfigure(_ configuration: SourceConfiguration) {
    precondition(configuration.session == self.configuration.session)
    precondition(configuration.volumes == self.configuration.volumes)
    self.configuration = configuration
  }

  /// Appends what is to be done. `now` never goes backwards.
  package mutating func handle(_ event: SourceEvent, at now: MonotonicTime, into effects: inout [SourceEffect]) {
    self.now = now
    switch event {
    case .application(let id, let volume, let operation, let range, let durable):
      accept(id, volume, operation, range, durable, into: &effects)
    case .localDone(let id, let status): localDone(id, status, into: &effects)
    case .message(let link, let frame): message(link, frame, into: &effects)
    case .copyRead(let id, let status, let isZero, let length, let packedBytes):
      copyRead(id, status, isZero, length, packedBytes, into: &effects)
    case .intentStored(let volume, let page, let revision, let isStored):
      intentStored(volume, page, revision, isStored, into: &effects)
    case .tick: tick(into: &effects)
    default: handleRare(event, into: &effects)
    }
  }

  private mutating func handleRare(_ event: SourceEvent, into effects: inout [SourceEffect]) {
    switch event {
    case .start(let wall): start(wall, into: &effects)
    case .command(let command, let id): effects.append(.commandAnswer(id: id, perform(command, into: &effects)))
    case .stored(let revision, let isStored): stored(revision, isStored, into: &effects)
    case .localFlushed(let id, let isFlushed): localFlushed(id, isFlushed, into: &effects)
    case .localDigest(let id, let digest): localDigest(id, digest, into: &effects)
    case .receiptStored(let digest): receiptStored(digest, into: &effects)
    case .verificationKept(let isKept): verificationKept(isKept, into: &effects)
    case .hostFenced(let isFenced): hostFenced(isFenced, into: &effects)
    case .linkOpening(let link): linkOffered(link, nil, version: 0, into: &effects)
    case .linkOffered(let link, let state, let version):
      linkOffered(link, state, version: version, into: &effects)
    case .linkUp(let link, let state, let version): linkUp(link, state, version: version, into: &effects)
    case .linkDown(let link, let why): linkDown(link, why, into: &effects)
    case .copyBudget(let change): changeBudget(change, into: &effects)
    case .comparisonBudget(let change): changeComparisonBudget(change, into: &effects)
    case .grown(let sizes): grow(to: sizes, into: &effects)
    case .untracked(let why): lostTrack(why, into: &effects)
    case .tracked: regainedTrack(into: &effects)
    case .application, .localDone, .message, .copyRead, .intentStored, .tick: break
    }
  }

  // MARK: start and the record

  private mutating func start(_ wall: WallTime, into effects: inout [SourceEffect]) {
    guard started == nil else { return }
    started = (wall, now)
    lastCheckpointAt = now
    disconnectedSince = wall
    if let pendingHold { effects.append(.hold(pendingHold.cause, why: pendingHold.why)) }
    for index in volumes.indices { storeIntents(of: index, into: &effects) }
    switch authority {
    case .standIn, .destinationOnly:
      beginFallBack("the source's agent restarted during stand-in", into: &effects)
    case .destination:
      effects.append(.fenceHost)
      note(into: &effects)
    case .source:
      note(into: &effects)
      if stage == .synchronizing { startPass() }
      if stage == .tracking { nextPassAt = now }
    }
  }

  mutating func setStage(_ stage: SourceStage, into effects: inout [SourceEffect]) {
    guard self.stage != stage else { return }
    isOpening = isOpening || (!self.stage.takesApplicationIO && stage.takesApplicationIO)
    self.stage = stage
    effects.append(.stageChanged)
    note(into: &effects)
  }

  /// Keeps what the record says up to date, soon.
  mutating func note(into effects: inout [SourceEffect]) {
    wantsNote = true
    storeNext(into: &effects)
  }

  mutating func commit(_ purpose: StorePurpose, into effects: inout [SourceEffect]) {
    queuedCommit = purpose
    storeNext(into: &effects)
  }

  mutating func storeNext(into effects: inout [SourceEffect]) {
    guard storing == nil, started != nil else { return }
    if let retry = storeRetryAt {
      guard now >= retry else { return }
      storeRetryAt = nil
    }
    let purpose: StorePurpose
    if let queued = queuedCommit {
      queuedCommit = nil
      purpose = queued
    } else if wantsNote {
      wantsNote = false
      purpose = .note
    } else {
      return
    }
    var record = SessionRecord(
      session: configuration.session, role: .source, generation: generation, authority: authority,
      stage: stage.rawValue)
    switch purpose {
    case .note:
      record.holdCause = pendingHold?.cause
      record.holdWhy = pendingHold?.why
      pendingHold = nil
    case .commit(let authority):
      record.generation = highestGeneration
      record.authority = authority
      if authority == .standIn {
        record.stage = SourceStage.standIn.rawValue
        standInSince = wall
      }
      if authority == .destination { record.stage = SourceStage.fenced.rawValue }
    case .fallBack:
      highestGeneration = highestGeneration.next
      record.generation = highestGeneration
      record.authority = .source
      record.stage = SourceStage.tracking.rawValue
      record.holdCause = .failure
      record.holdWhy = fallback
    }
    record.copyID = copyID
    record.initialSynchronizationAt = initialSynchronizationAt
    record.swings = swings
    record.standInSince = record.authority == .standIn ? standInSince : nil
    record.receiptDigest = receiptDigest
    record.unknown = unknownLines
    storeRevision += 1
    storingStage = record.stage
    storing = (storeRevision, purpose, record.generation)
    effects.append(.store(revision: storeRevision, record))
  }

  private mutating func stored(_ revision: UInt64, _ isStored: Bool, into effects: inout [SourceEffect]) {
    guard let current = storing, current.revision == revision else { return }
    storing = nil
    if !isStored {
      lastError = "the session's record could not be stored; free space in the agent's state directory"
      storeRetryAt = now.adding(seconds: limits.retrySeconds)
    }
    if isStored, isOpening, SourceStage(rawValue: storingStage)?.takesApplicationIO ?? false {
      isOpening = false
      startWaiting(into: &effects)
    }
    switch current.purpose {
    case .note: if !isStored { wantsNote = true }
    case .commit(let target): committed(target, current.generation, isStored, into: &effects)
    case .fallBack: fellBack(current.generation, isStored, into: &effects)
    }
    storeNext(into: &effects)
  }

  // MARK: time

  private mutating func tick(into effects: inout [SourceEffect]) {
    guard started != nil else { return }
    rate.tick(now)
    storeNext(into: &effects)
    watchLink(into: &effects)
    watchSwing(into: &effects)
    if let retry = intentRetryAt, now >= retry {
      intentRetryAt = nil
      for index in volumes.indices { storeIntents(of: index, into: &effects) }
    }
    if stage == .tracking, pass == nil, let due = nextPassAt, now >= due { startPass() }
    considerCheckpoint(into: &effects)
    pump(into: &effects)
    advanceVerification(into: &effects)
    if isHostFenced { announceFence(into: &effects) } else if stage == .fenced { retryHostFence(into: &effects) }
  }
}

/// What the copier and the application know of one volume.
struct VolumeState: Sendable {
  let name: VolumeName
  private(set) var sizeBytes: UInt64
  let blockBytes: UInt64
  private(set) var blockCount: Int
  private(set) var extentCount: Int
  /// Of the sync: may differ from the destination. What is in flight or not covered by a flush is in `transfers` and
  /// `unflushed`.
  var dirty: DirtyMap
  var intent: IntentMap
  /// Blocks that certainly read as zero at the destination; nil where nothing is known.
  var knownZero: BitSet?
  /// Extents found equal since they were last written, and their digests.
  var verified: BitSet
  var digests: [ExtentDigest?] = []
  /// Extents written since the initial synchronization.
  var changed: BitSet
  var cursor = 0
  /// The copier's last piece was zero, so the next ones may be too: a long run is asked for at once.
  var isInZeroes = false
  var counters = SourceVolumeObservation()

  init(
    _ volume: SourceConfiguration.Volume, _ limits: ReplicationLimits, intentPages: [Int: [UInt8]],
    isChangedUnknown: Bool
  ) {
    name = volume.name
    sizeBytes = volume.sizeBytes
    blockBytes = limits.blockBytes(forVolumeBytes: sizeBytes)
    blockCount = Int((sizeBytes + blockBytes - 1) / blockBytes)
    let extentBytes = limits.extentBytes(forVolumeBytes: sizeBytes)
    intent = IntentMap(sizeBytes: sizeBytes, extentBytes: extentBytes, stored: intentPages)
    extentCount = intent.count
    dirty = DirtyMap(sizeBytes: sizeBytes, blockBytes: blockBytes)
    verified = BitSet(count: extentCount)
    changed = BitSet(count: extentCount, all: isChangedUnknown)
    var extent = 0
    while let run = intent.wanted.nextRun(from: extent, limit: extentCount) {
      dirty.insert(blocks(ofExtents: run))
      extent = run.upperBound
    }
  }

  /// What is new may differ, and so may all of the block and extent that used to be the last.
  mutating func grow(to newSizeBytes: UInt64, isSynchronized: Bool) {
    let lastExtent = max(0, extentCount - 1)
    sizeBytes = newSizeBytes
    dirty.grow(to: newSizeBytes)
    intent.grow(to: newSizeBytes)
    blockCount = dirty.blocks.count
    extentCount = intent.count
    // At the destination nobody knows what lies beyond the former end.
    knownZero?.grow(to: blockCount)
    verified.grow(to: extentCount)
    verified.remove(lastExtent..<extentCount)
    if !digests.isEmpty { digests += Array(repeating: nil, count: extentCount - digests.count) }
    changed.grow(to: extentCount)
    if isSynchronized { changed.insert(lastExtent..<extentCount) }
  }

  func blocks(of range: ByteRange) -> Range<Int> {
    Int(range.offset / blockBytes)..<Int((range.end + blockBytes - 1) / blockBytes)
  }
  func extents(of range: ByteRange) -> Range<Int> { intent.extents(from: range.offset, to: range.end) }
  func bytes(ofBlocks blocks: Range<Int>) -> ByteRange {
    ByteRange(
      from: UInt64(blocks.lowerBound) * blockBytes, to: min(UInt64(blocks.upperBound) * blockBytes, sizeBytes))
  }
  func bytes(ofExtent extent: Int) -> ByteRange {
    ByteRange(
      from: UInt64(extent) * intent.extentBytes, to: min(UInt64(extent + 1) * intent.extentBytes, sizeBytes))
  }
  func bytes(ofExtents extents: Range<Int>) -> ByteRange {
    ByteRange(
      from: UInt64(extents.lowerBound) * intent.extentBytes,
      to: min(UInt64(extents.upperBound) * intent.extentBytes, sizeBytes))
  }
  func blocks(ofExtents extents: Range<Int>) -> Range<Int> {
    let perExtent = Int(intent.extentBytes / blockBytes)
    return extents.lowerBound * perExtent..<min(extents.upperBound * perExtent, blockCount)
  }
  func extents(ofBlocks blocks: Range<Int>) -> Range<Int> {
    let perExtent = Int(intent.extentBytes / blockBytes)
    return blocks.lowerBound / perExtent..<(blocks.upperBound + perExtent - 1) / perExtent
  }
  var dirtyBytes: UInt64 { dirty.bytes }
  /// The last extent may be a short one.
  var equalBytes: UInt64 { min(UInt64(verified.setCount) * intent.extentBytes, sizeBytes) }
}
