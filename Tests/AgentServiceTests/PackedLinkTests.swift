import AgentProtocol
import AgentService
import BlockModel
import LinuxPlatform
import Testing

@Suite("What goes packed between two agents", .serialized)
struct PackedLinkTests {
  private func synchronize(
    source: LocalAgent, destination: LocalAgent, fill: (FileBlockDevice, Int) throws -> Void
  ) throws -> SessionObservation {
    var settings = PairSettings()
    try source.root.makeDisk("disk", sizeBytes: settings.sizeBytes)
    try destination.root.makeDisk("disk", sizeBytes: settings.sizeBytes + 4096)
    let disk = try FileBlockDevice(path: "\(source.root.path)/disk", .init())
    try fill(disk, settings.sizeBytes)
    disk.close()
    settings.port = try Ports.free()
    _ = try destination.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.destination, peer: source.fingerprint)))
    _ = try source.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.source, peer: destination.fingerprint)))
    try source.command(.synchronize, .source)
    try source.waitUntilSynchronized()
    let seen = try source.observation()
    _ = try source.call(VerifyCall(session: settings.session, scope: .all, repairs: false))
    let verified = try source.wait(for: "verified") { $0.verification?.endedAt != nil }
    #expect(verified.verification?.isClean == true, "\(String(describing: verified.verification))")
    return seen
  }

  /// Lines such as a log has, each with a number of its own.
  private func fillWithText(_ disk: FileBlockDevice, _ sizeBytes: Int) throws {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(sizeBytes + 100)
    var line = 0
    while bytes.count < sizeBytes {
      bytes += Array(
        "2026-11-23T10:00:00Z host kernel: [\(line)] block \(line &* 2_654_435_761 % 1_000_003) written\n".utf8)
      line += 1
    }
    try bytes[..<sizeBytes].withUnsafeBytes { try disk.write(at: 0, from: $0, durable: false) }
  }

  @Test("Text arrives as it was, and less of it crosses the link")
  func text() throws {
    let (source, destination) = (try LocalAgent(), try LocalAgent())
    let seen = try synchronize(source: source, destination: destination, fill: fillWithText)
    let report = try #require(seen.compression)
    // Whatever the link is worth, a comparison tries some pieces.
    #expect(report.packedBytes >= 8 * 512 << 10)
    #expect((report.ratio ?? 0) > 2)
    #expect(seen.volumes[0].wireBytes + report.packedBytes - report.wireBytes == seen.volumes[0].copiedBytes)
  }

  @Test("An agent of the version before takes part, and nothing goes packed", arguments: [Role.source, .destination])
  func olderPeer(_ older: Role) throws {
    var overrides = AgentInstance.Overrides()
    overrides.newestLinkVersion = 1
    let source = try LocalAgent(overrides: older == .source ? overrides : .init())
    let destination = try LocalAgent(overrides: older == .destination ? overrides : .init())
    let seen = try synchronize(source: source, destination: destination, fill: fillWithText)
    #expect(seen.compression?.state == .unsupported)
    #expect(seen.compression?.packedBytes == 0)
    #expect(seen.volumes[0].wireBytes == seen.volumes[0].copiedBytes)
  }
}
