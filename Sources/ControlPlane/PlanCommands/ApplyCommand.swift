package import ArgumentParser
import BlockModel
import Foundation
import LinuxPlatform
import Planning
import Reconciling
import Rendering
import Seams
import Synchronization

package struct ApplyCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "apply",
    abstract: "Close the difference between the plan and the world.",
    discussion: """
      Exits 0 when every migration is where the plan wants it, 3 while replication still runs, 4 when a window, an \
      approval or a hold is in the way, 1 when something failed. It may be killed and run again at any time.
      """)
  enum Format: String, ExpressibleByArgument, CaseIterable { case text, json }

  @OptionGroup var plan: PlanFileOptions
  @Flag(help: "Don't ask.")
  var autoApprove = false
  @Option(help: ArgumentHelp("Only this migration. May be given many times.", valueName: "migration"))
  var only: [String] = []
  @Option(
    defaultAsFlag: "forever", parsing: .next,
    help: ArgumentHelp("Stay until the target is reached, or so long: 90s, 30m, 12h.", valueName: "duration"))
  var wait: String?
  @Option(help: ArgumentHelp("At most so many steps at once.", valueName: "n"))
  var parallelism = 10
  @Flag(help: "Take a migration over from another apply that holds it. Make sure first that the other one is dead.")
  var stealLease = false
  @Option(help: "text or json.")
  var format = Format.text
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      guard parallelism >= 1 else {
        throw CommandFailure("--parallelism \(parallelism) lets nothing run", advice: "give 1 or more")
      }
      let policy = try waitPolicy()
      let document = try PlanDocument.load(plan, console: console)
      let selected = only.isEmpty ? nil : Set(try only.map(document.migration))
      let progress = Progress(console: console, format: format == .json ? .json : .text)
      let journal = try RunJournal(beside: document)
      let world = try World.make(
        document, withClouds: true, journal: journal, console: console, report: { progress.show($0) })
      let first = await ObserveRun(plan: document.plan, gateways: world.gateways, services: world.services).observe()
      let changes = diff(
        document.plan, first,
        options: PlanningOptions(only: selected, now: world.services.time.wallNow(), digest: sha256))
      if format == .text { console.write(renderText(changes, style: console.style)) }
      if changes.isActionable { try approve(changes, console: console) }
      let apply = ApplyRun(
        plan: document.plan, gateways: world.gateways,
        options: ApplyOptions(
          parallelism: parallelism, wait: policy, only: selected,
          stealLease: stealLease
            || LeaseHolder.areAllDead(in: first, selected: selected, now: world.services.time.wallNow()),
          holder: LeaseHolder.describe(who: world.who, runID: journal.runID)),
        services: world.services)
      let summary = await Interruptions.watching({ apply.interrupt() }) { await apply.run(from: first) }
      progress.end()
      if format == .text { console.write(renderSummary(summary, style: console.style)) }
      throw ExitCode(summary.exitCode)
    }
  }

  private func waitPolicy() throws -> WaitPolicy {
    guard let wait else { return .no }
    if wait == "forever" { return .untilReached }
    guard let seconds = durationSeconds(wait) else {
      throw CommandFailure("--wait \(wait) is no duration", advice: "write 90s, 30m or 12h, or --wait alone")
    }
    return .upTo(seconds: seconds)
  }

  private func approve(_ changes: ChangeSet, console: Console) throws {
    if autoApprove { return }
    guard console.canAsk else {
      throw CommandFailure(
        "there is no terminal to ask for approval on; nothing was changed",
        advice: "review cmcplan plan, then run apply with --auto-approve")
    }
    let answer = console.ask("\nCarry this out? Only \"yes\" is taken for a yes: ")
    guard answer?.trimmingCharacters(in: .whitespaces) == "yes" else {
      console.complain("Not approved; nothing was changed.\n")
      throw ExitCode(1)
    }
  }
}

/// "90s", "30m", "12h", "2d" in seconds; nil for anything else.
func durationSeconds(_ text: String) -> Double? {
  let units: [Character: Double] = ["s": 1, "m": 60, "h": 3600, "d": 86400]
  guard let unit = text.last.flatMap({ units[$0] }), let number = Double(text.dropLast()), number >= 0,
    number.isFinite
  else { return nil }
  return number * unit
}

/// What a run reports, turned into text by the renderer and written in order.
final class Progress: Sendable {
  private let console: Console
  private let renderer: Mutex<ProgressRenderer>
  private let time = SystemTime()

  init(console: Console, format: ProgressRenderer.Format) {
    self.console = console
    renderer = Mutex(ProgressRenderer(format: format, style: console.style))
  }

  func show(_ event: ProgressEvent) {
    renderer.withLock { renderer in console.write(renderer.render(event, at: time.monotonicNow())) }
  }

  func end() {}
}
