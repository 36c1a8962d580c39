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
  /// Most callers that wait for one login at once: more than any `--parallelism` asks for.
  static let waitingLimit = 1024

  private struct Opened: Sendable {
    var master: RunningChild
    var login: SSHLogin
  }
  private enum State {
    case closed
    case opening(Task<Void, Never>)
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
  private var waiting: [Int: CheckedContinuation<Result<SSHLogin, GatewayError>, Never>] = [:]
  private var tickets = 0

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

  /// Logs in where that hasn't happened, or the connection died since. Cancelling ends this caller's wait; the login itself
  /// ends when nobody waits for it any more.
  func login() async throws(GatewayError) -> SSHLogin {
    if case .open(let opened) = state, opened.master.isRunning { return opened.login }
    tickets += 1
    let ticket = tickets
    let result = await withTaskCancellationHandler {
      await withCheckedContinuation { wait(ticket, $0) }
    } onCancel: {
      Task { await self.giveUp(ticket) }
    }
    return try result.get()
  }

  private func wait(_ ticket: Int, _ continuation: CheckedContinuation<Result<SSHLogin, GatewayError>, Never>) {
    // Cancelled before it was in the table: its handler found nothing to resume.
    guard !Task.isCancelled else { return continuation.resume(returning: .failure(SSHFault.cancelled(target))) }
    guard waiting.count < Self.waitingLimit else {
      return continuation.resume(returning: .failure(SSHFault.crowded("\(Self.waitingLimit) commands wait", target)))
    }
    waiting[ticket] = continuation
    if case .opening = state { return }
    startOpening()
  }

  private func giveUp(_ ticket: Int) {
    guard let continuation = waiting.removeValue(forKey: ticket) else { return }
    continuation.resume(returning: .failure(SSHFault.cancelled(target)))
    if waiting.isEmpty, case .opening(let task) = state { task.cancel() }
  }

  private func startOpening() {
    state = .opening(
      Task {
        let result = await self.open()
        self.finish(result)
      })
  }

  private func finish(_ result: Result<Opened, GatewayError>) {
    switch result {
    case .success(let opened): state = .open(opened)
    case .failure(let error):
      state = .closed
      // Whoever asked first gave up; that is no answer for those who came after.
      if error.code == SSHFault.stopping, !waiting.isEmpty { return startOpening() }
    }
    let all = waiting
    waiting = [:]
    for (_, continuation) in all.sorted(by: { $0.key < $1.key }) { continuation.resume(returning: result.map(\.login)) }
  }

  /// Ends the master in order; commands still on their way through it end with it.
  func close() async {
    if case .opening(let task) = state {
      for ticket in waiting.keys.sorted() { giveUp(ticket) }
      task.cancel()
      await task.value
    }
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
    do throws(GatewayError) { try await turns.take(jump, for: target) } catch { return .failure(error) }
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
    let login = await withTaskCancellationHandler {
      await onOwnThread("ssh-login") { Self.readLogin(master) }
    } onCancel: {
      master.signal(SignalWatcher.terminate)
    }
    timer.cancel()
    if let login, !Task.isCancelled { return .success(Opened(master: master, login: login)) }
    if Task.isCancelled {
      await onOwnThread("ssh-end") { _ = master.terminate(limitSeconds: 1) }
      return .failure(SSHFault.cancelled(target))
    }
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
/// haven't authenticated yet. Whoever comes first goes first.
actor SSHTurns {
  static let limit = 8
  /// Most logins that wait for one jump host: more hosts than that behind one are a mistake in the plan.
  static let waitingLimit = 4096
  private let limit: Int
  private let waitingLimit: Int
  private typealias Waiting = (ticket: Int, continuation: CheckedContinuation<Bool, Never>)
  private var busy: [String: Int] = [:]
  private var waiting: [String: [Waiting]] = [:]
  private var tickets = 0

  init(limit: Int = SSHTurns.limit, waitingLimit: Int = SSHTurns.waitingLimit) {
    self.limit = limit
    self.waitingLimit = waitingLimit
  }

  /// Each turn that was taken is given back. Throws, with none taken, where the task is cancelled or too many wait.
  func take(_ jump: String?, for target: SSHTarget) async throws(GatewayError) {
    guard let jump else { return }
    guard !Task.isCancelled else { throw SSHFault.cancelled(target) }
    guard busy[jump, default: 0] >= limit else {
      busy[jump, default: 0] += 1
      return
    }
    guard waiting[jump, default: []].count < waitingLimit else {
      throw SSHFault.crowded("\(waitingLimit) logins wait for \(jump)", target)
    }
    tickets += 1
    let ticket = tickets
    let isTaken = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        // Cancelled before it was in the queue: its handler found nothing to resume.
        guard !Task.isCancelled else { return continuation.resume(returning: false) }
        waiting[jump, default: []].append((ticket, continuation))
      }
    } onCancel: {
      Task { await self.giveUp(ticket, jump) }
    }
    guard isTaken else { throw SSHFault.cancelled(target) }
  }

  /// Hands the turn on where somebody waits.
  func give(_ jump: String?) {
    guard let jump else { return }
    if waiting[jump]?.isEmpty == false {
      waiting[jump]?.removeFirst().continuation.resume(returning: true)
    } else {
      busy[jump, default: 1] -= 1
    }
  }

  func waitingCount(_ jump: String) -> Int { waiting[jump, default: []].count }

  private func giveUp(_ ticket: Int, _ jump: String) {
    guard let index = waiting[jump]?.firstIndex(where: { $0.ticket == ticket }) else { return }
    waiting[jump]?.remove(at: index).continuation.resume(returning: false)
  }
}
