import AgentProtocol
import AgentService
import BlockModel
import Diagnostics
import H2HProtocol
import LinuxPlatform
import MigrationModel
import Planning
import Reconciling
import Seams
import TestSupport
import Testing

/// Two agents of this process as the hosts of a plan; a run against them dies at its n-th call.
final class PairHosts: HostGateway {
  enum Death: CaseIterable, Sendable {
    /// The agent never hears of the call.
    case before
    /// The agent has done it; the run never hears of that.
    case after
  }
  private struct Calls: Sendable {
    var count = 0
    var diesAt: Int?
  }
  static let killed = "KILLED"
  let agents: [HostName: LocalAgent]
  let death: Death
  private let calls = Monitor(Calls())

  init(_ agents: [HostName: LocalAgent], death: Death = .before, diesAt: Int? = nil) {
    self.agents = agents
    self.death = death
    calls.change { $0.diesAt = diesAt }
  }

  /// Whether this call is the one that the run dies at; none comes through afterwards.
  fileprivate func next() -> (dies: Bool, isDead: Bool) {
    calls.change { calls in
      calls.count += 1
      guard let diesAt = calls.diesAt else { return (false, false) }
      return (calls.count == diesAt, calls.count > diesAt)
    }
  }

  static func error(_ code: String, _ message: String = "") -> GatewayError {
    GatewayError(code: code, message: message, advice: "", disposition: .terminal)
  }

  func agent(on host: MigrationModel.Host) async throws(GatewayError) -> any AgentGateway {
    guard let agent = agents[host.name] else { throw Self.error("NONE", "host \(host.name): no agent") }
    return PairGateway(agent: agent, hosts: self)
  }
  func state(of host: MigrationModel.Host) async throws(GatewayError) -> HostState { throw Self.error("UNUSED") }
  func shippedAgentDigest() async throws(GatewayError) -> String { throw Self.error("UNUSED") }
  func deploy(to host: MigrationModel.Host) async throws(GatewayError) -> Bool { throw Self.error("UNUSED") }
  func remove(from host: MigrationModel.Host, givingUpSessions: Bool) async throws(GatewayError) {
    throw Self.error("UNUSED")
  }
  func resolve(_ name: String, on host: MigrationModel.Host) async throws(GatewayError) -> String { name }
  func devicePath(ofLUN lun: Int, on host: MigrationModel.Host) async throws(GatewayError) -> String { "" }
  func run(
    _ command: String, on host: MigrationModel.Host, timeoutSeconds: Double
  ) async throws(GatewayError) -> HostCommandOutcome { throw Self.error("UNUSED") }
}

private struct PairGateway: AgentGateway {
  let agent: LocalAgent
  let hosts: PairHosts

  func call<Call: AgentCall>(_ call: Call) async throws(GatewayError) -> Call.Answer {
    let (dies, isDead) = hosts.next()
    if isDead || dies && hosts.death == .before { throw PairHosts.error(PairHosts.killed) }
    let answer: Call.Answer
    do {
      answer = try agent.call(call)
    } catch {
      throw PairHosts.error("FAULT", "\(error)")
    }
    if dies { throw PairHosts.error(PairHosts.killed) }
    return answer
  }
  func close() async {}
}

@Suite("An agent's key is replaced", .serialized)
struct KeyRotationTests {
  private let here = HostName("here")
  private let there = HostName("there")
  private let session = SessionID("plan/erp")

  /// Outranks what a rotation has shown.
  private var fencing: UInt64 { UInt64(SystemTime().wallNow().secondsSince1970 * 1000) + 1 }

  private func plan() -> MigrationPlan {
    func host(_ name: HostName) -> MigrationModel.Host {
      Host(name: name, address: nil, reach: .local(root: "/nowhere"), azureVirtualMachine: nil, position: nil)
    }
    let migration = Migration(
      name: MigrationName("erp"), description: nil, source: here, destination: there, integration: nil,
      connection: Connection(listener: .destination, port: 4996, lanes: 2, address: nil), volumes: [],
      iqos: IQoS(level: .moderate), linkLossTimeoutSeconds: 5, resyncIntervalSeconds: 900,
      cutover: Cutover(phase: Positioned(.prepared, at: SourcePosition(file: "p", line: 1, column: 1))), position: nil)
    return MigrationPlan(
      metadata: Metadata(id: PlanID("plan"), name: "p"), integrations: [:], attestations: Attestations(),
      hosts: [here: host(here), there: host(there)], migrations: [migration.name: migration])
  }

