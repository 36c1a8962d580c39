import BlockModel
import LinuxPlatform
import Seams
import Testing

@Suite struct ChildTests {
  private func shell(
    _ script: String, input: [UInt8] = [], timeoutSeconds: Double = 60, limit: Int = 1 << 20,
    environment: [String: String] = [:]
  ) -> ChildCommand {
    ChildCommand(
      executable: "/bin/sh", arguments: ["-c", script], environment: environment, input: input,
      timeoutSeconds: timeoutSeconds, outputLimitBytes: limit)
  }

  /// Whether this process has CAP_SYS_RESOURCE, the 24th right.
  private static var mayProtectItself: Bool {
    let status = (try? Files.readText("/proc/self/status")) ?? ""
    let rights = status.split(separator: "\n").first { $0.hasPrefix("CapEff:") }?.split(separator: "\t").last
    return rights.flatMap { UInt64($0, radix: 16) }.map { $0 & 1 << 24 != 0 } ?? false
  }

  private func run(_ command: ChildCommand) throws -> ChildResult { try PosixChildProcesses().run(command) }

  @Test func outputErrorsAndStatusComeBack() throws {
    let result = try run(shell("echo out; echo err >&2; exit 3"))
    #expect(result.output == Array("out\n".utf8) && result.errorOutput == Array("err\n".utf8))
    #expect(result.ending == .exited(3) && !result.outputTruncated)
    #expect(try run(shell("kill -9 $$")).ending == .signalled(9))
  }

  @Test func inputArrivesWhole() throws {
    let input = pattern(1 << 20)
    let result = try run(shell("cat", input: input, limit: 2 << 20))
    #expect(result.output == input && result.succeeded)
    // One that does not want its input is no error.
    #expect(try run(shell("exit 0", input: input)).succeeded)
  }

  @Test func theEnvironmentIsExactlyWhatWasGiven() throws {
    let command = ChildCommand(
      executable: "/usr/bin/env", arguments: [], environment: ["ONE": "1", "TWO": "a b"], timeoutSeconds: 60)
    #expect(try run(command).output == Array("ONE=1\nTWO=a b\n".utf8))
  }

  @Test(
    "What protects a process beneath the page cache is not its children's",
    .enabled(if: Self.mayProtectItself, "needs the right to CAP_SYS_RESOURCE"))
  func protectionIsNotInherited() throws {
    let found = Monitor<Result<ChildResult, any Error>?>(nil)
    // A thread of its own: the mark is a thread's, and what it starts inherits it.
    let thread = try PlatformThread.start(name: "protected") {
      found.change { found in
        found = Result {
          try ProcessSetup.becomeIOFlusher()
          try ProcessSetup.setOutOfMemoryScore(-50)
          defer { try? ProcessSetup.setOutOfMemoryScore(0) }
          return try run(shell("cat /proc/self/oom_score_adj; set -- $(cat /proc/$$/stat); echo $(($9 & 0x80000))"))
        }
      }
    }
    thread.join()
    let result = try #require(found.withLock { $0 }).get()
    #expect(String(decoding: result.output, as: UTF8.self) == "0\n0\n")
  }

  @Test func aTimeoutKillsTheWholeGroup() throws {
    // The grandchild would hold the pipe open and outlive the shell.
    let result = try run(shell("sleep 600 & echo $!; wait", timeoutSeconds: 0.3))
    #expect(result.ending == .timedOut)
    let text = String(decoding: result.output, as: UTF8.self).prefix { $0.isNumber }
    let grandchild = try #require(Int32(text))
    while ProcessTable.startTime(of: grandchild) != nil { pauseThread(milliseconds: 2) }
  }

  @Test func aDaemonThatKeepsThePipeDoesNotHoldUs() throws {
    let result = try run(shell("setsid sleep 600 & echo $!"))
    #expect(result.ending == .exited(0))
    let daemon = try #require(Int32(String(decoding: result.output, as: UTF8.self).prefix { $0.isNumber }))
    let start = try #require(ProcessTable.startTime(of: daemon))
    #expect(!ProcessTable.isRunning(processID: daemon, startTime: start + 1))
    #expect(ProcessTable.signal(ProcessTable.kill, processID: daemon, startTime: start))
  }

