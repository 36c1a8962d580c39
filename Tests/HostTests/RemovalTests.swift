import BlockModel
import Foundation
import LinuxPlatform
import MigrationModel
import Reconciling
import Seams
import Testing

@testable import SSHDeploy

/// Removing an agent takes nothing from anybody who needs it.
@Suite struct RemovalTests {
  private func make(_ path: String, _ text: String = "{}") throws {
    let url = URL(fileURLWithPath: path)
    try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(text.utf8).write(to: url)
  }

  @Test(arguments: [true, false]) func aSessionKeepsItsAgentUnlessItIsGivenUp(runs: Bool) async throws {
    let laboratory = try Laboratory()
    let deployer = laboratory.deployer()
    try await deployer.deploy(to: laboratory.host)
    let agents = laboratory.agents()
    if !runs {
      for agent in agents { kill(pid_t(agent), SIGKILL) }
      while !laboratory.agents().isEmpty { await Task.yield() }
    }
    let session = laboratory.root + "/state/sessions/plan%2Ferp-db/session.json"
    try make(session)
    // What a retired session's crash left is none.
    try make(laboratory.root + "/state/sessions/plan%2Fgone/hooks/one.json")
    let error = await #expect(throws: GatewayError.self) {
      try await deployer.remove(from: laboratory.host, givingUpSessions: false)
    }
    #expect(error?.code == "CMC3209")
    #expect(error?.message.contains("erp-db") == true)
    #expect(error?.disposition == .needsOperator)
    #expect(FileManager.default.fileExists(atPath: session))
    #expect(laboratory.agents() == (runs ? agents : []))
    try await deployer.remove(from: laboratory.host, givingUpSessions: true)
    #expect(laboratory.agents().isEmpty)
    #expect(try FileManager.default.contentsOfDirectory(atPath: laboratory.root) == ["run"])
  }

  @Test func aTapsHolderKeepsTheAgentWhateverIsGivenUp() async throws {
    let laboratory = try Laboratory()
    let deployer = laboratory.deployer()
    try await deployer.deploy(to: laboratory.host)
    let agents = laboratory.agents()
    try make(laboratory.root + "/holder", "while :; do sleep 0.05; done\n")
    let holder = try RunningChild.start(
      executable: laboratory.root + "/bin/cmcagent",
      arguments: ["holder", "--directory", laboratory.root + "/tap/erp-db/data.holder", "--socket", "/s"],
      environment: LocalTransport.environment, workingDirectory: laboratory.root)
    defer { _ = holder.terminate(limitSeconds: 1) }
    let error = await #expect(throws: GatewayError.self) {
      try await deployer.remove(from: laboratory.host, givingUpSessions: true)
    }
    #expect(error?.code == "CMC3209")
    #expect(error?.message.contains("process \(holder.processID) holds a tap") == true)
    #expect(error?.advice.contains("nothing forces it") == true)
    #expect(laboratory.agents() == agents)
    #expect(FileManager.default.fileExists(atPath: laboratory.root + "/bin/cmcagent"))
  }

  /// The script with stand-ins for the kernel's own files.
  private func refuse(_ change: (String) throws -> (String, String)) throws -> ChildResult {
    let directory = NSTemporaryDirectory() + "cmc-refuse-" + SystemRandom().uuid()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try FileManager.default.createDirectory(atPath: directory + "/a root/bin", withIntermediateDirectories: true)
    let (kernel, standIn) = try change(directory)
    return try PosixChildProcesses().run(
      ChildCommand(
        executable: "/bin/sh",
        arguments: [
          "-c", HostScripts.remove.replacing(kernel, with: standIn), "cmcplan-deploy", directory + "/a root", "agent",
          "given-up",
        ], environment: LocalTransport.environment, timeoutSeconds: 20))
  }

  @Test func aMountedTapKeepsTheAgent() throws {
    let result = try refuse { directory in
      let path = (directory + "/a root/tap/erp-db/data.holder/mount").replacing(" ", with: #"\040"#)
      try make(
        directory + "/mounts", "36 35 0:59 / /proc rw - proc proc rw\n37 35 0:60 / \(path) rw - fuse cmc-holder rw\n")
      return ("/proc/self/mountinfo", directory + "/mounts")
    }
    #expect(result.ending == .exited(HostScripts.hasTap))
    #expect(String(decoding: result.errorOutput, as: UTF8.self).contains("a root/tap/erp-db/data.holder/mount"))
  }

  @Test func theOriginOfAnInsertedTapKeepsTheAgent() throws {
    let result = try refuse { directory in
      try make(directory + "/block/dm-0/dm/name", "vg-root\n")
      try make(directory + "/block/dm-1/dm/name", "cmcplan-origin-0123456789abcdef\n")
      return ("/sys/block", directory + "/block")
    }
    #expect(result.ending == .exited(HostScripts.hasTap))
    #expect(String(decoding: result.errorOutput, as: UTF8.self).contains("cmcplan-origin-0123456789abcdef"))
  }

  @Test func aConnectedDeviceOfTheKernelsClientKeepsTheAgent() throws {
    let result = try refuse { directory in
      try make(directory + "/block/nbd3/pid", "1\n")
      try make(directory + "/a root/tap/erp-db/data.sock")
      try FileManager.default.createSymbolicLink(
        atPath: directory + "/a root/tap/erp-db/data", withDestinationPath: "/dev/nbd3")
      return ("/sys/block", directory + "/block")
    }
    #expect(result.ending == .exited(HostScripts.hasTap))
  }

  @Test func whatCanNotBeRemovedIsSaid() throws {
    let result = try refuse { _ in ("set -e", "set -e; rm() { echo 'rm: state: busy' >&2; return 1; }") }
    #expect(result.ending == .exited(1))
    #expect(String(decoding: result.errorOutput, as: UTF8.self).contains("rm: state: busy"))
  }

  // MARK: What a failed script means

  private func error(_ ending: ChildResult.Ending, _ said: String, advice: String? = nil) -> GatewayError {
    ScriptFailure(
      ChildResult(ending: ending, output: [], errorOutput: Array(said.utf8), outputTruncated: false), what: "do it",
      limitSeconds: 20, advice: advice
    ).error(
      Host(name: HostName("db"), address: nil, reach: .local(root: "/r"), azureVirtualMachine: nil, position: nil),
      root: "/r")
  }

  @Test(arguments: [
    ("cat: write error: No space left on device", "free space there"), ("mkdir: Permission denied", "its rights"),
    ("another copy is under way", "once that has ended"), ("7 of 9 bytes arrived", "apply again continues"),
    ("Job for cmcagent.service failed", "mend what it names"),
  ]) func aFailedScriptsAdviceFitsWhatItSaid(said: String, advice: String) {
    let error = error(.exited(1), said)
    #expect(error.code == "CMC3204")
    #expect(error.advice.contains(advice))
    #expect(error.message.contains(said))
  }

  @Test func aScriptThatDidNotEndInTimeIsNoVerdict() {
    let error = error(.timedOut, "")
    #expect(error.message == "host db: can't do it in /r: no end within 20 s")
    #expect(!DeployCode.isVerdict(error))
    #expect(!error.advice.contains("rights"))
    #expect(self.error(.exited(4), "", advice: "look at it").advice == "look at it")
  }
}
