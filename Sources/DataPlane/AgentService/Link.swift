internal import BlockModel
internal import H2HProtocol
internal import LinuxPlatform
internal import Seams

/// What a session does with its links. `handle` comes from the lane's reading thread, the others from any.
protocol LinkOwner: AnyObject, Sendable {
  var session: SessionID { get }
  /// The keys that the peer may show: one, or two while its key is being replaced.
  var peerKeys: Set<KeyFingerprint> { get }
  var linkLossTimeoutSeconds: Double { get }
  /// All lanes of an incoming link said the same hello: ask the machine, then `answer` or `refuse` the link.
  func offered(_ link: Link, _ state: HelloState)
  /// All lanes of our own link were answered. The machine's word for the link, or its end, comes later.
  func established(_ link: Link, _ state: HelloState)
  /// One frame; its payload must be read off `lane.reader` before this returns. Throws to end the link.
  func handle(_ frame: H2HFrame, on lane: FrameLane, of link: Link) throws(LinkFailure)
  /// No frame of this link will be handed over any more. Once a link.
  func ended(_ link: Link, why: String)
}

/// One set of connections with the peer: the control lane and the bulk lanes, which live and die together.
///
/// Two threads a lane: one reads and handles, one writes what was enqueued. Frames that the peer sends before this
/// end's handshake is through wait in their sockets.
final class Link: Sendable {
  private struct State: Sendable {
    /// Whether both machines use the link.
    var isUp = false
    var answers: [Int: HelloState] = [:]
    var endedBecause: String?
    var readers: Int
    /// The owner was told of the end.
    var isOver = false
    var nextBulkLane = 0
    /// By lane: threads that write on it themselves.
    var transmitting: [Int]
    /// Of the protocol: what both ends speak, or, before the peer answered, the newest that this end offers.
    var version: UInt16
  }

  let number: UInt64
  /// Lane 0 is the control lane.
  let lanes: [FrameLane]
  let isOpener: Bool
  /// Of a link that this end opened: what its hello offers. Of another: the one that was agreed upon.
  private let versions: H2HVersions
  let madeAt = MonotonicTime.now
  private let owner: any LinkOwner
  private let state: Monitor<State>

  init(number: UInt64, lanes: [FrameLane], isOpener: Bool, versions: H2HVersions, owner: any LinkOwner) {
    precondition(!lanes.isEmpty)
    self.versions = versions
    self.number = number
    self.lanes = lanes
    self.isOpener = isOpener
    self.owner = owner
    state = Monitor(
      State(readers: lanes.count, transmitting: Array(repeating: 0, count: lanes.count), version: versions.newest))
  }

  /// Starts the threads. Throws where the host gives no more; the link is then closed.
  func start() throws(SystemError) {
    var started = 0
    do throws(SystemError) {
      for lane in lanes {
        try PlatformThread.start(name: "write-\(lane.number)") { [self] in
          if let error = lane.runWriter() { close(why: error.message) }
        }
        try PlatformThread.start(name: "read-\(lane.number)") { [self] in read(lane) }
        started += 1
      }
    } catch {
      close(why: "\(error)")
      for _ in started..<lanes.count { readerEnded() }
      throw error
    }
  }

  // MARK: Sending

  func send(_ frame: OutgoingFrame, lane number: Int) {
    if !lanes[number].enqueue(frame) { close(why: "the lane takes no more frames") }
  }

  func sendControl(_ frame: OutgoingFrame) { send(frame, lane: 0) }

  /// On the bulk lane whose turn it is.
  func sendBulk(_ frame: OutgoingFrame) {
    guard lanes.count > 1 else { return sendControl(frame) }
    let number = state.withLock { state in
      state.nextBulkLane = (state.nextBulkLane + 1) % (lanes.count - 1)
      return state.nextBulkLane + 1
    }
    send(frame, lane: number)
  }

  /// The same on the caller's thread, on the bulk lane that fewest threads are busy with. May wait for the peer.
  func transmitBulk(_ frame: OutgoingFrame) {
    guard lanes.count > 1 else { return sendControl(frame) }
    let number = state.withLock { state in
      let number = (1..<lanes.count).min { state.transmitting[$0] < state.transmitting[$1] } ?? 1
      state.transmitting[number] += 1
      return number
    }
    defer { state.withLock { $0.transmitting[number] -= 1 } }
    do throws(ChannelError) { try lanes[number].transmit(frame) } catch { close(why: error.message) }
  }

