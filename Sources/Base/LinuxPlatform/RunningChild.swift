package import BlockModel
import CLinux
import Glibc
package import Seams

/// A child process that lives for a while. It has a process group (or session) of its own and inherits nothing but
/// its three standard streams. Each has a small thread here that started it and waits for its end: the kernel's
/// parent-death signal is bound to that thread, and ends with the child.
package final class RunningChild: Sendable {
  /// Where a standard stream of the child leads.
  package enum Stream: Sendable {
    case null
    /// Becomes part of `channel`.
    case pipe
    /// Appends to the file (0600), which is made where missing.
    case log(path: String)
    /// The same as this process's own.
    case inherited
  }

  package struct Options: Sendable {
    package var input: Stream = .null
    package var output: Stream = .null
    package var errorOutput: Stream = .null
    /// A session of its own (setsid): it survives its parent's terminal. Otherwise only a process group.
    package var isNewSession = false
    /// Killed (SIGKILL) by the kernel as soon as this process ends, however it ends.
    package var diesWithParent = false
    package init() {}
  }

  package let command: String
  package let processID: Int32
  /// With `processID` a name for the process that is never given twice in a boot; nil where it ended at once.
  package let startTime: UInt64?
  /// The child's standard input and output, where both are pipes: what is written goes to its input.
  package let channel: PipeChannel?
  /// Read end of its standard error, where that is a pipe.
  let errorOutput: FileDescriptor?
  private let state: ChildState

  /// Starts `executable` (an absolute path, or one relative to the working directory: PATH is not searched). The
  /// environment is exactly `environment`.
  package static func start(
    executable: String, arguments: [String], environment: [String: String], workingDirectory: String? = nil,
    _ options: Options = Options()
  ) throws(SystemError) -> RunningChild {
    try launch(
      executable: executable, arguments: arguments, environment: environment, workingDirectory: workingDirectory,
      options, label: Files.lastPart(of: executable)
    ).child
  }

  /// Starts a process that outlives this one: a session of its own, no input, output and errors appended to a log.
  package static func startDetached(
    executable: String, arguments: [String], environment: [String: String], logPath: String,
    workingDirectory: String? = "/"
  ) throws(SystemError) -> RunningChild {
    var options = Options()
    options.output = .log(path: logPath)
    options.errorOutput = .log(path: logPath)
    options.isNewSession = true
    return try start(
      executable: executable, arguments: arguments, environment: environment, workingDirectory: workingDirectory,
      options)
  }

  init(
    command: String, processID: Int32, startTime: UInt64?, channel: PipeChannel?, errorOutput: FileDescriptor?,
    state: ChildState
  ) {
    self.command = command
    self.processID = processID
    self.startTime = startTime
    self.channel = channel
    self.errorOutput = errorOutput
    self.state = state
  }

  /// Waits for its end; nil when `deadline` came first. Any thread, any number of times.
  package func wait(until deadline: MonotonicTime? = nil) -> ChildResult.Ending? { state.wait(until: deadline) }

  package var isRunning: Bool { state.wait(until: MonotonicTime(nanoseconds: 0)) == nil }

  /// Sends a signal to the child's process group; nothing once it has ended.
  package func signal(_ number: Int32) { state.signal(processID, number) }

  /// SIGTERM to the group, and SIGKILL when the child still runs after `limitSeconds`. Returns how it ended.
  @discardableResult
  package func terminate(limitSeconds: Double) -> ChildResult.Ending? {
    signal(SIGTERM)
    if let ending = wait(until: MonotonicTime.now.adding(seconds: limitSeconds)) { return ending }
    signal(SIGKILL)
    // A process in an uninterruptible wait ends later than its SIGKILL.
    return wait(until: MonotonicTime.now.adding(seconds: Self.killWaitSeconds))
  }

  package static let killWaitSeconds = 10.0
}

/// How a child ended, shared with the thread that waits for it.
final class ChildState: Sendable {
  private struct Facts: Sendable {
    var ending: ChildResult.Ending?
  }

  private let facts = Monitor(Facts())
  /// Set when the child ended, for those who poll.
  let ended: CancelSignal

  init() throws(SystemError) { ended = try CancelSignal() }

  func wait(until deadline: MonotonicTime?) -> ChildResult.Ending? { facts.wait(until: deadline) { $0.ending } }

  /// The pid stays the child's until it is reaped, and reaping takes the same lock.
  func signal(_ processID: Int32, _ number: Int32) {
    facts.withLock { facts in
      if facts.ending == nil { _ = cmc_kill(-processID, number) }
    }
  }

  /// Blocks until the child ended, and reaps it.
  func awaitEnd(of processID: Int32) {
    _ = cmc_wait_for_end(processID)
    facts.change { facts in
      var exited: Int32 = 0
      var code: Int32 = 0
      let result = cmc_reap(processID, &exited, &code)
      // ECHILD means that someone set SIGCHLD to be ignored: the child is gone, its status is lost.
      facts.ending = result < 0 ? .exited(-1) : exited != 0 ? .exited(code) : .signalled(code)
    }
    ended.cancel()
  }
}
