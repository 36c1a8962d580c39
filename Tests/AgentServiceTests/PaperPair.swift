import AgentProtocol
import AgentService
import BlockModel
import LinuxPlatform
import Seams
import Testing
import VolumeTap

/// Two volumes beneath which taps go, and the agents of both ends.
final class PaperPair {
  let kernel = PaperTapKernel()
  let source: LocalAgent
  let destination: LocalAgent
  var settings = PairSettings(attachesDevices: true)

  init(fence: (any SourceFence)? = nil) throws {
    var overrides = AgentInstance.Overrides()
    overrides.tapOffer = TapOffer(
      isRoot: true, hasDeviceMapper: true, hasKernelNBD: true, namesBackends: true, hasFuseLoop: false)
    overrides.tapKernel = kernel
    overrides.fence = fence
    source = try LocalAgent(overrides: overrides)
    destination = try LocalAgent()
    settings.sizeBytes = 12 << 20
    settings.port = try Ports.free()
    for (index, name) in ["disk", "second"].enumerated() {
      try source.root.makeDisk(name, sizeBytes: settings.sizeBytes, dataBytes: 6 << 20, seed: UInt64(index + 1))
      try destination.root.makeDisk(name, sizeBytes: settings.sizeBytes)
    }
    try configure()
  }

  /// A person on the host of `agent`, where no agent runs for that moment.
  func rescue(_ agent: LocalAgent, _ body: (borrowing Rescue) throws -> Void) throws {
    try agent.restart {
      let rescue = try Rescue(
        root: AgentRoot(path: agent.root.path), host: SystemHost(), children: PosixChildProcesses(), kernel: kernel)
      defer { rescue.finish() }
      try body(rescue)
    }
  }

  /// The session is left alone, is not started anew under its name, and can be cleared away.
  func expectGivenUp(_ agent: LocalAgent, _ role: Role) throws {
    let seen = try agent.observation()
    #expect(seen.hold?.who == "cmcagent rescue")
    guard case .stalled(let why) = seen.health else {
      Issue.record("health is \(seen.health)")
      return
    }
    #expect(why.contains("by hand"))
    #expect((#expect(throws: AgentFault.self) { try configure() })?.message.contains("by hand") == true)
    try agent.command(.cancel, role)
    let left = try agent.call(ObserveCall())
    #expect(left.sessions.isEmpty && left.tombstones.map { $0.rescued != nil } == [true])
    #expect((#expect(throws: AgentFault.self) { try configure() })?.code == .refused)
  }

  func configure() throws {
    _ = try destination.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.destination, peer: source.fingerprint)))
    _ = try source.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.source, peer: destination.fingerprint)))
  }

  func path(_ name: String = "disk") -> String { "\(source.root.path)/\(name)" }
  var hasTap: Bool { kernel.device(path()).tap != nil && kernel.device(path("second")).tap != nil }

  func synchronize() throws {
    try source.command(.openTap, .source)
    #expect(hasTap)
    try source.command(.synchronize, .source)
    try waitUntilSynchronized()
  }

  func waitUntilSynchronized() throws {
    try source.wait(for: "synchronized") { seen in
      seen.stage == .tracking && seen.connected
        && seen.volumes.allSatisfy { $0.dirtyBytes == 0 && $0.tapSocket != nil }
    }
  }

  /// Past the tap, as whoever has the device without it.
  func write(_ byte: UInt8, at offset: UInt64, of name: String = "disk") throws {
    let file = try FileBlockDevice(path: path(name))
    try [UInt8](repeating: byte, count: 64 << 10).withUnsafeBytes {
      try file.write(at: offset, from: $0, durable: true)
    }
    file.close()
    kernel.change(path(name)) { $0.writes += 1 }
  }

  /// Between the withheld ends, as replication left it.
  func expectEqualCopies(_ comment: Comment, mayHaveFound: Bool = false) throws {
    let middle = (1 << 20)..<(settings.sizeBytes - 1 << 20)
    for name in ["disk", "second"] {
      let one = try source.root.contents(name, sizeBytes: settings.sizeBytes)[middle]
      let other = try destination.root.contents(name, sizeBytes: settings.sizeBytes)[middle]
      #expect(one == other, comment)
    }
    let found = try source.observation().volumes.reduce(0) { $0 + ($1.mismatchedExtents ?? 0) }
    #expect(mayHaveFound || found == 0, comment)
  }

  func expectRefused(_ command: SessionCommand, _ code: AgentFault.Code) throws {
    let fault = #expect(throws: AgentFault.self) { try source.command(command, .source) }
    #expect(fault?.code == code, "\(command): \(String(describing: fault))")
  }

  func waitForRecord(of stage: SessionStage) throws {
    let path = "\(source.root.path)/state/\(Catalogue.directory(of: settings.session))/record"
    try source.wait(for: "the record of \(stage)") { _ in
      ((try? Files.readText(path)) ?? "").contains("stage=\(stage.rawValue)\n")
    }
  }

  func journal() throws -> String {
    try Files.readText("\(source.root.path)/state/\(Catalogue.directory(of: settings.session))/journal.jsonl")
  }
}
