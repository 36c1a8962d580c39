import AgentProtocol
import AgentService
import BlockModel
import H2HProtocol
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

  @Test("The map shows what the application wrote, as near as one looks, and nothing once it is copied")
  func map() throws {
    let (source, destination) = (try LocalAgent(), try LocalAgent())
    _ = try synchronize(source: source, destination: destination, fill: { _, _ in })
    func map(_ offset: UInt64, _ length: UInt64?, _ cells: Int) throws -> ChangedDataMap {
      try source.call(
        MapCall(
          session: SessionID("plan/erp"), volume: VolumeName("data"), offset: offset, length: length, cells: cells))
    }
    let equal = try map(0, nil, 64)
    #expect(equal.runs == [ChangedDataMap.Run(cells: 64, level: 0)])
    #expect(equal.length == 24 << 20 && equal.sizeBytes == 24 << 20)
    for (offset, length, cells) in [(UInt64(24 << 20), UInt64?.none, 8), (0, 0, 8), (0, nil, 0), (0, nil, 4097)] {
      #expect(throws: AgentFault.self) { try map(offset, length, cells) }
    }
    #expect(try map(20 << 20, 100 << 20, 8).length == 4 << 20, "cut at the end")
    #expect(throws: AgentFault.self, "the destination doesn't know") {
      try destination.call(
        MapCall(session: SessionID("plan/erp"), volume: VolumeName("data"), offset: 0, length: nil, cells: 8))
    }
  }

  @Test("An agent of the version before takes part, and nothing goes packed", arguments: [Role.source, .destination])
  func olderPeer(_ older: Role) throws {
    var overrides = AgentInstance.Overrides()
    overrides.linkVersions = H2HVersions(oldest: 1, newest: 1)
    let source = try LocalAgent(overrides: older == .source ? overrides : .init())
    let destination = try LocalAgent(overrides: older == .destination ? overrides : .init())
    let seen = try synchronize(source: source, destination: destination, fill: fillWithText)
    #expect(seen.compression?.state == .unsupported)
    #expect(seen.compression?.packedBytes == 0)
    #expect(seen.volumes[0].wireBytes == seen.volumes[0].copiedBytes)
  }
}
