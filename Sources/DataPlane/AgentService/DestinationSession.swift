internal import AgentProtocol
internal import BlockModel
internal import H2HProtocol
internal import LinuxPlatform
internal import Replication
internal import Seams

/// The destination's half of a session: the machine under one lock, and threads that do what it says.
///
/// A bulk lane's thread does its own disk work, which is what slows the sender to the disk's pace. The control lane's
/// thread hands disk work to a pool, so that no slow read holds back a mirrored write or an answer to a ping.
final class DestinationSession: AgentSession, LinkOwner, EntryKeeper {
  struct Key: Hashable, Sendable {
    var link: UInt64
    var request: UInt64
  }

  struct State: Sendable {
    var machine: DestinationMachine
    var entry: SessionEntry
    /// What came with frames whose `.local` is not done.
    var payloads: [Key: PooledBuffer] = [:]
    /// What was read for answers that are not sent.
    var results: [Key: PooledBuffer] = [:]
    var links: [UInt64: Link] = [:]
    var nextID: UInt64 = 1
    var linkTrouble: String?
    var isParked = false
  }

  struct Volume: Sendable {
    var name: VolumeName
    var path: String
    var device: WithheldDevice
    var close: @Sendable () -> Void
  }

  enum Poster {
    case bulkLane
    case controlLane
    case worker
  }

  /// Only the source has taps.
  var isBringingTapBack: Bool { false }
  let session: SessionID
  let half: SessionID
  let resources: SessionResources
  let volumes: [Volume]
  let state: Monitor<State>
  let writer: StateWriter
  let journal: Journal
  let local = ThreadPool(name: "local", threadLimit: 8, waitingLimit: 16_384)
  let small = BufferPool(bufferBytes: smallBytes, limit: 256, isLazy: true)
  let large = BufferPool(bufferBytes: H2HLimits.payloadBytes, limit: 24, isLazy: true)
  let commandAnswers = Monitor([UInt64: CommandAnswer]())
  let dialer = Monitor<LinkDialer?>(nil)
  let commands = Monitor(())
  let saving = Monitor(())
  static let smallBytes = 16 << 10
  static let commandSeconds = 30.0
  static let tickSeconds = 0.1

  init(
    entry: SessionEntry, resources: SessionResources, volumes: [Volume], machine: DestinationMachine
  ) throws(AgentFault) {
    session = entry.configuration.session
    half = entry.configuration.half
    self.resources = resources
    self.volumes = volumes
    journal = Journal(store: resources.catalogue.state, path: Journal.path(of: half), time: resources.time)
    state = Monitor(State(machine: machine, entry: entry))
    let journal = journal
    do throws(SystemError) {
      writer = try StateWriter(store: resources.catalogue.state) { journal.append("stateNotStored", $0.message) }
    } catch {
      throw AgentFault(.failed, error.description)
    }
  }

  var configuration: SessionConfiguration { state.withLock { $0.entry.configuration } }
  var peerKeys: Set<KeyFingerprint> { configuration.peerKeys }
  var linkLossTimeoutSeconds: Double { configuration.linkLossTimeoutSeconds }

  // MARK: Events

  func post(_ event: DestinationEvent, from poster: Poster = .worker) {
    var events = [event]
    while let next = events.popLast() {
      var work: [DestinationEffect] = []
      state.withLock { state in
        var effects: [DestinationEffect] = []
        state.machine.handle(next, at: resources.time.monotonicNow(), into: &effects)
        for effect in effects where !route(effect, &state) { work.append(effect) }
      }
      for effect in work { perform(effect, poster, &events) }
    }
  }

