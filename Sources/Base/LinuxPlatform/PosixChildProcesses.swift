import BlockModel
import CLinux
import Glibc
package import Seams

/// Runs children to their end. What a child leaves running in the background is neither waited for nor killed, unless
/// the child itself ran into its timeout.
package struct PosixChildProcesses: ChildProcesses {
  /// Ends a run early, as its timeout would.
  private let cancel: CancelSignal?

  package init(cancel: CancelSignal? = nil) { self.cancel = cancel }

  package func run(_ command: ChildCommand) throws(ChildError) -> ChildResult {
    do {
      return try collect(command)
    } catch {
      throw ChildError("\(error)")
    }
  }

  private func collect(_ command: ChildCommand) throws(SystemError) -> ChildResult {
    var options = RunningChild.Options()
    options.input = command.input.isEmpty ? .null : .pipe
    options.output = .pipe
    options.errorOutput = .pipe
    let launched = try RunningChild.launch(
      executable: command.executable, arguments: command.arguments, environment: command.environment,
      workingDirectory: command.workingDirectory, options, label: Files.lastPart(of: command.executable),
      splitsPipes: true)
    var conversation = ChildConversation(
      input: launched.input, output: launched.output, errorOutput: launched.child.errorOutput,
      inputBytes: command.input, limitBytes: command.outputLimitBytes)
    let deadline = MonotonicTime.now.adding(seconds: command.timeoutSeconds)
    let isFinished: Bool
    do {
      isFinished = try conversation.run(ended: launched.state.ended, cancel: cancel, until: deadline)
    } catch {
      launched.child.signal(SIGKILL)
      throw error
    }
    if !isFinished { launched.child.signal(SIGKILL) }
    let killDeadline = MonotonicTime.now.adding(seconds: RunningChild.killWaitSeconds)
    let ending = launched.child.wait(until: isFinished ? deadline : killDeadline)
    conversation.drain()
    return ChildResult(
      ending: isFinished ? ending ?? .timedOut : .timedOut, output: conversation.output.bytes,
      errorOutput: conversation.errorOutput.bytes,
      outputTruncated: conversation.output.isTruncated || conversation.errorOutput.isTruncated)
  }
}

/// Feeds a child and collects what it says, until it ends.
private struct ChildConversation {
  var input: FileDescriptor?
  var output: ChildOutput
  var errorOutput: ChildOutput
  let inputBytes: [UInt8]
  let limitBytes: Int
  var sent = 0

  init(
    input: FileDescriptor?, output: FileDescriptor?, errorOutput: FileDescriptor?, inputBytes: [UInt8],
    limitBytes: Int
  ) {
    self.input = input
    self.output = ChildOutput(end: output)
    self.errorOutput = ChildOutput(end: errorOutput)
    self.inputBytes = inputBytes
    self.limitBytes = limitBytes
    for end in [input, output, errorOutput] {
      if let end { _ = cmc_set_nonblocking(end.number) }
    }
  }

  /// True when the child ended, false when time ran out or the run was cancelled.
  mutating func run(ended: CancelSignal, cancel: CancelSignal?, until deadline: MonotonicTime) throws(SystemError)
    -> Bool
  {
    while true {
      // poll ignores negative descriptors.
      var entries = [
        pollfd(fd: ended.descriptor.number, events: Int16(POLLIN), revents: 0),
        pollfd(fd: cancel?.descriptor.number ?? -1, events: Int16(POLLIN), revents: 0),
        pollfd(fd: input?.number ?? -1, events: Int16(POLLOUT), revents: 0),
        pollfd(fd: output.end?.number ?? -1, events: Int16(POLLIN), revents: 0),
        pollfd(fd: errorOutput.end?.number ?? -1, events: Int16(POLLIN), revents: 0),
      ]
      let left = remainingMilliseconds(until: deadline)
      let count = entries.withUnsafeMutableBufferPointer { cmc_poll_many($0.baseAddress, Int32($0.count), left) }
      if count == -Int(EINTR) { continue }
      _ = try check(count, "wait for a child")
      if entries[2].revents != 0 { feed() }
      if entries[3].revents != 0 { output.receive(limitBytes: limitBytes) }
      if entries[4].revents != 0 { errorOutput.receive(limitBytes: limitBytes) }
      if entries[0].revents != 0 { return true }
      if entries[1].revents != 0 || left == 0 { return false }
    }
  }

  mutating func drain() {
    output.drain(limitBytes: limitBytes)
    errorOutput.drain(limitBytes: limitBytes)
  }

  private mutating func feed() {
    guard let end = input else { return }
    let start = sent
    let count = inputBytes.withUnsafeBytes {
      cmc_write(end.number, $0.baseAddress.map { $0 + start }, $0.count - start)
    }
    if count > 0 { sent += count }
    // A child that closed its input does not want the rest, which is its right.
    if sent == inputBytes.count || (count < 0 && count != -Int(EAGAIN)) {
      // Others may still hold the object, and the child waits for the end of its input.
      end.close()
      input = nil
    }
  }
}

/// What came through one pipe of a child.
private struct ChildOutput {
  /// Nil once the pipe ended.
  var end: FileDescriptor?
  var bytes: [UInt8] = []
  var isTruncated = false

  private static let roundBytes = 64 << 10
  private static let drainRounds = 64

  /// False where there was nothing.
  @discardableResult
  mutating func receive(limitBytes: Int) -> Bool {
    guard let descriptor = end else { return false }
    let room = max(0, limitBytes - bytes.count)
    let (count, part) = withUnsafeTemporaryAllocation(byteCount: Self.roundBytes, alignment: 16) { buffer in
      let count = cmc_read(descriptor.number, buffer.baseAddress, buffer.count)
      return (count, count > 0 ? Array(buffer[..<min(count, room)]) : [])
    }
    bytes += part
    if count > room { isTruncated = true }
    if count == 0 || (count < 0 && count != -Int(EAGAIN)) { end = nil }
    return count > 0
  }

  /// Takes what is in the pipe already. Its other end may be held by one who lives on, so the end of the stream is
  /// not waited for, and the number of rounds is limited.
  mutating func drain(limitBytes: Int) {
    for _ in 0..<Self.drainRounds where !receive(limitBytes: limitBytes) { return }
  }
}
