package import ArgumentParser
import BlockModel
import LinuxPlatform
import MigrationModel
import Reconciling
import Rendering
import SSHDeploy
import Seams

package struct DiscoverCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "discover", abstract: "List hosts' block devices, and write a commented plan for them.",
    discussion: """
      A host is one of the plan's (with --file), or [USER@]ADDRESS[:PORT]. Nothing is written on it. The I/O rate is that \
      of two seconds; the change of a day is what was written since the host started, spread evenly: an upper bound.
      """)
  @Option(name: [.short, .long], help: ArgumentHelp("A plan whose hosts are meant.", valueName: "plan"))
  var file: String?
  @Argument(help: ArgumentHelp("Hosts; with --file, all of the plan where none is named.", valueName: "host"))
  var host: [String] = []
  @Flag(help: "Use sudo -n on hosts that no plan describes.")
  var sudo = false
  @Option(help: ArgumentHelp("Jump hosts, as ssh -J takes them, for hosts that no plan describes.", valueName: "hosts"))
  var jump: String?
  @Option(help: ArgumentHelp("Private key to log in with, for hosts that no plan describes.", valueName: "file"))
  var identityFile: String?
  @OptionGroup var fleet: FleetOptions
  @Option(
    help: ArgumentHelp("Write a plan for what was found there; a file that exists is not replaced.", valueName: "file"))
  var out: String?
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      if let out, Files.exists(out) {
        throw CommandFailure("\(out) exists already", advice: "choose another file, or move that one away")
      }
      let hosts = try chosenHosts(console)
      let deployer = World.deployer()
      var found: [(host: Host, survey: BlockSurvey)] = []
      let failed = await onEach(hosts, parallelism: fleet.parallelism) { host in
        await outcome { () async throws(GatewayError) -> BlockSurvey in try await deployer.survey(of: host) }
      } report: { host, result in
        switch result {
        case .success(let survey): found.append((host, survey))
        case .failure(let error): console.complain(error)
        }
      }
      found.sort { $0.host.name < $1.host.name }
      for (host, survey) in found {
        console.write(renderDevices(host.name.text, survey.devices.map(Self.row), style: console.style) + "\n")
      }
      if let out, !found.isEmpty {
        let text = DiscoveredPlan.text(found.map { ($0.host, $0.survey) }, planID: SystemRandom().uuid())
        do throws(SystemError) {
          try await Self.write(text, to: out)
        } catch {
          throw CommandFailure("the plan can't be written: \(error)", advice: "check the directory and its space")
        }
        console.write("wrote \(out); fill in what is marked, then: cmcplan validate -f \(out)\n")
      }
      if !failed.isEmpty { throw ExitCode(1) }
    }
  }

  private static func write(_ text: String, to path: String) async throws(SystemError) {
    do {
      try await onBlockingThread { try Files.replace(path, with: Array(text.utf8), mode: 0o644) }
    } catch let error as SystemError {
      throw error
    } catch {
      throw SystemError("write \(path)", because: "\(error)")
    }
  }

  private func chosenHosts(_ console: Console) throws -> [Host] {
    if let file {
      var options = try PlanFileOptions.parse([])
      options.file = [file]
      return try PlanDocument.load(options, console: console).hosts(host)
    }
    guard !host.isEmpty else {
      throw CommandFailure("no host is named", advice: "name hosts, as in root@192.0.2.10, or a plan with --file")
    }
    return try host.map { text in
      guard let host = DiscoveredPlan.host(text, sudo: sudo, jump: jump, identityFile: identityFile) else {
        throw CommandFailure("\(text) is not [USER@]ADDRESS[:PORT]", advice: "write it as in root@192.0.2.10:22")
      }
      return host
    }
  }

  static func row(_ device: BlockSurvey.Device) -> DeviceRow {
    DeviceRow(
      path: device.path + (device.isStable ? "" : " (may move)"), type: device.type, sizeBytes: device.sizeBytes,
      content: [device.fileSystem, device.label].filter { !$0.isEmpty }.joined(separator: " "),
      use: device.mountedAt.joined(separator: ", "), readBytesPerSecond: device.readBytesPerSecond,
      writtenBytesPerSecond: device.writtenBytesPerSecond, writtenBytesPerDay: device.writtenBytesPerDay,
      verdict: device.obstacle.map { "no: \($0)" } ?? device.tracking)
  }
}
