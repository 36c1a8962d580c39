import AgentProtocol
import BlockModel
import Foundation
import LinuxPlatform
import MigrationModel
import Planning
import Reconciling
import SSHDeploy
import Seams
import Testing

/// A host in a directory of its own, and an agent that is a copy of /bin/dash: run as `cmcagent run --root DIR` in DIR
/// it reads a script called `run` there, which is all that deploying needs of an agent that lives and can be ended.
final class Laboratory {
  let directory: String
  let host: MigrationModel.Host
  var root: String { "\(directory)/it's a \"host\" $(touch x)" }
  let agentPath: String

  init() throws {
    directory = NSTemporaryDirectory() + "cmc-host-" + SystemRandom().uuid()
    agentPath = directory + "/shipped"
    host = MigrationModel.Host(
      name: HostName("lab"), address: nil, reach: .local(root: "\(directory)/it's a \"host\" $(touch x)"),
      azureVirtualMachine: nil, position: nil)
    try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
    try FileManager.default.copyItem(atPath: "/bin/dash", toPath: agentPath)
    try "trap 'exit 0' TERM\nwhile :; do sleep 0.05; done\n".write(
      toFile: root + "/run", atomically: true, encoding: .utf8)
  }

  deinit {
    for processID in agents() { kill(pid_t(processID), SIGKILL) }
    try? FileManager.default.removeItem(atPath: directory)
  }

  func deployer(_ children: any ChildProcesses = PosixChildProcesses()) -> HostDeployer {
    HostDeployer(
      shippedAgentPath: agentPath, children: children, time: SystemTime(), pausing: TaskPause(), ssh: Laboratory.noSSH,
      connect: { [root] host, child async throws(GatewayError) in
        _ = child.terminate(limitSeconds: 1)
        guard Laboratory.agents(root: root).count == 1 else {
          throw GatewayError(code: "TEST", message: "none runs", advice: "", disposition: .retry(afterSeconds: 1))
        }
        return (DeafAgent(), DeafAgent.hello)
      })
  }

  static let noSSH = SSHConnections(
    settings: SSHSettings(environment: ["PATH": "/nowhere"]), children: PosixChildProcesses(), pausing: TaskPause())

  func agents() -> [Int] { Self.agents(root: root) }

  /// Processes whose binary is in the host's bin directory and that were started as `run`.
  static func agents(root: String) -> [Int] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    let matching = names.compactMap(Int.init).filter { processID in
      let exe = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(processID)/exe")) ?? ""
      let words = (try? String(contentsOfFile: "/proc/\(processID)/cmdline", encoding: .utf8)) ?? ""
      return exe.hasPrefix(root + "/bin/cmcagent-") && words.contains("\0run\0")
    }
    // The shell that plays the agent forks before it runs `sleep`: such a child looks like its parent for a moment.
    return matching.filter { !matching.contains(parent(of: $0)) }
  }

  private static func parent(of processID: Int) -> Int {
    let facts = (try? String(contentsOfFile: "/proc/\(processID)/stat", encoding: .utf8)) ?? ""
    let afterName = facts.split(separator: ")").last?.split(separator: " ") ?? []
    return afterName.count > 1 ? Int(afterName[1]) ?? 0 : 0
  }

  /// Another agent is shipped from now on.
  func shipAnother() throws {
    let handle = try #require(FileHandle(forWritingAtPath: agentPath))
    try handle.seekToEnd()
    try handle.write(contentsOf: Data("newer".utf8))
    try handle.close()
  }

  /// The name of the agent that is run: "cmcagent-DIGEST".
  func selected() throws -> String { try FileManager.default.destinationOfSymbolicLink(atPath: root + "/bin/cmcagent") }

  /// Names of the agents that are kept.
  func kept() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: root + "/bin").filter { $0.hasPrefix("cmcagent-") }
  }

  /// Whether an agent runs that isn't `former`.
  static func runsAnother(than former: String, root: String) -> Bool {
    agents(root: root).contains { processID in
      let exe = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(processID)/exe")) ?? former
      return !exe.contains("/\(former)")
    }
  }

  /// Every file below the root with its inode and time: what a no-op must leave alone.
  func fingerprint() throws -> [String] {
    try FileManager.default.subpathsOfDirectory(atPath: root).sorted().map { path in
      let facts = try FileManager.default.attributesOfItem(atPath: "\(root)/\(path)")
      return "\(path) \(facts[.systemFileNumber] ?? 0) \(facts[.modificationDate] ?? 0)"
    }
  }
}