  // MARK: Handshake

  /// Says hello on every lane of a link that this end opened.
  func sendHellos(_ hello: HelloState) {
    for lane in lanes {
      let message = Hello(
        versions: versions, link: number, lane: UInt8(lane.number), lanes: UInt8(lanes.count), state: hello)
      send(OutgoingFrame(H2HFrame(requestID: 0, message: .hello(message))), lane: lane.number)
    }
  }

  /// Answers every lane of a link that the peer opened; what is sent from now on follows the answer.
  func answer(_ hello: HelloState) {
    for lane in lanes {
      let answer = HelloAnswer(version: versions.newest, state: hello)
      send(OutgoingFrame(H2HFrame(requestID: 0, message: .helloAnswer(answer))), lane: lane.number)
    }
  }

  /// The machine uses the link from here on: frames that wait in the sockets may be handed over.
  func markEstablished() { state.change { $0.isUp = true } }

  /// Refuses, lets the words reach the peer, and closes.
  func refuse(_ status: H2HStatus, why: String) {
    let answer = HelloAnswer(version: versions.newest, status: status, why: why, state: nil)
    lanes[0].finish(with: OutgoingFrame(H2HFrame(requestID: 0, message: .helloAnswer(answer))))
    close(why: why)
  }

  private func took(_ answer: HelloAnswer, on lane: FrameLane) throws(LinkFailure) {
    guard answer.status == .ok, let peer = answer.state else {
      throw LinkFailure("the peer refused the link: \(answer.why)")
    }
    guard versions.contains(answer.version) else {
      throw LinkFailure(
        "the peer answered with version \(answer.version) of the link protocol, this agent speaks \(versions)")
    }
    let complete: HelloState? = state.withLock { state in
      state.answers[lane.number] = peer
      state.version = min(state.version, answer.version)
      return state.answers.count == lanes.count ? state.answers[0] : nil
    }
    guard let complete else { return }
    owner.established(self, complete)
  }

  // MARK: The end

  /// Shuts every lane. Any thread, any number of times; the owner is told when the readers have left.
  func close(why: String) {
    let isFirst = state.change { state in
      guard state.endedBecause == nil else { return false }
      state.endedBecause = why
      return true
    }
    if isFirst { for lane in lanes { lane.close() } }
  }

  /// Closes a link that was never started.
  func discard(why: String) {
    state.change { state in
      state.endedBecause = state.endedBecause ?? why
      state.isOver = true
    }
    for lane in lanes { lane.close() }
  }

  var isClosed: Bool { state.withLock { $0.endedBecause != nil } }
  /// Of the protocol, as both ends agreed in the hellos.
  var version: UInt16 { state.withLock { $0.version } }
  var isUp: Bool { state.withLock { $0.isUp } }
  var whyEnded: String? { state.withLock { $0.endedBecause } }
  /// Blocks until no reader is left and the owner was told.
  func waitForEnd() { _ = state.wait { $0.isOver ? true : nil } }

  private func readerEnded() {
    let why: String? = state.change { state in
      state.readers -= 1
      return state.readers == 0 ? state.endedBecause ?? "" : nil
    }
    guard let why else { return }
    owner.ended(self, why: why)
    state.change { $0.isOver = true }
  }

  private func read(_ lane: FrameLane) {
    defer { readerEnded() }
    do throws(LinkFailure) {
      if isOpener {
        guard case .helloAnswer(let answer) = try lane.reader.next().message else {
          throw LinkFailure("the peer did not answer the hello")
        }
        try took(answer, on: lane)
      }
      let isUp = state.wait { $0.endedBecause != nil ? false : $0.isUp ? true : nil } ?? false
      guard isUp else { return }
      while true {
        let frame = try lane.reader.next()
        if case .hello = frame.message { throw LinkFailure("the peer said hello twice") }
        if case .helloAnswer = frame.message { throw LinkFailure("the peer answered hello twice") }
        try owner.handle(frame, on: lane, of: self)
      }
    } catch {
      close(why: error.message)
    }
  }
}
