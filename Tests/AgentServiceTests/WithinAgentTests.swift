import AgentProtocol
import AgentService
import BlockModel
import LinuxPlatform
import Seams
import Testing

/// Source and destination are one host: its agent has both halves.
@Suite("Both halves in one agent", .serialized)
struct WithinAgentTests {
  private let session = SessionID("plan/erp")

  /// As cmcplan configures them; the other volume's disk lies beside the first's.
  private func half(_ role: Role, of settings: PairSettings) -> SessionConfiguration {
    var settings = settings
    settings.destinationDisk = "new"
    var half = settings.half(role, peer: SessionConfiguration.ownAgent)
    half.link.withinAgent = true
    return half
  }

  private func configured(_ settings: inout PairSettings) throws -> LocalAgent {
    let agent = try LocalAgent()
    try agent.root.makeDisk("disk", sizeBytes: settings.sizeBytes, dataBytes: 4 << 20)
    try agent.root.makeDisk("new", sizeBytes: settings.sizeBytes + 4096)
    settings.port = try Ports.free()
    for role in [Role.destination, .source] {
      _ = try agent.call(ConfigureSessionCall(fencingNumber: 1, configuration: half(role, of: settings)))
    }
    return agent
  }

  @discardableResult
  private func wait(_ agent: LocalAgent, _ role: Role, for stage: SessionStage) throws -> SessionObservation {
    try wait(agent, role, for: stage.rawValue) { $0.stage == stage }
  }

  @discardableResult
  private func wait(
    _ agent: LocalAgent, _ role: Role, for what: String, _ isReached: (SessionObservation) -> Bool
  ) throws -> SessionObservation {
    let deadline = MonotonicTime.now.adding(seconds: 60)
    while true {
      let seen = try #require(try agent.call(ObserveCall()).sessions.first { $0.role == role })
      if isReached(seen) { return seen }
      guard MonotonicTime.now < deadline else {
        throw TestTrouble("\(role) never \(what): \(seen.stage) \(String(describing: seen.lastError))")
      }
      pauseThread(milliseconds: 20)
    }
  }

  private func synchronize(_ agent: LocalAgent) throws -> String? {
    try agent.command(.proveConnection, .source)
    let tap = try agent.command(.openTap, .source).volumes[0].tapSocket
    try agent.command(.synchronize, .source)
    try wait(agent, .source, for: "was synchronized") { $0.stage == .tracking && $0.volumes[0].dirtyBytes == 0 }
    return tap
  }