/// An agent that does as it is told, with no word; it can't be shut down by a call.
struct DeafAgent: AgentGateway {
  static let hello = AgentHello(
    agentVersion: "1", protocolVersion: 1, fingerprint: KeyFingerprint("SHA256:00"), bootID: "b", processID: 1,
    startedAt: WallTime(secondsSince1970: 0), capabilities: [])
  func call<Call: AgentCall>(_ call: Call) async throws(GatewayError) -> Call.Answer {
    throw GatewayError(code: "TEST", message: "deaf", advice: "", disposition: .terminal)
  }
  func close() async {}
}

@Suite struct HostDeployerTests {
  @Test func deployingInstallsByDigestAndStarts() async throws {
    let laboratory = try Laboratory()
    let deployer = laboratory.deployer()
    let bare = try await deployer.state(of: laboratory.host)
    #expect(bare == HostState(agentDigest: nil, agentRunning: false, tombstones: []))
    try await deployer.deploy(to: laboratory.host)
    let state = try await deployer.state(of: laboratory.host)
    #expect(state.agentDigest == (try await deployer.shippedAgentDigest()))
    #expect(state.agentRunning)
    #expect(laboratory.agents().count == 1)
    let mode = try FileManager.default.attributesOfItem(atPath: laboratory.root)[.posixPermissions] as? NSNumber
    #expect(mode?.intValue == 0o700)
    // A name with quotes and a command in it was data all the way.
    #expect(!FileManager.default.fileExists(atPath: laboratory.directory + "/x"))
  }

  @Test func deployingAgainWritesAndRestartsNothing() async throws {
    let laboratory = try Laboratory()
    let deployer = laboratory.deployer()
    try await deployer.deploy(to: laboratory.host)
    let agents = laboratory.agents()
    let before = try laboratory.fingerprint()
    try await deployer.deploy(to: laboratory.host)
    #expect(try laboratory.fingerprint() == before)
    #expect(laboratory.agents() == agents)
  }

  @Test func aKilledAgentIsStartedAgain() async throws {
    let laboratory = try Laboratory()
    let deployer = laboratory.deployer()
    try await deployer.deploy(to: laboratory.host)
    let first = try #require(laboratory.agents().first)
    kill(pid_t(first), SIGKILL)
    while laboratory.agents().contains(first) { await Task.yield() }
    #expect(try await deployer.state(of: laboratory.host).agentRunning == false)
    try await deployer.deploy(to: laboratory.host)
    #expect(laboratory.agents().count == 1)
    #expect(laboratory.agents() != [first])
  }

  @Test func anotherDigestTakesThePlaceOfTheOldOne() async throws {
    let laboratory = try Laboratory()
    try await laboratory.deployer().deploy(to: laboratory.host)
    let first = laboratory.agents()
    try laboratory.shipAnother()
    let deployer = laboratory.deployer()
    // The fake agent ignores calls, so its connection is no way to end it: the process id is.
    try await deployer.deploy(to: laboratory.host)
    #expect(laboratory.agents().count == 1)
    #expect(laboratory.agents() != first)
    let installed = try FileManager.default.contentsOfDirectory(atPath: laboratory.root + "/bin").sorted()
    #expect(installed.count == 2, "one agent and the link to it, not \(installed)")
  }

