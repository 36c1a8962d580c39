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
import Synchronization

package struct ApplyCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "apply",
    abstract: "Close the difference between the plan and the world.",
    discussion: """
      Exits 0 when every migration is where the plan wants it, 3 while replication still runs, 4 when a window, an \
      approval or a hold is in the way, 1 when something failed. It may be killed and run again at any time. With \
      --reconcile-every it stays, reads the plan anew each round, and ends with the last round's exit code at Ctrl-C or SIGTERM.
      """)
  enum Format: String, ExpressibleByArgument, CaseIterable { case text, json }

  @Argument(help: "What cmcplan plan --out saved: exactly that is carried out, without a question, or nothing.")
  var file: String?
  @OptionGroup var plan: PlanFileOptions
  @OptionGroup var selection: SelectionOptions
  @Flag(help: "Don't ask.")
  var autoApprove = false
  @Option(
    defaultAsFlag: "forever", parsing: .next,
    help: ArgumentHelp("Stay until the target is reached, or so long: 90s, 30m, 12h.", valueName: "duration"))
  var wait: String?
  @Option(
    help: ArgumentHelp(
      "Stay, and apply the plan as it is then again and again, until Ctrl-C or SIGTERM. Needs --auto-approve.",
      valueName: "duration"))
  var reconcileEvery: String?
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
      let saved = try file.map(SavedFile.read)
      if saved != nil, !selection.isEmpty {
        throw CommandFailure(
          "a saved change set says itself which migrations it is for", advice: "plan again with these options and --out"
        )
      }
      guard let seconds = try reconcileSeconds() else {
        throw ExitCode(try await applyOnce(saved, policy, console, nil))
      }
      let loop = ReconcileLoop(intervalSeconds: seconds, console: console)
      let code = await Interruptions.watching(
        lastWords: { console.complain(Self.lastWords) }, { loop.stopping.interrupt() },
        { await loop.run { try await applyOnce(nil, policy, console, loop) } })
      throw ExitCode(code)
    }
  }

  /// Once, or one round of `loop`.
  private func applyOnce(
    _ saved: SavedFile?, _ policy: WaitPolicy, _ console: Console, _ loop: ReconcileLoop?
  ) async throws -> Int32 {
    let document = try PlanDocument.load(plan, console: console)
    let chosen = try Chosen(selection, saved, document)
    let progress = Progress(console: console, format: format == .json ? .json : .text)
    // A round that finds nothing to do leaves no journal: there would be hundreds a day.
    let journal = try RunJournal(beside: document, isQuiet: loop != nil)
    let world = try World.make(
      document, withClouds: true, journal: journal, console: console, report: { progress.show($0) })
    let opened = OpenedPlan(document: document, world: world)
    let first = await opened.observe(only: chosen.only, prunes: chosen.prunes)
    let whole = chosen.prunes ? document.plan.withDeparted(in: first) : document.plan
    world.notifier?.see(first)
    let options = opened.planning(
      only: chosen.only, overwrite: chosen.overwrite, replace: chosen.replace, maxMoves: chosen.maxMoves,
      origin: saved == nil ? .applied : .saved)
    let now = options.now
    let changes = diff(whole, first, options: options)
    if let saved { try refuseStale(saved, changes, first, whole, document) }
    if format == .text {
      // Without its first line, which has the time.
      let text = renderText(changes, style: console.style)
      if loop?.isNews(String(text.drop { $0 != "\n" })) ?? true { console.write(text) }
    }
    var isApprovedNow = false
    if saved == nil, !autoApprove, let question = Approving(changes) {
      try question.ask(console)
      isApprovedNow = try await question.askForOneWaySteps(console, opened)
    }
    if changes.isActionable { keep(changes, first, options, chosen.prunes, world, journal, document, console) }
    let apply = ApplyRun(
      plan: whole, gateways: world.gateways,
      options: ApplyOptions(
        parallelism: parallelism, wait: policy, only: chosen.only, overwrite: chosen.overwrite, replace: chosen.replace,
        stealLease: stealLease, isGone: LeaseHolder.isDead, maxMoves: chosen.maxMoves,
        guardrails: options.guardrails, reviewed: saved.map { ReviewedSteps($0.content.changes) },
        holder: LeaseHolder.describe(who: world.who, runID: journal.runID)),
      services: world.services)
    // An approval given just now is not in what was seen before it.
    let start = isApprovedNow ? nil : first
    let summary = await progress.ticking {
      if let loop { return await loop.stopping.passing(to: apply) { await apply.run(from: start) } }
      return await Interruptions.watching(lastWords: { console.complain(Self.lastWords) }, { apply.interrupt() }) {
        await apply.run(from: start)
      }
    }
    await world.finish()
    let end = "\(rendered(world.services.time.wallNow())) by \(world.who), exit \(summary.exitCode)"
    ReconcileMark.note(end, in: document.directory)
    if let saved {
      SavedFile.noteApplication(
        of: saved.digest, in: document.directory,
        "Applied \(rendered(now)) by \(world.who), run \(journal.runID), exit \(summary.exitCode).")
    }
    if format == .text {
      let text = renderSummary(summary, style: console.style)
      if loop == nil || summary.stepsDone > 0 || !changes.isNoOp { console.write(text) }
    }
    return summary.exitCode
  }

  private func keep(
    _ changes: ChangeSet, _ seen: Observation, _ options: PlanningOptions, _ prunes: Bool, _ world: World,
    _ journal: RunJournal, _ document: PlanDocument, _ console: Console
  ) {
    do {
      try journal.keep(
        SavedChangeSet(
          program: VersionCommand.version, savedAt: options.now, savedBy: world.who, only: options.only,
          maxMoves: options.maxMoves, overwrite: options.overwrite, replace: options.replace, prune: prunes,
          changes: changes, observation: seen, surroundings: document.surroundings(of: changes)))
    } catch {
      console.complain("note: what this run decided on can't be kept for replay: \(error)\n")
    }
  }

  /// What the run is about: a saved change set says it itself.
  private struct Chosen {
    var only: Set<MigrationName>?
    var overwrite: Set<VolumeKey>
    var replace: Set<VolumeKey>
    var maxMoves: Int?
    var prunes: Bool

    init(_ selection: SelectionOptions, _ saved: SavedFile?, _ document: PlanDocument) throws {
      only = try saved.map { $0.content.only.map(Set.init) } ?? selection.migrations(of: document)
      overwrite = try saved.map { Set($0.content.overwrite) } ?? selection.overwritten(in: document)
      replace = try saved.map { Set($0.content.replace ?? []) } ?? selection.replaced(in: document)
      maxMoves = saved.map(\.content.maxMoves) ?? selection.maxMoves
      prunes = saved.map { $0.content.prune ?? false } ?? selection.prune
    }
  }

  /// Nil: once.
  func reconcileSeconds() throws -> Double? {
    guard let reconcileEvery else { return nil }
    guard let seconds = durationSeconds(reconcileEvery), seconds >= ReconcilePace.leastSeconds else {
      throw CommandFailure(
        "--reconcile-every \(reconcileEvery) is no duration of \(Int(ReconcilePace.leastSeconds)) s or more",
        advice: "write 90s, 5m or 1h")
    }
    let others = [
      ("a saved change set", file != nil), ("--wait", wait != nil), ("--steal-lease", stealLease),
      ("--overwrite", !selection.overwrite.isEmpty), ("--replace", !selection.replace.isEmpty),
      ("--prune", selection.prune),
    ]
    if let (what, _) = others.first(where: \.1) {
      throw CommandFailure(
        "\(what) is for one run, and --reconcile-every makes many", advice: "apply once with it, then reconcile without"
      )
    }
    guard autoApprove else {
      throw CommandFailure(
        "--reconcile-every asks nobody, round after round",
        advice: "add --auto-approve; one-way steps still wait for cmcplan approve, where approval: manual")
    }
    return seconds
  }

  /// Exactly what was saved, or nothing.
  private func refuseStale(
    _ saved: SavedFile, _ changes: ChangeSet, _ first: Observation, _ plan: MigrationPlan, _ document: PlanDocument
  ) throws {
    guard saved.content.program == VersionCommand.version else {
      throw CommandFailure(
        "the change set was made by cmcplan \(saved.content.program), this is \(VersionCommand.version)",
        advice: "plan again with this one, or apply with the other")
    }
    let moved = saved.content.moved(
      changes, first, plan: plan, surroundings: document.surroundings(of: changes))
    guard !moved.isEmpty else { return }
    let applied = SavedFile.application(of: saved.digest, in: document.directory)
    throw CommandFailure(
      "\(file ?? "the change set") is not what there is to do any more; nothing was changed"
        + (applied.map { "\n  it was applied before: \($0)" } ?? "")
        + moved.prefix(Self.shownDifferences).map { "\n  - \($0)" }.joined()
        + (moved.count > Self.shownDifferences ? "\n  - … and \(moved.count - Self.shownDifferences) more" : ""),
      advice: "review cmcplan plan, and save it anew with --out")
  }

  private static let shownDifferences = 20

  private static let lastWords = """

    Stopped at once. Leases may be left with the agents: the next apply on this machine takes them over, one elsewhere \
    waits for about two minutes. Nothing else is left half-done: it goes on from what it finds.

    """

  private func waitPolicy() throws -> WaitPolicy {
    guard let wait else { return .no }
    if wait == "forever" { return .untilReached }
    guard let seconds = durationSeconds(wait) else {
      throw CommandFailure("--wait \(wait) is no duration", advice: "write 90s, 30m or 12h, or --wait alone")
    }
    return .upTo(seconds: seconds)
  }
}

