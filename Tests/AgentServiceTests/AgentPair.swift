import AgentProtocol
import AgentService
import BlockModel
import LinuxPlatform
import Seams
import Testing

/// Why a test could not go on.
struct TestTrouble: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// A directory of its own that goes with the object.
final class TemporaryRoot: Sendable {
  let path: String
  init() throws {
    path = "/tmp/cmc-agent-\(SystemRandom().uuid().prefix(13))"
    try Files.makeDirectories(path, mode: 0o700)
  }
  deinit { try? Files.removeTree(path) }

  /// A file of `sizeBytes` with pseudo-random bytes in `dataBytes` of it, from the beginning.
  func makeDisk(_ name: String, sizeBytes: Int, dataBytes: Int = 0, seed: UInt64 = 1) throws {
    let device = try FileBlockDevice.create(path: "\(path)/\(name)", sizeBytes: UInt64(sizeBytes))
    var state = seed
    var bytes = [UInt8](repeating: 0, count: dataBytes)
    for index in bytes.indices {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      bytes[index] = UInt8(truncatingIfNeeded: state >> 40)
    }
    if dataBytes > 0 { try bytes.withUnsafeBytes { try device.write(at: 0, from: $0, durable: false) } }
    device.close()
  }

  func contents(_ name: String, sizeBytes: Int) throws -> [UInt8] {
    Array(try Files.read("\(path)/\(name)", limitBytes: 1 << 30).prefix(sizeBytes))
  }
}

/// What a pair of halves is configured with.
struct PairSettings {
  var session = SessionID("plan/erp")
  var sizeBytes = 24 << 20
  var port = 0
  var share: Double?
  var networkLimit: UInt64?
  var overwrite = false
  var linkLossTimeoutSeconds = 3.0
  var digest = "d1"
  var sourceDisk = "disk"
  var destinationDisk = "disk"
  /// Asks for block devices, of a second volume on "second" too.
  var attachesDevices = false

  private func volume(_ name: String, _ path: String, _ role: Role) -> VolumeConfiguration {
    VolumeConfiguration(
      name: VolumeName(name), devicePath: path, sizeBytes: UInt64(sizeBytes), tracking: "tap", overwrite: overwrite,
      attachDevice: attachesDevices && role == .source)
  }

  func half(_ role: Role, peer: KeyFingerprint) -> SessionConfiguration {
    SessionConfiguration(
      session: session, plan: PlanID("plan"), migration: MigrationName("erp"), role: role, configurationDigest: digest,
      peerFingerprint: peer,
      link: LinkConfiguration(listens: role == .destination, address: "127.0.0.1", port: port, lanes: 2),
      volumes: [volume("data", role == .source ? sourceDisk : destinationDisk, role)]
        + (attachesDevices ? [volume("second", "second", role)] : []),
      limits: RateLimits(share: share, networkLimitBytesPerSecond: networkLimit),
      linkLossTimeoutSeconds: linkLossTimeoutSeconds, resyncIntervalSeconds: 0.2, confirmWithinSeconds: nil,
      verify: "full")
  }
}

/// Anything that answers calls: an agent in this process, or one behind a socket.
protocol CallTarget: AnyObject, Sendable {
  func call<Call: AgentCall>(_ call: Call) throws -> Call.Answer
}

/// An agent in this process, on its real directory.
final class LocalAgent: CallTarget {
  let root: TemporaryRoot
  let overrides: AgentInstance.Overrides
  private let running: Monitor<AgentInstance?>

  init(overrides: AgentInstance.Overrides = .init()) throws {
    root = try TemporaryRoot()
    self.overrides = overrides
    running = Monitor(try AgentInstance(root: root.path, overrides: overrides) { _ in })
  }
  deinit { running.withLock { $0 }?.stop() }

  var instance: AgentInstance {
    get throws {
      guard let instance = running.withLock({ $0 }) else { throw TestTrouble("the agent is stopped") }
      return instance
    }
  }
  var fingerprint: KeyFingerprint { get throws { try instance.fingerprint } }

  func restart(meanwhile: () throws -> Void = {}) throws {
    try instance.stop()
    try meanwhile()
    let overrides = overrides
    let next = try AgentInstance(root: root.path, overrides: overrides) { _ in }
    running.withLock { $0 = next }
  }

  func call<Call: AgentCall>(_ call: Call) throws -> Call.Answer {
    let table = CallTable(try instance.agent)
    let line = try JSONRPC.requestLine(call, id: .number(1))
    guard let answer = table.answer(line, head: try JSONRPC.requestHead(of: line)) else {
      throw TestTrouble("no answer to \(Call.method)")
    }
    return try JSONRPC.response(of: answer, to: Call.self).result.get()
  }
}

extension CallTarget {
  @discardableResult
  func command(
    _ command: SessionCommand, _ role: Role, session: SessionID = SessionID("plan/erp"), fencing: UInt64 = 1
  ) throws -> SessionObservation {
    try call(SessionCommandCall(fencingNumber: fencing, session: session, role: role, command: command))
  }

  func observation() throws -> SessionObservation {
    guard let found = try call(ObserveCall()).sessions.first else { throw TestTrouble("the agent has no session") }
    return found
  }

  /// Observes until `isReached`, for at most a minute: a limit for a test that fails, not a measure for one that passes.
  @discardableResult
  func wait(for what: String, _ isReached: (SessionObservation) -> Bool) throws -> SessionObservation {
    let deadline = MonotonicTime.now.adding(seconds: 60)
    while true {
      let seen = try observation()
      if isReached(seen) { return seen }
      guard MonotonicTime.now < deadline else {
        throw TestTrouble("\(what) was not reached: \(seen.stage) \(seen.health) \(String(describing: seen.lastError))")
      }
      pauseThread(milliseconds: 20)
    }
  }

  @discardableResult
  func wait(for stage: SessionStage) throws -> SessionObservation {
    try wait(for: stage.rawValue) { $0.stage == stage }
  }

  func waitUntilSynchronized() throws {
    try wait(for: "synchronized") { $0.stage == .tracking && $0.volumes[0].dirtyBytes == 0 && $0.connected }
  }
}

enum Ports {
  /// A TCP port on loopback that nobody listens on now.
  static func free() throws -> Int {
    let listener = try SocketListener.tcp(.loopback(port: 0))
    defer { listener.cancel() }
    return Int(try listener.localAddress().port)
  }
}

/// The application: qemu-io as an NBD client of the tap.
enum Application {
  static func run(_ socket: String?, _ commands: [String]) throws -> String {
    guard let socket else { throw TestTrouble("the tap is not served") }
    let uri = "nbd+unix:///data?socket=\(socket)"
    let result = try PosixChildProcesses().run(
      ChildCommand(
        executable: "/usr/bin/qemu-io", arguments: ["-f", "raw", uri] + commands.flatMap { ["-c", $0] },
        environment: [:], timeoutSeconds: 60))
    let text = String(decoding: result.output + result.errorOutput, as: UTF8.self)
    guard result.succeeded, !text.contains("rror"), !text.contains("verification failed") else {
      throw TestTrouble(text)
    }
    return text
  }
}
