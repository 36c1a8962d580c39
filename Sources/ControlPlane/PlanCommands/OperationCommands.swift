package import ArgumentParser
import BlockModel
import Foundation
import MigrationModel
import Planning
import Reconciling
import Rendering

package struct ApproveCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "approve",
    abstract: "Approve a one-way step: stored with both agents, void once the migration changes.")
  @OptionGroup var plan: PlanFileOptions
  @Argument(help: ArgumentHelp("What to approve, as in erp-db:finalized.", valueName: "migration:phase"))
  var subject: String
  @Option(help: ArgumentHelp("How long the approval holds, as in 24h.", valueName: "duration"))
  var expires: String?
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      let parts = subject.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
      guard parts.count == 2, let phase = Phase(rawValue: parts[1]) else {
        throw CommandFailure(
          "\(subject) is not MIGRATION:PHASE", advice: "write, for instance, cmcplan approve erp-db:finalized")
      }
      let seconds = expires.map { durationSeconds($0) }
      if case .some(.none) = seconds {
        throw CommandFailure("--expires \(expires ?? "") is no duration", advice: "write 90s, 30m, 12h or 7d")
      }
      try await operate(plan, parts[0], console) { [expires] operations, name throws(GatewayError) in
        try await operations.approve(name, phase: phase, expiresInSeconds: seconds ?? nil)
        return .said("approved \(name) for \(phase.rawValue)" + (expires.map { ", for \($0)" } ?? ""))
      }
    }
  }
}

package struct ConfirmCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "confirm", abstract: "Confirm a cMotion, so that the agents don't revert it by themselves.",
    discussion: "A group is confirmed as a whole, by any of its migrations, once all of it has swung.")
  @OptionGroup var plan: PlanFileOptions
  @Argument var migration: String
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      try await operate(plan, migration, console) { operations, name throws(GatewayError) in
        try await operations.confirm(name)
      }
    }
  }
}

package struct PauseCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "pause", abstract: "Set a hold that apply never crosses; what replicates goes on.",
    discussion: "One host that answers is enough: a hold that either agent keeps stops every apply.")
  @OptionGroup var plan: PlanFileOptions
  @Argument(help: "The migration; without one, --all.")
  var migration: String?
  @Flag(help: "Every migration of the plan that has a session.")
  var all = false
  @Option(help: "Why, for those who meet the hold.")
  var why = "paused by hand"
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      try await operate(plan, try chosen(migration, all: all), console, isEmergency: true) {
        [why] operations, name throws(GatewayError) in try await operations.pause(name, why: why)
      }
    }
  }
}

package struct ResumeCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "resume", abstract: "Clear a hold, whatever set it; start an agent that died.",
    discussion: """
      With --all only pauses are cleared: what a revert or a failure holds is looked into first, and resumed by its name.
      """)
  @OptionGroup var plan: PlanFileOptions
  @Argument(help: "The migration; without one, --all.")
  var migration: String?
  @Flag(help: "Every migration of the plan that has a session.")
  var all = false
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      let named = try chosen(migration, all: all)
      let opened = try OpenedPlan.open(plan, console, withClouds: false)
      let results = await opened.operations.resume(each: try named.map(opened.document.migration))
      // A hold that one of the two keeps is a hold.
      if say(results, console) || results.contains(where: { $0.outcome?.missed.isEmpty == false }) { throw ExitCode(1) }
    }
  }
}

package struct RevertCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "revert", abstract: "Revert cMotion now, and hold, so that the next apply doesn't swing again.",
    discussion: """
      Needs neither Azure nor the destination: the source's agent alone can take the I/O back. Guardrails don't stop it. \
      A migration of a group takes the others of it back as well. With --all every migration between swing and fence is reverted, all at once.
      """)
  @OptionGroup var plan: PlanFileOptions
  @Argument(help: "The migration; without one, --all.")
  var migration: String?
  @Flag(help: "Every migration between the beginning of a swing and the fence.")
  var all = false
  @Option(help: "Why, for those who meet the hold.")
  var why = "reverted by hand"
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      let named = try chosen(migration, all: all)
      let opened = try OpenedPlan.open(plan, console, withClouds: false, isEmergency: true)
      let results: [OperationResult]
      if let named {
        results = await opened.operations.revertWithItsGroup(try opened.document.migration(named), why: why)
      } else {
        results = await opened.operations.revertAll(why: why)
        if results.isEmpty { console.say("nothing is between a swing and the fence; nothing was reverted") }
      }
      if say(results, console) { throw ExitCode(1) }
    }
  }
}

extension OperationOutcome {
  fileprivate static func said(_ text: String) -> OperationOutcome {
    var outcome = OperationOutcome()
    outcome.done = [text]
    return outcome
  }
}

/// The migration that was named; nil for all of them.
private func chosen(_ migration: String?, all: Bool) throws -> String? {
  guard (migration == nil) == all else {
    throw CommandFailure(
      all ? "\(migration ?? "") and --all are two different things" : "no migration is named",
      advice: "give the name of one migration, or --all")
  }
  return migration
}

/// What was done on standard output, what was not on standard error. Whether any failed.
private func say(_ results: [OperationResult], _ console: Console) -> Bool {
  for result in results {
    for line in result.outcome?.done ?? [] { console.say(line) }
    for line in result.outcome?.missed ?? [] { console.complain("not done: \(result.migration): \(safe(line))\n") }
    if let error = result.error { console.complain(error, of: result.migration.text) }
  }
  return results.contains { $0.error != nil }
}

/// Does `body` for the migration that is named, or for each (nil) that has a session, and says what came of it; no cloud
/// is needed. One that fails keeps no other back. `isEmergency`: guardrails, which say what may be moved, don't stand in
/// the way of moving it back.
private func operate(
  _ options: PlanFileOptions, _ migration: String?, _ console: Console, isEmergency: Bool = false,
  _ body: @escaping @Sendable (MigrationOperations, MigrationName) async throws(GatewayError) -> OperationOutcome?
) async throws {
  let opened = try OpenedPlan.open(options, console, withClouds: false, isEmergency: isEmergency)
  let results = await opened.operations.on(try migration.map(opened.document.migration), body)
  if say(results, console) { throw ExitCode(1) }
}