  @Test func outputPastTheLimitIsDropped() throws {
    let result = try run(shell("head -c 300000 /dev/zero; echo x >&2", limit: 1000))
    #expect(result.ending == .exited(0) && result.outputTruncated)
    #expect(result.output.count == 1000 && result.errorOutput == Array("x\n".utf8))
  }

  @Test func nothingElseIsInherited() throws {
    let leak = try FileDescriptor.open("/dev/null", 0)
    let result = try run(shell("ls /proc/self/fd | wc -l"))
    // Standard streams, and the directory that ls reads.
    #expect(String(decoding: result.output, as: UTF8.self).hasPrefix("4"))
    withExtendedLifetime(leak) {}
  }

  @Test func whatCannotRunSaysWhy() {
    let missing = ChildCommand(executable: "/no/such/program", arguments: [], environment: [:], timeoutSeconds: 1)
    #expect { try run(missing) } throws: { "\($0)".contains("/no/such/program") && "\($0)".contains("No such file") }
    var elsewhere = shell("true")
    elsewhere.workingDirectory = "/no/such/directory"
    #expect { try run(elsewhere) } throws: { "\($0)".contains("/no/such/directory") }
  }

  @Test func cancellingEndsARun() throws {
    let cancel = try CancelSignal()
    cancel.cancel()
    let result = try PosixChildProcesses(cancel: cancel).run(shell("sleep 600"))
    #expect(result.ending == .timedOut)
  }

  @Test func aConversationWithALongLivedChild() throws {
    var options = RunningChild.Options()
    options.input = .pipe
    options.output = .pipe
    options.diesWithParent = true
    let child = try RunningChild.start(executable: "/bin/cat", arguments: [], environment: [:], options)
    let channel = try #require(child.channel)
    try channel.send(Array("hello".utf8))
    #expect(try channel.receive(5) == Array("hello".utf8))
    #expect(child.isRunning && child.startTime != nil)
    channel.finishWriting()
    #expect { try channel.receive(1) } throws: { ($0 as? ChannelError)?.code == .closed }
    #expect(child.wait(until: soon) == .exited(0))
    child.signal(9)
  }

  @Test func shuttingDownWakesWhoReadsFromAChild() throws {
    var options = RunningChild.Options()
    options.input = .pipe
    options.output = .pipe
    let child = try RunningChild.start(executable: "/bin/cat", arguments: [], environment: [:], options)
    let channel = try #require(child.channel)
    let reader = try PlatformThread.start(name: "reader") { _ = try? channel.receive(1) }
    channel.shutDown()
    #expect(reader.join(until: soon))
    #expect(child.terminate(limitSeconds: 60) != nil)
  }

  @Test func aStubbornChildIsKilled() throws {
    var options = RunningChild.Options()
    options.output = .pipe
    options.input = .pipe
    let child = try RunningChild.start(
      executable: "/bin/sh", arguments: ["-c", "trap '' TERM; echo ready; while :; do sleep 1; done"],
      environment: ["PATH": "/usr/bin:/bin"], options)
    _ = try child.channel?.receive(6)
    #expect(child.terminate(limitSeconds: 0.05) == .signalled(9))
    #expect(!child.isRunning)
  }

  @Test func aDetachedChildWritesItsLog() throws {
    let scratch = try Scratch()
    let child = try RunningChild.startDetached(
      executable: "/bin/sh", arguments: ["-c", "echo one; echo two >&2"], environment: [:], logPath: scratch("log"))
    #expect(child.wait(until: soon) == .exited(0))
    #expect(try Files.readText(scratch("log")) == "one\ntwo\n")
    #expect(try Files.facts(scratch("log")).mode == 0o600)
  }
}
