import AgentProtocol
import AgentService
import BlockModel
import LinuxPlatform
import Seams
import TestSupport
import Testing

/// Volumes that grow while they are replicated, between two real agents.
@Suite("A volume that grows", .serialized)
struct GrowingVolumeTests {
  private static let before = 24 << 20
  /// Not a multiple of anything but sectors, and by less than what is withheld.
  private static let after = (24 << 20) + (700 << 10) + 512

  private func pair(
    _ settings: inout PairSettings, destination overrides: AgentInstance.Overrides = .init()
  ) throws -> (LocalAgent, LocalAgent) {
    let source = try LocalAgent()
    let destination = try LocalAgent(overrides: overrides)
    settings.port = try Ports.free()
    try source.root.makeDisk("disk", sizeBytes: Self.before, dataBytes: Self.before)
    try destination.root.makeDisk("disk", sizeBytes: Self.before)
    try configure(.destination, settings, destination, peer: source)
    try configure(.source, settings, source, peer: destination)
    try source.command(.openTap, .source)
    try source.command(.synchronize, .source)
    try source.waitUntilSynchronized()
    return (source, destination)
  }

  private func configure(_ role: Role, _ settings: PairSettings, _ agent: LocalAgent, peer: LocalAgent) throws {
    _ = try agent.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(role, peer: try peer.fingerprint)))
  }

  /// As its host does; what is new holds something.
  private func enlarge(_ agent: LocalAgent, to bytes: Int) throws {
    let path = "\(agent.root.path)/disk"
    let result = try PosixChildProcesses().run(
      ChildCommand(
        executable: "/usr/bin/truncate", arguments: ["-s", "\(bytes)", path], environment: [:], timeoutSeconds: 10))
    guard result.succeeded else { throw TestTrouble("truncate failed") }
    let disk = try FileBlockDevice(path: path)
    let fresh = [UInt8](repeating: 0xd1, count: bytes - Self.before)
    try fresh.withUnsafeBytes { try disk.write(at: UInt64(Self.before), from: $0, durable: true) }
    disk.close()
  }

  private func finalize(_ source: LocalAgent, _ destination: LocalAgent) throws {
    try source.command(.closeTap, .source)
    try source.command(.prove, .source)
    try source.wait(for: .proven)
    try source.command(.fence, .source)
    try source.wait(for: .fenced)
    try destination.wait(for: .fenced)
    try destination.command(.release, .destination)
    try destination.wait(for: .released)
  }

  private func expectEqual(_ source: LocalAgent, _ destination: LocalAgent) throws {
    let one = try source.root.contents("disk", sizeBytes: Self.after)
    let other = try destination.root.contents("disk", sizeBytes: Self.after)
    #expect(one.count == Self.after && one == other)
  }

  @Test(
    "It is as large on both sides whichever half grows first, with the application writing and agents dying between")
  func wholeWay() throws {
    for isSourceFirst in [false, true] {
      var settings = PairSettings()
      let (source, destination) = try pair(&settings)
      let tap = try source.observation().volumes[0].tapSocket
      // What is withheld at the former end has to go to the device.
      _ = try Application.run(tap, ["write -P 0x51 \(Self.before - (1 << 20)) 1M", "flush"])
      try source.waitUntilSynchronized()
      try enlarge(source, to: Self.after)
      try enlarge(destination, to: Self.after)
      settings.sizeBytes = Self.after
      if isSourceFirst {
        try configure(.source, settings, source, peer: destination)
        _ = try Application.run(tap, ["write -P 0x52 \(Self.before) 64k", "flush"])
        try source.restart()
        #expect(try source.observation().volumes[0].sizeBytes == UInt64(Self.after))
        try configure(.destination, settings, destination, peer: source)
      } else {
        try configure(.destination, settings, destination, peer: source)
        try source.wait(for: "a refusal that says why") { $0.lastError?.message.contains("sizes") == true }
        try destination.restart()
        try configure(.source, settings, source, peer: destination)
      }
      // Again, and nothing happens.
      try configure(.source, settings, source, peer: destination)
      try configure(.destination, settings, destination, peer: source)
      try source.waitUntilSynchronized()
      _ = try Application.run(
        tap, ["write -P 0x53 \(Self.after - 4096) 4096", "read -P 0x53 \(Self.after - 4096) 4096"])
      try source.command(.swing, .source)
      try source.wait(for: .standIn)
      _ = try Application.run(
        tap, ["read -P 0x53 \(Self.after - 4096) 4096", "write -P 0x54 \(Self.before - 4096) 8192", "flush"])
      try finalize(source, destination)
      try expectEqual(source, destination)
    }
  }

  @Test("A client that knows the former size goes past it without connecting anew")
  func clientStays() throws {
    var settings = PairSettings()
    let (source, destination) = try pair(&settings)
    try enlarge(source, to: Self.after)
    try enlarge(destination, to: Self.after)
    settings.sizeBytes = Self.after
    let path = try #require(try source.observation().volumes[0].tapSocket)
    let before = try Application.run(path, ["length"])
    try configure(.destination, settings, destination, peer: source)
    try configure(.source, settings, source, peer: destination)
    let after = try Application.run(path, ["length"])
    #expect(before != after, "whoever connects sees the new size")
    try source.waitUntilSynchronized()
  }

  @Test("In cMotion, or without room, it is refused with what to do, and everything goes on with the size that it has")
  func refusals() throws {
    var settings = PairSettings()
    let (source, destination) = try pair(&settings)
    try enlarge(source, to: Self.after)
    let small = settings
    settings.sizeBytes = Self.after
    let noRoom = #expect(throws: AgentFault.self) {
      try configure(.destination, settings, destination, peer: source)
    }
    #expect(noRoom?.message.contains("make it larger") == true, "\(String(describing: noRoom))")
    try source.waitUntilSynchronized()
    try enlarge(destination, to: Self.after)
    try source.command(.swing, .source)
    try source.wait(for: .standIn)
    for (role, agent, peer) in [(Role.source, source, destination), (.destination, destination, source)] {
      let fault = #expect(throws: AgentFault.self) { try configure(role, settings, agent, peer: peer) }
      #expect(fault?.code == .wrongStage && fault?.message.contains("revert") == true, "\(String(describing: fault))")
    }
    #expect(try source.observation().stage == .standIn, "nothing was disturbed")
    try source.command(.revert, .source)
    try source.wait(for: .tracking)
    try configure(.destination, settings, destination, peer: source)
    try configure(.source, settings, source, peer: destination)
    try source.waitUntilSynchronized()
    let shrinking = #expect(throws: AgentFault.self) { try configure(.source, small, source, peer: destination) }
    #expect(shrinking?.message.contains("can't shrink") == true)
    try finalize(source, destination)
    try expectEqual(source, destination)
  }

  /// Writes fail from a moment on, and again don't.
  private final class StubbornDevice: BlockDevice {
    private let base: any BlockDevice
    private let writesLeft: Monitor<Int>
    init(_ base: any BlockDevice, _ writesLeft: Monitor<Int>) {
      self.base = base
      self.writesLeft = writesLeft
    }
    var label: String { base.label }
    var sizeBytes: UInt64 { base.sizeBytes }
    var blockBytes: UInt32 { base.blockBytes }
    private func count() throws(BlockDeviceError) {
      let isOver = writesLeft.change { left in
        left -= 1
        return left < 0
      }
      if isOver { throw BlockDeviceError(.writeFailed, "the disk fails") }
    }
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(BlockDeviceError) {
      try base.read(at: offset, into: buffer)
    }
    func write(at offset: UInt64, from buffer: UnsafeRawBufferPointer, durable: Bool) throws(BlockDeviceError) {
      try count()
      try base.write(at: offset, from: buffer, durable: durable)
    }
    func writeZeroes(_ range: ByteRange, mayUnmap: Bool, durable: Bool) throws(BlockDeviceError) {
      try count()
      try base.writeZeroes(range, mayUnmap: mayUnmap, durable: durable)
    }
    func flush() throws(BlockDeviceError) { try base.flush() }
    func allocation(of range: ByteRange) throws(BlockDeviceError) -> [AllocationExtent] {
      try base.allocation(of: range)
    }
  }

  @Test("A destination that fails half-way keeps the size that it had, and grows when it is asked again")
  func failsHalfWay() throws {
    let writesLeft = Monitor(Int.max)
    var overrides = AgentInstance.Overrides()
    overrides.openDevice = { path, isExclusive throws(BlockDeviceError) in
      var opened = try OpenedDevice.openPlainly(path, isExclusive)
      opened.device = StubbornDevice(opened.device, writesLeft)
      return opened
    }
    var settings = PairSettings()
    let (source, destination) = try pair(&settings, destination: overrides)
    try enlarge(source, to: Self.after)
    try enlarge(destination, to: Self.after)
    settings.sizeBytes = Self.after
    for writes in [0, 1] {
      writesLeft.change { $0 = writes }
      let fault = #expect(throws: AgentFault.self) {
        try configure(.destination, settings, destination, peer: source)
      }
      #expect(fault?.message.contains("could not be grown") == true, "\(String(describing: fault))")
      writesLeft.change { $0 = Int.max }
      #expect(try destination.observation().volumes[0].sizeBytes == UInt64(Self.before))
      try source.waitUntilSynchronized()
    }
    try configure(.destination, settings, destination, peer: source)
    try configure(.source, settings, source, peer: destination)
    try source.waitUntilSynchronized()
    try finalize(source, destination)
    try expectEqual(source, destination)
  }
}

