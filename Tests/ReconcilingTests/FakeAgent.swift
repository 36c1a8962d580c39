import AgentProtocol
import BlockModel
import MigrationModel

/// An agent's half of a session, with the times at which what was started ends.
struct FakeSession {
  var seen: SessionObservation
  var ends: Double?
  /// When cMotion ends by itself, unless it is confirmed.
  var confirmEnds: Double?
  /// No observation tells it: a closed tap keeps its socket.
  var isTapOpen = false
  /// The copies differ there, and nobody wrote it.
  var rotten: [ExtentDifference] = []
  var verificationEnds: Double?
  /// The agent is started anew while it compares.
  var losesVerification = false
  static let verificationSeconds = 30.0

  mutating func verify(_ call: VerifyCall, at now: Double) throws(AgentFault) {
    guard seen.stage == .tracking || seen.stage == .standIn else {
      throw AgentFault(.wrongStage, "volumes are compared once they are synchronized")
    }
    if call.repairs, seen.hold != nil { throw AgentFault(.refused, "\(call.session) is held") }
    if let running = seen.verification, running.endedAt == nil { return }
    let bytes = seen.volumes.reduce(0) { $0 + $1.sizeBytes }
    seen.verification = VerificationReport(
      scope: call.scope, repairs: call.repairs, startedAt: WallTime(secondsSince1970: now), totalBytes: bytes,
      remainingBytes: bytes)
    verificationEnds = now + Self.verificationSeconds
  }

  /// When to look at it again.
  var endTimes: [Double] {
    let lost = losesVerification ? verificationEnds.map { ($0 - Self.verificationSeconds).nextUp } : nil
    return [ends, verificationEnds, lost, confirmEnds].compactMap { $0 }
  }

  private mutating func settleVerification(at now: Double) {
    if losesVerification, let ends = verificationEnds, now > ends - Self.verificationSeconds { seen.verification = nil }
    guard let ends = verificationEnds, ends <= now, var report = seen.verification else { return }
    verificationEnds = nil
    report.endedAt = WallTime(secondsSince1970: ends)
    report.remainingBytes = 0
    report.differenceCount = rotten.count
    report.openCount = report.repairs ? 0 : rotten.count
    report.differences = rotten.map { difference in
      var told = difference
      told.outcome = report.repairs ? .repaired : .found
      return told
    }
    if report.repairs { rotten = [] }
    seen.verification = report
  }

  mutating func settle(at now: Double) {
    settleVerification(at: now)
    settleEnd(at: now)
    settleConfirmation(at: now)
  }

  /// As the agent does, whoever else is there.
  private mutating func settleConfirmation(at now: Double) {
    guard let until = confirmEnds, until <= now, seen.stage == .standIn, !seen.swingConfirmed else { return }
    confirmEnds = nil
    seen.confirmBy = nil
    seen.stage = .tracking
    seen.authority = .source
    seen.generation = seen.generation.next
    seen.standInSince = nil
    seen.hold = Hold(
      cause: .failure, who: "cmcagent", why: "cMotion was not confirmed in time", at: WallTime(secondsSince1970: until))
  }

  private mutating func settleEnd(at now: Double) {
    guard let ends, ends <= now else { return }
    self.ends = nil
    switch seen.stage {
    case .synchronizing:
      seen.stage = .tracking
      seen.initialSynchronizationAt = WallTime(secondsSince1970: ends)
      seen.health = .tracking(lagBytes: 0, lagSeconds: 0)
    case .swinging:
      seen.stage = .standIn
      seen.authority = .standIn
      seen.generation = seen.generation.next
      seen.swings += 1
      seen.lastSwingPauseSeconds = 0.1
      seen.standInSince = WallTime(secondsSince1970: ends)
      confirmEnds = seen.configuration.confirmWithinSeconds.map { min(ends + $0, confirmEnds ?? .infinity) }
      seen.confirmBy = confirmEnds.map { WallTime(secondsSince1970: $0) }
    case .proving:
      seen.stage = .proven
      seen.receipt = ReceiptSummary(
        digest: fakeDigest("receipt of \(seen.session)"), verify: seen.configuration.verify, comparedBytes: 1,
        at: WallTime(secondsSince1970: ends),
        path: "receipt")
    default: break
    }
  }
}

/// What runs on one host. A struct with no I/O: the world calls it.
struct FakeAgent {
  struct Key: Hashable {
    var session: SessionID
    var role: Role
  }
  struct HookEntry {
    var session: SessionID
    var run: HookRun
    var outcome: HookOutcome
  }
  let host: HostName
  var digest: String?
  var isRunning = false
  var bootCount = 0
  /// Of its host's clock, before the right time.
  var clockSeconds = 0.0
  var capabilities = ["nbd-socket", "fuse-loop", AgentHello.renames, AgentHello.grows, AgentHello.withinAgent]
  var sessions: [Key: FakeSession] = [:]
  var leases: [SessionID: Lease] = [:]
  var highest: [SessionID: UInt64] = [:]
  var tombstones: [Tombstone] = []
  var hooks: [HookEntry] = []
  var devices: [String: DeviceReport] = [:]

  var fingerprint: KeyFingerprint { KeyFingerprint("SHA256:\(host)") }

  func hello(at now: WallTime) -> AgentHello {
    AgentHello(
      agentVersion: "1", protocolVersion: 1, fingerprint: fingerprint, bootID: "boot\(bootCount)", processID: 1,
      startedAt: now, capabilities: capabilities)
  }

  func observation(at now: WallTime) -> AgentObservation {
    let seen = sessions.values.map { session in
      var copy = session.seen
      copy.confirmBy = copy.confirmBy?.adding(seconds: clockSeconds)
      copy.hookRuns = hooks.filter { $0.session == copy.session }.map(\.run)
      return copy
    }.sorted { ($0.session, $0.role.rawValue) < ($1.session, $1.role.rawValue) }
    return AgentObservation(
      hello: hello(at: now), observedAt: now.adding(seconds: clockSeconds), sessions: seen, tombstones: tombstones,
      leases: leases.values.sorted { $0.session < $1.session })
  }

  mutating func admit(_ number: UInt64, _ session: SessionID) throws(AgentFault) {
    let seen = highest[session] ?? 0
    guard number >= seen else { throw AgentFault(.fenced, "fencing number \(number) is older than \(seen)") }
    if number > seen { leases[session] = nil }
    highest[session] = number
  }

  mutating func acquire(_ call: AcquireLeaseCall, at now: WallTime) throws(AgentFault) -> Lease {
    let old = leases[call.session]
    if let old, old.expiresAt > now, old.holder != call.holder, !call.steal {
      throw AgentFault(.fenced, "\(old.holder) has the lease")
    }
    let isRenewal = old?.holder == call.holder && old?.fencingNumber == call.fencingNumber
    guard isRenewal || call.fencingNumber > highest[call.session] ?? 0 else {
      throw AgentFault(.fenced, "the fencing number is too small")
    }
    let lease = Lease(
      session: call.session, holder: call.holder, fencingNumber: call.fencingNumber, acquiredAt: now,
      expiresAt: now.adding(seconds: call.timeToLiveSeconds))
    highest[call.session] = call.fencingNumber
    leases[call.session] = lease
    return lease
  }
}
