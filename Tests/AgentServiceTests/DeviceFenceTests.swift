import AgentProtocol
import BlockModel
import LinuxPlatform
import Seams
import Synchronization
import Testing

@testable import AgentService

private struct PaperDevices: HostView {
  var files: [String: String]
  func text(_ path: String, limitBytes: Int) -> String? { files[path] }
  func names(in path: String) -> [String] { [] }
  func status(_ path: String) -> PathStatus? { nil }
}

/// Answers `lvs` with one line and `vgs` with two disks, and keeps what else was run.
private final class PaperTools: ChildProcesses {
  let answer: String
  let commands = Mutex<[[String]]>([])
  init(_ answer: String) { self.answer = answer }
  func run(_ command: ChildCommand) throws(ChildError) -> ChildResult {
    commands.withLock { $0.append(command.arguments) }
    let text = ["lvs": answer, "vgs": "  /dev/sda2\n  /dev/sdb\n"][command.arguments.first ?? ""] ?? ""
    let output = Array(text.utf8)
    return ChildResult(ending: .exited(0), output: output, errorOutput: [], outputTruncated: false)
  }
  var changes: [String] {
    commands.withLock { $0.filter { $0.first == "lvchange" }.map { $0.dropFirst().joined(separator: " ") } }
  }
}

@Suite("The fence of a block device")
struct DeviceFenceTests {
  private let status = PathStatus(kind: .block, device: "8:1", inode: 1, sizeBytes: 0)

  private func fence(_ files: [String: String], _ tools: PaperTools = PaperTools(""), rules: String = "/nowhere")
    -> DeviceFence
  {
    DeviceFence(host: PaperDevices(files: files), children: tools, rulesDirectory: rules)
  }

