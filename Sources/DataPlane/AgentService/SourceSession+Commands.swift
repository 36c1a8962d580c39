internal import AgentProtocol
internal import BlockModel
internal import H2HProtocol
internal import LinuxPlatform
internal import NBDServer
internal import Replication
internal import Seams

extension SourceSession {
  func perform(_ command: SessionCommand, confirmWithinSeconds: Double?) throws(AgentFault) {
    // One command at a time: a close must not overtake the opening before it.
    try commands.withLock { _ throws(AgentFault) in
      journal.append("command", command.rawValue)
      switch command {
      case .proveConnection: try proveConnection()
      case .synchronize: try ask(.synchronize)
      case .stopSynchronizing: try ask(.stopSynchronizing)
      case .openTap: try openTap()
      case .resync: try ask(.resync)
      case .verify: try ask(.verify(VerificationRequest(scope: .all, repairs: true)))
      case .swing:
        if let confirmWithinSeconds { try ask(.confirmWithin(seconds: confirmWithinSeconds)) }
        try ask(.swing)
      case .revert: try ask(.revert)
      case .confirmSwing: try ask(.confirmSwing)
      case .closeTap: try closeTap()
      case .prove:
        try checkFence()
        try sealAgain()
        try ask(.prove)
      case .fence:
        try checkFence()
        try sealAgain()
        try ask(.fence)
      case .release:
        throw AgentFault(.badRequest, "\(session): the destination's agent releases the device; this is the source's")
      case .retire: try ask(.retire)
      case .cancel: try cancel()
      }
    }
  }

  /// Hands a command to the machine and waits for its answer, which comes soon.
  func ask(_ command: SourceCommand) throws(AgentFault) {
    let id = state.withLock { state in
      defer { state.nextID += 1 }
      return state.nextID
    }
    post(.command(command, id: id))
    let until = MonotonicTime.now.adding(seconds: Self.commandSeconds)
    let answer = commandAnswers.wait(until: until) { $0.removeValue(forKey: id) }
    switch answer {
    case .accepted: return
    case .refused(let why): throw AgentFault(.wrongStage, "\(session): \(why)")
    case nil:
      throw AgentFault(
        .failed, "\(session): \(command) was not answered within \(Int(Self.commandSeconds)) s; observe, and repeat it")
    }
  }

  private func checkFence() throws(AgentFault) {
    for volume in volumes { try fence.check(volume.path) }
  }

  func waitFor(
    _ what: String, _ isReached: @Sendable (Replication.SourceObservation) -> Bool
  ) throws(AgentFault) {
    let until = MonotonicTime.now.adding(seconds: Self.commandSeconds)
    while MonotonicTime.now < until {
      let now = resources.time.monotonicNow()
      if isReached(state.withLock { $0.machine.observation(at: now) }) { return }
      pauseThread(milliseconds: 20)
    }
    throw AgentFault(.failed, "\(session): \(what) takes long; observe, and repeat the command")
  }

  // MARK: The connection

  private static let probeBytes = 1 << 20
  private static let probeCount = 8

  /// Small probes for the time there and back, then large ones each way for the rate.
  private func proveConnection() throws(AgentFault) {
    let until = MonotonicTime.now.adding(seconds: LinkLimits.handshakeSeconds)
    while upLink() == nil {
      guard MonotonicTime.now < until else {
        throw AgentFault(
          .failed,
          "\(session): there is no connection with the other agent within \(Int(LinkLimits.handshakeSeconds)) s: \(trouble ?? "no reason known yet"); \(configuration.link.firewallHint)"
        )
      }
      pauseThread(milliseconds: 20)
    }
    guard let link = upLink() else { throw AgentFault(.failed, "\(session): the connection was lost again; repeat") }
    var best = Double.infinity
    for _ in 0..<3 { best = min(best, try exchange(link, count: 1, bytes: 0, answerBytes: 1, until: until)) }
    let there = try exchange(link, count: Self.probeCount, bytes: Self.probeBytes, answerBytes: 1, until: until)
    let back = try exchange(link, count: Self.probeCount, bytes: 0, answerBytes: Self.probeBytes, until: until)
    let proof = ConnectionProof(
      provenAt: resources.time.wallNow(), roundTripSeconds: best,
      bytesPerSecond: Double(Self.probeCount * Self.probeBytes) / max(there, back, 1e-6))
    try save { $0.connectionProof = proof }
  }

  private func upLink() -> Link? { state.withLock { $0.links.values.first { $0.isUp && !$0.isClosed } } }

  /// Why there is no link, for people.
  var trouble: String? {
    dialer.withLock { $0 }?.lastError ?? state.withLock { $0.linkTrouble }
  }

