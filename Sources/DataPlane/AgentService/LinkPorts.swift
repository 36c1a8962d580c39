internal import AgentProtocol
package import BlockModel
package import H2HProtocol
internal import LinuxPlatform
internal import Seams

/// The ports on which this agent waits for its peers: one listener a port, shared by the sessions that name it. Who a
/// connection is for is told by its first hello; a stranger is dropped without a word.
package final class LinkPorts: Sendable {
  private struct Gathering: Sendable {
    var link: UInt64
    var lanes: [FrameLane]
    var state: HelloState
    var version: UInt16
    var expected: Int
    var since: MonotonicTime
  }

  private struct Port: Sendable {
    /// None of the place where halves of one agent meet.
    var listener: SocketListener?
    var owners: [SessionID: any LinkOwner] = [:]
    var gathering: [SessionID: [Gathering]] = [:]
    var strangers = 0
  }

  private let transport: any LinkTransport
  private let versions: H2HVersions
  private let ports = Monitor([Int: Port]())
  private let log: @Sendable (String) -> Void
  private let dropped = Monitor(DroppedConnections())

  package init(
    transport: any LinkTransport, versions: H2HVersions = .own, log: @escaping @Sendable (String) -> Void
  ) {
    self.transport = transport
    self.versions = versions
    self.log = log
  }

  /// Lets `owner`'s peer in from now on. Throws where the port can't be had, and says by whom it may be taken.
  func listen(address text: String, port number: Int, for owner: any LinkOwner) throws(SystemError) {
    guard let address = SocketAddress(numeric: text, port: UInt16(clamping: number)) else {
      throw SystemError("listen on \(text):\(number)", because: "\(text) is no numeric address")
    }
    let isNew = try ports.change { ports throws(SystemError) in
      if ports[number] == nil {
        ports[number] = Port(listener: try SocketListener.tcp(address))
        ports[number]?.owners[owner.session] = owner
        return true
      }
      ports[number]?.owners[owner.session] = owner
      return false
    }
    guard isNew, let listener = ports.withLock({ $0[number]?.listener }) else { return }
    try PlatformThread.start(name: "accept-\(number)") { [self] in acceptAll(listener, number) }
  }

  func isListening(on port: Int) -> Bool { ports.withLock { $0[port] != nil } }

  /// The session's peer is no longer let in; the last one closes the port.
  func leave(_ link: LinkConfiguration, session: SessionID) {
    let number = link.withinAgent == true ? Self.inside : link.port
    let (listener, lanes) = ports.change { ports -> (SocketListener?, [FrameLane]) in
      guard var port = ports[number] else { return (nil, []) }
      port.owners[session] = nil
      let lanes = (port.gathering.removeValue(forKey: session) ?? []).flatMap(\.lanes)
      ports[number] = port.owners.isEmpty ? nil : port
      return (port.owners.isEmpty ? port.listener : nil, lanes)
    }
    listener?.cancel()
    for lane in lanes { lane.close() }
  }

  // MARK: Within this agent

  /// Stands for a port where both halves of a session are this agent's.
  private static let inside = 0

  /// Lets the session's other half in, which this agent has, too.
  func listenInside(for owner: any LinkOwner) {
    ports.change { $0[Self.inside, default: Port()].owners[owner.session] = owner }
  }

  /// A lane to the half that listens inside: no network, nobody to tell from others, and nothing to hide.
  func connectInside(_ session: SessionID) throws(SystemError) -> any ByteChannel {
    guard ports.withLock({ $0[Self.inside]?.owners[session] != nil }) else {
      throw SystemError("connect with the other half of \(session)", because: "this agent doesn't have it")
    }
    let (near, far) = try SocketChannel.pair(label: "the other half of \(session)")
    try PlatformThread.start(name: "greet") { [self] in greetInside(far) }
    return near
  }

  private func greetInside(_ channel: SocketChannel) {
    let guardian = Deadline(MonotonicTime.now.adding(seconds: LinkLimits.handshakeSeconds)) { channel.shutDown() }
    defer { guardian.cancel() }
    let reader = FrameReader(channel: channel)
    do throws(LinkFailure) {
      guard case .hello(let hello) = try reader.next().message else {
        throw LinkFailure("the first message is no hello")
      }
      guardian.cancel()
      try place(hello, FrameLane(number: Int(hello.lane), channel: channel, reader: reader), nil, Self.inside)
    } catch {
      noteDropped(channel, "\(error)")
      channel.shutDown()
    }
  }

  // MARK: From other hosts

  private func acceptAll(_ listener: SocketListener, _ number: Int) {
    while !listener.isCancelled {
      do throws(SystemError) {
        guard let socket = try listener.accept() else { continue }
        let isAdmitted = ports.change { ports in
          guard let count = ports[number]?.strangers, count < LinkLimits.strangers else { return false }
          ports[number]?.strangers += 1
          return true
        }
        guard isAdmitted else {
          socket.shutDown()
          continue
        }
        do throws(SystemError) {
          try PlatformThread.start(name: "greet") { [self] in
            greet(socket, number)
            ports.change { $0[number]?.strangers -= 1 }
          }
        } catch {
          ports.change { $0[number]?.strangers -= 1 }
          throw error
        }
      } catch {
        // Out of descriptors or threads; the next may fare better.
        if !listener.isCancelled { pauseThread(milliseconds: 50) }
      }
    }
  }

  /// One connection until its lane has a link, or is dropped.
  private func greet(_ socket: SocketChannel, _ number: Int) {
    let deadline = MonotonicTime.now.adding(seconds: LinkLimits.handshakeSeconds)
    // Whatever the peer sends or does not send: at the deadline the socket is shut, which ends every wait on it.
    let guardian = Deadline(deadline) { socket.shutDown() }
    defer { guardian.cancel() }
    let peers = Set(ports.withLock { $0[number]?.owners.values.flatMap(\.peerKeys) ?? [] })
    do throws(ChannelError) {
      let (channel, peer) = try transport.accept(socket, from: peers, until: deadline)
      let reader = FrameReader(channel: channel)
      do throws(LinkFailure) {
        guard case .hello(let hello) = try reader.next().message else {
          throw LinkFailure("the first message is no hello")
        }
        let lane = FrameLane(number: Int(hello.lane), channel: channel, reader: reader)
        // The handshake's deadline must not hit a link that stands.
        let timeout = ports.withLock { $0[number]?.owners[hello.state.session]?.linkLossTimeoutSeconds }
        if let timeout { try? socket.tuneTCP(userTimeoutSeconds: timeout, keepaliveSeconds: Int(timeout)) }
        guardian.cancel()
        try place(hello, lane, peer, number)
      } catch {
        noteDropped(socket, "\(error)")
        channel.shutDown()
      }
    } catch {
      noteDropped(socket, "\(error)")
      socket.shutDown()
    }
  }

  private func noteDropped(_ socket: SocketChannel, _ why: String) {
    let text = "a connection from \(socket.label) was dropped: \(why)"
    for line in dropped.change({ $0.lines(for: text, at: MonotonicTime.now) }) { log(line) }
  }

  /// `peer`: nil where it is this agent.
  private func place(
    _ hello: Hello, _ lane: FrameLane, _ peer: KeyFingerprint?, _ number: Int
  ) throws(LinkFailure) {
    guard let version = versions.common(with: hello.versions) else {
      let why =
        "the opener speaks \(hello.versions) of the link protocol, the listener \(versions); upgrade the older agent"
      let answer = HelloAnswer(version: versions.newest, status: .refused, why: why, state: nil)
      lane.finish(with: OutgoingFrame(H2HFrame(requestID: 0, message: .helloAnswer(answer))))
      throw LinkFailure(why)
    }
    let now = MonotonicTime.now
    let (dropped, complete, owner) = try ports.change {
      ports throws(LinkFailure) -> ([FrameLane], Gathering?, any LinkOwner) in
      guard let owner = ports[number]?.owners[hello.state.session], peer.map(owner.peerKeys.contains) ?? true else {
        throw LinkFailure("it is for session \(hello.state.session), which has no such peer here")
      }
      var all = ports[number]?.gathering[hello.state.session] ?? []
      var dropped = all.filter { now.seconds(since: $0.since) > LinkLimits.handshakeSeconds }.flatMap(\.lanes)
      all.removeAll { now.seconds(since: $0.since) > LinkLimits.handshakeSeconds }
      var gathering =
        all.first { $0.link == hello.link }
        ?? Gathering(
          link: hello.link, lanes: [], state: hello.state, version: version, expected: Int(hello.lanes), since: now)
      all.removeAll { $0.link == hello.link }
      guard gathering.expected == Int(hello.lanes), gathering.version == version,
        !gathering.lanes.contains(where: { $0.number == lane.number })
      else {
        throw LinkFailure("its lanes contradict each other")
      }
      gathering.lanes.append(lane)
      let isComplete = gathering.lanes.count == gathering.expected
      if !isComplete { all.append(gathering) }
      while all.count > LinkLimits.gatheringPerSession { dropped += all.removeFirst().lanes }
      ports[number]?.gathering[hello.state.session] = all
      return (dropped, isComplete ? gathering : nil, owner)
    }
    for lane in dropped { lane.close() }
    guard let complete else { return }
    let lanes = complete.lanes.sorted { $0.number < $1.number }
    let agreed = H2HVersions(oldest: complete.version, newest: complete.version)
    let link = Link(number: complete.link, lanes: lanes, isOpener: false, versions: agreed, owner: owner)
    owner.offered(link, complete.state)
  }
}

