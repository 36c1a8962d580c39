import AgentProtocol
import AgentService
import BlockModel
import Foundation
import LinuxPlatform
import Seams
import Testing

/// The program as it was built beside these tests; without it the suite is skipped.
enum BuiltAgent {
  static let path: String? = {
    let package = Files.parent(of: Files.parent(of: Files.parent(of: #filePath)))
    let candidates = ["debug", "release"].map { "\(package)/.build/\($0)/cmcagent" }
    return candidates.first { Files.exists($0) }
  }()
}

/// An agent as a process of its own, spoken to through `cmcagent rpc`.
final class SpawnedAgent: CallTarget {
  let root: TemporaryRoot
  private let program: String
  private let child: Monitor<RunningChild?> = Monitor(nil)

  init() throws {
    guard let program = BuiltAgent.path else { throw TestTrouble("cmcagent is not built") }
    self.program = program
    root = try TemporaryRoot()
    try start()
  }
  deinit { child.withLock { $0 }?.signal(9) }

  var fingerprint: KeyFingerprint {
    get throws {
      KeyFingerprint(String(try run(["fingerprint", "--root", root.path]).split(separator: "\n")[0]))
    }
  }

  func start(environment: [String: String] = [:]) throws {
    var options = RunningChild.Options()
    options.errorOutput = .log(path: "\(root.path)/log")
    options.diesWithParent = true
    let started = try RunningChild.start(
      executable: program, arguments: ["run", "--root", root.path, "--foreground"],
      environment: environment, options)
    child.withLock { $0 = started }
    let deadline = MonotonicTime.now.adding(seconds: 30)
    while true {
      if (try? call(HelloCall())) != nil { return }
      guard MonotonicTime.now < deadline, started.isRunning else {
        throw TestTrouble("the agent did not start: \((try? Files.readText("\(root.path)/log")) ?? "")")
      }
      pauseThread(milliseconds: 20)
    }
  }

  /// As a power cut takes it, but for the page cache.
  func kill() {
    let running = child.withLock { $0 }
    running?.signal(9)
    _ = running?.wait(until: MonotonicTime.now.adding(seconds: 10))
  }

  func terminate() -> ChildResult.Ending? {
    child.withLock { $0 }?.terminate(limitSeconds: 10)
  }

  func run(_ arguments: [String], input: [UInt8] = []) throws -> String {
    let result = try PosixChildProcesses().run(
      ChildCommand(executable: program, arguments: arguments, environment: [:], input: input, timeoutSeconds: 40))
    guard result.succeeded else {
      throw TestTrouble(String(decoding: result.errorOutput + result.output, as: UTF8.self))
    }
    return String(decoding: result.output, as: UTF8.self)
  }

  func call<Call: AgentCall>(_ call: Call) throws -> Call.Answer {
    let answer = try run(["rpc", "--root", root.path], input: try JSONRPC.requestLine(call, id: .number(9)))
    return try JSONRPC.response(of: Array(answer.utf8), to: Call.self).result.get()
  }
}

@Suite("Agents that are killed", .serialized, .enabled(if: BuiltAgent.path != nil))
struct KillTests {
  /// Writes until it is done: an agent that is away refuses connections, which the application sees as a pause.
  private func write(_ tap: String?, _ commands: [String]) throws {
    let deadline = MonotonicTime.now.adding(seconds: 60)
    while true {
      do {
        _ = try Application.run(tap, commands)
        return
      } catch {
        guard MonotonicTime.now < deadline else { throw error }
        pauseThread(milliseconds: 50)
      }
    }
  }

  @Test("kill -9 of either agent in every stage loses nothing, and the same way leads to the end")
  func killEverywhere() throws {
    let source = try SpawnedAgent()
    let destination = try SpawnedAgent()
    var settings = PairSettings(networkLimit: 30 << 20)
    settings.port = try Ports.free()
    try source.root.makeDisk("disk", sizeBytes: settings.sizeBytes, dataBytes: 20 << 20)
    try destination.root.makeDisk("disk", sizeBytes: settings.sizeBytes)
    _ = try destination.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.destination, peer: source.fingerprint)))
    _ = try source.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.source, peer: destination.fingerprint)))
    let tap = try source.command(.openTap, .source).volumes[0].tapSocket
    try source.command(.synchronize, .source)
    for (number, agent) in [destination, source, destination].enumerated() {
      try write(tap, ["write -P \(0x41 + number) \(number + 1)M 64k", "flush"])
      agent.kill()
      try agent.start()
      try write(tap, ["write -P \(0x51 + number) \(number + 4)M 64k"])
    }
    try source.waitUntilSynchronized()
    for (number, agent) in [source, destination].enumerated() {
      try source.command(.swing, .source)
      try source.wait(for: .standIn)
      try write(tap, ["write -P \(0x61 + number) \(number + 8)M 64k", "flush"])
      agent.kill()
      try agent.start()
      try source.wait(for: "authority back at the source, and a hold") {
        $0.authority == .source && $0.stage == .tracking && $0.hold != nil
      }
      #expect(throws: AgentFault.self, "nothing swings again while it is held") {
        try source.command(.swing, .source)
      }
      _ = try source.call(SetHoldCall(session: settings.session, hold: nil))
      try write(tap, ["read -P \(0x61 + number) \(number + 8)M 64k", "write -P \(0x71 + number) \(number + 10)M 64k"])
      try source.waitUntilSynchronized()
    }
    try source.command(.swing, .source)
    try source.wait(for: .standIn)
    try source.command(.closeTap, .source)
    try source.command(.prove, .source)
    try source.wait(for: .proven)
    try source.command(.fence, .source)
    source.kill()
    destination.kill()
    try source.start()
    try destination.start()
    try finish(source, destination, settings)
  }

  private func finish(_ source: SpawnedAgent, _ destination: SpawnedAgent, _ settings: PairSettings) throws {
    // The fence was asked for, and may have been cut off before its commit.
    let seen = try source.wait(for: "a stage that lasts") { $0.connected && $0.hold != nil || $0.stage == .fenced }
    if seen.stage != .fenced {
      _ = try source.call(SetHoldCall(session: settings.session, hold: nil))
      try source.command(.openTap, .source)
      try source.waitUntilSynchronized()
      try source.command(.swing, .source)
      try source.wait(for: .standIn)
      try source.command(.closeTap, .source)
      try source.command(.prove, .source)
      try source.wait(for: .proven)
      try source.command(.fence, .source)
    }
    try source.wait(for: .fenced)
    try destination.wait(for: .fenced)
    try destination.command(.release, .destination)
    destination.kill()
    try destination.start()
    try destination.command(.release, .destination)
    try destination.wait(for: .released)
    let one = try source.root.contents("disk", sizeBytes: settings.sizeBytes)
    #expect(one == (try destination.root.contents("disk", sizeBytes: settings.sizeBytes)))
    for (megabyte, byte) in [(1, 0x41), (2, 0x42), (3, 0x43), (4, 0x51), (8, 0x61), (9, 0x62), (10, 0x71), (11, 0x72)] {
      #expect(one[megabyte << 20..<megabyte << 20 + 65536].allSatisfy { $0 == UInt8(byte) }, "at \(megabyte) MiB")
    }
    let receipt = try #require(try source.observation().receipt?.path)
    for agent in [source, destination] {
      let answer = try agent.run(["verify-receipt", receipt, "--device", "\(agent.root.path)/disk"])
      #expect(answer.contains("0 extents differ"), "the receipt holds of both copies")
    }
    try destination.command(.retire, .destination)
    try source.command(.retire, .source)
    #expect(source.terminate() == .exited(0))
    #expect(destination.terminate() == .exited(0))
  }

  @Test("One agent a root; a detached one answers when the starter returns; SIGTERM ends it and its socket")
  func program() throws {
    let agent = try SpawnedAgent()
    #expect(throws: TestTrouble.self) { try agent.run(["run", "--root", agent.root.path]) }
    #expect(try agent.run(["version"]).hasPrefix("cmcagent "))
    #expect(throws: TestTrouble.self) { try agent.run(["verify-receipt", "/etc/hostname"]) }
    let whole = "\(agent.root.path)/whole"
    let spoiled = "\(agent.root.path)/spoiled"
    var bytes = [UInt8](repeating: 7, count: 9 << 20)
    try Data(bytes).write(to: URL(fileURLWithPath: whole))
    #expect(try agent.run(["compare", whole, whole]).contains("0 extents differ"))
    bytes[5_000_000] ^= 1
    try Data(bytes).write(to: URL(fileURLWithPath: spoiled))
    #expect {
      try agent.run(["compare", whole, spoiled])
    } throws: {
      "\($0)".contains("1 bytes, the first at 5000000") && "\($0)".contains("[4194304, +4194304)")
    }
    #expect(agent.terminate() == .exited(0))
    #expect(!Files.exists("\(agent.root.path)/agent.sock"))
    _ = try agent.run(["run", "--root", agent.root.path])
    #expect(try agent.call(ObserveCall()).sessions.isEmpty)
    _ = try agent.call(ShutdownCall())
    let deadline = MonotonicTime.now.adding(seconds: 20)
    while Files.exists("\(agent.root.path)/agent.sock"), MonotonicTime.now < deadline { pauseThread(milliseconds: 20) }
    #expect(!Files.exists("\(agent.root.path)/agent.sock"))
  }
}
