internal import AgentProtocol
internal import BlockModel
internal import FoundationEssentials
@preconcurrency internal import Glibc
internal import H2HProtocol
internal import LinuxPlatform
internal import Replication
internal import Seams
internal import TLSChannel
internal import VolumeTap

/// The program `cmcagent`: from its arguments to its exit code. Codes as in sysexits.h: 0 done, 1 failed, 64 usage.
package enum AgentProgram {
  private static let usageError: Int32 = 64
  /// How long a detached agent may take until it answers, in seconds.
  private static let readySeconds = 20.0

  package static func run(_ arguments: [String]) -> Int32 {
    do throws(UsageError) {
      let command = try AgentCommand.parse(arguments)
      do throws(AgentFault) {
        return try perform(command)
      } catch {
        complain(error.message)
        return 1
      }
    } catch {
      complain("\(error.message)\n\n\(AgentCommand.usage)")
      return usageError
    }
  }

  private static func perform(_ command: AgentCommand) throws(AgentFault) -> Int32 {
    switch command {
    case .help: say(AgentCommand.usage)
    case .version: say("cmcagent \(AgentInstance.version)\n")
    case .run(let root, foreground: true): return try runHere(AgentRoot(path: absolute(root)))
    case .run(let root, foreground: false): return try runDetached(AgentRoot(path: absolute(root)))
    case .rpc(let root): return try bridge(AgentRoot(path: absolute(root)))
    case .fingerprint(let root): try printFingerprint(AgentRoot(path: absolute(root)))
    case .inspect(let device, let json): return try inspect(absolute(device), json: json)
    case .verifyReceipt(let file, let device, let volume):
      return try verify(absolute(file), device.map(absolute), volume)
    case .compare(let first, let second): return try compare(absolute(first), absolute(second))
    case .rescue(let root, let step): try rescue(AgentRoot(path: absolute(root)), step)
    case .holder(let arguments): return HolderProcess.run(arguments: arguments)
    }
    return 0
  }

  // MARK: run

  private static func runHere(_ root: AgentRoot) throws(AgentFault) -> Int32 {
    var overrides = AgentInstance.Overrides()
    overrides.executable = try? ProcessSetup.executablePath()
    ProcessSetup.ignoreBrokenPipes()
    let log: @Sendable (String) -> Void = { complain($0) }
    protectProcess(log)
    let signals: SignalWatcher
    do throws(SystemError) {
      signals = try SignalWatcher([SignalWatcher.terminate, SignalWatcher.interrupt])
    } catch {
      throw AgentFault(.failed, error.description)
    }
    let instance = try AgentInstance(root: root.path, overrides: overrides, log: log)
    let agent = instance.agent
    do throws(SystemError) {
      try signals.forEach { _ in agent.askShutdown() }
    } catch {
      throw AgentFault(.failed, error.description)
    }
    log("cmcagent \(AgentInstance.version) runs in \(root.path), key \(instance.fingerprint)")
    try sayWhenReady(agent, log)
    agent.waitForShutdown()
    if HostShutdown.isUnderWay(PosixChildProcesses(), log) {
      log("cmcagent ends with its host")
      instance.leaveHost()
    } else {
      log("cmcagent ends")
      instance.leave()
    }
    return 0
  }

  /// systemd mounts local file systems only once it was told (`HostScripts.unit`), so that no write goes past a tap.
  private static func sayWhenReady(_ agent: Agent, _ log: @escaping @Sendable (String) -> Void) throws(AgentFault) {
    do throws(SystemError) {
      try PlatformThread.start(name: "ready") {
        if !agent.awaitStart(until: .now.adding(seconds: Agent.patienceSeconds)) {
          log("note: not every device and tap of this agent's sessions is back; the host's start doesn't wait longer")
        }
        do throws(SystemError) { try ProcessSetup.tellReady() } catch { log("note: \(error)") }
      }
    } catch {
      throw AgentFault(.failed, error.description)
    }
  }

  /// Under the page cache (DESIGN section 8.12): what the kernel lets us have; a host that gives less is no reason not to run.
  private static func protectProcess(_ log: (String) -> Void) {
    guard ProcessSetup.effectiveUserID == 0 else { return }
    do throws(SystemError) { try ProcessSetup.becomeIOFlusher() } catch { log("note: \(error)") }
    do throws(SystemError) { try ProcessSetup.setOutOfMemoryScore(-900) } catch { log("note: \(error)") }
  }

  /// Starts an agent that outlives this process and its terminal, and answers once that agent does.
  private static func runDetached(_ root: AgentRoot) throws(AgentFault) -> Int32 {
    do {
      try Files.makeDirectories(root.path, mode: 0o700)
      // Asked here too, because an agent that runs already would answer in the new one's place.
      guard let lock = try FileLock.take(root.lock) else {
        throw AgentFault(.inUse, "another agent runs in \(root.path); stop that one, or choose another --root")
      }
      lock.release()
      let child = try RunningChild.startDetached(
        executable: try ProcessSetup.executablePath(), arguments: ["run", "--root", root.path, "--foreground"],
        environment: [
          "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
          "HOME": ProcessSetup.environment("HOME") ?? "/", "LANG": "C.UTF-8",
        ], logPath: root.log)
      let until = MonotonicTime.now.adding(seconds: readySeconds)
      while MonotonicTime.now < until {
        if !child.isRunning {
          let text = (try? Files.readText(root.log)) ?? ""
          let last = text.split(separator: "\n").last.map(String.init) ?? "no reason given"
          throw AgentFault(.failed, "the agent did not start: \(last) (see \(root.log))")
        }
        if let channel = try? SocketConnector.unix(path: root.socket, timeoutSeconds: 1) {
          channel.shutDown()
          return 0
        }
        pauseThread(milliseconds: 20)
      }
      throw AgentFault(.failed, "the agent does not answer after \(Int(readySeconds)) s; see \(root.log)")
    } catch let fault as AgentFault {
      throw fault
    } catch {
      throw AgentFault(.failed, "the agent can't be started: \(error)")
    }
  }

  // MARK: rpc

  /// Standard input to the socket on a thread of its own, the socket to standard output here.
  private static func bridge(_ root: AgentRoot) throws(AgentFault) -> Int32 {
    let socket: SocketChannel
    do throws(SystemError) {
      socket = try SocketConnector.unix(path: root.socket)
    } catch {
      guard error.isNotFound || error.errorNumber == Errno.refused else { throw AgentFault(.failed, error.description) }
      throw AgentFault(.notFound, "no agent runs in \(root.path); start one with cmcagent run --root \(root.path)")
    }
    do throws(SystemError) {
      let streams = try PipeChannel.standardStreams()
      try PlatformThread.start(name: "input") {
        copy(from: streams, to: socket)
        socket.finishWriting()
      }
      copy(from: socket, to: streams)
      return 0
    } catch {
      throw AgentFault(.failed, error.description)
    }
  }

  private static func copy(from source: any ByteChannel, to target: any ByteChannel) {
    let buffer = AlignedBuffer(byteCount: 64 << 10)
    do throws(ChannelError) {
      while true {
        let count = try source.read(into: buffer.bytes)
        try target.write(UnsafeRawBufferPointer(rebasing: buffer.readOnly[..<count]))
      }
    } catch {
      // Either end hung up.
    }
  }

  // MARK: Small ones

  private static func printFingerprint(_ root: AgentRoot) throws(AgentFault) {
    do {
      let identity = try AgentIdentity.loadOrMake(in: try DirectoryStateStore(path: root.state))
      say("\(identity.fingerprint)\n")
    } catch {
      throw AgentFault(.failed, "\(error)")
    }
  }

  private static func inspect(_ path: String, json: Bool) throws(AgentFault) -> Int32 {
    let root = AgentRoot(path: "/")
    guard let report = DeviceInspector(host: SystemHost(), root: root, offer: .current()).reports(on: [path]).first
    else { return 1 }
    if json {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      guard let bytes = try? encoder.encode(report) else { throw AgentFault(.failed, "the report can't be written") }
      say(String(decoding: bytes, as: UTF8.self) + "\n")
    } else {
      say(describe(report, DeviceInspector.label(of: path)))
    }
    return report.error == nil ? 0 : 1
  }

  private static func rescue(_ root: AgentRoot, _ step: RescueStep) throws(AgentFault) {
    let rescue = try Rescue(root: root, host: SystemHost(), children: PosixChildProcesses())
    defer { rescue.finish() }
    switch step {
    case .overview: say(rescue.overview())
    case .takeOut(let device): say(try rescue.takeOut(absolute(device)))
    case .unfence(let device): say(try rescue.unfence(absolute(device)))
    case .writeEnds(let device, let copy, let evenIncomplete):
      say(try rescue.writeEnds(absolute(device), from: copy.map(absolute), evenIncomplete: evenIncomplete))
    }
  }

  private static func describe(_ report: DeviceReport, _ label: DeviceLabel?) -> String {
    if let error = report.error { return "\(report.path): \(error)\n" }
    var lines = ["\(report.path): \(report.kind.rawValue) of \(report.sizeBytes) bytes"]
    if let identity = report.identity { lines.append("  identity: \(identity)") }
    if report.isSystemDevice { lines.append("  in use by the system: it can't be migrated") }
    if !report.mountedAt.isEmpty { lines.append("  mounted at: \(report.mountedAt.joined(separator: ", "))") }
    if let label {
      lines.append("  destination of session \(label.session), volume \(label.volume), generation \(label.generation)")
      lines.append("  authority when it was written: \(label.authority.name); its source's key: \(label.peer)")
      let state =
        label.isCancelled
        ? "cancelled: incomplete for good"
        : label.inconsistentSince == nil
          ? "a consistent copy; the source decides which one is newer" : "incomplete: still being filled"
      lines.append("  \(state). It can't be used before cmcplan finalizes the migration")
    } else {
      lines.append(report.looksBlank ? "  looks blank" : "  holds data; no label of ours")
    }
    return lines.joined(separator: "\n") + "\n"
  }

  private static func verify(_ path: String, _ device: String?, _ name: String?) throws(AgentFault) -> Int32 {
    let bytes: [UInt8]
    do throws(SystemError) {
      bytes = try Files.read(path, limitBytes: DirectoryStateStore.fileLimitBytes)
    } catch {
      throw AgentFault(.notFound, error.description)
    }
    let volumes = try ReceiptCheck.check(bytes)
    say("\(path): whole; SHA-256 \(Digests.hex(Digests.sha256(bytes)))\n")
    for volume in volumes { say("volume \(volume.name): root \(volume.root)\n") }
    guard let device else { return 0 }
    let names = volumes.map(\.name).joined(separator: ", ")
    guard let volume = volumes.first(where: { $0.name == name ?? $0.name }), name != nil || volumes.count == 1 else {
      throw AgentFault(.badRequest, "say with --volume which of the receipt's volumes \(device) is: \(names)")
    }
    let result = try DeviceComparison.compare(try DeviceComparison.open(device), with: volume)
    say(result.text)
    say("\(device): \(result.compared) bytes compared, \(result.differing) extents differ\n")
    return result.isEqual ? 0 : 1
  }

  private static func compare(_ first: String, _ second: String) throws(AgentFault) -> Int32 {
    let result = try DeviceComparison.compare(
      try DeviceComparison.open(first), try DeviceComparison.open(second))
    say(result.text)
    say("\(result.compared) bytes compared, \(result.differing) extents differ\n")
    return result.isEqual ? 0 : 1
  }

  static func absolute(_ path: String) -> String {
    var full = path
    if !full.hasPrefix("/") {
      let here = (try? Files.resolve(".")) ?? "/"
      full = "\(here)/\(path)"
    }
    while full.count > 1, full.hasSuffix("/") { full.removeLast() }
    return full
  }

  private static func say(_ text: String) { print(text, terminator: "") }
  private static func complain(_ text: String) { fputs("cmcagent: \(text)\n", stderr) }
}
