import AgentProtocol
import BlockModel
import H2HProtocol
import LinuxPlatform
import Replication
import Seams
import Testing

@testable import AgentService

@Suite("cmcagent rescue")
struct RescueTests {
  private struct Place: ~Copyable {
    let path: String
    init() throws {
      path = "/tmp/cmc-rescue-\(SystemRandom().uint64())"
      try Files.makeDirectories(path)
    }
    deinit { try? Files.removeTree(path) }
    var root: AgentRoot { AgentRoot(path: path) }
  }

  private func rescue(_ root: AgentRoot) throws -> Rescue {
    try Rescue(root: root, host: SystemHost(), children: PosixChildProcesses())
  }

  @Test("Its steps are read from the command line, one at a time")
  func arguments() throws {
    #expect(try AgentCommand.parse(["rescue", "--root", "/r"]) == .rescue(root: "/r", .overview))
    #expect(
      try AgentCommand.parse(["rescue", "--root", "/r", "--unfence", "/d"])
        == .rescue(root: "/r", .unfence(device: "/d")))
    #expect(
      try AgentCommand.parse(["rescue", "--root", "/r", "--write-ends", "/d", "--from", "/s", "--incomplete"])
        == .rescue(root: "/r", .writeEnds(device: "/d", from: "/s", evenIncomplete: true)))
    #expect(
      try AgentCommand.parse(["rescue", "--root", "/r", "--take-out", "/d"])
        == .rescue(root: "/r", .takeOut(device: "/d")))
    for wrong in [
      ["--unfence", "/d", "--write-ends", "/d"], ["--unfence", "/d", "--from", "/s"],
      ["--take-out", "/d", "--unfence", "/d"], ["--take-out", "/d", "--incomplete"],
    ] {
      #expect(throws: UsageError.self) { try AgentCommand.parse(["rescue", "--root", "/r"] + wrong) }
    }
    #expect(throws: UsageError.self) { try AgentCommand.parse(["rescue"]) }
  }

  @Test("It stays away while an agent runs, and says so")
  func runningAgent() throws {
    let place = try Place()
    let lock = try #require(try FileLock.take(place.root.lock))
    defer { lock.release() }
    let refusal = #expect(throws: AgentFault.self) { _ = try rescue(place.root) }
    #expect(refusal?.code == .inUse)
  }

  @Test("The fence of a file is lifted with the rights that the file had; what isn't fenced is refused")
  func unfence() throws {
    let place = try Place()
    let file = "\(place.path)/volume.img"
    try Files.replace(file, with: [1, 2, 3], mode: 0o640)
    let catalogue = Catalogue(
      state: try DirectoryStateStore(path: place.root.state),
      tombstones: try DirectoryStateStore(path: place.root.tombstones))
    let tool = try rescue(place.root)
    #expect(throws: AgentFault.self) { _ = try tool.unfence(file) }
    try FileFence(catalogue: catalogue).raise(file, session: SessionID("plan/erp"))
    #expect(try Files.facts(file).mode & 0o777 == FileFence.fencedMode)
    #expect(try tool.unfence(file).contains("can be used on this host again"))
    #expect(try Files.facts(file).mode & 0o777 == 0o640)
    #expect(throws: AgentFault.self) { _ = try tool.unfence(file) }
  }

  @Test("A destination gets its ends back from a copy of the source, and an incomplete one only when told so")
  func writeEnds() throws {
    let place = try Place()
    let size = 8 << 20
    let source = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 12) }
    try Files.replace("\(place.path)/source", with: source)
    for isComplete in [true, false] {
      var bytes = source
      let label = DeviceLabel(
        session: SessionID("plan/erp"), volume: VolumeName("data"), sizeBytes: UInt64(size),
        generation: Generation(3), authority: .standIn, peer: KeyFingerprint("SHA256:00"), copyID: 9,
        inconsistentSince: isComplete ? nil : WallTime(secondsSince1970: 1), isCancelled: false)
      bytes.replaceSubrange(0..<(1 << 20), with: [UInt8](repeating: 0, count: 1 << 20))
      bytes.replaceSubrange(0..<DeviceLabel.byteCount, with: label.encoded())
      bytes.replaceSubrange((size - (1 << 20))..., with: [UInt8](repeating: 0, count: 1 << 20))
      let path = "\(place.path)/destination"
      try Files.replace(path, with: bytes)
      let tool = try rescue(place.root)
      defer { tool.finish() }
      if !isComplete {
        #expect(throws: AgentFault.self) {
          _ = try tool.writeEnds(path, from: "\(place.path)/source", evenIncomplete: false)
        }
      }
      _ = try tool.writeEnds(path, from: "\(place.path)/source", evenIncomplete: !isComplete)
      #expect(try Files.read(path) == source)
      #expect(throws: AgentFault.self, "nothing is withheld any more") {
        _ = try tool.writeEnds(path, from: "\(place.path)/source", evenIncomplete: false)
      }
    }
  }
}
