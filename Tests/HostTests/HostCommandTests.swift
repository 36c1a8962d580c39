import BlockModel
import MigrationModel
import Reconciling
import SSHDeploy
import Testing

/// Commands of the plan, as a wave's health check is one: what comes back of them, whatever they do.
@Suite struct HostCommandTests {
  private func run(_ command: String, seconds: Double = 20) async throws -> HostCommandOutcome {
    let laboratory = try Laboratory()
    return try await laboratory.deployer().run(command, on: laboratory.host, timeoutSeconds: seconds)
  }

  @Test func tellsBothOutputsAndTheExitCode() async throws {
    #expect(try await run("echo well; echo said >&2") == HostCommandOutcome(exitCode: 0, output: "well\nsaid"))
    #expect(try await run("printf 'no line end'; exit 3") == HostCommandOutcome(exitCode: 3, output: "no line end"))
    #expect(try await run("exit 255") == HostCommandOutcome(exitCode: 255, output: ""))
    #expect(try await run("kill -9 $$").exitCode == 137, "128 and the signal, as shells say it")
  }

  @Test("an exit code that `timeout` uses too is no timeout") func exitCodesOfTimeout() async throws {
    #expect(try await run("exit 124") == HostCommandOutcome(exitCode: 124, output: ""))
  }

  @Test("a command that takes too long is ended with what it started") func endsWhatTakesTooLong() async throws {
    let laboratory = try Laboratory()
    let outcome = try await laboratory.deployer().run(
      "echo begun; sleep 600 & echo $! > '\(laboratory.directory)/pid'; wait", on: laboratory.host, timeoutSeconds: 3)
    #expect(outcome == HostCommandOutcome(exitCode: nil, output: "begun"))
    // What nobody has reaped yet has no command line any more. Waits for the end of what was killed, not for a time.
    let left = try await laboratory.deployer().run(
      "p=$(cat '\(laboratory.directory)/pid'); while cat \"/proc/$p/cmdline\" 2>/dev/null | grep -qa sleep; "
        + "do sleep 0.1; done; echo gone",
      on: laboratory.host, timeoutSeconds: 20)
    #expect(left == HostCommandOutcome(exitCode: 0, output: "gone"))
  }

  @Test("output without end is cut, and what the command says of its end is not believed") func outputs() async throws {
    let long = try await run("head -c 300000 /dev/zero | tr '\\0' x; exit 4")
    #expect(long.exitCode == 4)
    #expect(long.output.utf8.count <= 8192 && long.output.hasSuffix("xxx"))
    #expect(try await run("echo cmcplan:ended 0; exit 5").exitCode == 5)
  }

  @Test("quotes and line ends reach the command as they are, and standard input is empty") func quoting() async throws {
    #expect(try await run("cat; echo 'a \"b\"' \\\n$((1 + 1))").output == "a \"b\" 2")
  }
}
