internal import AgentProtocol
internal import BlockModel
internal import H2HProtocol
internal import LinuxPlatform
internal import NBDServer
internal import Replication
internal import Seams

/// The source's half of a session: the machine under one lock, and threads that do what it says.
///
/// Every event goes through `post`. Frames are put on their lanes inside the lock, so that they leave in the machine's
/// order; everything else is done after it. A thread that serves a lane never does disk work: pools do.
final class SourceSession: AgentSession, LinkOwner {
  struct State: Sendable {
    var machine: SourceMachine
    var entry: SessionEntry
    /// Accepted by the machine and not completed.
    var applications: [UInt64: ApplicationRequest] = [:]
    /// Beyond the machine's limit: handed over as others complete, in order.
    var waiting: [PendingApplication] = []
    var transfers: [UInt64: PooledBuffer] = [:]
    var links: [UInt64: Link] = [:]
    var governor: RateGovernor
    /// Comparing reads both disks and leaves the link alone: it has a capacity of its own, and no network limit.
    var comparing: RateGovernor
    var latency: LatencyGuard
    /// Its last word.
    var yield = 1.0
    var latencySums = LatencySums()
    var keptVerification: KeptVerification?
    var stages = StageWindow()
    var nextID: UInt64 = 1
    var receiptPath: String?
    /// Why the last link ended or could not be had.
    var linkTrouble: String?
    var isStarting = false
    var isBringingTapBack = false
    var isParked = false
  }

  struct PendingApplication: Sendable {
    var request: ApplicationRequest
    var volume: Int
    var operation: ApplicationOperation
    var range: ByteRange
    var durable: Bool
  }

  /// One volume's device and what was done on it.
  struct Volume: Sendable {
    var name: VolumeName
    var path: String
    var device: any BlockDevice
    /// Page cache beneath: an application's read or write may be done on the thread that brought it.
    var isInline: Bool
    var counters: Counters
    /// Follows a device that grew; answers its size.
    var refreshSize: @Sendable () -> Result<UInt64, BlockDeviceError>
    var close: @Sendable () -> Void
  }

  /// Whether the posting thread may do disk work.
  enum Poster {
    case worker
    case lane
    /// A copying thread, which may also wait for the link.
    case copier
  }

  let session: SessionID
  var half: SessionID { session }
  let resources: SessionResources
  let volumes: [Volume]
  let state: Monitor<State>
  let writer: StateWriter
  let journal: Journal
  let fence: any SourceFence
  let local = ThreadPool(name: "local", threadLimit: 8, waitingLimit: 16_384)
  /// Each reads and sends, so that their number is the source disk's queue depth. Where the page cache answers, one more
  /// than the lanes is best.
  let copying: ThreadPool
  let threads: Int
  let buffers: BufferPool
  /// What copying threads spend their time with.
  let stageMeter = StageMeter()
  let packing = Monitor(PackingGovernor())
  let smallBuffers = BufferPool(bufferBytes: smallBytes, limit: 128, isLazy: true)
  static let smallBytes = 64 << 10
  static let copyingThreadsCached = 3
  static let copyingThreads = 8
  /// An application's request of so many bytes is carried out on a thread of its own even where the page cache answers:
  /// the next one is received meanwhile, which is worth more than a change of threads.
  static let handedOverBytes: UInt64 = 256 << 10
  let commandAnswers = Monitor([UInt64: CommandAnswer]())
  let probes = Monitor([UInt64: Bool]())
  let taps: TapService
  let dialer = Monitor<LinkDialer?>(nil)
  let commands = Monitor(())
  let saving = Monitor(())
  static let commandSeconds = 30.0
  /// Also how fine a rate is portioned out: a share of any five seconds shows two ticks' worth.
  static let tickSeconds = 0.075
  /// Where something waits for its next grant.
  static let pacedTickSeconds = 0.01

  init(
    entry: SessionEntry, resources: SessionResources, volumes: [Volume], machine: SourceMachine, fence: any SourceFence
  ) throws(AgentFault) {
    let configuration = entry.configuration
    session = configuration.session
    self.resources = resources
    self.volumes = volumes
    self.fence = fence
    let limits = machine.configuration.limits
    threads = volumes.allSatisfy(\.isInline) ? Self.copyingThreadsCached : Self.copyingThreads
    copying = ThreadPool(name: "copy", threadLimit: threads, waitingLimit: 16_384)
    buffers = BufferPool(
      bufferBytes: H2HLimits.payloadBytes, limit: 2 * threads + 8, isLazy: true)
    journal = Journal(store: resources.catalogue.state, path: Journal.path(of: session), time: resources.time)
    let now = resources.time.monotonicNow()
    state = Monitor(
      State(
        machine: machine, entry: entry,
        governor: RateGovernor(
          session: session, limits: configuration.limits, transferBytes: limits.limitedTransferBytes, now: now),
        comparing: RateGovernor(
          session: session, limits: configuration.limits.withoutNetwork, transferBytes: limits.limitedTransferBytes,
          now: now),
        latency: LatencyGuard(bound: configuration.limits.latencyBound)))
    let journal = journal
    do throws(SystemError) {
      writer = try StateWriter(store: resources.catalogue.state) { journal.append("stateNotStored", $0.message) }
    } catch {
      throw AgentFault(.failed, error.description)
    }
    taps = TapService(
      session: session, migration: configuration.migration, resources: resources, volumes: configuration.volumes,
      journal: journal)
  }

