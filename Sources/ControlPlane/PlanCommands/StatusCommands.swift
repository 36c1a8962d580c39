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
    discussion: """
      Ask it before the window opens, while what is missing can still be had. Nothing is changed. Hooks are not run: their \
      placeholders are filled, the shell reads them, and their programs are looked for on the host. A migration of a group \
      answers for all of it.
      """)
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
      // One of a group that is not ready keeps all of it.
      let names = opened.plan.group(of: name)?.migrations.sorted() ?? [name]
      let observation = await opened.observe(only: Set(names))
      let hooks = HookReadiness(plan: opened.plan, hosts: opened.world.gateways.hosts)
      var isReady = true
      for name in names {
        guard let wanted = opened.plan.migrations[name] else { continue }
        var checks = readiness(of: wanted, in: opened.plan, observation, options: opened.planning())
        if wanted.cutover.phase.value >= .finalized { checks += await hooks.checks(of: wanted, observation) }
        switch format {
        case .text:
          if names.count > 1 { console.say("\(name)") }
          console.write(renderReadiness(checks, of: name, style: console.style) + (name == names.last ? "" : "\n"))
        case .json: console.write(renderReadinessJSON(checks, of: name))
        }
        isReady = isReady && checks.allSatisfy(\.isReady)
      }
      if !isReady { throw ExitCode(1) }
    }
  }
}
