import BlockModel
import LinuxPlatform
import MigrationModel
import Reconciling
import Seams

/// One host's SSH connection: whoever comes first logs in, and everybody else's commands go through the same
/// connection (ControlMaster), so that a host and run costs one authentication.
///
/// The master is a child that runs `cat` on the host until its input ends: when cmcplan ends, however it ends, the
/// pipe closes, the master ends in order and takes its socket along. The key of this connection never leaves `ssh`.
actor SSHConnection {
  /// How long a whole login may take, in seconds, jump hosts and authentication included. The TCP part has its own,
  /// shorter limit (`ConnectTimeout`).
  static let loginLimitSeconds = 30.0
  static let closeLimitSeconds = 3.0
  private static let fingerprintLimitSeconds = 20.0
  private static let logLimitBytes = 64 << 10

  private struct Opened: Sendable {
    var master: RunningChild
    var login: SSHLogin
  }
  private enum State {
    case closed
    case opening(Task<Result<Opened, GatewayError>, Never>)
    case open(Opened)
  }

  nonisolated let target: SSHTarget
  nonisolated let settings: SSHSettings
  nonisolated let children: any ChildProcesses
  /// The run's configuration file, this connection's control socket, and what the master complains of.
  nonisolated let configurationPath: String
  nonisolated let socketPath: String
  private let logPath: String
  private let pausing: any Pausing
  private let turns: SSHTurns
  private var state = State.closed

  init(
    target: SSHTarget, settings: SSHSettings, directory: String, number: Int, children: any ChildProcesses,
    pausing: any Pausing, turns: SSHTurns
  ) {
    self.target = target
    self.settings = settings
    self.children = children
    self.pausing = pausing
    self.turns = turns
    configurationPath = "\(directory)/config"
    socketPath = "\(directory)/\(number)"
    logPath = "\(directory)/\(number).log"
  }

  /// Logs in where that hasn't happened, or the connection died since.
  func login() async throws(GatewayError) -> SSHLogin {
    let task: Task<Result<Opened, GatewayError>, Never>
    switch state {
    case .open(let opened) where opened.master.isRunning: return opened.login
    case .opening(let running): task = running
    case .open, .closed:
      task = Task { await self.open() }
      state = .opening(task)
    }
    let result = await task.value
    if case .opening(let running) = state, running == task {
      switch result {
      case .success(let opened): state = .open(opened)
      case .failure: state = .closed
      }
    }
    return try result.get().login
  }

  /// Ends the master in order; commands still on their way through it end with it.
  func close() async {
    guard case .open(let opened) = state else { return }
    state = .closed
    opened.master.channel?.finishWriting()
    await onOwnThread("ssh-close") {
      if opened.master.wait(until: MonotonicTime.now.adding(seconds: Self.closeLimitSeconds)) == nil {
        opened.master.terminate(limitSeconds: 1)
      }
    }
  }

  /// The client's words before the command: `-S` is the shared connection's socket.
  nonisolated func clientArguments(_ options: [String], _ command: String) -> [String] {
    ["-F", configurationPath, "-S", socketPath] + options + target.arguments + [command]
  }

  // MARK: Logging in

  private func open() async -> Result<Opened, GatewayError> {
    let jump = target.access.jump
    await turns.take(jump)
    let result = await logIn()
    await turns.give(jump)
    guard case .failure(let error) = result, error.code == SSHFault.unknownHostKey else { return result }
    // Strict checking doesn't print the key that it refuses; a verbose client that stops at the same place does.
    let command = ChildCommand(
      executable: settings.program,
      arguments: ["-v", "-F", configurationPath, "-S", "none", "-N"] + target.arguments,
      environment: settings.environment, timeoutSeconds: Self.fingerprintLimitSeconds)
    let verbose = await onOwnThread("ssh-key") { [children] in try? children.run(command) }
    guard let said = verbose.flatMap({ $0 }).map({ String(decoding: $0.errorOutput, as: UTF8.self) }),
      let fingerprint = SSHFault.fingerprint(inVerbose: said)
    else { return result }
    return .failure(SSHFault.error(said, target: target, timedOut: false, fingerprint: fingerprint))
  }

  private func logIn() async -> Result<Opened, GatewayError> {
    var options = RunningChild.Options()
    options.input = .pipe
    options.output = .pipe
    options.errorOutput = .log(path: logPath)
    let command = RemoteScript.loginCommand(asksSudo: target.access.sudo)
    let arguments = clientArguments(["-o", "ControlMaster=yes", "-o", "ControlPersist=no"], command)
    let (settings, logPath, socketPath, host) = (settings, logPath, socketPath, target.host)
    let started: Result<RunningChild, GatewayError> = await onOwnThread("ssh-start") { [options] in
      do throws(SystemError) {
        // Left by a master of this connection that was killed.
        try Files.remove(logPath)
        try Files.remove(socketPath)
        return .success(
          try RunningChild.start(
            executable: settings.program, arguments: arguments, environment: settings.environment, options))
      } catch {
        return .failure(
          GatewayError(
            code: SSHFault.noClient, message: "host \(host): \(settings.program) can't be run: \(error)",
            advice: "install OpenSSH's client (openssh-client) on this machine", disposition: .needsOperator))
      }
    }
    let master: RunningChild
    switch started {
    case .success(let child): master = child
    case .failure(let error): return .failure(error)
    }
    let isLate = Monitor(false)
    let timer = Task { [pausing] in
      guard (try? await pausing.pause(seconds: Self.loginLimitSeconds)) != nil else { return }
      isLate.change { $0 = true }
      master.signal(SignalWatcher.terminate)
    }
    let login = await onOwnThread("ssh-login") { Self.readLogin(master) }
    timer.cancel()
    if let login { return .success(Opened(master: master, login: login)) }
    return .failure(
      await onOwnThread("ssh-end") { [target] in
        master.terminate(limitSeconds: 1)
        let said = (try? Files.readText(logPath, limitBytes: Self.logLimitBytes)) ?? ""
        return SSHFault.error(said, target: target, timedOut: isLate.withLock { $0 })
      })
  }

  /// The line by which the host says who we are there; nil where the connection ended without one.
  private static func readLogin(_ master: RunningChild) -> SSHLogin? {
    guard let channel = master.channel else { return nil }
    var text = [UInt8]()
    var buffer = [UInt8](repeating: 0, count: 4096)
    while text.count < logLimitBytes {
      guard let count = try? buffer.withUnsafeMutableBytes({ try channel.read(into: $0) }) else { return nil }
      text += buffer[..<count]
      let lines = text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).dropLast()
      for line in lines {
        if let login = SSHLogin(line: String(decoding: line, as: UTF8.self)) { return login }
      }
    }
    return nil
  }

  /// What a command through the connection met: its own words, or the master's where it has died.
  func fault(_ said: String) -> GatewayError {
    var words = said
    if case .open(let opened) = state, !opened.master.isRunning {
      words += "\n" + ((try? Files.readText(logPath, limitBytes: Self.logLimitBytes)) ?? "")
      state = .closed
    }
    return SSHFault.error(words, target: target, timedOut: false)
  }
}

