import BlockModel
import H2HProtocol
import Replication

/// Two agents, their disks, a link between them and an application, driven by chance.
struct SimulatedWorld {
  enum Side: Int {
    case source = 0
    case destination = 1
    var other: Side { self == .source ? .destination : .source }
  }

  struct Packet {
    enum Content {
      case hello(HelloState)
      case helloAnswer(HelloState)
      case frame(H2HFrame, payload: [UInt64])
    }
    var content: Content
  }

  struct SimulatedLink {
    var id: UInt64
    var opener: Side
    /// Of the protocol: the other agent may be one version behind.
    var version: UInt16
    var isBroken = false
    /// By receiving side and lane.
    var queues: [[[Packet]]] = Array(repeating: Array(repeating: [], count: 3), count: 2)
    var isEstablished = [false, false]
    var isKnownDown = [false, false]
  }

  struct ApplicationRequest {
    var id: UInt64
    var volume: Int
    var operation: ApplicationOperation
    var range: ByteRange
    var durable: Bool
    var start: Int
    /// What a read has seen, cell by cell.
    var seen: [UInt64] = []
  }

  /// Something that an agent's driver has begun. It is performed at any later time, or lost with its agent.
  enum Work {
    case local(id: UInt64, volume: Int, ApplicationOperation, ByteRange, durable: Bool)
    case copyRead(transfer: UInt64, volume: Int, ByteRange, pieceBytes: UInt64, mayPack: Bool)
    case intent(volume: Int, page: Int, revision: UInt64, bytes: [UInt8])
    case store(Side, revision: UInt64, [UInt8])
    case flushLocal(checkpoint: UInt64)
    case digest(id: UInt64, volume: Int, ByteRange)
    case destinationLocal(link: UInt64, requestID: UInt64, DestinationOperation)
    /// Performed; only the answer is on its way.
    case tellSource(SourceEvent)
    case tellDestination(DestinationEvent)

    var side: Side {
      switch self {
      case .store(let side, _, _): side
      case .destinationLocal, .tellDestination: .destination
      default: .source
      }
    }
  }

  static let usualSizes: [UInt64] = [4 << 20, (5 << 20) + 8192]
  static let session = SessionID("simulated/migration")

  /// What each half's own file says durably; the source's is what the application has.
  var sizes: [[UInt64]]
  var volumeSizes: [UInt64] { sizes[0] }
  var growth = Growth.none
  var chance: Chance
  var time = 0
  var clock = MonotonicTime(nanoseconds: 1_000_000_000)
  var isCalm = false
  var isTracing = false
  var report = SimulationReport()

  var source: SourceMachine?
  var destination: DestinationMachine?
  var disks: [[SimulatedDisk]]
  var records: [[UInt8]?] = [nil, nil]
  /// What the source's record says durably.
  var recordedAuthority: CopyAuthority?
  var intentPages: [[Int: [UInt8]]]
  var boots: [UInt64] = [0, 0]
  var lastGenerations: [UInt64] = [0, 0]

  var work: [Work] = []
  /// Slow: performed long after what was begun later.
  var lingering: [(item: Work, due: Int)] = []
  var lastDestinationPowerCut = 0
  var link: SimulatedLink?
  var linkCounter: UInt64 = 0
  /// Payloads that drivers keep: by transfer at the source, by frame at the destination.
  var transferData: [UInt64: [UInt64]] = [:]
  var frameData: [FrameKey: [UInt64]] = [:]
  var readData: [FrameKey: [UInt64]] = [:]
  var unanswered: [UInt64: (volume: Int, range: ByteRange)] = [:]

  /// What the machines said last to a command, and the hold that the source's agent wants kept.
  var lastAnswer: CommandAnswer?
  var lastHold: (cause: HoldCause, why: String)?

  var requests: [UInt64: ApplicationRequest] = [:]
  var requestCounter: UInt64 = 0
  /// Those whose part on the source's disk failed.
  var failedLocally: Set<UInt64> = []
  var histories: [[CellHistory]]
  var mayWrite = true
  var bypass = Bypass.none
  /// Durable: the source's next start finds all of every volume marked.
  var isLossMarked = false
  /// The tap is in again, and the machine was not told yet.
  var isInsertionNew = false

  var sourceEffects: [SourceEffect] = []
  /// Spoiled by the destination's disk and not mended yet.
  var rotten: (volume: Int, cell: Int)?
  var destinationEffects: [DestinationEffect] = []
  /// The frame whose `handle` is being performed.
  var payloadInHand: [UInt64] = []

  struct FrameKey: Hashable {
    var link: UInt64
    var requestID: UInt64
  }

  init(seed: UInt64, volumeSizes: [UInt64] = usualSizes) {
    sizes = [volumeSizes, volumeSizes]
    chance = Chance(seed: seed)
    let cells = volumeSizes.map { Int(($0 + SimulatedDisk.cellBytes - 1) / SimulatedDisk.cellBytes) }
    disks = (0..<2).map { _ in cells.map { SimulatedDisk(cells: $0) } }
    histories = cells.map { Array(repeating: CellHistory(), count: $0) }
    intentPages = cells.map { _ in [:] }
    // The source holds something at first: writes nobody saw begin, long done.
    for volume in cells.indices {
      for cell in 0..<cells[volume] where chance.below(3) > 0 {
        requestCounter += 1
        disks[0][volume].write(cell, requestCounter, durably: true)
        _ = histories[volume][cell].restart(with: requestCounter, at: 0)
      }
    }
    startSource()
    startDestination()
  }

