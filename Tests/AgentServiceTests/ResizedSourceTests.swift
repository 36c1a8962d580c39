import AgentProtocol
import AgentService
import BlockModel
import LinuxPlatform
import Seams
import TestSupport
import Testing

/// A source whose size changes while it is copied, between two real agents.
@Suite("A source that changes its size", .serialized)
struct ResizedSourceTests {
  private static let former: UInt8 = 0x5a

  /// Slow enough for something to happen in the middle; the destination is full of what was there before.
  private func pair(_ settings: inout PairSettings) throws -> (LocalAgent, LocalAgent) {
    let source = try LocalAgent()
    let destination = try LocalAgent()
    settings.overwrite = true
    settings.networkLimit = 8 << 20
    try source.root.makeDisk("disk", sizeBytes: settings.sizeBytes, dataBytes: settings.sizeBytes)
    try destination.root.makeDisk("disk", sizeBytes: settings.sizeBytes)
    let disk = try FileBlockDevice(path: "\(destination.root.path)/disk")
    let full = [UInt8](repeating: Self.former, count: settings.sizeBytes)
    try full.withUnsafeBytes { try disk.write(at: 0, from: $0, durable: true) }
    disk.close()
    settings.port = try Ports.free()
    _ = try destination.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.destination, peer: source.fingerprint)))
    _ = try source.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.source, peer: destination.fingerprint)))
    try source.command(.openTap, .source)
    try source.command(.synchronize, .source)
    try source.wait(for: "some of it copied") { $0.volumes[0].copiedBytes > 0 }
    return (source, destination)
  }

  private func resize(_ agent: LocalAgent, to bytes: Int) throws {
    let result = try PosixChildProcesses().run(
      ChildCommand(
        executable: "/usr/bin/truncate", arguments: ["-s", "\(bytes)", "\(agent.root.path)/disk"], environment: [:],
        timeoutSeconds: 10))
    guard result.succeeded else { throw TestTrouble("truncate failed") }
  }

  @Test("One that shrinks stops the copying with an error, and nothing at the destination is zeroed for it")
  func shrinks() throws {
    var settings = PairSettings()
    let (source, destination) = try pair(&settings)
    try resize(source, to: 12 << 20)
    let seen = try source.wait(for: "an error") { $0.lastError != nil }
    #expect(seen.lastError?.message.contains("reading") == true, "\(String(describing: seen.lastError))")
    #expect(seen.stage == .synchronizing, "it does not call that synchronized")
    let journal = "\(source.root.path)/state/\(Catalogue.directory(of: settings.session))/journal.jsonl"
    #expect(try Files.readText(journal).contains("has shrunk"))
    let there = try destination.root.contents("disk", sizeBytes: settings.sizeBytes)
    #expect(there[(13 << 20)..<(22 << 20)].allSatisfy { $0 == Self.former }, "what can't be read is not zero")

    // Its size again, though not its data, which is the host's doing: copying goes on by itself.
    try resize(source, to: settings.sizeBytes)
    try source.waitUntilSynchronized()
    let end = try destination.root.contents("disk", sizeBytes: settings.sizeBytes)
    #expect(end[(13 << 20)..<(22 << 20)].allSatisfy { $0 == 0 })
  }

  @Test("One that grows is copied to the end that was agreed, and the tail waits for its volume to grow")
  func grows() throws {
    var settings = PairSettings()
    let (source, destination) = try pair(&settings)
    try resize(source, to: settings.sizeBytes + 8 << 20)
    try source.waitUntilSynchronized()
    let here = try source.root.contents("disk", sizeBytes: settings.sizeBytes)
    let there = try destination.root.contents("disk", sizeBytes: settings.sizeBytes)
    #expect(here[(1 << 20)..<(22 << 20)] == there[(1 << 20)..<(22 << 20)])
    #expect(try source.observation().volumes[0].sizeBytes == UInt64(settings.sizeBytes))
    try source.restart()
    try source.waitUntilSynchronized()
  }
}
