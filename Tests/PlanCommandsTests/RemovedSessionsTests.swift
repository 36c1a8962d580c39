import AgentProtocol
import BlockModel
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
}
