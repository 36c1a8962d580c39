import BlockModel
import Foundation
import LinuxPlatform
import MigrationModel
import Planning
import Reconciling
import Seams
import Testing

@testable import SSHDeploy

/// Real children, but for those that a test answers itself.
final class InterceptedChildren: ChildProcesses {
  private let intercept: @Sendable (ChildCommand) throws(ChildError) -> ChildResult?
  init(_ intercept: @escaping @Sendable (ChildCommand) throws(ChildError) -> ChildResult?) {
    self.intercept = intercept
  }
  func run(_ command: ChildCommand) throws(ChildError) -> ChildResult {
    if let answer = try intercept(command) { return answer }
    return try PosixChildProcesses().run(command)
  }
  static func failed(_ said: String) -> ChildResult {
    ChildResult(ending: .exited(1), output: [], errorOutput: Array(said.utf8), outputTruncated: false)
  }
}

/// What becomes of the former agent where the new one isn't seen to run.
@Suite struct UpgradeTests {
  private func upgrading() async throws -> Laboratory {
    let laboratory = try Laboratory()
    try await laboratory.deployer().deploy(to: laboratory.host)
    try laboratory.shipAnother()
    return laboratory
  }

  /// A deployer whose connections to the agent are answered by `hello`.
  private func deployer(
    _ laboratory: Laboratory, time: any TimeSource = SystemTime(), children: any ChildProcesses = PosixChildProcesses(),
    hello: @escaping @Sendable () async throws(GatewayError) -> Void
  ) -> HostDeployer {
    HostDeployer(
      shippedAgentPath: laboratory.agentPath, children: children, time: time, pausing: TaskPause(),
      ssh: Laboratory.noSSH,
      connect: { _, child async throws(GatewayError) in
        _ = child.terminate(limitSeconds: 1)
        try await hello()
        return (DeafAgent(), DeafAgent.hello)
      })
  }

  private static let silence = GatewayError(
    code: "CMC3210", message: "the connection to its agent ended", advice: "", disposition: .retry(afterSeconds: 1))

  @Test func anAgentThatTheHostSaysIsDeadIsTakenBack() async throws {
    let laboratory = try await upgrading()
    let former = try laboratory.selected()
    let deployer = deployer(laboratory, time: HastyTime()) { [root = laboratory.root] () throws(GatewayError) in
      let selected = try? FileManager.default.destinationOfSymbolicLink(atPath: root + "/bin/cmcagent")
      guard selected == former else { throw Self.silence }
    }
    let error = await #expect(throws: GatewayError.self) { try await deployer.deploy(to: laboratory.host) }
    #expect(error?.code == "CMC3207")
    #expect(error?.message.hasSuffix("runs again") == true)
    #expect(try laboratory.selected() == former)
    #expect(try laboratory.kept() == [former])
    #expect(laboratory.agents().count == 1)
  }