/// A path that leads to another disk than the session's.
@Suite("Another disk under a known name", .serialized)
struct OtherDiskTests {
  /// Every volume's file is a block device with a WWN that a test may change.
  private final class PaperDisks: HostView {
    let wwn = Monitor("naa.1")
    private let real = SystemHost()
    func text(_ path: String, limitBytes: Int) -> String? {
      path == "/sys/dev/block/8:160/wwid" ? wwn.withLock { $0 } : real.text(path, limitBytes: limitBytes)
    }
    func names(in path: String) -> [String] { real.names(in: path) }
    func status(_ path: String) -> PathStatus? {
      guard let status = real.status(path), path.hasSuffix("/disk") else { return real.status(path) }
      return PathStatus(kind: .block, device: "8:160", inode: status.inode, sizeBytes: 0)
    }
  }

  private func synchronized(
    _ source: LocalAgent, _ destination: LocalAgent, _ settings: inout PairSettings
  ) throws {
    settings.port = try Ports.free()
    try source.root.makeDisk("disk", sizeBytes: settings.sizeBytes, dataBytes: 1 << 20)
    try destination.root.makeDisk("disk", sizeBytes: settings.sizeBytes)
    _ = try destination.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.destination, peer: source.fingerprint)))
    _ = try source.call(
      ConfigureSessionCall(fencingNumber: 1, configuration: settings.half(.source, peer: destination.fingerprint)))
    try source.command(.openTap, .source)
    try source.command(.synchronize, .source)
    try source.waitUntilSynchronized()
  }

  @Test("An agent that finds another device at its start leaves it alone and says so; with the former one it goes on")
  func otherDevice() throws {
    for isSource in [true, false] {
      let disks = PaperDisks()
      var overrides = AgentInstance.Overrides()
      overrides.host = disks
      let source = try LocalAgent(overrides: isSource ? overrides : .init())
      let destination = try LocalAgent(overrides: isSource ? .init() : overrides)
      var settings = PairSettings()
      try synchronized(source, destination, &settings)
      let agent = isSource ? source : destination
      let content = try agent.root.contents("disk", sizeBytes: settings.sizeBytes)
      try agent.restart { disks.wwn.change { $0 = "naa.2" } }
      let refused = try agent.observation()
      #expect(refused.couldNotStart == true)
      #expect(
        refused.lastError?.message.contains("wwn naa.2") == true
          && refused.lastError?.message.contains("wwn naa.1") == true, "\(String(describing: refused.lastError))")
      #expect(try agent.root.contents("disk", sizeBytes: settings.sizeBytes) == content, "not a byte was written")
      try agent.restart { disks.wwn.change { $0 = "naa.1" } }
      try source.waitUntilSynchronized()
    }
  }

  @Test("A destination without the session's label is another disk, and nothing of it is written")
  func otherLabel() throws {
    let source = try LocalAgent()
    let destination = try LocalAgent()
    var settings = PairSettings()
    try synchronized(source, destination, &settings)
    let path = "\(destination.root.path)/disk"
    try destination.restart {
      try Files.rename(path, to: path + ".kept")
      try destination.root.makeDisk("disk", sizeBytes: settings.sizeBytes, dataBytes: settings.sizeBytes, seed: 9)
    }
    let refused = try destination.observation()
    #expect(refused.couldNotStart == true && refused.lastError?.message.contains("no label") == true)
    let other = try destination.root.contents("disk", sizeBytes: settings.sizeBytes)
    try destination.restart {
      #expect(try destination.root.contents("disk", sizeBytes: settings.sizeBytes) == other)
      try Files.remove(path)
      try Files.rename(path + ".kept", to: path)
    }
    try source.waitUntilSynchronized()
  }

  @Test("A source's file is read past the page cache where its file system can, and the report says where it can't")
  func fileAccess() throws {
    let agent = try LocalAgent()
    try agent.root.makeDisk("disk", sizeBytes: 8 << 20)
    try agent.root.makeDisk("odd", sizeBytes: (8 << 20) + 100)
    let memory = "/dev/shm/cmc-\(SystemRandom().uuid().prefix(13))"
    let device = try FileBlockDevice.create(path: memory, sizeBytes: 8 << 20)
    device.close()
    defer { try? Files.remove(memory) }
    let reports = try agent.call(InspectDevicesCall(paths: ["disk", "odd", memory]))
    #expect(reports[2].fileAccess == "page cache" && reports[2].fileAccessReason == "tmpfs lies in memory")
    #expect(reports[1].fileAccess == "page cache" && reports[1].fileAccessReason?.contains("size") == true)
    let isInMemory = try MountTable.mount(holding: agent.root.path)?.fileSystem == "tmpfs"
    #expect(isInMemory || reports[0].fileAccess == "direct", "\(reports[0])")
  }
}