/// Runs blocking work on a thread of its own, so that a host that doesn't answer takes none from a pool that others use.
func onOwnThread<Result: Sendable>(_ name: String, _ body: @escaping @Sendable () -> Result) async -> Result {
  await withCheckedContinuation { continuation in
    do {
      try PlatformThread.start(name: name) { continuation.resume(returning: body()) }
    } catch {
      // No thread is to be had now; the shared pool's queue is the next best place.
      Task {
        let result = try? await onBlockingThread { body() }
        continuation.resume(returning: result ?? body())
      }
    }
  }
}

/// Bounds how many logins go through one jump host at once: an sshd drops connections beyond `MaxStartups` (10) that
/// haven't authenticated yet.
actor SSHTurns {
  static let limit = 8
  private var busy: [String: Int] = [:]
  private var waiting: [String: [CheckedContinuation<Void, Never>]] = [:]

  func take(_ jump: String?) async {
    guard let jump else { return }
    if busy[jump, default: 0] < Self.limit {
      busy[jump, default: 0] += 1
      return
    }
    await withCheckedContinuation { waiting[jump, default: []].append($0) }
  }

  /// Hands the turn on where somebody waits.
  func give(_ jump: String?) {
    guard let jump else { return }
    if waiting[jump]?.isEmpty == false {
      waiting[jump]?.removeFirst().resume()
    } else {
      busy[jump, default: 1] -= 1
    }
  }
}