  // MARK: agents

  private var sourceConfiguration: SourceConfiguration {
    var limits = ReplicationLimits()
    limits.smallestExtentBytes = 256 << 10
    limits.transferBytes = 128 << 10
    limits.copyWindowBytes = 1 << 20
    limits.checkpointBytes = 2 << 20
    limits.checkpointSeconds = 1
    limits.unflushedRuns = 20
    return SourceConfiguration(
      session: Self.session,
      volumes: volumeSizes.enumerated().map { .init(name: VolumeName("v\($0)"), sizeBytes: $1) },
      bootID: "boot\(boots[0])", openEpoch: boots[0], verify: .full, linkLossTimeoutSeconds: 5,
      resyncIntervalSeconds: 3, confirmWithinSeconds: nil, limits: limits)
  }

  private func record(_ side: Side) -> SessionRecord? {
    records[side.rawValue].flatMap { try? SessionRecord(decoding: $0) }
  }

  mutating func startSource() {
    boots[0] += 1
    if isBypassed { bypass = .noticed }
    let isLost = isBypassed || isLossMarked
    // Durably, before anything else.
    if isLost { intentPages = intentPages.map { _ in [:] } }
    source = SourceMachine(
      configuration: sourceConfiguration, record: record(.source), intentPages: intentPages,
      trackLost: isLost ? "bypassed" : nil)
    isInsertionNew = isLost && !isBypassed
    tellSource(.start(wall: WallTime(secondsSince1970: 1e9)))
    // The holder sends again what was not answered, in its order.
    for id in requests.keys.sorted() { submit(id) }
  }

  mutating func startDestination() {
    boots[1] += 1
    destination = DestinationMachine(
      configuration: DestinationConfiguration(
        session: Self.session,
        volumes: sizes[1].enumerated().map {
          .init(name: VolumeName("v\($0)"), sizeBytes: $1, isKnownZero: true)
        }, bootID: "boot\(boots[1])", openEpoch: boots[1], peer: KeyFingerprint("SHA256:00"),
        newCopyID: chance.next() | 1), record: record(.destination))
    tellDestination(.start(wall: WallTime(secondsSince1970: 1e9)))
  }

  mutating func crash(_ side: Side, powerCut: Bool) throws(SimulationFailure) {
    report.faults[powerCut ? "power cut" : "process kill", default: 0] += 1
    if powerCut && side == .destination { lastDestinationPowerCut = time }
    hurry()
    // What was under way may have happened in part; nobody is told.
    let lost = work.filter { $0.side == side }
    work.removeAll { $0.side == side }
    for item in lost where chance.oneIn(2) { performPartly(item) }
    for item in lost {
      if case .local(let id, _, .read, _, _) = item { requests[id]?.seen = [] }
    }
    if powerCut { for volume in disks[side.rawValue].indices { disks[side.rawValue][volume].powerCut(&chance) } }
    breakLink(knownAt: nil)
    if side == .source {
      source = nil
      transferData = [:]
      // Their answers died with it: they are asked again.
      failedLocally = []
      if powerCut { try restartApplication() }
    } else {
      destination = nil
      frameData = [:]
      readData = [:]
    }
  }

  /// The host is gone and the application with it: what the disk holds is what counts now.
  private mutating func restartApplication() throws(SimulationFailure) {
    requests = [:]
    for volume in histories.indices {
      for cell in histories[volume].indices {
        let value = disks[0][volume].current[cell]
        if !histories[volume][cell].restart(with: value, at: time) {
          throw fail("a flushed write was lost by a power cut: volume \(volume) cell \(cell) holds \(value)")
        }
      }
    }
  }

  mutating func tellSource(_ event: SourceEvent) {
    guard source != nil else { return }
    source?.handle(event, at: clock, into: &sourceEffects)
    let effects = sourceEffects
    sourceEffects.removeAll(keepingCapacity: true)
    for effect in effects { perform(effect) }
  }

  mutating func tellDestination(_ event: DestinationEvent) {
    guard destination != nil else { return }
    destination?.handle(event, at: clock, into: &destinationEffects)
    let effects = destinationEffects
    destinationEffects.removeAll(keepingCapacity: true)
    for effect in effects { perform(effect) }
  }

  func fail(_ what: String) -> SimulationFailure { SimulationFailure(what: what, event: time) }
  var failure: SimulationFailure?
  mutating func note(_ what: String) { if failure == nil { failure = fail(what) } }

  func cells(_ range: ByteRange) -> Range<Int> {
    Int(
      range.offset / SimulatedDisk.cellBytes)..<Int(
        (range.end + SimulatedDisk.cellBytes - 1) / SimulatedDisk.cellBytes)
  }
}
