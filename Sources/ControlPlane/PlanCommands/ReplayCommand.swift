package import ArgumentParser
import BlockModel
import Diagnostics
import Foundation
import MigrationModel
import Planning
import Reconciling
import Rendering

package struct ReplayCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "replay",
    abstract: "Show a run step by step, and decide again, offline, what it decided: exit 1 where that differs.",
    discussion: """
      Nothing is contacted and nothing is carried out. The plan is the one that is named with --file, so an edit since then \
      shows as a difference. A directory is one of runs/ of an unpacked support bundle.
      """)
  @OptionGroup var plan: PlanFileOptions
  @Argument(
    help: ArgumentHelp(
      "A run as history names it, \"last\", or a directory that holds a journal.jsonl.", valueName: "run"))
  var run = "last"
  @Flag(help: "Only what is decided again, not the steps.")
  var decisionOnly = false
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      let document = try PlanDocument.load(plan, console: console)
      let records = RunRecords(beside: document)
      let place: String
      if run.contains("/") || FileManager.default.fileExists(atPath: "\(run)/\(RunRecords.journalFile)") {
        place = run
      } else if let name = run == "last" ? records.names.last : records.names.first(where: { $0 == run }) {
        place = records.place(of: name)
      } else {
        throw CommandFailure("there is no journal of run \(run)", advice: "cmcplan history lists those there are")
      }
      let name = (place as NSString).lastPathComponent
      if !decisionOnly {
        guard FileManager.default.fileExists(atPath: "\(place)/\(RunRecords.journalFile)") else {
          throw CommandFailure("\(place) holds no journal.jsonl", advice: "name a directory of runs/")
        }
        console.write(renderRun(RunRecords(directory: place).read(".", as: name, console), style: console.style))
      }
      let file = "\(place)/\(RunJournal.decidedFile)"
      guard FileManager.default.fileExists(atPath: file) else {
        console.say("\nWhat it decided on was not kept: it found nothing to do, or is of an older cmcplan.")
        return
      }
      try decide(try SavedFile.read(file).content, document, console)
    }
  }

  private func decide(_ kept: SavedChangeSet, _ document: PlanDocument, _ console: Console) throws {
    let differences = redecide(kept, document)
    let steps = kept.changes.migrations.reduce(0) { $0 + $1.actionable.count }
    console.say(
      "\nDecided \(rendered(kept.savedAt)) by \(kept.savedBy) with cmcplan \(kept.program): "
        + "\(counted(steps, "step")) to do then, of \(counted(kept.changes.migrations.count, "migration"))")
    if kept.program != VersionCommand.version {
      console.say("This is cmcplan \(VersionCommand.version), which may decide otherwise.")
    }
    guard !differences.isEmpty else {
      console.say("Decided again from the same observation: the same.")
      return
    }
    console.say("Decided again from the same observation: \(counted(differences.count, "difference")).")
    for line in differences { console.say("  - \(line)") }
    throw ExitCode(1)
  }
}

/// What this cmcplan would decide otherwise than the run did, from what the run saw, at the time at which it did; empty where
/// nothing. Pure.
func redecide(_ kept: SavedChangeSet, _ document: PlanDocument) -> [String] {
  // Whether the run applied a saved change set isn't kept, and matters only to guardrails on one-way steps.
  let both = [ChangeSetOrigin.applied, .saved].map { redecide(kept, document, origin: $0) }
  return both.min { $0.count < $1.count } ?? []
}

private func redecide(_ kept: SavedChangeSet, _ document: PlanDocument, origin: ChangeSetOrigin) -> [String] {
  let seen = kept.observation.named(for: document.plan)
  let options = PlanningOptions(
    only: kept.only.map(Set.init), overwrite: Set(kept.overwrite), replace: Set(kept.replace ?? []),
    maxMoves: kept.maxMoves, guardrails: document.guardrails?.limits, origin: origin, now: kept.savedAt,
    digest: sha256)
  let plan = kept.prune == true ? document.plan.withDeparted(in: seen) : document.plan
  let fresh = diff(plan, seen, options: options)
  var lines = kept.moved(fresh, seen, plan: plan, surroundings: document.surroundings(of: fresh))
  // What held a step back is a decision too.
  let new = Dictionary(fresh.migrations.map { ($0.migration, $0) }) { first, _ in first }
  for entry in kept.changes.migrations {
    let (before, after) = (entry.waiting.map(\.message), new[entry.migration]?.waiting.map(\.message) ?? [])
    if before != after, new[entry.migration] != nil {
      lines.append(
        "\(entry.migration): it waited for \(words(before)), it would wait for \(words(after))")
    }
  }
  return lines
}

private func words(_ waiting: [String]) -> String { waiting.isEmpty ? "nothing" : waiting.joined(separator: ", ") }