  private func rotate(_ name: HostName, _ hosts: PairHosts, plan: MigrationPlan? = nil) async throws -> AgentKeys {
    let plan = plan ?? self.plan()
    let host = try #require(plan.hosts[name])
    return try await KeyRotation(plan: plan, hosts: hosts, who: "test", time: SystemTime()) { _ in }.rotate(host)
  }

  private func pair(_ settings: PairSettings, overrides: [AgentInstance.Overrides] = [.init(), .init()]) throws
    -> (LocalAgent, LocalAgent)
  {
    var settings = settings
    let source = try LocalAgent(overrides: overrides[0])
    let destination = try LocalAgent(overrides: overrides[1])
    try source.root.makeDisk("disk", sizeBytes: settings.sizeBytes, dataBytes: 1 << 20)
    try destination.root.makeDisk("disk", sizeBytes: settings.sizeBytes)
    settings.port = try Ports.free()
    _ = try destination.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.destination, peer: source.fingerprint)))
    _ = try source.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.source, peer: destination.fingerprint)))
    return (source, destination)
  }

  /// Both ends have one key each, know each other by it, and are connected.
  private func expectSettled(_ agents: [HostName: LocalAgent], _ comment: Comment) throws {
    let pairs = [(here, there), (there, here)]
    for (name, other) in pairs {
      let agent = try #require(agents[name])
      let hello = try agent.call(ObserveCall()).hello
      let known = try #require(agents[other]).observation().configuration
      #expect(hello.nextFingerprint == nil, comment)
      #expect(known.peerFingerprint == hello.fingerprint && known.nextPeerFingerprint == nil, comment)
      #expect(
        try Files.list("\(agent.root.path)/state").filter { $0.hasPrefix("agent") } == ["agent.crt", "agent.key"])
    }
    try #require(agents[here]).wait(for: "the connection, \(comment)") { $0.connected }
  }

  @Test("killed at any call and repeated it ends the same, and neither agent is ever locked out")
  func killedAnywhere() async throws {
    let (source, destination) = try pair(PairSettings(sizeBytes: 4 << 20))
    let agents = [here: source, there: destination]
    try source.command(.openTap, .source)
    try source.command(.synchronize, .source)
    try source.waitUntilSynchronized()
    // One end opens the link, the other listens.
    for (name, own) in agents.sorted(by: { $0.key < $1.key }) {
      for death in PairHosts.Death.allCases {
        var call = 0
        var isThrough = false
        while !isThrough {
          call += 1
          let before = try own.fingerprint
          do {
            _ = try await rotate(name, PairHosts(agents, death: death, diesAt: call))
            isThrough = true
          } catch let error as GatewayError {
            #expect(error.code == PairHosts.killed, "\(error)")
            // Whoever starts anew in the middle is let in by whichever key it shows now.
            if call % 4 == 0 { try own.restart() }
            if call % 4 == 2 { try (name == here ? destination : source).restart() }
            if call % 2 == 0 { try source.wait(for: "the connection in the middle") { $0.connected } }
            _ = try await rotate(name, PairHosts(agents))
          }
          #expect(try own.fingerprint != before)
          try expectSettled(agents, "\(name) killed \(death) call \(call)")
        }
        #expect(call > 8, "every call was the last one once")
      }
    }
    #expect(try source.observation().stage == .tracking && source.observation().hold == nil)
  }

  @Test("an application on the tap sees nothing of it, while tracking and in stand-in")
  func inUse() async throws {
    let (source, destination) = try pair(PairSettings())
    let agents = [here: source, there: destination]
    let tap = try source.command(.openTap, .source).volumes[0].tapSocket
    try source.command(.synchronize, .source)
    try source.waitUntilSynchronized()
    for stage in [SessionStage.tracking, .standIn] {
      if stage == .standIn {
        try source.command(.swing, .source, fencing: fencing)
        try source.wait(for: .standIn)
      }
      let writes = (0..<200).map { "write -P \($0) \($0 * 64)k 64k" }
      let application = Task.detached { try Application.run(tap, writes + ["flush"]) }
      for name in [here, there, here] { _ = try await rotate(name, PairHosts(agents)) }
      _ = try await application.value
      _ = try Application.run(tap, ["read -P 199 \(199 * 64)k 64k"])
      try expectSettled(agents, "in \(stage)")
      let seen = try source.observation()
      #expect(seen.stage == stage && seen.hold == nil && seen.swings == (stage == .standIn ? 1 : 0))
    }
    let journal = try Files.readText("\(source.root.path)/state/sessions/plan%2Ferp/journal.jsonl")
    #expect(!journal.contains("linkEnded"), "the link stood all the time")
    // Opened anew, the link shows the new keys.
    try source.command(.revert, .source, fencing: fencing)
    try source.wait(for: .tracking)
    try destination.restart()
    try source.wait(for: "the connection by the new keys") { $0.connected }
  }

  @Test("a peer that the plan does not know stops it before anything is made")
  func unknownPeer() async throws {
    let (source, destination) = try pair(PairSettings(sizeBytes: 4 << 20))
    let before = try source.fingerprint
    var alone = plan()
    alone.migrations = [:]
    alone.hosts[there] = nil
    let error = await #expect(throws: GatewayError.self) {
      try await rotate(here, PairHosts([here: source, there: destination]), plan: alone)
    }
    #expect(error?.message.contains("no host of this plan has the other half of its session plan/erp") == true)
    // The peer's agent is not there to be told.
    let gone = await #expect(throws: GatewayError.self) { try await rotate(here, PairHosts([here: source])) }
    #expect(gone?.message.contains("no agent") == true)
    let hello = try source.call(ObserveCall()).hello
    #expect(hello.fingerprint == before && hello.nextFingerprint == nil)
  }

  @Test("a configuration that says nothing of a hand-over leaves it as it is, and the new key ends it")
  func applyInBetween() throws {
    let (source, destination) = try pair(PairSettings(sizeBytes: 4 << 20))
    let next = KeyFingerprint("SHA256:11")
    var half = try destination.observation().configuration
    half.nextPeerFingerprint = next
    _ = try destination.call(ConfigureSessionCall(fencingNumber: 1, configuration: half))
    half.nextPeerFingerprint = nil
    half.resyncIntervalSeconds = 7
    let kept = try destination.call(ConfigureSessionCall(fencingNumber: 1, configuration: half)).configuration
    #expect(kept.nextPeerFingerprint == next && kept.resyncIntervalSeconds == 7)
    #expect(kept.peerFingerprint == (try source.fingerprint))
    half.peerFingerprint = next
    let ended = try destination.call(ConfigureSessionCall(fencingNumber: 1, configuration: half)).configuration
    #expect(ended.peerKeys == [next])
  }

  // MARK: Versions

  @Test("agents of neighbouring versions of the link protocol move data, whichever opens it", arguments: [0, 1])
  func neighbours(newer: Int) throws {
    var overrides = [AgentInstance.Overrides(), AgentInstance.Overrides()]
    overrides[newer].linkVersions = H2HVersions(oldest: 1, newest: 2)
    overrides[1 - newer].linkVersions = H2HVersions(oldest: 1, newest: 1)
    let (source, destination) = try pair(PairSettings(sizeBytes: 4 << 20), overrides: overrides)
    try source.command(.openTap, .source)
    try source.command(.synchronize, .source)
    try source.waitUntilSynchronized()
    try source.command(.swing, .source)
    try source.wait(for: .standIn)
    #expect(try destination.observation().connected)
  }

  @Test("agents two versions apart say which versions each has") func strangers() throws {
    var overrides = [AgentInstance.Overrides(), AgentInstance.Overrides()]
    overrides[0].linkVersions = H2HVersions(oldest: 2, newest: 3)
    overrides[1].linkVersions = H2HVersions(oldest: 1, newest: 1)
    let (source, destination) = try pair(PairSettings(sizeBytes: 4 << 20), overrides: overrides)
    let seen = try source.wait(for: "a refusal") { $0.lastError?.message.contains("versions 2 to 3") == true }
    #expect(!seen.connected && seen.lastError?.message.contains("the listener version 1") == true)
    #expect(try !destination.observation().connected)
  }

  @Test("a cmcplan of the version before is answered in its own, and one too new is told what to do") func control()
    throws
  {
    let agent = try LocalAgent()
    let newest = AgentProtocolVersion.newest
    #expect(newest == 2 && AgentProtocolVersion.oldest == newest - 1)
    for (theirs, agreed) in [(newest - 1, newest - 1), (newest, newest), (newest + 1, newest)] {
      let call = HelloCall(oldestVersion: max(1, theirs - 1), newestVersion: theirs)
      #expect(try agent.call(call).protocolVersion == agreed)
    }
    let fault = #expect(throws: AgentFault.self) {
      try agent.call(HelloCall(oldestVersion: newest + 1, newestVersion: newest + 2))
    }
    #expect(fault?.code == .protocolMismatch)
  }
}
