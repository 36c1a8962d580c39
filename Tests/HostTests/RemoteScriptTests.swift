import Foundation
import LinuxPlatform
import Seams
import Testing

@testable import SSHDeploy

@Suite struct RemoteScriptTests {
  /// What `ssh` does with a command: the login shell gets it as one word.
  private func run(
    _ script: String, _ arguments: [String], input: String = "", shell: String = "/bin/sh"
  ) throws -> ChildResult {
    try PosixChildProcesses().run(
      ChildCommand(
        executable: shell, arguments: ["-c", "echo profile noise\n" + RemoteScript.command(withSudo: false)],
        environment: ["HOME": "/"], input: RemoteScript.header(script, arguments) + Array(input.utf8),
        timeoutSeconds: 20))
  }

  @Test(arguments: ["/bin/sh", "/bin/bash"])
  func argumentsAndInputArriveByteForByte(shell: String) throws {
    let nasty = [
      "", " ", "it's", "\"quoted\"", "$(touch /tmp/x)", "`id`", "a\nb\n\n", "-n", "\\0101\\c", "ünïcode 🐧", "*", "%s",
      "!history", "end\\",
    ]
    let script = "for a in \"$@\"; do printf '<%s>' \"$a\"; done; cat"
    let result = try run(script, nasty, input: "the rest\n\\0101", shell: shell)
    #expect(result.succeeded)
    let output = try #require(RemoteScript.output(of: result.output))
    let text = String(decoding: output, as: UTF8.self)
    #expect(text == nasty.map { "<\($0)>" }.joined() + "the rest\n\\0101")
  }

  @Test func theScriptsExitCodeAndErrorsComeBack() throws {
    let result = try run("echo why >&2; exit 7", [])
    #expect(result.ending == .exited(7))
    #expect(String(decoding: result.errorOutput, as: UTF8.self) == "why\n")
  }

  @Test func aHeaderThatIsCutOffRunsNothing() throws {
    let header = RemoteScript.header("echo never", ["one", "two"])
    let result = try PosixChildProcesses().run(
      ChildCommand(
        executable: "/bin/sh", arguments: ["-c", RemoteScript.command(withSudo: false)], environment: [:],
        input: Array(header.dropLast(4)), timeoutSeconds: 20))
    #expect(result.ending == .exited(97))
    #expect(RemoteScript.output(of: result.output) == nil)
  }

  @Test func theCommandIsAConstant() {
    for withSudo in [true, false] {
      let command = RemoteScript.command(withSudo: withSudo)
      #expect(command.hasPrefix(withSudo ? "exec sudo -n -- /bin/sh -c '" : "exec /bin/sh -c '"))
      #expect(!command.contains("\n"))
      // csh would take it for history, in single quotes too.
      #expect(!command.contains("!"))
      #expect(command.filter { $0 == "'" }.count == 2)
    }
  }

  @Test func aLoginSaysWhoItIs() throws {
    let result = try PosixChildProcesses().run(
      ChildCommand(
        executable: "/bin/sh", arguments: ["-c", RemoteScript.loginCommand(asksSudo: false)],
        environment: ["HOME": "/home/a b"], input: [10], timeoutSeconds: 20))
    let line = String(decoding: result.output, as: UTF8.self).split(separator: "\n").first
    let login = try #require(line.flatMap { SSHLogin(line: String($0)) })
    #expect(login.home == "/home/a b")
    #expect(login.sudo == .unasked)
    #expect(SSHLogin(line: "Welcome to cmcplan:login 0 yes /root") == nil)
  }
}