/// What the log tells of connections that were dropped: a port scan must not fill the disk. Pure.
package struct DroppedConnections: Sendable {
  package static let linesPerMinute = 20
  private var since: MonotonicTime?
  private var told = 0
  private var untold = 0
  package init() {}

  /// What to write for one more.
  package mutating func lines(for text: String, at now: MonotonicTime) -> [String] {
    var lines: [String] = []
    if since.map({ now.seconds(since: $0) >= 60 }) ?? true {
      if untold > 0 { lines.append("\(untold) more connections were dropped in the minute before") }
      (since, told, untold) = (now, 0, 0)
    }
    guard told < Self.linesPerMinute else {
      untold += 1
      return lines
    }
    told += 1
    return lines + [text]
  }
}

/// Does something at a point in time unless it is cancelled first.
final class Deadline: Sendable {
  private let isOver = Monitor(false)

  init(_ deadline: MonotonicTime, _ body: @escaping @Sendable () -> Void) {
    let isOver = isOver
    // Where no thread is to be had, the channel's own limits have to do.
    _ = try? PlatformThread.start(name: "deadline", stackBytes: 64 << 10) {
      if isOver.wait(until: deadline, { $0 ? true : nil }) == nil { body() }
    }
  }

  func cancel() { isOver.change { $0 = true } }
}