  @Test(
    "Every kind of device is told by what lasts: LVM by itself, others by uuid, WWN or serial, partitions by number")
  func kinds() throws {
    let base = "/sys/dev/block/8:1"
    let cases: [([String: String], DeviceFenceKind)] = [
      (["\(base)/dm/uuid": "LVM-abc\n", "\(base)/dm/name": "vg-data\n"], .logicalVolume(path: "/dev/mapper/vg-data")),
      (["\(base)/dm/uuid": "mpath-3600\n", "\(base)/dm/name": "m\n"], .rule(match: #"ATTR{dm/uuid}=="mpath-3600""#)),
      (["\(base)/wwid": "eui.01\n"], .rule(match: #"ATTR{wwid}=="eui.01""#)),
      (["\(base)/device/wwid": "naa.5\n"], .rule(match: #"ATTRS{wwid}=="naa.5""#)),
      (
        ["\(base)/partition": "2\n", "\(base)/../serial": "S 1\n"],
        .rule(match: #"ATTRS{serial}=="S 1", ATTR{partition}=="2""#)
      ),
    ]
    for (files, kind) in cases { #expect(try fence(files).kind(of: "/dev/x", status) == kind) }
    #expect(throws: AgentFault.self) { try fence([:]).kind(of: "/dev/x", status) }
  }

  @Test("A serial can't smuggle anything into a rule")
  func quoting() {
    #expect(DeviceFence.condition("ATTR{serial}", "a\"b*[c]\\$") == #"ATTR{serial}=="a?b??c???""#)
  }

  @Test("A logical volume becomes read-only, skipped and tagged, and all of it is taken back by the rescue")
  func logicalVolume() throws {
    let files = ["/sys/dev/block/8:1/dm/uuid": "LVM-abc", "/sys/dev/block/8:1/dm/name": "vg-data"]
    let writable = PaperTools("  vg data -wi-a----- \n")
    try fence(files, writable).raise("/dev/vg/data", status, session: SessionID("p/m"))
    #expect(
      writable.changes == [
        "--permission r vg/data", "--setactivationskip y vg/data", "--addtag cmcplan-fenced vg/data",
      ])
    #expect(
      writable.commands.withLock { $0.last } == ["sync", "/dev/sda2", "/dev/sdb"],
      "what LVM wrote lies in the disks' caches until they are flushed")
    let fenced = PaperTools("  vg data -ri-a----- other,cmcplan-fenced\n")
    #expect(try fence(files, fenced).isRaised("/dev/vg/data", status))
    try fence(files, fenced).raise("/dev/vg/data", status, session: SessionID("p/m"))
    #expect(!fenced.changes.contains("--permission r vg/data"), "it is read-only already")
    try fence(files, fenced).lift("/dev/vg/data", status)
    #expect(
      fenced.changes.suffix(3) == [
        "--permission rw vg/data", "--setactivationskip n vg/data", "--deltag cmcplan-fenced vg/data",
      ], "the tag goes last: until then a lifting that failed can be repeated")
  }

  @Test("After a new start of the host, when the fenced volume is not there, the way back is the same")
  func inactiveVolume() throws {
    let inactive = PaperTools("  vg data -ri------- cmcplan-fenced\n")
    let root = "/tmp/cmc-fence-\(SystemRandom().uint64())"
    defer { try? Files.removeTree(root) }
    try Files.makeDirectories(root)
    let rescue = try Rescue(root: AgentRoot(path: root), host: PaperDevices(files: [:]), children: inactive)
    defer { rescue.finish() }
    #expect(try rescue.unfence("/dev/vg/data").contains("can be used on this host again"))
    #expect(
      inactive.changes == [
        "--permission rw vg/data", "--setactivationskip n vg/data", "--activate y vg/data",
        "--deltag cmcplan-fenced vg/data",
      ])
    #expect(inactive.commands.withLock { $0.first?.last } == "/dev/vg/data")
    let bare = PaperTools("  vg data -wi------- \n")
    try fence([:], bare).raise("/dev/vg/data", nil, session: SessionID("p/m"))
    #expect(bare.changes.count == 3)
  }

  @Test("The ids of what is fenced lose to those of the new copy at every start, partitions included, until the rescue")
  func hiddenIDs() throws {
    let rules = "/tmp/cmc-rules-\(SystemRandom().uint64())"
    try Files.makeDirectories(rules)
    defer { try? Files.removeTree(rules) }
    let hiding = { (try Files.list(rules)).filter { $0.hasPrefix("61-cmcplan-hidden-") } }
    let volume = ["/sys/dev/block/8:1/dm/uuid": "LVM-abc\n", "/sys/dev/block/8:1/dm/name": "vg-data"]
    let tools = PaperTools("  vg data -wi-a----- \n")
    let logical = fence(volume, tools, rules: rules)
    try logical.raise("/dev/vg/data", status, session: SessionID("p/m"))
    let file = try #require(try hiding().first)
    let text = String(decoding: try Files.read("\(rules)/\(file)", limitBytes: 4096), as: UTF8.self)
    #expect(text.contains(#"ENV{DM_UUID}=="LVM-abc", OPTIONS+="link_priority=-1000""#))
    #expect(!text.contains("ID_FS"), "LVM keeps it from being there; until then its own tools go on")
    // By its name, for a fenced volume that is not there has no uuid to be seen.
    try fence([:], PaperTools("  vg data -ri------- cmcplan-fenced\n"), rules: rules).lift("/dev/vg/data", nil)
    #expect(try hiding().isEmpty)

    let whole = DeviceFence.hidingRule(for: #"ATTR{wwid}=="eui.01""#, isDevice: true, session: SessionID("p/m"))
    #expect(whole.contains(#"ATTRS{wwid}=="eui.01", OPTIONS+="link_priority=-1000", ENV{ID_FS_TYPE}="""#))
    let part = DeviceFence.hidingRule(
      for: #"ATTRS{serial}=="S 1", ATTR{partition}=="2""#, isDevice: true, session: SessionID("p/m"))
    #expect(part.contains(#"ATTRS{serial}=="S 1", ATTR{partition}=="2", OPTIONS"#), "its neighbours stay as they are")
  }

  @Test("A tool that fails is named with what it said")
  func failingTool() {
    struct Failing: ChildProcesses {
      func run(_ command: ChildCommand) throws(ChildError) -> ChildResult {
        ChildResult(
          ending: .exited(5), output: [], errorOutput: Array("  Failed to find logical volume".utf8),
          outputTruncated: false)
      }
    }
    let files = ["/sys/dev/block/8:1/dm/uuid": "LVM-abc", "/sys/dev/block/8:1/dm/name": "vg-data"]
    let broken = DeviceFence(host: PaperDevices(files: files), children: Failing(), rulesDirectory: "/nowhere")
    do {
      try broken.check("/dev/vg/data", status)
      Issue.record("a failing lvs was taken for an answer")
    } catch {
      #expect("\(error)".contains("Failed to find logical volume"))
    }
  }
}
