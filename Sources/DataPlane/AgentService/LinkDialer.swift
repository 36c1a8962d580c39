internal import BlockModel
internal import H2HProtocol
internal import LinuxPlatform
internal import Seams

/// Opens a session's link and opens it again whenever it ends, for ever, with growing pauses.
final class LinkDialer: Sendable {
  private struct State: Sendable {
    var isStopped = false
    var target: Target
    /// Grows with every change of target.
    var targetNumber = 0
    var lastError: String?
    var link: Link?
  }

  struct Target: Sendable, Equatable {
    var address: String
    var port: Int
    /// Bulk lanes beside the control lane.
    var lanes: Int
    var linkLossTimeoutSeconds: Double
    /// The other half is this agent's, too.
    var isInside = false
  }

  private let transport: any LinkTransport
  private let ports: LinkPorts
  private let random: any RandomSource
  private let versions: H2HVersions
  private let owner: any LinkOwner
  private let register: @Sendable (Link) -> Void
  private let state: Monitor<State>
  private let cancel: CancelSignal

  /// `register` gets every link whose lanes are connected: it remembers the link and asks the machine for a hello.
  init(
    target: Target, transport: any LinkTransport, ports: LinkPorts, random: any RandomSource, versions: H2HVersions,
    owner: any LinkOwner, register: @escaping @Sendable (Link) -> Void
  ) throws(SystemError) {
    self.transport = transport
    self.ports = ports
    self.random = random
    self.versions = versions
    self.owner = owner
    self.register = register
    state = Monitor(State(target: target))
    cancel = try CancelSignal()
    try PlatformThread.start(name: "dial") { [self] in run() }
  }

  /// Why the last attempt failed; nil while the link is up or was never tried.
  var lastError: String? { state.withLock { $0.lastError } }

  func change(to target: Target) {
    let link = state.change { state -> Link? in
      guard state.target != target else { return nil }
      state.target = target
      state.targetNumber += 1
      return state.link
    }
    link?.close(why: "the link's configuration changed")
  }

  func stop() {
    state.change { $0.isStopped = true }
    cancel.cancel()
  }

  private func run() {
    var backoff = LinkLimits.firstBackoffSeconds
    while !state.withLock({ $0.isStopped }) {
      let (target, number) = state.withLock { ($0.target, $0.targetNumber) }
      do throws(LinkFailure) {
        let link = try connect(target)
        state.change { $0.link = link }
        register(link)
        link.waitForEnd()
        let why = link.isUp ? nil : link.whyEnded
        state.change { state in
          state.link = nil
          state.lastError = why
        }
        if why == nil { backoff = LinkLimits.firstBackoffSeconds }
      } catch {
        state.change { $0.lastError = error.message }
      }
      let until = MonotonicTime.now.adding(seconds: backoff)
      backoff = min(backoff * 2, LinkLimits.longestBackoffSeconds)
      _ = state.wait(until: until) { $0.isStopped || $0.targetNumber != number ? true : nil }
    }
  }

  private func connect(_ target: Target) throws(LinkFailure) -> Link {
    let deadline = MonotonicTime.now.adding(seconds: LinkLimits.handshakeSeconds)
    var lanes: [FrameLane] = []
    do throws(LinkFailure) {
      for number in 0...target.lanes {
        lanes.append(FrameLane(number: number, channel: try channel(target, until: deadline)))
      }
    } catch {
      for lane in lanes { lane.close() }
      throw error
    }
    return Link(
      number: max(1, random.uint64()), lanes: lanes, isOpener: true, versions: versions, owner: owner)
  }

  private func channel(_ target: Target, until deadline: MonotonicTime) throws(LinkFailure) -> any ByteChannel {
    do {
      if target.isInside { return try ports.connectInside(owner.session) }
      guard let address = SocketAddress(numeric: target.address, port: UInt16(clamping: target.port)) else {
        throw LinkFailure("\(target.address) is no numeric address")
      }
      let socket = try SocketConnector.tcp(address, timeoutSeconds: LinkLimits.handshakeSeconds, cancel: cancel)
      try socket.tuneTCP(
        userTimeoutSeconds: target.linkLossTimeoutSeconds, keepaliveSeconds: Int(target.linkLossTimeoutSeconds))
      let guardian = Deadline(deadline) { socket.shutDown() }
      defer { guardian.cancel() }
      return try transport.open(socket, to: owner.peerKeys, until: deadline)
    } catch {
      throw LinkFailure("\(error)")
    }
  }
}