  var configuration: SessionConfiguration { state.withLock { $0.entry.configuration } }
  var isBringingTapBack: Bool { state.withLock { $0.isBringingTapBack } }
  var peerKeys: Set<KeyFingerprint> { configuration.peerKeys }
  var linkLossTimeoutSeconds: Double { configuration.linkLossTimeoutSeconds }

  // MARK: Events

  func post(
    _ event: SourceEvent, from poster: Poster = .worker, payload: UnsafeRawBufferPointer? = nil
  ) {
    var events = [event]
    while let next = events.popLast() {
      var work: [Work] = []
      state.withLock { state in handle(next, &state, &work) }
      for item in work { perform(item, poster, payload, &events) }
    }
  }

  /// Inside the lock: the machine, and what must keep its order.
  private func handle(_ event: SourceEvent, _ state: inout State, _ work: inout [Work]) {
    step(event, &state, &work)
    let limit = state.machine.configuration.limits.applicationRequests
    while !state.waiting.isEmpty, state.applications.count < limit {
      admit(state.waiting.removeFirst(), &state, &work)
    }
  }

  private func step(_ event: SourceEvent, _ state: inout State, _ work: inout [Work]) {
    var effects: [SourceEffect] = []
    state.machine.handle(event, at: resources.time.monotonicNow(), into: &effects)
    for effect in effects { route(effect, &state, &work) }
  }

  private func admit(_ pending: PendingApplication, _ state: inout State, _ work: inout [Work]) {
    state.applications[pending.request.id] = pending.request
    step(
      .application(
        id: pending.request.id, volume: UInt16(pending.volume), pending.operation, range: pending.range,
        durable: pending.durable), &state, &work)
  }

  /// A request from the tap.
  func application(
    volume: Int, _ operation: ApplicationOperation, _ request: NBDRequest, _ payload: PayloadBuffer,
    _ completion: @escaping NBDCompletion
  ) {
    var work: [Work] = []
    state.withLock { state in
      let id = state.nextID
      state.nextID += 1
      let application = ApplicationRequest(
        id: id, offset: request.range.offset, payload: payload, isMeasured: operation != .flush,
        completion: completion)
      let pending = PendingApplication(
        request: application, volume: volume, operation: operation,
        range: operation == .flush ? ByteRange(offset: 0, length: 0) : request.range, durable: request.durable)
      if state.applications.count < state.machine.configuration.limits.applicationRequests, state.waiting.isEmpty {
        admit(pending, &state, &work)
      } else {
        state.waiting.append(pending)
      }
    }
    var events: [SourceEvent] = []
    for item in work { perform(item, .worker, nil, &events) }
    for event in events { post(event) }
  }

  // MARK: Links

  /// A link that this end opened, before its hello.
  func opening(_ link: Link) {
    state.withLock { $0.links[link.number] = link }
    // A failure closes the link, which `ended` is told.
    try? link.start()
    post(.linkOpening(link: link.number))
  }

  func offered(_ link: Link, _ peer: HelloState) {
    let isFree = state.withLock { state in
      guard state.links[link.number] == nil, !state.isParked else { return false }
      state.links[link.number] = link
      return true
    }
    guard isFree else { return link.discard(why: "the link's number is taken") }
    // A failure closes the link, which `ended` is told.
    try? link.start()
    packing.withLock { $0 = PackingGovernor() }
    post(.linkOffered(link: link.number, peer, version: link.version))
  }

  func established(_ link: Link, _ peer: HelloState) {
    packing.withLock { $0 = PackingGovernor() }
    post(.linkUp(link: link.number, peer, version: link.version), from: .lane)
  }

  func ended(_ link: Link, why: String) {
    state.withLock { state in
      state.links[link.number] = nil
      state.linkTrouble = why
    }
    journal.append("linkEnded", why)
    post(.linkDown(link: link.number, why: why), from: .lane)
  }

  func handle(_ frame: H2HFrame, on lane: FrameLane, of link: Link) throws(LinkFailure) {
    let count = frame.message.payloadBytes
    if case .probe = frame.message {
      try lane.reader.skipPayload(count)
      probes.change { $0[frame.requestID] = true }
      return
    }
    guard count > 0 else { return post(.message(link: link.number, frame), from: .lane) }
    try lane.reader.readPayload(into: lane.payload(count))
    post(
      .message(link: link.number, frame), from: .lane, payload: UnsafeRawBufferPointer(lane.payload(count)))
  }

