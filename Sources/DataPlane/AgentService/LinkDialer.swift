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
  }

  private let transport: any LinkTransport
  private let random: any RandomSource
  private let versions: H2HVersions
  private let owner: any LinkOwner
  private let register: @Sendable (Link) -> Void
  private let state: Monitor<State>
  private let cancel: CancelSignal

  /// `register` gets every link whose lanes are connected: it remembers the link and asks the machine for a hello.
  init(
    target: Target, transport: any LinkTransport, random: any RandomSource, versions: H2HVersions,
    owner: any LinkOwner, register: @escaping @Sendable (Link) -> Void
  ) throws(SystemError) {
    self.transport = transport
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
    guard let address = SocketAddress(numeric: target.address, port: UInt16(clamping: target.port)) else {
      throw LinkFailure("\(target.address) is no numeric address")
    }
    let deadline = MonotonicTime.now.adding(seconds: LinkLimits.handshakeSeconds)
    var lanes: [FrameLane] = []
    do {
      for number in 0...target.lanes {
        let socket = try SocketConnector.tcp(address, timeoutSeconds: LinkLimits.handshakeSeconds, cancel: cancel)
        try socket.tuneTCP(
          userTimeoutSeconds: target.linkLossTimeoutSeconds, keepaliveSeconds: Int(target.linkLossTimeoutSeconds))
        let guardian = Deadline(deadline) { socket.shutDown() }
        defer { guardian.cancel() }
        let channel = try transport.open(socket, to: owner.peerKeys, until: deadline)
        lanes.append(FrameLane(number: number, channel: channel))
      }
    } catch {
      for lane in lanes { lane.close() }
      throw LinkFailure("\(error)")
    }
    return Link(
      number: max(1, random.uint64()), lanes: lanes, isOpener: true, versions: versions, owner: owner)
  }
}
