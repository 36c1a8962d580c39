import AgentProtocol
import AgentService
import BlockModel
import LinuxPlatform
import Seams
import Testing

@Suite("Two agents on loopback", .serialized)
struct WholeWayTests {
  private func pair(_ settings: inout PairSettings, dataBytes: Int = 10 << 20) throws -> (LocalAgent, LocalAgent) {
    let source = try LocalAgent()
    let destination = try LocalAgent()
    try source.root.makeDisk("disk", sizeBytes: settings.sizeBytes, dataBytes: dataBytes)
    try destination.root.makeDisk("disk", sizeBytes: settings.sizeBytes + 4096)
    settings.port = try Ports.free()
    _ = try destination.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.destination, peer: source.fingerprint)))
    _ = try source.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.source, peer: destination.fingerprint)))
    return (source, destination)
  }

  @Test("A volume is synchronized, swung, reverted, swung, proven, fenced and released, and both copies are equal")
  func wholeWay() throws {
    var settings = PairSettings(networkLimit: 40 << 20)
    let (source, destination) = try pair(&settings)
    let proof = try source.command(.proveConnection, .source).connectionProof
    #expect((proof?.bytesPerSecond ?? 0) > 0)
    let tap = try source.command(.openTap, .source).volumes[0].tapSocket
    try source.command(.synchronize, .source)
    // The application writes while the copier is under way.
    _ = try Application.run(tap, ["write -P 0xab 1M 1M", "read -P 0xab 1M 1M", "write -P 0xac 20M 64k", "flush"])
    try source.waitUntilSynchronized()
    _ = try Application.run(tap, ["write -P 0xad 3M 128k"])

    try source.command(.swing, .source)
    let swung = try source.wait(for: .standIn)
    #expect(swung.authority == .standIn && swung.swings == 1)
    let before = try destination.observation().volumes[0].applicationIO
    _ = try Application.run(tap, ["read -P 0xad 3M 128k", "write -P 0xae 12M 1M", "write -z 5M 64k", "flush"])
    let after = try destination.observation().volumes[0].applicationIO
    #expect(after.readBytes >= before.readBytes + 128 << 10, "reads come from the destination now")
    #expect(after.writeBytes > before.writeBytes)

    try source.command(.revert, .source)
    #expect(try source.wait(for: .tracking).authority == .source)
    _ = try Application.run(tap, ["read -P 0xae 12M 1M", "write -P 0xaf 13M 64k"])
    try source.command(.swing, .source)
    try source.wait(for: .standIn)
    _ = try Application.run(tap, ["write -P 0xb0 0 64k", "write -P 0xb1 \(settings.sizeBytes - 65536) 64k", "flush"])

    try source.command(.closeTap, .source)
    #expect(throws: TestTrouble.self, "the closed tap lets nobody in") { try Application.run(tap, ["read 0 4k"]) }
    try source.command(.revert, .source)
    let back = try source.wait(for: .tracking)
    #expect(back.volumes[0].tapSocket == tap, "a closed tap can't be told from an open one")
    #expect(throws: TestTrouble.self, "a revert alone leaves it closed") { try Application.run(tap, ["read 0 4k"]) }
    try source.command(.openTap, .source)
    _ = try Application.run(tap, ["read -P 0xb0 0 64k"])
    try source.command(.swing, .source)
    try source.wait(for: .standIn)
    try source.command(.closeTap, .source)
    try source.command(.prove, .source)
    let receipt = try #require(try source.wait(for: .proven).receipt)
    #expect(receipt.comparedBytes >= UInt64(settings.sizeBytes))
    let early = #expect(throws: AgentFault.self) { try destination.command(.release, .destination) }
    #expect(early?.code == .wrongStage)
    #expect(try destination.root.contents("disk", sizeBytes: 15).elementsEqual(Array("cmcplan-label 1".utf8)))

    try source.command(.fence, .source)
    try source.wait(for: .fenced)
    try destination.wait(for: .fenced)
    try destination.command(.release, .destination)
    try destination.wait(for: .released)
    let one = try source.root.contents("disk", sizeBytes: settings.sizeBytes)
    let other = try destination.root.contents("disk", sizeBytes: settings.sizeBytes)
    #expect(one == other)
    #expect(one[..<65536].allSatisfy { $0 == 0xb0 })
    #expect(try Files.facts("\(source.root.path)/disk").mode == 0o400)

    try destination.command(.retire, .destination)
    try source.command(.retire, .source)
    for (agent, role) in [(source, Role.source), (destination, .destination)] {
      let ended = try agent.command(.retire, role)
      #expect(ended.session == settings.session && ended.role == role)
      #expect(ended.stage == (role == .source ? .fenced : .released), "asked again, the answer is the same")
    }
    let remains = try source.call(ObserveCall())
    #expect(remains.sessions.isEmpty && remains.tombstones.map(\.receiptDigest) == [receipt.digest])
    let again = #expect(throws: AgentFault.self) {
      try source.call(
        ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.source, peer: destination.fingerprint)))
    }
    #expect(again?.code == .refused)
    #expect(try Files.list("\(source.root.path)/state/sessions").isEmpty)
    #expect(try Files.list("\(destination.root.path)/state/sessions").isEmpty)
  }

  @Test("A session notes what the plan calls it by now, through restarts and beyond its end, and copies nothing for it")
  func rename() throws {
    var settings = PairSettings()
    let (source, destination) = try pair(&settings)
    #expect(try source.call(ObserveCall()).hello.capabilities.contains(AgentHello.renames))
    try source.command(.openTap, .source)
    try source.command(.synchronize, .source)
    try source.waitUntilSynchronized()
    let copied = try source.observation().volumes[0].copiedBytes

    func configure(_ planned: PlannedNames?) throws {
      for (agent, role, peer) in [(destination, Role.destination, source), (source, .source, destination)] {
        var half = settings.half(role, peer: try peer.fingerprint)
        half.plannedAs = planned
        _ = try agent.call(ConfigureSessionCall(fencingNumber: 1, configuration: half))
      }
    }
    settings.digest = "d2"
    let planned = PlannedNames(migration: MigrationName("shop"), volumes: ["data": VolumeName("tables")])
    try configure(planned)
    try source.restart()
    try destination.restart()
    try source.waitUntilSynchronized()
    let seen = try source.observation()
    #expect(seen.session == settings.session && seen.volumes.map(\.name.text) == ["data"])
    #expect(seen.configuration.plannedAs == planned)
    #expect(seen.volumes[0].copiedBytes <= copied, "it was not copied anew")
    for wrong in [
      PlannedNames(migration: MigrationName("no name"), volumes: [:]),
      PlannedNames(migration: MigrationName("shop"), volumes: ["nothing": VolumeName("tables")]),
    ] {
      let fault = #expect(throws: AgentFault.self) { try configure(wrong) }
      #expect(fault?.code == .badRequest)
    }
    let hook = try source.call(
      RunHookCall(
        fencingNumber: 1, session: settings.session, runID: "h", point: "stopApplication",
        command: "echo $CMC_MIGRATION of $CMC_SESSION", timeoutSeconds: 20))
    #expect(hook.output == "shop of plan/erp\n")

    try source.command(.closeTap, .source)
    try source.command(.prove, .source)
    let receipt = try #require(try source.wait(for: .proven).receipt)
    let text = try Files.readText(receipt.path)
    #expect(text.contains("\nplanned=shop\nplanned.data=tables\nvolume=data "))
    try source.command(.fence, .source)
    try source.wait(for: .fenced)
    try destination.wait(for: .fenced)
    try destination.command(.release, .destination)
    try destination.wait(for: .released)
    let last = PlannedNames(migration: MigrationName("store"), volumes: [:])
    try configure(last)
    for agent in [source, destination] {
      #expect(try agent.call(ObserveCall()).tombstones.map(\.plannedAs) == [last], "also what outlives a dead agent")
    }
    try destination.command(.retire, .destination)
    try source.command(.retire, .source)
    for agent in [source, destination] {
      let remains = try agent.call(ObserveCall())
      #expect(remains.sessions.isEmpty && remains.tombstones.map(\.plannedAs) == [last])
    }
  }

  @Test("A byte that rots on the destination's disk is found by comparing, reported, and copied again")
  func rot() throws {
    var settings = PairSettings()
    let (source, destination) = try pair(&settings)
    try source.command(.openTap, .source)
    try source.command(.synchronize, .source)
    try source.waitUntilSynchronized()
    try source.wait(for: "both copies compared") { $0.volumes[0].verifiedBytes == UInt64(settings.sizeBytes) }
    let disk = try FileBlockDevice(path: "\(destination.root.path)/disk")
    let place = UInt64(5 << 20) + 4321
    let good = try destination.root.contents("disk", sizeBytes: settings.sizeBytes)[Int(place)]
    try withUnsafeBytes(of: good ^ 1) { try disk.write(at: place, from: $0, durable: true) }
    try source.command(.verify, .source)
    let seen = try source.wait(for: "the difference found and mended") {
      $0.volumes[0].mismatchedExtents == 1 && $0.volumes[0].verifiedBytes == UInt64(settings.sizeBytes)
    }
    #expect(seen.stage == .tracking)
    #expect(try destination.root.contents("disk", sizeBytes: settings.sizeBytes)[Int(place)] == good)
    let journal = try Files.readText(
      "\(source.root.path)/state/\(Catalogue.directory(of: settings.session))/journal.jsonl")
    #expect(journal.contains("differ at [4194304, +4194304) though nothing was written there"))
  }

  @Test("Who asks is told of a bit that flipped on either disk, with a receipt of what is equal, and has it repaired")
  func verification() throws {
    var settings = PairSettings()
    let (source, destination) = try pair(&settings)
    try source.command(.openTap, .source)
    try source.command(.synchronize, .source)
    try source.waitUntilSynchronized()
    func verified(_ scope: VerificationScope, repairs: Bool) throws -> VerificationReport {
      let begun = try source.call(VerifyCall(session: settings.session, scope: scope, repairs: repairs)).verification
      let seen = try source.wait(for: "the end of a verification") { $0.verification?.endedAt != nil }
      let report = try #require(seen.verification)
      #expect(report.startedAt == begun?.startedAt)
      return report
    }
    let clean = try verified(.all, repairs: false)
    #expect(clean.isClean && clean.differenceCount == 0 && clean.totalBytes == UInt64(settings.sizeBytes))
    let receipt = try #require(clean.receipt)
    let text = try Files.readText(receipt.path)
    #expect(text.hasPrefix("cmcplan-receipt 1\n") && text.contains("root=\(clean.volumes.first?.root ?? "?")"))
    #expect(receipt.comparedBytes == UInt64(settings.sizeBytes))

    let places: [(LocalAgent, UInt64)] = [(source, 9 << 20 + 77), (destination, 5 << 20 + 4321)]
    for (agent, place) in places {
      let disk = try FileBlockDevice(path: "\(agent.root.path)/disk")
      let byte = try agent.root.contents("disk", sizeBytes: settings.sizeBytes)[Int(place)]
      try withUnsafeBytes(of: byte ^ 0x10) { try disk.write(at: place, from: $0, durable: true) }
      disk.close()
    }
    let told = try verified(.all, repairs: false)
    #expect(!told.isClean && told.differences.map(\.outcome) == [.found, .found])
    #expect(told.differences.map(\.offset).sorted() == [4 << 20, 8 << 20])
    #expect(told.receipt?.comparedBytes == UInt64(settings.sizeBytes - 8 << 20))
    let different = try destination.root.contents("disk", sizeBytes: settings.sizeBytes)
    let own = try source.root.contents("disk", sizeBytes: settings.sizeBytes)
    #expect(own[1 << 20..<22 << 20] != different[1 << 20..<22 << 20], "it is left as it is")

    let mended = try verified(.changed, repairs: true)
    #expect(mended.isClean && mended.differences.map(\.outcome) == [.repaired, .repaired])
    #expect(mended.totalBytes == 8 << 20, "what differed counts as changed")
    let here = try source.root.contents("disk", sizeBytes: settings.sizeBytes)
    let there = try destination.root.contents("disk", sizeBytes: settings.sizeBytes)
    #expect(here[1 << 20..<22 << 20] == there[1 << 20..<22 << 20])

    _ = try source.call(
      SetHoldCall(
        session: settings.session,
        hold: Hold(cause: .paused, who: "ann", why: "freeze", at: WallTime(secondsSince1970: 1))))
    let refusal = #expect(throws: AgentFault.self) { _ = try verified(.all, repairs: true) }
    #expect(refusal?.code == .refused)
    #expect(try verified(.all, repairs: false).isClean, "looking is always allowed")
    let wrong = #expect(throws: AgentFault.self) {
      try destination.call(VerifyCall(session: settings.session, scope: .all, repairs: false))
    }
    #expect(wrong?.code == .badRequest)
  }

  @Test("After a restart of either agent the tap is there again, on its path, and replication goes on")
  func restarts() throws {
    var settings = PairSettings()
    let (source, destination) = try pair(&settings)
    let tap = try source.command(.openTap, .source).volumes[0].tapSocket
    try source.command(.synchronize, .source)
    try source.waitUntilSynchronized()
    try source.restart()
    _ = try Application.run(tap, ["write -P 0x21 2M 64k", "flush"])
    try source.waitUntilSynchronized()
    try source.command(.swing, .source)
    try source.wait(for: .standIn)
    try destination.restart()
    // The loss of the destination gives authority back, with a hold, and no write fails.
    _ = try Application.run(tap, ["write -P 0x22 4M 64k", "flush"])
    let seen = try source.wait(for: "authority at the source") { $0.authority == .source && $0.hold != nil }
    #expect(seen.hold?.cause == .failure)
    try source.waitUntilSynchronized()
    #expect(try source.observation().generation > Generation(2))
    let other = Hold(cause: .paused, who: "ann", why: "freeze", at: WallTime(secondsSince1970: 1))
    #expect(throws: AgentFault.self, "what nobody saw isn't cleared") {
      try source.call(SetHoldCall(session: settings.session, hold: nil, clearing: other))
    }
    #expect(try source.observation().hold == seen.hold)
    _ = try source.call(SetHoldCall(session: settings.session, hold: nil, clearing: seen.hold))
    try source.restart()
    #expect(try source.observation().hold == nil, "a cleared hold stays cleared")
    try source.waitUntilSynchronized()
    try source.command(.swing, .source)
    try source.wait(for: .standIn)
    _ = try Application.run(tap, ["read -P 0x21 2M 64k", "read -P 0x22 4M 64k"])
    try source.command(.cancel, .source)
    #expect(try source.call(ObserveCall()).sessions.isEmpty)
    #expect(try source.call(ObserveCall()).tombstones.isEmpty, "a cancelled migration may be started again")
  }

  @Test("A destination that is not blank is refused, unless overwriting was asked for; a smaller one always is")
  func destinations() throws {
    let destination = try LocalAgent()
    try destination.root.makeDisk("used", sizeBytes: 8 << 20, dataBytes: 6 << 20)
    try destination.root.makeDisk("small", sizeBytes: 6 << 20)
    var settings = PairSettings(sizeBytes: 8 << 20, port: try Ports.free())
    let peer = KeyFingerprint("SHA256:00")
    func configure() throws {
      _ = try destination.call(
        ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.destination, peer: peer)))
    }
    settings.destinationDisk = "used"
    #expect((#expect(throws: AgentFault.self) { try configure() })?.code == .notBlank)
    settings.destinationDisk = "small"
    #expect((#expect(throws: AgentFault.self) { try configure() })?.code == .refused)
    settings.destinationDisk = "missing"
    #expect((#expect(throws: AgentFault.self) { try configure() })?.code == .notFound)
    settings.destinationDisk = "used"
    settings.overwrite = true
    try configure()
    let reports = try destination.call(InspectDevicesCall(paths: ["used", "small", "missing"]))
    #expect(reports.map(\.kind) == [.file, .file, .missing])
    #expect(reports[1].looksBlank && reports[1].sizeBytes == 6 << 20)
  }

  @Test("A port that is taken is named, with what to do")
  func portInUse() throws {
    let destination = try LocalAgent()
    try destination.root.makeDisk("disk", sizeBytes: 24 << 20)
    let listener = try SocketListener.tcp(.loopback(port: 0))
    defer { listener.cancel() }
    let settings = PairSettings(port: Int(try listener.localAddress().port))
    let fault = #expect(throws: AgentFault.self) {
      try destination.call(
        ConfigureSessionCall(
          fencingNumber: 1, configuration: settings.half(.destination, peer: KeyFingerprint("SHA256:00"))))
    }
    #expect(fault?.code == .inUse)
    #expect(fault?.message.contains("\(settings.port)") == true)
    #expect(try destination.call(ObserveCall()).sessions.isEmpty)
  }

  @Test("A peer with another key is refused on both ends, and the right one gets in afterwards")
  func wrongKey() throws {
    var settings = PairSettings()
    let source = try LocalAgent()
    let destination = try LocalAgent()
    let stranger = try LocalAgent()
    try source.root.makeDisk("disk", sizeBytes: settings.sizeBytes)
    try stranger.root.makeDisk("disk", sizeBytes: settings.sizeBytes)
    try destination.root.makeDisk("disk", sizeBytes: settings.sizeBytes)
    settings.port = try Ports.free()
    _ = try destination.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.destination, peer: source.fingerprint)))
    _ = try stranger.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.source, peer: destination.fingerprint)))
    let seen = try stranger.wait(for: "a refusal") { $0.lastError != nil }
    #expect(!seen.connected)
    #expect(try !destination.observation().connected)
    // Garbage and silence on the port do no harm either.
    let silent = try SocketConnector.tcp(.loopback(port: UInt16(settings.port)))
    let noisy = try SocketConnector.tcp(.loopback(port: UInt16(settings.port)))
    [UInt8](repeating: 0x41, count: 100_000).withUnsafeBytes { try? noisy.write($0) }
    _ = try source.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.source, peer: destination.fingerprint)))
    try source.wait(for: "the link") { $0.connected }
    silent.shutDown()
  }

  @Test("A full destination stalls replication, says why, and goes on when there is room")
  func fullDestination() throws {
    let isFull = Monitor(true)
    var overrides = AgentInstance.Overrides()
    overrides.openDevice = { path, isExclusive throws(BlockDeviceError) in
      var opened = try OpenedDevice.openPlainly(path, isExclusive)
      opened.device = FillingDevice(opened.device, isFull: isFull)
      return opened
    }
    let source = try LocalAgent()
    let destination = try LocalAgent(overrides: overrides)
    var settings = PairSettings()
    settings.port = try Ports.free()
    try source.root.makeDisk("disk", sizeBytes: settings.sizeBytes, dataBytes: 10 << 20)
    try destination.root.makeDisk("disk", sizeBytes: settings.sizeBytes)
    _ = try destination.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.destination, peer: source.fingerprint)))
    _ = try source.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.source, peer: destination.fingerprint)))
    let tap = try source.command(.openTap, .source).volumes[0].tapSocket
    try source.command(.synchronize, .source)
    try source.wait(for: "stalled") { if case .stalled = $0.health { true } else { false } }
    // The application notices nothing.
    _ = try Application.run(tap, ["write -P 0x31 6M 64k", "flush"])
    isFull.withLock { $0 = false }
    try source.waitUntilSynchronized()
  }
}

