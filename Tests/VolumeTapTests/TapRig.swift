import BlockModel
import Glibc
import LinuxPlatform
import Seams
import VolumeTap

/// A volume's file, a server of it that can be killed, and a holder: each process but this one's control its own.
/// This process must not serve what it does I/O on.
final class TapRig: Sendable {
  static let harness: String = {
    let program = (try? ProcessSetup.executablePath()) ?? ""
    return Files.parent(of: program) + "/TapHarness"
  }()

  /// What these tests need beyond the programs they name; where it is missing they are skipped by name.
  static let canHold =
    geteuid() == 0 && Files.exists("/dev/fuse") && Files.exists("/dev/loop-control") && Files.exists(harness)

  static func hasPrograms(_ paths: String...) -> Bool { paths.allSatisfy { Files.exists($0) } }

  let directory: String
  let file: String
  let socket: String
  let sizeBytes: UInt64
  let control: HolderControl
  private let server = Monitor<RunningChild?>(nil)

  init(sizeBytes: UInt64 = 128 << 20) throws {
    directory = "/tmp/cmc-tap-\(SystemRandom().uuid().prefix(13))"
    try Files.makeDirectories(directory, mode: 0o700)
    file = directory + "/disk.img"
    socket = directory + "/nbd.sock"
    self.sizeBytes = sizeBytes
    control = HolderControl(executable: Self.harness)
    do { _ = try FileBlockDevice.create(path: file, sizeBytes: sizeBytes) }
    try serve()
  }

  var holderDirectory: String { directory + "/holder" }
  var mountPoint: String { directory + "/data" }
  var settings: HolderSettings {
    HolderSettings(directory: holderDirectory, agentSocket: socket, exportName: "disk")
  }

  /// Starts a server and waits until it listens.
  func serve(_ other: String? = nil, minimumBlockBytes: Int = 1) throws {
    var options = RunningChild.Options()
    options.input = .pipe
    options.output = .pipe
    options.errorOutput = .inherited
    options.diesWithParent = true
    let child = try RunningChild.start(
      executable: Self.harness, arguments: ["serve", other ?? file, socket, "--minimum-block", "\(minimumBlockBytes)"],
      environment: [:], options)
    var answer = [UInt8](repeating: 0, count: 64)
    let count = try answer.withUnsafeMutableBytes { try child.channel?.read(into: $0) ?? 0 }
    guard String(decoding: answer[..<count], as: UTF8.self).hasPrefix("ready") else {
      throw TapError(.holderFailed, "the server said: \(String(decoding: answer[..<count], as: UTF8.self))")
    }
    server.withLock { $0 = child }
  }

  func killServer() { end { $0.signal(SIGKILL) } }

  /// The server is told to stop: it answers what it can and says goodbye.
  func stopServer() { end { $0.channel?.shutDown() } }

  private func end(_ how: (RunningChild) -> Void) {
    let child = server.withLock { server in
      defer { server = nil }
      return server
    }
    guard let child else { return }
    how(child)
    if child.wait(until: MonotonicTime.now.adding(seconds: 20)) == nil { child.signal(SIGKILL) }
  }

  @discardableResult
  func run(_ command: String..., timeoutSeconds: Double = 60) throws -> ChildResult {
    let result = try PosixChildProcesses().run(
      ChildCommand(
        executable: command[0], arguments: Array(command.dropFirst()),
        environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"], timeoutSeconds: timeoutSeconds))
    guard result.ending == .exited(0) else {
      throw TapError(
        .systemFailed,
        "\(command): \(result.ending) \(String(decoding: result.output + result.errorOutput, as: UTF8.self))")
    }
    return result
  }

  func killHolder() throws {
    guard let status = try control.status(directory: holderDirectory) else { return }
    ProcessTable.signal(
      ProcessTable.kill, processID: status.processID, startTime: status.processStartTicks)
    while ProcessTable.isRunning(processID: status.processID, startTime: status.processStartTicks) {
      pauseThread(milliseconds: 10)
    }
  }

  /// What of ours the system still shows.
  func remains() throws -> [String] {
    var found = try MountTable.mounts().map(\.mountPoint).filter { $0.hasPrefix(directory) }
    for name in try Files.list("/sys/block") where name.hasPrefix("loop") {
      if let backing = LoopDevice(path: "/dev/" + name).backingPath(), backing.hasPrefix(directory) {
        found.append(name)
      }
    }
    found += ((try? Files.list(holderDirectory)) ?? []).map { "file \($0)" }
    return found
  }

  /// Whatever a failed test left: ours only.
  func tearDown() {
    _ = try? run("/usr/bin/umount", mountPoint, timeoutSeconds: 20)
    do { try control.detach(directory: holderDirectory) } catch {
      try? killHolder()
      try? control.detach(directory: holderDirectory)
    }
    killServer()
    try? Files.removeTree(directory)
  }
}