/// What an interactive apply asks before it acts.
private struct Approving {
  private let changes: ChangeSet

  /// Nil where there is nothing to ask: nothing could be done, and nothing waits for a word from here.
  init?(_ changes: ChangeSet) {
    self.changes = changes
    guard changes.isActionable || !Self.unapproved(changes).isEmpty else { return nil }
  }

  /// Migrations that only an approval holds back, and that have sessions to store it with.
  private static func unapproved(_ changes: ChangeSet) -> [MigrationChanges] {
    changes.migrations.filter { entry in
      guard !entry.diagnostics.hasErrors, let first = entry.waiting.first, case .approval = first.reason else {
        return false
      }
      return entry.reached == .reached(.synchronized) || entry.reached == .reached(.cmotion)
    }
  }

  func ask(_ console: Console) throws {
    guard console.canAsk else {
      guard changes.isActionable else { return }
      throw CommandFailure(
        "there is no terminal to ask for approval on; nothing was changed",
        advice: "review cmcplan plan, then run apply with --auto-approve")
    }
    guard changes.isActionable else { return }
    let answer = console.ask("\nCarry this out? Only \"yes\" is taken for a yes: ")
    guard answer?.trimmingCharacters(in: .whitespaces) == "yes" else {
      console.complain("Not approved; nothing was changed.\n")
      throw ExitCode(1)
    }
  }

