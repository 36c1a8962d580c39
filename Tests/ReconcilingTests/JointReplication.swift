import AgentProtocol
import BlockModel
import H2HProtocol
import MigrationModel
import Planning
import Reconciling
import Replication
import Simulation
import TestSupport

/// The world's one migration, replicated by the agents' own machines between simulated disks while an application
/// writes: what the orchestrator sees and commands here is the production code of both planes.
struct JointReplication {
  var rehearsal: ReplicationRehearsal
  let hosts: [Role: HostName]
  let random: SeededRandom
  var isCalm: Bool
  private(set) var lastAdvance = 0.0
  /// Events since anything was asked of the agents or happened to them.
  private var quietSteps = 0
  /// Past so many, whatever was under way is done, and an application that only goes on writing while somebody waits
  /// (for an approval, out of a hold) shows nothing new: time then passes with few events.
  private static let quietLimit = 1_500
  /// Of the source, when it was last looked at.
  var generation = Generation.initial

  init(seed: UInt64, source: HostName, destination: HostName, random: SeededRandom, isCalm: Bool = false) {
    self.isCalm = isCalm
    rehearsal = ReplicationRehearsal(seed: seed)
    hosts = [.source: source, .destination: destination]
    self.random = random
  }

  /// False where its last requests don't end soon (an agent is dead, or all wait for a link).
  mutating func stopApplication() -> Bool {
    rehearsal.letApplicationRun(false)
    for _ in 0..<30 where !rehearsal.isApplicationIdle { rehearsal.advance(steps: 100) }
    return rehearsal.isApplicationIdle
  }

  /// Lets replication go on for the time that passed, with a fault now and then.
  mutating func advance(to now: Double) {
    let wanted = min(400, 20 + Int((now - lastAdvance) * 200))
    let steps = quietSteps < Self.quietLimit ? wanted : min(wanted, 4)
    lastAdvance = max(now, lastAdvance)
    quietSteps += steps
    rehearsal.advance(steps: steps)
    guard !isCalm else { return }
    let role: Role = random.chance(0.5) ? .source : .destination
    switch random.below(300) {
    case 0: suffer(.processKill(role))
    case 1: suffer(.powerCut(role))
    case 2, 3: suffer(.linkLoss)
    default: break
    }
  }

  mutating func suffer(_ trouble: ReplicationRehearsal.Trouble) {
    quietSteps = 0
    rehearsal.suffer(trouble)
  }

  mutating func grow(_ role: Role, to sizes: [UInt64]) -> String? {
    quietSteps = 0
    return rehearsal.grow(role, to: sizes)
  }

  /// Nil where the agent is dead.
  mutating func command(_ command: SourceCommand) -> CommandAnswer? {
    quietSteps = 0
    return rehearsal.command(command)
  }

  mutating func command(_ command: DestinationCommand) -> CommandAnswer? {
    quietSteps = 0
    return rehearsal.command(command)
  }
}

extension WorldState {
  /// Moves replication on, then shows the orchestrator what its agents would say.
  mutating func settleJoint(at now: Double) {
    // Taken out, not copied: all that the two disks hold would be copied with it at the first write.
    guard var joint = takeJoint() else { return }
    for (role, host) in joint.hosts where agents[host]?.isRunning == true { joint.rehearsal.restart(role) }
    joint.advance(to: now)
    if let failure = joint.rehearsal.failure, !violations.contains("replication: \(failure)") {
      violate("replication: \(failure)")
    }
    if let source = joint.rehearsal.source, source.generation > joint.generation {
      joint.generation = source.generation
      if isTraced { trace.append("\(now) source: generation \(source.generation), authority \(source.authority)") }
      if source.authority == .destination { fences += 1 }
      // Authority came back, asked or not: hooks that stopped the application count no more, and it may run again.
      if source.authority == .source {
        hookSuccesses = [:]
        joint.rehearsal.letApplicationRun(true)
      }
    }
    for (role, host) in joint.hosts {
      if !joint.rehearsal.isRunning(role) { agents[host]?.isRunning = false }
      for key in agents[host]?.sessions.keys.map({ $0 }) ?? [] where key.role == role {
        guard var session = agents[host]?.sessions[key] else { continue }
        show(&joint.rehearsal, role, in: &session.seen, at: now)
        agents[host]?.sessions[key] = session
      }
    }
    self.joint = joint
  }

  private mutating func takeJoint() -> JointReplication? {
    defer { joint = nil }
    return joint
  }

