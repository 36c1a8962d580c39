import AgentProtocol
import BlockModel
import MigrationModel
import Planning
import Rendering
import Testing

@testable import PlanCommands

/// What `agent remove --force` says that it costs, and which sessions it can't cancel.
@Suite struct RemovedSessionsTests {
  private func session(_ name: String, _ change: (inout SessionObservation) -> Void = { _ in }) -> SessionObservation {
    let configuration = SessionConfiguration(
      session: SessionID("plan/\(name)"), plan: PlanID("plan"), migration: MigrationName(name), role: .source,
      configurationDigest: "d", peerFingerprint: KeyFingerprint("SHA256:00"),
      link: LinkConfiguration(listens: false, address: "192.0.2.1", port: 4996, lanes: 2), volumes: [],
      limits: RateLimits(share: nil, networkLimitBytesPerSecond: nil), linkLossTimeoutSeconds: 5,
      resyncIntervalSeconds: 900, confirmWithinSeconds: nil, verify: "full")
    var session = SessionObservation(
      configuration: configuration, stage: .tracking, authority: .source, generation: .initial, health: .idle,
      connected: true)
    change(&session)
    return session
  }

  private func removed(_ sessions: [SessionObservation], unreadable: [String]? = nil) -> RemovedSessions {
    var seen = AgentObservation(
      hello: AgentHello(
        agentVersion: "1", protocolVersion: 2, fingerprint: KeyFingerprint("SHA256:00"), bootID: "b", processID: 1,
        startedAt: WallTime(secondsSince1970: 0), capabilities: []),
      observedAt: WallTime(secondsSince1970: 0), sessions: sessions, tombstones: [], leases: [])
    seen.unreadable = unreadable
    return RemovedSessions(seen)
  }

  @Test func aRunningSessionIsCancelledAndItsCopyStaysIncomplete() {
    let removed = removed([session("erp")])
    #expect(removed.running.map(\.migration.text) == ["erp"] && !removed.hasDead)
    #expect(removed.unfinished == ["erp (source, tracking)"])
    #expect(
      removed.consequences == ["erp (source, tracking) is given up: the destination's copy stays incomplete for good"])
  }

  @Test func oneThatItsAgentCanNotBringUpIsNamedWithWhyAndNotAsked() {
    let dead = session("crm") { session in
      session.couldNotStart = true
      session.lastError = AgentFault(.deviceFailed, "volume data: no such device")
    }
    let removed = removed([session("erp"), dead])
    #expect(removed.running.map(\.migration.text) == ["erp"] && removed.hasDead)
    #expect(removed.unfinished.last == "crm (source, not running)")
    #expect(removed.consequences.last?.contains("volume data: no such device") == true)
    #expect(removed.consequences.last?.contains("its peer and its devices are not told") == true)
  }

  @Test func recordsThatCanNotBeReadAreSessionsToo() {
    let removed = removed([], unreadable: ["sessions/plan%2Ferp/session.json is damaged"])
    #expect(removed.running.isEmpty && removed.hasDead)
    #expect(removed.unfinished == ["a session that can't be read (sessions/plan%2Ferp/session.json is damaged)"])
    #expect(removed.consequences.first?.contains("is damaged") == true)
  }

  @Test func anAgentWithoutSessionsCostsNothing() {
    let removed = removed([])
    #expect(removed.unfinished.isEmpty && removed.consequences.isEmpty && !removed.hasDead)
  }

  // MARK: What doctor has to say of the same

  private func doctor(_ sessions: [SessionObservation], _ change: (inout AgentObservation) -> Void = { _ in })
    -> [String]
  {
    var agent = AgentObservation(
      hello: AgentHello(
        agentVersion: "1", protocolVersion: 2, fingerprint: KeyFingerprint("SHA256:00"), bootID: "b", processID: 1,
        startedAt: WallTime(secondsSince1970: 0), capabilities: []),
      observedAt: WallTime(secondsSince1970: 0), sessions: sessions, tombstones: [], leases: [])
    change(&agent)
    var host = HostObservation(state: HostState(agentDigest: "d", agentRunning: true, tombstones: []))
    host.agent = agent
    let observation = Observation(
      plan: PlanID("plan"), observedAt: WallTime(secondsSince1970: 0), shippedAgentDigest: "d", clouds: [:],
      hosts: [HostName("db"): host])
    return DoctorCommand.agentChecks(observation).map { "\($0.what) \($0.result): \($0.detail)" }
  }

  @Test func doctorNamesAPeerThatIsNotLetIn() {
    #expect(doctor([session("erp")]).isEmpty)
    let refused = session("erp") { session in
      session.connected = false
      session.lastError = AgentFault(.failed, "no connection with the other agent: it refused this agent's key")
    }
    #expect(
      doctor([refused]) == ["connection failed: erp: no connection with the other agent: it refused this agent's key"])
    let fenced = session("erp") { session in
      session.connected = false
      session.stage = .fenced
    }
    #expect(doctor([fenced]).isEmpty, "past the fence it has nothing more to say to its peer")
  }

  @Test func doctorNamesSessionsThatDoNotRunAndKeysHalfReplaced() {
    let dead = session("crm") { session in
      session.couldNotStart = true
      session.lastError = AgentFault(.deviceFailed, "no such device")
    }
    let said = doctor([dead]) { agent in
      agent.unreadable = ["a file is damaged"]
      agent.hello.nextFingerprint = KeyFingerprint("SHA256:11")
    }
    #expect(said.count == 3 && said[0] == "session failed: a file is damaged")
    #expect(said[1] == "session failed: crm can't be brought up: no such device")
    #expect(said[2].hasPrefix("key warning: "))
  }
}