  /// Inside the lock: what must keep its order. False for what is done after it.
  private func route(_ effect: DestinationEffect, _ state: inout State) -> Bool {
    switch effect {
    case .send(let number, let lane, let frame):
      let key = Key(link: number, request: frame.requestID)
      let payload = payload(for: frame, key, &state)
      guard let link = state.links[number] else { return true }
      let outgoing = OutgoingFrame(frame, payload: payload)
      switch lane {
      case .control, .application: link.sendControl(outgoing)
      case .bulk: link.sendBulk(outgoing)
      }
    case .drop(let link, let request): state.payloads[Key(link: link, request: request)] = nil
    case .sendHello(let number, let hello): state.links[number]?.sendHellos(hello)
    case .answerHello(let number, let hello): state.links[number]?.answer(hello)
    case .linkEstablished(let number): state.links[number]?.markEstablished()
    case .closeLink(let number, let why): state.links[number]?.close(why: why)
    case .local, .store, .releaseVolume, .refuseHello, .commandAnswer, .stageChanged, .journal: return false
    }
    return true
  }

  private func payload(for frame: H2HFrame, _ key: Key, _ state: inout State) -> (any FramePayload)? {
    switch frame.message {
    case .readAnswer: state.results.removeValue(forKey: key)
    case .probe(let length, _) where length > 0: Filler(count: Int(length))
    default: nil
    }
  }

  // MARK: Links

  func opening(_ link: Link) {
    state.withLock { $0.links[link.number] = link }
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
    try? link.start()
    post(.linkOffered(link: link.number, peer))
  }

  func established(_ link: Link, _ peer: HelloState) { post(.linkUp(link: link.number, peer), from: .controlLane) }

  func ended(_ link: Link, why: String) {
    state.withLock { state in
      state.links[link.number] = nil
      state.linkTrouble = why
    }
    journal.append("linkEnded", why)
    post(.linkDown(link: link.number, why: why), from: .controlLane)
  }

  func handle(_ frame: H2HFrame, on lane: FrameLane, of link: Link) throws(LinkFailure) {
    let count = frame.message.payloadBytes
    if count > 0 {
      if case .probe = frame.message {
        try lane.reader.skipPayload(count)
      } else {
        let buffer = PooledBuffer(from: count <= Self.smallBytes ? small : large, count: count)
        try lane.reader.readPayload(into: buffer.target)
        let key = Key(link: link.number, request: frame.requestID)
        let isNew = state.withLock { $0.payloads.updateValue(buffer, forKey: key) == nil }
        guard isNew else { throw LinkFailure("the peer used the request number \(frame.requestID) twice at once") }
      }
    }
    post(.message(link: link.number, frame), from: lane.number == 0 ? .controlLane : .bulkLane)
  }

  // MARK: Life

  func start() {
    post(.start(wall: resources.time.wallNow()))
    openLink(configuration)
    do throws(SystemError) {
      try PlatformThread.start(name: "tick") { [self] in runTicks() }
    } catch {
      resources.log("session \(session) has no clock: \(error)")
    }
  }

  private func runTicks() {
    while true {
      let until = MonotonicTime.now.adding(seconds: Self.tickSeconds)
      if state.wait(until: until, { $0.isParked ? true : nil }) == true { return }
      let stale = state.withLock { state in
        state.links.values.filter {
          !$0.isUp && MonotonicTime.now.seconds(since: $0.madeAt) > 2 * LinkLimits.handshakeSeconds
        }
      }
      for link in stale { link.close(why: "the peer did not finish the handshake in time") }
      post(.tick)
    }
  }

  func clearHost() {}
  /// Nothing of the host waits for a destination's agent.
  func leaveHost() {}

  func park() {
    let links = state.change { state in
      state.isParked = true
      return Array(state.links.values)
    }
    dialer.withLock { $0 }?.stop()
    let link = configuration.link
    if link.listens { resources.ports.leave(link, session: session) }
    for link in links {
      link.close(why: "the agent is shutting down")
      link.waitForEnd()
    }
    local.shutDown()
    writer.stop()
    journal.close()
    for volume in volumes { volume.close() }
  }

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

  var trouble: String? { dialer.withLock { $0 }?.lastError ?? state.withLock { $0.linkTrouble } }
}
