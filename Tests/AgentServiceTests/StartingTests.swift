import AgentProtocol
import AgentService
import BlockModel
import Glibc
import LinuxPlatform
import Seams
import Testing

/// An agent that starts before its devices are there, as at a start of its host.
@Suite("Devices that come after the agent", .serialized)
struct StartingTests {
  private func configure(_ settings: inout PairSettings, _ source: some CallTarget, _ destination: some CallTarget)
    throws
  {
    let keys = (try source.call(HelloCall()).fingerprint, try destination.call(HelloCall()).fingerprint)
    settings.port = try Ports.free()
    _ = try destination.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.destination, peer: keys.0)))
    _ = try source.call(ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.source, peer: keys.1)))
  }

  @Test("A session goes on by itself once its device is there, on either host")
  func lateDevices() throws {
    var settings = PairSettings()
    let (source, destination) = (try LocalAgent(), try LocalAgent())
    try source.root.makeDisk("disk", sizeBytes: settings.sizeBytes, dataBytes: 4 << 20)
    try destination.root.makeDisk("disk", sizeBytes: settings.sizeBytes)
    try configure(&settings, source, destination)
    let tap = try source.command(.openTap, .source).volumes[0].tapSocket
    try source.command(.synchronize, .source)
    try source.waitUntilSynchronized()
    for agent in [source, destination] {
      let disk = "\(agent.root.path)/disk"
      try agent.restart { try Files.rename(disk, to: disk + ".away") }
      let seen = try agent.observation()
      #expect(seen.couldNotStart == true && seen.lastError?.code == .notFound)
      #expect(throws: AgentFault.self, "a command says why") { try agent.command(.resync, seen.role) }
      try Files.rename(disk + ".away", to: disk)
      try agent.wait(for: "the session") { $0.couldNotStart != true }
    }
    _ = try Application.run(tap, ["write -P 0x21 2M 64k", "flush"])
    try source.waitUntilSynchronized()
  }

  @Test("One that is there but not as it was is no late device, and is left alone")
  func otherFaults() throws {
    var settings = PairSettings()
    let (source, destination) = (try LocalAgent(), try LocalAgent())
    for agent in [source, destination] { try agent.root.makeDisk("disk", sizeBytes: settings.sizeBytes) }
    try configure(&settings, source, destination)
    let disk = "\(source.root.path)/disk"
    try source.restart {
      try Files.rename(disk, to: disk + ".away")
      try source.root.makeDisk("disk", sizeBytes: 1 << 20)
    }
    let seen = try source.observation()
    #expect(seen.couldNotStart == true && seen.lastError?.code == .refused)
  }

  @Test(
    "The service manager is told that the agent is ready once its tap is back", .enabled(if: BuiltAgent.path != nil))
  func readiness() throws {
    let manager = try ServiceManager()
    var settings = PairSettings()
    let (source, destination) = (try SpawnedAgent(), try LocalAgent())
    try source.root.makeDisk("disk", sizeBytes: settings.sizeBytes)
    try destination.root.makeDisk("disk", sizeBytes: settings.sizeBytes)
    try configure(&settings, source, destination)
    let tap = try source.command(.openTap, .source).volumes[0].tapSocket
    source.kill()
    let disk = "\(source.root.path)/disk"
    try Files.rename(disk, to: disk + ".away")
    try source.start(environment: ["NOTIFY_SOCKET": manager.path])
    #expect(manager.word(waiting: false) == nil)
    try Files.rename(disk + ".away", to: disk)
    #expect(manager.word(waiting: true) == "READY=1")
    _ = try Application.run(tap, ["read 2M 64k"])
  }
}

/// As much of systemd as hears that a service is ready.
private final class ServiceManager {
  private let root: TemporaryRoot
  private let descriptor: Int32
  var path: String { "\(root.path)/notify" }

  init() throws {
    root = try TemporaryRoot()
    descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let bound = withUnsafeBytes(of: &address) { bytes in
      bytes.withMemoryRebound(to: sockaddr.self) {
        bind(descriptor, $0.baseAddress, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard bound == 0 else { throw TestTrouble("no socket at \(path)") }
  }
  deinit { close(descriptor) }

  /// What was said; nil where nothing was, or not within half a minute.
  func word(waiting: Bool) -> String? {
    var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    guard Glibc.poll(&poll, 1, waiting ? 30_000 : 0) == 1 else { return nil }
    var bytes = [UInt8](repeating: 0, count: 64)
    let count = recv(descriptor, &bytes, bytes.count, 0)
    return count > 0 ? String(decoding: bytes.prefix(count), as: UTF8.self) : nil
  }
}
