package import ArgumentParser
import BlockModel
import Foundation
import LinuxPlatform
import MigrationModel
import Planning
import Reconciling
import Rendering
import Seams

package struct StatusCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "status", abstract: "Show where every migration is now.")
  enum Format: String, ExpressibleByArgument, CaseIterable { case text, json, prometheus }

  @OptionGroup var plan: PlanFileOptions
  @Option(help: "text, json, or prometheus (for node_exporter's textfile collector).")
  var format = Format.text
  @Option(
    defaultAsFlag: "2s", parsing: .next,
    help: ArgumentHelp("Look again and again, every 2 s or so often, until Ctrl-C.", valueName: "duration"))
  var watch: String?
  package init() {}

  /// Shorter than this an observation of many hosts would never end before the next begins, in seconds.
  private static let leastWatchSeconds = 0.5

  package func run() async throws {
    try await reportingFailures { console in
      var every: Double?
      if let watch {
        guard let seconds = durationSeconds(watch), seconds >= Self.leastWatchSeconds else {
          throw CommandFailure("--watch \(watch) is no duration of 0.5 s or more", advice: "write 2s or 1m")
        }
        every = seconds
      }
      let opened = try OpenedPlan.open(plan, console)
      repeat {
        let text = render(opened, await opened.observe(), console)
        // One write, so that the screen is never seen empty.
        console.write(every != nil && console.style.live && format == .text ? "\u{1b}[H\u{1b}[J" + text : text)
        if let every { await opened.world.services.pause(every) }
      } while every != nil && !console.isLost
    }
  }

  private func render(_ opened: OpenedPlan, _ observation: Observation, _ console: Console) -> String {
    let options = opened.planning()
    return switch format {
    case .text:
      renderStatus(opened.plan, observation, options: options, style: console.style)
        + (ReconcileMark.last(in: opened.document.directory).map { "last reconciled \(safe($0))\n" } ?? "")
    case .json: renderStatusJSON(opened.plan, observation, options: options)
    case .prometheus: renderPrometheus(opened.plan, observation, options: options)
    }
  }
}

package struct ReadyCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "ready", abstract: "Say whether a migration could take its next move in its window: exit 0 or 1.",
    discussion: "Ask it before the window opens, while what is missing can still be had. Nothing is changed.")
  enum Format: String, ExpressibleByArgument, CaseIterable { case text, json }

  @OptionGroup var plan: PlanFileOptions
  @Argument var migration: String
  @Option(help: "text or json.")
  var format = Format.text
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      let opened = try OpenedPlan.open(plan, console)
      let name = try opened.document.migration(migration)
      guard let wanted = opened.plan.migrations[name] else { return }
      let observation = await opened.observe(only: [name])
      let checks = readiness(of: wanted, in: opened.plan, observation, options: opened.planning())
      switch format {
      case .text: console.write(renderReadiness(checks, of: name, style: console.style))
      case .json: console.write(renderReadinessJSON(checks, of: name))
      }
      if !checks.allSatisfy(\.isReady) { throw ExitCode(1) }
    }
  }
}
