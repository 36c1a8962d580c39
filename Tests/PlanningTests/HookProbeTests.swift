import AgentProtocol
import BlockModel
import Foundation
import MigrationModel
import Testing

@testable import Planning

@Suite struct HookProbeTests {
  private func probes(_ hooks: [HookPoint: String], _ stage: SessionStage? = .tracking) -> [HookProbe] {
    var plan = samplePlan(.finalized)
    for (point, run) in hooks {
      plan.erp.cutover.hooks[point] = Hook(host: nil, run: run, timeoutSeconds: 60, position: nil)
    }
    let world = stage.map { liveObservation(plan, $0) } ?? bareObservation(plan)
    return HookProbe.probes(of: plan.erp, MigrationFacts(plan.erp, in: plan, world))
  }

  /// As a host would, but for the host.
  private func run(_ command: String) throws -> (code: Int32, output: String) {
    let shell = Process()
    shell.executableURL = URL(filePath: "/bin/sh")
    shell.arguments = ["-c", command]
    let pipe = Pipe()
    shell.standardOutput = pipe
    shell.standardError = pipe
    try shell.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    shell.waitUntilExit()
    return (shell.terminationStatus, String(decoding: output, as: UTF8.self))
  }

  @Test func hooksAreLookedAtInTheirOrderOnTheirHosts() {
    let found = probes([.mount: "mount {device:data} /data", .stopApplication: "systemctl stop app"])
    #expect(found.map(\.point) == [.stopApplication, .mount])
    #expect(found.map(\.host) == [HostName("db"), HostName("db-azure")])
    #expect(found.flatMap(\.unfilled) == [])
    #expect(found[1].command.contains("/dev/lun0"))
  }

  @Test func whatHasNoValueYetIsNamed() {
    #expect(
      probes([.mount: "mount {device:data} {lun:data} {device:log}"], nil).map(\.unfilled) == [
        ["{device:data}", "{lun:data}", "{device:log}"]
      ])
  }

  @Test func aHookThatCouldBeginIsNotRun() throws {
    let mark = NSTemporaryDirectory() + "cmc-hook-\(UUID().uuidString)"
    let probe = try #require(probes([.unmount: "touch \(mark)"]).first)
    let seen = try run(probe.command)
    #expect(seen.code == 0, "\(seen.output)")
    #expect(!FileManager.default.fileExists(atPath: mark))
  }

  @Test func whatTheShellCanNotReadIsSaid() throws {
    let probe = try #require(probes([.unmount: "if true; then echo 'it'\"s"]).first)
    #expect(try run(probe.command).code == 1)
  }

  @Test func aProgramThatIsNotThereIsNamed() throws {
    let probe = try #require(probes([.unmount: "LANG=C no-such-program --now"]).first)
    let seen = try run(probe.command)
    #expect(seen.code == 1)
    #expect(seen.output.contains("there is no program no-such-program"))
  }

  @Test func whatOnlyTheShellCanTellIsLeftToIt() {
    #expect(HookProbe.program(of: "A=1 B_2=x /usr/bin/true now") == "/usr/bin/true")
    #expect(HookProbe.program(of: "$PROGRAM now") == nil)
    #expect(HookProbe.program(of: "(cd / && ls)") == nil)
    #expect(HookProbe.program(of: "A=1") == nil)
    #expect(HookProbe.program(of: "") == nil)
  }
}
