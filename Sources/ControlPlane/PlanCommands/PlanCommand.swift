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

enum ChangeSetFormat: String, ExpressibleByArgument, CaseIterable {
  case text
  case json
  case markdown
  case dot
  case mermaid

  func render(_ changes: ChangeSet, style: TextStyle) -> String {
    switch self {
    case .text: renderText(changes, style: style)
    case .json: renderJSON(changes)
    case .markdown: renderMarkdown(changes)
    case .dot: renderDot(changes)
    case .mermaid: renderMermaid(changes)
    }
  }
}

package struct PlanCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "plan", abstract: "Show what apply would do, and what it costs.",
    discussion: """
      Exits 0, or 1 on an error; with --detailed-exitcode 0 where there is nothing to do and 2 where there are changes. \
      With --out the change set is saved: cmcplan show FILE shows it, cmcplan apply FILE carries out exactly that.
      """)

  @OptionGroup var plan: PlanFileOptions
  @OptionGroup var selection: SelectionOptions
  @Flag(help: "Exit 2 where there are changes, 0 where there are none.")
  var detailedExitcode = false
  @Option(help: "text, json, markdown (for a pull request), dot or mermaid.")
  var format = ChangeSetFormat.text
  @Flag(help: "Exit 0 though some part of the world could not be observed.")
  var allowPartial = false
  @Flag(
    help:
      "Only what changed in the world: what it takes to hold every migration where it is, whatever the plan wants next."
  )
  var refreshOnly = false
  @Option(help: ArgumentHelp("Save the change set, with the observation that it rests on.", valueName: "file"))
  var out: String?
  @Option(
    help: ArgumentHelp(
      "Plan against what cmcplan observe saved: needs no credential and no network.", valueName: "file"))
  var observation: String?
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      guard !refreshOnly || out == nil else {
        throw CommandFailure(
          "with --refresh-only there is nothing to save: it is not what apply would do", advice: "plan without it")
      }
      guard !refreshOnly || !selection.prune else {
        throw CommandFailure(
          "--refresh-only looks at what is in the document, and --prune at what left it", advice: "give one of them")
      }
      let opened = try OpenedPlan.open(plan, console, withClouds: observation == nil)
      let selected = try selection.migrations(of: opened.document)
      let seen: Observation
      if let observation {
        seen = try Self.saved(observation, for: opened.document)
      } else {
        seen = await opened.observe(only: selected, prunes: selection.prune)
      }
      let options = opened.planning(
        only: selected, overwrite: try selection.overwritten(in: opened.document),
        replace: try selection.replaced(in: opened.document), maxMoves: selection.maxMoves)
      let whole = selection.prune ? opened.plan.withDeparted(in: seen) : opened.plan
      let changes = refreshOnly ? drift(whole, seen, options: options) : diff(whole, seen, options: options)
      if format == .text, observation != nil,
        options.now.secondsSince1970 - seen.observedAt.secondsSince1970 > Self.oldSeconds
      {
        console.complain("note: the observation is of \(rendered(seen.observedAt)); the world may have moved since\n")
      }
      if refreshOnly, format == .text {
        console.complain("note: only what changed in the world, whatever the plan wants next\n")
      }
      if refreshOnly, format == .text, changes.isNoOp {
        console.write("Nothing changed in the world: everything is as it was left.\n")
      } else {
        console.write(format.render(changes, style: console.style))
      }
      try save(changes, seen, options, opened, console)
      throw ExitCode(exitCode(changes, seen))
    }
  }

  /// How old an observation may be before it is said, in seconds.
  private static let oldSeconds = 3600.0
  /// The largest observation that is read, in bytes: as a saved change set, which holds one.
  private static let observationLimitBytes = SavedFile.sizeLimitBytes

  private static func saved(_ path: String, for document: PlanDocument) throws -> Observation {
    let bytes = try PlanFiles.contents(
      of: path, what: "the observation", limitBytes: observationLimitBytes,
      split: "observe fewer migrations in one plan")
    guard let observation = try? JSONDecoder().decode(Observation.self, from: Data(bytes)) else {
      throw CommandFailure("\(path) is no observation", advice: "make it with cmcplan observe --out FILE")
    }
    guard observation.version == Observation.currentVersion else {
      throw CommandFailure(
        "\(path) has version \(observation.version), and this cmcplan reads \(Observation.currentVersion)",
        advice: "observe again with this cmcplan")
    }
    guard observation.plan == document.plan.metadata.id else {
      throw CommandFailure(
        "\(path) was taken for plan \(observation.plan), this one is \(document.plan.metadata.id)",
        advice: "observe with this plan")
    }
    return observation.named(for: document.plan)
  }

  private func save(
    _ changes: ChangeSet, _ seen: Observation, _ options: PlanningOptions, _ opened: OpenedPlan, _ console: Console
  ) throws {
    guard let out else { return }
    if changes.hasErrors, !allowPartial {
      throw CommandFailure("a change set with errors isn't saved", advice: "mend what is said above, and plan again")
    }
    let file = try SavedFile.write(
      SavedChangeSet(
        program: VersionCommand.version, savedAt: opened.world.services.time.wallNow(),
        savedBy: opened.world.who, only: options.only,
        maxMoves: options.maxMoves, overwrite: options.overwrite, replace: options.replace, prune: selection.prune,
        changes: changes, observation: seen, surroundings: opened.document.surroundings(of: changes)), to: out)
    console.complain(
      "saved \(out) (\(file.digest.prefix(19))…)" + (changes.isNoOp ? ": no changes" : "")
        + "\n  next: cmcplan show \(shellQuoted(out)), cmcplan apply \(shellQuoted(out))\(plan.repeated)\n")
  }

  private func exitCode(_ changes: ChangeSet, _ observation: Observation) -> Int32 {
    let isPartial = !observation.isComplete
    if changes.hasErrors && !(isPartial && allowPartial) { return 1 }
    if isPartial && !allowPartial { return 1 }
    return detailedExitcode && !changes.isNoOp ? 2 : 0
  }
}

package struct ShowCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Show a saved change set: what was planned, when and by whom, and whether it was applied.")
  @Argument(help: "What cmcplan plan --out saved.")
  var file: String
  @Option(help: "text, json, markdown, dot or mermaid.")
  var format = ChangeSetFormat.text
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      let saved = try SavedFile.read(file)
      console.write(format.render(saved.content.changes, style: console.style))
      guard format == .text else { return }
      let content = saved.content
      console.say("")
      console.say("Saved \(rendered(content.savedAt)) by \(content.savedBy) with cmcplan \(content.program)")
      console.say(saved.digest)
      if let only = content.only { console.say("Only \(only.map(\.text).joined(separator: ", ")).") }
      if let applied = SavedFile.application(of: saved.digest, in: FileManager.default.currentDirectoryPath) {
        console.say(applied)
      }
    }
  }
}