  /// Asks for the typed name of each migration whose one-way step nobody approved; true where one was approved.
  func askForOneWaySteps(_ console: Console, _ opened: OpenedPlan) async throws -> Bool {
    guard console.canAsk else { return false }
    var isAnyApproved = false
    for entry in Self.unapproved(changes) {
      let name = entry.migration
      let answer = console.ask(
        "\nThe way of \(name) to \(entry.target.rawValue) holds a one-way step. Type \(name) to approve it for 24 h, "
          + "or press Enter to leave it waiting: ")
      guard answer?.trimmingCharacters(in: .whitespaces) == name.text else {
        console.say("\(name) goes as far as it can without it.")
        continue
      }
      try await opened.operations.approve(name, phase: .finalized, expiresInSeconds: Self.approvalSeconds)
      isAnyApproved = true
    }
    return isAnyApproved
  }

  private static let approvalSeconds = 24.0 * 3600
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
  /// How often the lines of what runs are drawn anew on a terminal, in seconds.
  private static let tickSeconds = 1.0

  private let console: Console
  private let renderer: Mutex<ProgressRenderer>
  private let time = SystemTime()

  init(console: Console, format: ProgressRenderer.Format) {
    self.console = console
    renderer = Mutex(ProgressRenderer(format: format, style: console.style))
  }

  func show(_ event: ProgressEvent) {
    draw { renderer in renderer.render(event, at: time.monotonicNow()) }
  }

  /// Takes the lines of what runs off the terminal again.
  func clear() { draw { $0.clear() } }

  private func draw(_ body: (inout ProgressRenderer) -> String) {
    renderer.withLock { renderer in
      if console.style.live, let size = Terminal.size(of: .output) {
        renderer.fit(columns: size.columns, rows: size.rows)
      }
      console.write(body(&renderer))
    }
  }

  /// Runs `body` while the time that steps have taken goes on on the terminal.
  func ticking<Result: Sendable>(_ body: () async -> Result) async -> Result {
    guard console.style.live else { return await body() }
    let ticker = Task {
      while !Task.isCancelled {
        try? await TaskPause().pause(seconds: Self.tickSeconds)
        if !Task.isCancelled { draw { $0.redraw(at: time.monotonicNow()) } }
      }
    }
    defer { ticker.cancel() }
    return await body()
  }
}
