package import ArgumentParser
import BlockModel
import Diagnostics
import Foundation
import LinuxPlatform
import MigrationModel
import Planning
import Reconciling
import Rendering
import Seams

package struct ObserveCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "observe", abstract: "Save what the world looks like now, for a plan without power over it.")
  @OptionGroup var plan: PlanFileOptions
  @Option(help: ArgumentHelp("Where to write the observation; - is standard output.", valueName: "file"))
  var out: String
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      let opened = try OpenedPlan.open(plan, console)
      let observation = await opened.observe()
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
      let data = try encoder.encode(observation) + Data("\n".utf8)
      if out == "-" {
        console.write(String(decoding: data, as: UTF8.self))
      } else {
        do {
          try data.write(to: URL(fileURLWithPath: out), options: .atomic)
        } catch {
          throw CommandFailure(
            "the observation can't be written to \(out)", advice: "check the directory and its space")
        }
      }
      if !observation.isComplete { throw ExitCode(1) }
    }
  }
}

package struct VersionCommand: ParsableCommand {
  package static let version = "0.1.0"
  package static let configuration = CommandConfiguration(commandName: "version", abstract: "Print the version.")
  package init() {}
  package func run() throws { print("cmcplan \(Self.version)") }
}

extension Observation {
  /// Whether nothing that the plan names was left unseen.
  var isComplete: Bool {
    clouds.values.allSatisfy(\.allFaults.isEmpty) && hosts.values.allSatisfy(\.faults.isEmpty)
  }
}

func counted(_ count: Int, _ noun: String) -> String { count == 1 ? "1 \(noun)" : "\(count) \(noun)s" }

/// Runs a command's body; what it throws goes to standard error as what happened and what to do next, with exit 1.
func reportingFailures(_ body: (Console) async throws -> Void) async throws {
  let console = Console()
  do {
    do {
      try await body(console)
    } catch {
      await OpenConnections.shared.closeAll()
      throw error
    }
    await OpenConnections.shared.closeAll()
  } catch let code as ExitCode {
    throw code
  } catch {
    console.complain(error)
    throw ExitCode(1)
  }
}