  @Test func anAgentThatCanNotBeStartedIsTakenBack() async throws {
    let laboratory = try await upgrading()
    let former = try laboratory.selected()
    let starts = Monitor(0)
    let children = InterceptedChildren { command throws(ChildError) in
      guard command.arguments.contains(HostScripts.start) else { return nil }
      let isFirst = starts.change { starts in
        starts += 1
        return starts == 1
      }
      return isFirst ? InterceptedChildren.failed("Job for cmcagent.service failed.") : nil
    }
    let error = await #expect(throws: GatewayError.self) {
      try await laboratory.deployer(children).deploy(to: laboratory.host)
    }
    #expect(error?.message.contains("Job for cmcagent.service failed.") == true)
    #expect(error?.message.hasSuffix("runs again") == true)
    #expect(try laboratory.selected() == former)
    #expect(laboratory.agents().count == 1)
  }

  @Test func anUpgradeWhoseWaitIsCancelledIsNotTakenBack() async throws {
    let laboratory = try await upgrading()
    let former = try laboratory.selected()
    let isWaiting = Monitor(false)
    let deployer = deployer(laboratory) { [root = laboratory.root] () throws(GatewayError) in
      if Laboratory.runsAnother(than: former, root: root) { isWaiting.change { $0 = true } }
      throw Self.silence
    }
    let upgrade = Task { [host = laboratory.host] in try await deployer.deploy(to: host) }
    while !isWaiting.withLock({ $0 }) { try await TaskPause().pause(seconds: 0.01) }
    upgrade.cancel()
    let error = await #expect(throws: GatewayError.self) { try await upgrade.value }
    #expect(error?.code == "CMC3218")
    #expect(error?.advice.contains("cmcplan agent upgrade lab") == true)
    #expect(try laboratory.selected() != former)
    #expect(try laboratory.kept().count == 2)
    #expect(laboratory.agents().count == 1)
  }

  @Test func anUpgradeThatLosesItsHostIsNotTakenBackAndGoesOnLater() async throws {
    let laboratory = try await upgrading()
    let former = try laboratory.selected()
    let isCut = Monitor(false)
    let children = InterceptedChildren { [root = laboratory.root] command throws(ChildError) in
      if isCut.withLock({ $0 }), command.arguments.contains(root) { throw ChildError("no route to host") }
      return nil
    }
    let deployer = deployer(laboratory, time: HastyTime(), children: children) {
      [root = laboratory.root] () throws(GatewayError) in
      if Laboratory.runsAnother(than: former, root: root) { isCut.change { $0 = true } }
      throw Self.silence
    }
    let error = await #expect(throws: GatewayError.self) { try await deployer.deploy(to: laboratory.host) }
    #expect(error?.code == "CMC3218")
    #expect(error?.message.contains("no route to host") == true)
    #expect(try laboratory.selected() != former)
    #expect(try laboratory.kept().count == 2)
    let agents = laboratory.agents()
    #expect(agents.count == 1)
    // The new agent was well all along: nothing is restarted, and what only a way back would need goes.
    try await laboratory.deployer().deploy(to: laboratory.host)
    #expect(laboratory.agents() == agents)
    #expect(try laboratory.kept().count == 1)
  }

  @Test func theAgentThatRunsIsSeenWhereAnotherIsInstalled() async throws {
    let laboratory = try await upgrading()
    let former = try laboratory.selected()
    // An upgrade that ended between its copy and its restart.
    try FileManager.default.copyItem(atPath: laboratory.agentPath, toPath: laboratory.root + "/bin/cmcagent-newer")
    try FileManager.default.removeItem(atPath: laboratory.root + "/bin/cmcagent")
    try FileManager.default.createSymbolicLink(
      atPath: laboratory.root + "/bin/cmcagent", withDestinationPath: "cmcagent-newer")
    let state = try await laboratory.deployer().state(of: laboratory.host)
    #expect(state.agentDigest == String(former.dropFirst("cmcagent-".count)))
    #expect(state.agentRunning)
  }

  // MARK: The unit

  /// The script with a directory in the place of /etc/systemd/system, and systemctl a function.
  private func run(_ script: String, _ directory: String, input: String = "", _ arguments: [String] = []) throws
    -> ChildResult
  {
    let text =
      "systemctl() { echo \"systemctl $*\"; }\n" + script.replacing("/etc/systemd/system", with: directory + "/units")
    return try PosixChildProcesses().run(
      ChildCommand(
        executable: "/bin/sh", arguments: ["-c", text, "cmcplan-deploy", directory] + arguments,
        environment: LocalTransport.environment, input: Array(input.utf8), timeoutSeconds: 20))
  }

  @Test func theUnitBeforeAnUpgradeIsKeptUntilItsEndAndPutBack() throws {
    let directory = NSTemporaryDirectory() + "cmc-unit-" + SystemRandom().uuid()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    for name in ["bin", "units"] {
      try FileManager.default.createDirectory(atPath: "\(directory)/\(name)", withIntermediateDirectories: true)
    }
    let unit = directory + "/units/cmcagent.service"
    try Data("one".utf8).write(to: URL(fileURLWithPath: unit))
    #expect(try run(HostScripts.writeUnit, directory, input: "two").succeeded)
    // The first one's end was not seen: what it kept is the former unit still.
    #expect(try run(HostScripts.writeUnit, directory, input: "three").succeeded)
    #expect(try String(contentsOfFile: unit, encoding: .utf8) == "three")
    let restored = try run(HostScripts.restoreUnit, directory)
    #expect(String(decoding: restored.output, as: UTF8.self) == "systemctl daemon-reload\n")
    #expect(try String(contentsOfFile: unit, encoding: .utf8) == "one")
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory + "/bin").isEmpty)
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory + "/units") == ["cmcagent.service"])
  }

  /// Before local file systems are mounted there is only the root's; an agent elsewhere can't be that early.
  @Test(arguments: ["/", "/var"]) func theUnitIsAsEarlyAsTheAgentsFileSystem(mount: String) throws {
    let script = "df() { printf 'Filesystem\\n/dev/sda1 9 1 8 12%% \(mount)\\n'; }\n" + HostScripts.probe
    let result = try PosixChildProcesses().run(
      ChildCommand(
        executable: "/bin/sh", arguments: ["-c", script, "cmcplan-deploy", "/var/lib/cmcplan"],
        environment: LocalTransport.environment, timeoutSeconds: 20))
    let found = HostProbe(String(decoding: result.output, as: UTF8.self))
    #expect(found.freeBytes == 8 << 10)
    #expect(found.isOnRootFileSystem == (mount == "/"))
    let lines = Set(HostScripts.unit(isEarly: found.isOnRootFileSystem).split(separator: "\n").map(String.init))
    let early: Set = ["DefaultDependencies=no", "Before=local-fs-pre.target", "Wants=local-fs-pre.target"]
    #expect(mount == "/" ? lines.isSuperset(of: early) : lines.isDisjoint(with: early))
    #expect(lines.contains { $0.hasPrefix("After=local-fs.target") } == (mount != "/"))
    #expect(lines.isSuperset(of: ["Type=notify", "KillMode=process", "RequiresMountsFor=/var/lib/cmcplan"]))
  }

  @Test func whatSELinuxDeniedIsToldInWords() {
    let log = """
      cmcagent: can't listen
      [ 12.0] audit: type=1400 audit(1.2:8): avc:  denied  { read } for  pid=9 comm="cmcagent" scontext=a:b:init_t:s0 \
      tcontext=a:b:etc_t:s0 tclass=file permissive=0
      type=AVC msg=audit(1.3:9): avc:  denied  { name_bind } for  pid=9 comm="cmcagent" src=4996 \
      scontext=system_u:system_r:init_t:s0 tcontext=system_u:object_r:port_t:s0 tclass=tcp_socket permissive=0
      """
    let denial = SELinuxDenial(in: log)
    #expect(denial?.advice.hasPrefix("SELinux denied name_bind on a tcp_socket of type port_t to init_t.") == true)
    #expect(denial?.advice.contains("audit2allow -M cmcagent") == true)
    #expect(SELinuxDenial(in: "avc: it was denied") == nil)
    let result = ChildResult(
      ending: .exited(1), output: [], errorOutput: Array("Job failed.\n\(log)".utf8), outputTruncated: false)
    let error = ScriptFailure(result, what: "start the agent's service", limitSeconds: 20, advice: "look").error(
      Host(name: HostName("db"), address: nil, reach: .local(root: "/r"), azureVirtualMachine: nil, position: nil),
      root: "/r")
    #expect(error.advice == denial?.advice)
    #expect(error.disposition == .needsOperator)
  }

  /// What a host says that enforces SELinux and denies the agent's start, as far as a script can play it: the label can't
  /// be set, and the program may not be run (exit 126 of the shell).
  @Test(arguments: [true, false]) func aDenialBySELinuxIsNamedWithWhereToLook(isLabelled: Bool) throws {
    let directory = NSTemporaryDirectory() + "cmc-denied-" + SystemRandom().uuid()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try FileManager.default.createDirectory(atPath: directory + "/selinux", withIntermediateDirectories: true)
    try Data("1".utf8).write(to: URL(fileURLWithPath: directory + "/selinux/enforce"))
    // Its interpreter may not be run, which the shell tells as it tells a denial.
    let agent = Array("#!/etc/passwd\n".utf8)
    let digest = String(
      decoding: try PosixChildProcesses().run(
        ChildCommand(
          executable: "/bin/sh", arguments: ["-c", "sha256sum"], environment: LocalTransport.environment, input: agent,
          timeoutSeconds: 20)
      ).output.prefix(64), as: UTF8.self)
    let script =
      "chcon() { return \(isLabelled ? 0 : 1); }\n"
      + HostScripts.install.replacing("/sys/fs/selinux", with: directory + "/selinux")
    let result = try PosixChildProcesses().run(
      ChildCommand(
        executable: "/bin/sh",
        arguments: [
          "-c", script, "cmcplan-deploy", directory + "/root", digest, "plain", digest, "0", "\(agent.count)",
        ],
        environment: LocalTransport.environment, input: agent, timeoutSeconds: 20))
    #expect(result.ending == .exited(8))
    let error = ScriptFailure(result, what: "install the agent", limitSeconds: 20, advice: nil).error(
      Host(name: HostName("db"), address: nil, reach: .local(root: "/r"), azureVirtualMachine: nil, position: nil),
      root: "/r")
    #expect(error.message.contains("may not be run (noexec, or SELinux"))
    #expect(error.message.contains("chcon -t bin_t failed there") == !isLabelled)
    #expect(error.advice.contains("ausearch -m avc -ts recent"))
    #expect(error.disposition == .needsOperator)
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory + "/root/bin").isEmpty, "nothing is left")
  }

  @Test(arguments: ["0", "1", nil]) func aFileThatCanNotBeLabelledStopsNothingAndIsSaid(enforcing: String?) throws {
    let directory = NSTemporaryDirectory() + "cmc-label-" + SystemRandom().uuid()
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try FileManager.default.createDirectory(atPath: directory + "/selinux", withIntermediateDirectories: true)
    if let enforcing {
      try Data(enforcing.utf8).write(to: URL(fileURLWithPath: directory + "/selinux/enforce"))
    }
    let agent = try Data(contentsOf: URL(fileURLWithPath: "/bin/true"))
    let digest = String(
      decoding: try PosixChildProcesses().run(
        ChildCommand(
          executable: "/bin/sh", arguments: ["-c", HostScripts.digest, "", "", "/bin/true"],
          environment: LocalTransport.environment, timeoutSeconds: 20)
      ).output, as: UTF8.self
    ).trimmed
    let script =
      "chcon() { return 1; }\n" + HostScripts.install.replacing("/sys/fs/selinux", with: directory + "/selinux")
    let result = try PosixChildProcesses().run(
      ChildCommand(
        executable: "/bin/sh",
        arguments: [
          "-c", script, "cmcplan-deploy", directory + "/root", digest, "plain", digest, "0", "\(agent.count)",
        ],
        environment: LocalTransport.environment, input: [UInt8](agent), timeoutSeconds: 20))
    #expect(result.succeeded, "\(String(decoding: result.errorOutput, as: UTF8.self))")
    #expect(String(decoding: result.output, as: UTF8.self) == (enforcing == "1" ? "unlabelled\n" : ""))
  }
}