  private func exchange(
    _ link: Link, count: Int, bytes: Int, answerBytes: Int, until: MonotonicTime
  ) throws(AgentFault) -> Double {
    let begin = MonotonicTime.now
    var ids: [UInt64] = []
    for _ in 0..<count {
      let id = state.withLock { state in
        defer { state.nextID += 1 }
        return state.nextID
      }
      ids.append(id)
      let message = H2HMessage.probe(length: UInt32(bytes), answerLength: UInt32(answerBytes))
      link.sendBulk(
        OutgoingFrame(H2HFrame(requestID: id, message: message), payload: bytes > 0 ? Filler(count: bytes) : nil))
    }
    for id in ids {
      guard probes.wait(until: until, { $0.removeValue(forKey: id) }) == true else {
        throw AgentFault(
          .failed, "\(session): the other agent did not answer a probe in time; repeat when the link is up")
      }
    }
    return MonotonicTime.now.seconds(since: begin)
  }

  // MARK: Configuration

  func mustBeRemade(for new: SessionConfiguration) throws(AgentFault) -> Bool {
    let old = configuration
    let hasData = state.withLock { $0.machine.stage } != .prepared || state.withLock { $0.entry.tapIsOpen }
    try ConfigurationRules.checkChange(from: old, to: new, hasData: hasData)
    // With data nothing is ever made anew: what may still change, changes in place.
    return !hasData && ConfigurationRules.needsRemake(from: old, to: new)
  }

  func reconfigure(_ new: SessionConfiguration) throws(AgentFault) {
    let old = configuration
    guard old != new else { return }
    try save { entry in
      entry.configuration = new
      entry.approvals.removeAll { $0.configurationDigest != new.configurationDigest }
    }
    state.withLock { state in
      var machine = state.machine.configuration
      machine.verify = VerifyMode(rawValue: new.verify) ?? .full
      machine.linkLossTimeoutSeconds = new.linkLossTimeoutSeconds
      machine.resyncIntervalSeconds = new.resyncIntervalSeconds
      machine.confirmWithinSeconds = new.confirmWithinSeconds
      state.machine.reconfigure(machine)
      state.governor.change(limits: new.limits)
      state.latency.bound = new.limits.latencyBound
      state.comparing.change(limits: new.limits.withoutNetwork)
    }
    taps.change(volumes: new.volumes)
    if old.plannedAs != new.plannedAs {
      try resources.catalogue.rename(new)
      journal.append("renamed", new.plannedAs?.migration.text ?? new.migration.text)
    }
    journal.append("reconfigured", new.configurationDigest)
    if old.peerKeys != new.peerKeys {
      journal.append("peerKeys", new.peerKeys.map(\.text).sorted().joined(separator: " "))
    }
    if old.link.listens, !new.link.listens || old.link.port != new.link.port {
      resources.ports.leave(old.link, session: session)
    }
    if !old.link.listens, new.link.listens { dialer.change { $0.take()?.stop() } }
    openLink(new)
  }

  func setHold(_ hold: Hold?, clearing: Hold?) throws(AgentFault) {
    try HoldRules.set(hold, clearing: clearing, in: self)
    journal.append("hold", hold.map { "\($0.cause.rawValue) by \($0.who): \($0.why)" } ?? "cleared")
  }

  func store(_ approval: Approval) throws(AgentFault) {
    try ApprovalRules.store(approval, in: self)
  }
}

/// Bytes of no meaning, for probes.
final class Filler: FramePayload {
  private let buffer: AlignedBuffer
  init(count: Int) { buffer = AlignedBuffer(byteCount: count) }
  var bytes: UnsafeRawBufferPointer { buffer.readOnly }
  func release() {}
}

/// What both roles keep in the catalogue the same way.
protocol EntryKeeper: AnyObject, Sendable {
  var configuration: SessionConfiguration { get }
  func save(_ body: @Sendable (inout SessionEntry) -> Void) throws(AgentFault)
}

enum HoldRules {
  /// A hold that came between the caller's look and now is one that nobody decided to clear.
  static func set(_ hold: Hold?, clearing seen: Hold?, in keeper: any EntryKeeper) throws(AgentFault) {
    let session = keeper.configuration.session
    let kept = Monitor<Hold?>(nil)
    try keeper.save { entry in
      if hold == nil, let seen, let current = entry.hold, current != seen {
        kept.change { $0 = current }
      } else {
        entry.hold = hold
      }
    }
    if let current = kept.withLock({ $0 }) {
      throw AgentFault(
        .refused,
        "\(session) is held anew (\(current.cause.rawValue)) by \(current.who): \(current.why); that hold stays until it is cleared itself"
      )
    }
  }
}

enum ApprovalRules {
  static func store(_ approval: Approval, in keeper: any EntryKeeper) throws(AgentFault) {
    let configuration = keeper.configuration
    guard approval.configurationDigest == configuration.configurationDigest else {
      throw AgentFault(
        .refused,
        "the approval is for another configuration of \(configuration.session) than the one that runs; look at the plan and approve anew"
      )
    }
    try keeper.save { entry in
      entry.approvals.removeAll { $0.phase == approval.phase }
      entry.approvals.append(approval)
    }
  }
}

extension SourceSession: EntryKeeper {}