/// A device on which nothing past the first MiB can be written while it is full.
private final class FillingDevice: BlockDevice {
  private let base: any BlockDevice
  private let isFull: Monitor<Bool>
  init(_ base: any BlockDevice, isFull: Monitor<Bool>) {
    self.base = base
    self.isFull = isFull
  }
  var label: String { base.label }
  var sizeBytes: UInt64 { base.sizeBytes }
  var blockBytes: UInt32 { base.blockBytes }
  func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(BlockDeviceError) {
    try base.read(at: offset, into: buffer)
  }
  func write(at offset: UInt64, from buffer: UnsafeRawBufferPointer, durable: Bool) throws(BlockDeviceError) {
    if offset >= 1 << 20, isFull.withLock({ $0 }) {
      throw BlockDeviceError(.noSpace, "\(label): no space left", errorNumber: Errno.noSpace)
    }
    try base.write(at: offset, from: buffer, durable: durable)
  }
  func writeZeroes(_ range: ByteRange, mayUnmap: Bool, durable: Bool) throws(BlockDeviceError) {
    try base.writeZeroes(range, mayUnmap: mayUnmap, durable: durable)
  }
  func flush() throws(BlockDeviceError) { try base.flush() }
  func allocation(of range: ByteRange) throws(BlockDeviceError) -> [AllocationExtent] {
    try base.allocation(of: range)
  }
}