  private func show(
    _ rehearsal: inout ReplicationRehearsal, _ role: Role, in seen: inout SessionObservation, at now: Double
  ) {
    switch role {
    case .source:
      if let (cause, why) = rehearsal.takeHold() {
        seen.hold = Hold(
          cause: cause == .reverted ? .reverted : .failure, who: "cmcagent", why: why,
          at: WallTime(secondsSince1970: now))
      }
      guard let source = rehearsal.source else { return }
      seen.stage = SessionStage(rawValue: source.stage.rawValue) ?? .prepared
      seen.authority = Authority(rawValue: "\(source.authority)") ?? .source
      seen.generation = source.generation
      seen.connected = source.isConnected
      seen.swings = source.swings
      seen.standInSince = source.standInSince
      seen.initialSynchronizationAt = source.initialSynchronizationAt
      // The digest is of what the fake agent hands out as the receipt: an archive holds one against the other.
      seen.receipt = source.receiptDigest.map { _ in
        ReceiptSummary(
          digest: fakeDigest("receipt of \(seen.session)"), verify: "full", comparedBytes: source.comparedBytes,
          at: WallTime(secondsSince1970: now),
          path: "receipt")
      }
    case .destination:
      guard let destination = rehearsal.destination else { return }
      seen.stage =
        switch destination.stage {
        case .prepared: .prepared
        case .receiving: .synchronizing
        case .standIn: .standIn
        case .fenced, .releasing: .fenced
        case .released: .released
        case .cancelled: .cancelled
        }
      seen.authority = Authority(rawValue: "\(destination.authority)") ?? .source
      seen.generation = destination.generation
      seen.connected = destination.isConnected
    }
  }

  mutating func carryOutJoint(
    _ command: SessionCommand, _ session: inout FakeSession, at now: Double
  ) throws(AgentFault) {
    guard var joint = takeJoint() else { return }
    defer { self.joint = joint }
    let id = session.seen.session
    switch command {
    case .proveConnection:
      guard joint.rehearsal.source?.isConnected == true else { throw AgentFault(.failed, "no connection yet; repeat") }
      session.seen.connectionProof = ConnectionProof(
        provenAt: WallTime(secondsSince1970: now), roundTripSeconds: 0.001, bytesPerSecond: 200e6)
    case .openTap:
      try ask(.openTap, &joint)
      for index in session.seen.volumes.indices { session.seen.volumes[index].tapSocket = "tap" }
    case .synchronize: try ask(.synchronize, &joint)
    case .stopSynchronizing: try ask(.stopSynchronizing, &joint)
    case .swing: try ask(.swing, &joint)
    case .resync: try ask(.resync, &joint)
    case .verify: try ask(.verify(VerificationRequest(scope: .all, repairs: true)), &joint)
    case .confirmSwing: try ask(.confirmSwing, &joint)
    case .revert:
      try ask(.revert, &joint)
      hookSuccesses[id] = []
      // Whoever reverts starts the application again, on the source.
      joint.rehearsal.letApplicationRun(true)
    case .closeTap:
      guard joint.rehearsal.isApplicationIdle else { throw AgentFault(.inUse, "the application has the tap open") }
      try ask(.closeTap, &joint)
    case .prove: try ask(.prove, &joint)
    case .fence:
      if session.seen.stage != .fenced { checkFence(session, at: now) }
      try ask(.fence, &joint)
    case .release:
      guard let answer = joint.command(DestinationCommand.release) else { throw AgentFault(.failed, "gone") }
      if case .refused(let why) = answer { throw AgentFault(.wrongStage, why) }
    case .retire, .cancel: break
    }
    show(&joint.rehearsal, session.seen.role, in: &session.seen, at: now)
  }

  /// As the agents do, one half at a time.
  mutating func growJoint(_ old: SessionConfiguration, to new: SessionConfiguration) throws(AgentFault) {
    let sizes = [old, new].map { $0.volumes.map(\.sizeBytes) }
    guard sizes[0] != sizes[1] else { return }
    if zip(sizes[0], sizes[1]).contains(where: { $0 > $1 }) {
      violate("\(new.session) was to shrink from \(sizes[0]) to \(sizes[1])")
    }
    guard var joint = takeJoint() else { return }
    defer { self.joint = joint }
    if let why = joint.grow(new.role, to: sizes[1]) { throw AgentFault(.wrongStage, why) }
  }

  private func ask(_ command: SourceCommand, _ joint: inout JointReplication) throws(AgentFault) {
    guard let answer = joint.command(command) else { throw AgentFault(.failed, "the agent died") }
    if case .refused(let why) = answer { throw AgentFault(.wrongStage, why) }
  }
}