  // MARK: Life

  func start() {
    for volume in volumes where resources.host.status(volume.path)?.kind == .file {
      journal.append("opened", "\(volume.path), \(volume.isInline ? "through the page cache" : "direct")")
    }
    let wall = resources.time.wallNow()
    let wasClosed = isClosed
    state.withLock { $0.isStarting = true }
    post(.start(wall: wall))
    state.withLock { $0.isStarting = false }
    postBudgets()
    if state.withLock({ $0.entry.tapIsOpen }) {
      reopenTap()
    } else if wasClosed {
      submit(local) { [self] in closeAgain() }
    }
    let configuration = configuration
    openLink(configuration)
    do throws(SystemError) {
      try PlatformThread.start(name: "tick") { [self] in runTicks() }
    } catch {
      resources.log("session \(session) has no clock: \(error)")
    }
  }

  private func runTicks() {
    var tickAt = MonotonicTime.now.adding(seconds: Self.tickSeconds)
    while true {
      let isPacing = state.withLock { $0.governor.isPacing || $0.comparing.isPacing }
      let until = isPacing ? min(tickAt, MonotonicTime.now.adding(seconds: Self.pacedTickSeconds)) : tickAt
      if state.wait(until: until, { $0.isParked ? true : nil }) == true { return }
      guard MonotonicTime.now >= tickAt else {
        postGrants()
        continue
      }
      tickAt = MonotonicTime.now.adding(seconds: Self.tickSeconds)
      let stale = state.withLock { state in
        state.links.values.filter {
          !$0.isUp && MonotonicTime.now.seconds(since: $0.madeAt) > 2 * LinkLimits.handshakeSeconds
        }
      }
      for link in stale { link.close(why: "the peer did not finish the handshake in time") }
      post(.tick)
      postBudgets()
    }
  }

  private func postBudgets() {
    let now = resources.time.monotonicNow()
    state.withLock { state in
      let seen = state.machine.observation(at: now)
      state.stages.add(stageMeter.total(with: seen.copyStages), at: now)
      state.yield = state.latency.tick(latencySums(state), beside: [seen.copyPace, seen.comparisonPace], now: now)
    }
    postGrants()
  }

  private func postGrants() {
    let now = resources.time.monotonicNow()
    let peer = configuration.peerFingerprint
    let (copying, comparing) = state.withLock { state in
      let (copyPace, comparisonPace) = (state.machine.copyPace, state.machine.comparisonPace)
      return (
        resources.paces.withGroup(peer, .copying, now: now) {
          state.governor.tick(copyPace, yield: state.yield, in: &$0, now: now)
        },
        resources.paces.withGroup(peer, .comparing, now: now) {
          state.comparing.tick(comparisonPace, yield: state.yield, in: &$0, now: now)
        }
      )
    }
    if let copying { post(.copyBudget(copying)) }
    if let comparing { post(.comparisonBudget(comparing)) }
  }

  /// With how long the oldest request waits that is not answered.
  private func latencySums(_ state: State) -> LatencySums {
    var sums = state.latencySums
    guard state.entry.configuration.limits.latencyBound != nil else { return sums }
    let oldest = state.applications.values.lazy.filter(\.isMeasured).map(\.begunAt).min()
    sums.oldestWaitSeconds = oldest.map { max(0, MonotonicTime.now.seconds(since: $0)) } ?? 0
    return sums
  }

  func clearHost() { taps.remove() }

  func park() {
    let links = state.change { state in
      state.isParked = true
      return Array(state.links.values)
    }
    dialer.withLock { $0 }?.stop()
    let link = configuration.link
    if link.listens { resources.ports.leave(link, session: session) }
    taps.stop()
    for link in links {
      link.close(why: "the agent is shutting down")
      link.waitForEnd()
    }
    local.shutDown()
    copying.shutDown()
    writer.stop()
    journal.close()
    for volume in volumes { volume.close() }
  }

  // MARK: The link's configuration

  func openLink(_ configuration: SessionConfiguration) {
    LinkKeeper.open(
      configuration, owner: self, resources: resources, dialer: dialer,
      opening: { [weak self] link in self?.opening(link) },
      trouble: { [weak self] why in self?.noteTrouble(why) },
      isCurrent: { [weak self] link in self?.wants(link) ?? false })
  }

  private func noteTrouble(_ why: String) { state.withLock { $0.linkTrouble = why } }

  private func wants(_ link: LinkConfiguration) -> Bool {
    state.withLock { !$0.isParked && $0.entry.configuration.link == link }
  }
}