  @Test("it is synchronized, swung, reverted, swung, proven, fenced and released, and no port is opened for it")
  func wholeWay() throws {
    var settings = PairSettings()
    let agent = try configured(&settings)
    #expect(try agent.call(ObserveCall()).hello.capabilities.contains(AgentHello.withinAgent))
    let tap = try synchronize(agent)
    try SocketListener.tcp(.loopback(port: UInt16(settings.port))).cancel()
    try agent.command(.swing, .source)
    try wait(agent, .source, for: .standIn)
    _ = try Application.run(tap, ["write -P 0xa1 1M 64k", "read -P 0xa1 1M 64k", "flush"])
    #expect(try wait(agent, .destination, for: .standIn).volumes[0].applicationIO.readBytes >= 64 << 10)
    try agent.command(.revert, .source)
    try wait(agent, .source, for: .tracking)
    _ = try Application.run(tap, ["read -P 0xa1 1M 64k", "write -P 0xa2 2M 64k"])
    try agent.command(.swing, .source)
    try wait(agent, .source, for: .standIn)
    try agent.command(.closeTap, .source)
    try agent.command(.prove, .source)
    try wait(agent, .source, for: .proven)
    try agent.command(.fence, .source)
    try wait(agent, .destination, for: .fenced)
    try agent.command(.release, .destination)
    try wait(agent, .destination, for: .released)
    let old = try agent.root.contents("disk", sizeBytes: settings.sizeBytes)
    #expect(try agent.root.contents("new", sizeBytes: settings.sizeBytes) == old)
    #expect(old[(2 << 20)..<(2 << 20) + 65536].allSatisfy { $0 == 0xa2 })

    try agent.command(.retire, .source)
    #expect(try agent.call(ObserveCall()).sessions.map(\.role) == [.destination], "each half goes by itself")
    try agent.command(.retire, .destination)
    #expect(try agent.command(.retire, .destination).role == .destination, "asked again, the answer is the same")
    let rest = try agent.call(ObserveCall())
    #expect(rest.sessions.isEmpty)
    #expect(
      rest.tombstones.map(\.role) == [.destination, .source] && rest.tombstones.allSatisfy { $0.session == session })
    #expect(try Files.list("\(agent.root.path)/state/sessions").isEmpty)
  }

  @Test("both come back after the agent's end, in stand-in too, and what was acknowledged is there")
  func restarts() throws {
    var settings = PairSettings()
    let agent = try configured(&settings)
    let tap = try synchronize(agent)
    try agent.command(.swing, .source)
    try wait(agent, .source, for: .standIn)
    _ = try Application.run(tap, ["write -P 0xb1 3M 64k", "flush"])
    try agent.restart()
    let back = try wait(agent, .source, for: "was connected again") { $0.connected && $0.stage == .tracking }
    #expect(back.authority == .source && back.generation.number > 2, "a lost link gives authority back")
    _ = try Application.run(tap, ["read -P 0xb1 3M 64k", "write -P 0xb2 3M 64k"])
    _ = try agent.call(SetHoldCall(session: session, hold: nil))
    try agent.command(.swing, .source)
    try wait(agent, .source, for: .standIn)
    _ = try Application.run(tap, ["read -P 0xb2 3M 64k"])
  }

  @Test("a hold and an approval are of both halves, and what one of them keeps is its own")
  func commonThings() throws {
    var settings = PairSettings()
    let agent = try configured(&settings)
    let hold = Hold(cause: .paused, who: "ann", why: "lunch", at: WallTime(secondsSince1970: 1))
    _ = try agent.call(SetHoldCall(session: session, hold: hold))
    _ = try agent.call(
      StoreApprovalCall(
        session: session,
        approval: Approval(
          phase: .finalized, who: "ann", at: WallTime(secondsSince1970: 1), expiresAt: nil,
          configurationDigest: settings.digest)))
    var seen = try agent.call(ObserveCall()).sessions
    #expect(seen.map(\.role) == [.destination, .source])
    #expect(seen.allSatisfy { $0.hold == hold && $0.approvals.count == 1 })
    #expect(throws: AgentFault.self, "held") { try agent.command(.synchronize, .source) }
    _ = try agent.call(SetHoldCall(session: session, hold: nil, clearing: hold))
    seen = try agent.call(ObserveCall()).sessions
    #expect(seen.allSatisfy { $0.hold == nil })
    for role in Role.allCases {
      let journal = try agent.call(ReadEvidenceCall(session: session, role: role, evidence: .journal, offset: 0))
      #expect((journal.sizeBytes ?? 0) > 0)
    }
    #expect(try Files.list("\(agent.root.path)/state/sessions").count == 2)
  }

  @Test("one device for both, a session that becomes one of two agents, and a key to prove are refused")
  func refused() throws {
    var settings = PairSettings()
    let agent = try configured(&settings)
    var other = half(.source, of: settings)
    other.session = SessionID("plan/other")
    other.migration = MigrationName("other")
    other.volumes[0].devicePath = "new"
    let shared = #expect(throws: AgentFault.self) {
      try agent.call(ConfigureSessionCall(fencingNumber: 1, configuration: other))
    }
    #expect(shared?.code == .inUse)
    var apart = half(.source, of: settings)
    apart.link.withinAgent = nil
    let changed = #expect(throws: AgentFault.self) {
      try agent.call(ConfigureSessionCall(fencingNumber: 1, configuration: apart))
    }
    #expect(changed?.code == .refused)
    let proven = #expect(throws: AgentFault.self) {
      try agent.call(ProvePeerCall(session: session, peer: agent.fingerprint))
    }
    #expect(proven?.code == .badRequest)
  }
}