  @Test func removalLeavesTombstonesAndTheUsersFiles() async throws {
    let laboratory = try Laboratory()
    let deployer = laboratory.deployer()
    try await deployer.deploy(to: laboratory.host)
    let tombstone = Tombstone(
      session: SessionID("p/m"), role: .source, phase: .retired, generation: Generation(3), receiptDigest: nil,
      at: WallTime(secondsSince1970: 1))
    for folder in ["tombstones", "devices", "state"] {
      try FileManager.default.createDirectory(
        atPath: "\(laboratory.root)/\(folder)", withIntermediateDirectories: false)
    }
    try JSONEncoder().encode(tombstone).write(to: URL(fileURLWithPath: laboratory.root + "/tombstones/p%2Fm.json"))
    try Data("mine".utf8).write(to: URL(fileURLWithPath: laboratory.root + "/devices/data.img"))
    try await deployer.remove(from: laboratory.host, givingUpSessions: false)
    #expect(laboratory.agents().isEmpty)
    let left = try FileManager.default.contentsOfDirectory(atPath: laboratory.root).sorted()
    #expect(left == ["devices", "run", "tombstones"])
    #expect(try await deployer.state(of: laboratory.host).tombstones == [tombstone])
    try await deployer.remove(from: laboratory.host, givingUpSessions: false)
  }

  @Test func aMissingAgentBinarySaysWhereItWasLookedFor() async throws {
    let laboratory = try Laboratory()
    try FileManager.default.removeItem(atPath: laboratory.agentPath)
    let error = await #expect(throws: GatewayError.self) {
      try await laboratory.deployer().deploy(to: laboratory.host)
    }
    #expect(error?.message.contains(laboratory.agentPath) == true)
    #expect(error?.advice.contains("CMCPLAN_AGENT") == true)
    #expect(error?.disposition == .needsOperator)
  }

  @Test func anAgentThatDiesAtOnceIsReportedWithTheEndOfItsLog() async throws {
    let laboratory = try Laboratory()
    try "echo the port is taken\nexit 1\n".write(toFile: laboratory.root + "/run", atomically: true, encoding: .utf8)
    // The limit has passed on the second look at the clock; the agent has had its say before the first.
    let log = laboratory.root + "/agent.log"
    let deployer = HostDeployer(
      shippedAgentPath: laboratory.agentPath, children: PosixChildProcesses(), time: HastyTime(), pausing: TaskPause(),
      ssh: Laboratory.noSSH,
      connect: { host, child async throws(GatewayError) in
        _ = child.terminate(limitSeconds: 1)
        for _ in 0..<1000 where (try? String(contentsOfFile: log, encoding: .utf8))?.isEmpty != false {
          try? await TaskPause().pause(seconds: 0.01)
        }
        throw GatewayError(code: "TEST", message: "none runs", advice: "", disposition: .retry(afterSeconds: 1))
      })
    let error = await #expect(throws: GatewayError.self) { try await deployer.deploy(to: laboratory.host) }
    #expect(error?.advice.contains("the port is taken") == true)
  }

  @Test func namesAreResolvedOnTheHostAndALunHasAPathThere() async throws {
    let laboratory = try Laboratory()
    let deployer = laboratory.deployer()
    #expect(try await deployer.resolve("127.0.0.1", on: laboratory.host) == "127.0.0.1")
    let path = try await deployer.devicePath(ofLUN: 3, on: laboratory.host)
    #expect(path == laboratory.root + "/dev/disk/azure/scsi1/lun3")
    let error = await #expect(throws: GatewayError.self) {
      try await deployer.resolve("no such name; touch x", on: laboratory.host)
    }
    #expect(error?.code == "CMC3204" || error?.code == "CMC3205")
  }
}

/// Each look at the clock is a minute later.
final class HastyTime: TimeSource {
  private let looks = Monitor<UInt64>(0)
  func monotonicNow() -> MonotonicTime {
    looks.withLock { looks in
      looks += 1
      return MonotonicTime(nanoseconds: looks * 60_000_000_000)
    }
  }
  func wallNow() -> WallTime { WallTime(secondsSince1970: 0) }
}
