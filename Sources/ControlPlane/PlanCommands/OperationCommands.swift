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
      try await operate(plan, parts[0], console) { operations, name throws(GatewayError) in
        try await operations.approve(name, phase: phase, expiresInSeconds: seconds ?? nil)
        return .said("approved \(name) for \(phase.rawValue)" + (expires.map { ", for \($0)" } ?? ""))
      }
    }
  }
}

package struct ConfirmCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "confirm", abstract: "Confirm a cMotion, so that the agents don't revert it by themselves.")
  @OptionGroup var plan: PlanFileOptions
  @Argument var migration: String
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      try await operate(plan, migration, console) { operations, name throws(GatewayError) in
        try await operations.confirm(name)
        return .said("confirmed the swing of \(name)")
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
      let names = try chosen(migration, all: all)
      try await operateOnEach(plan, names, console, isEmergency: true) { [why] operations, name throws(GatewayError) in
        var outcome = try await operations.pause(name, why: why)
        outcome.done.append("\(name) is on hold; cmcplan resume \(name) clears it")
        return outcome
      }
    }
  }
}

package struct ResumeCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "resume", abstract: "Clear a hold, whatever set it; start an agent that died.")
  @OptionGroup var plan: PlanFileOptions
  @Argument(help: "The migration; without one, --all.")
  var migration: String?
  @Flag(help: "Every migration of the plan that has a session.")
  var all = false
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      let names = try chosen(migration, all: all)
      try await operateOnEach(plan, names, console, startsAgents: true) { operations, name throws(GatewayError) in
        var outcome = try await operations.resume(name)
        if outcome.missed.isEmpty {
          outcome.done.append(
            outcome.done.isEmpty ? "\(name) has no hold" : "cleared the hold of \(name); the next apply goes on")
        }
        return outcome
      }
    }
  }
}

package struct RevertCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "revert", abstract: "Revert cMotion now, and hold, so that the next apply doesn't swing again.",
    discussion: """
      Needs neither Azure nor the destination: the source's agent alone can take the I/O back. Guardrails don't stop it. \
      With --all every migration between swing and fence is reverted, all at once.
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
      guard try chosen(migration, all: all) == nil else {
        try await operateOnEach(plan, migration, console, isEmergency: true) {
          [why] operations, name throws(GatewayError) in
          var outcome = try await operations.revert(name, why: why)
          outcome.done.append("it is on hold until cmcplan resume \(name)")
          return outcome
        }
        return
      }
      let (_, operations) = try openOperations(plan, console, isEmergency: true)
      let results = await operations.revertAll(why: why)
      if results.isEmpty { console.write("nothing is between a swing and the fence; nothing was reverted\n") }
      var isBad = false
      for result in results {
        if let outcome = result.outcome { say(outcome, of: result.migration, console) }
        guard let error = result.error else { continue }
        isBad = true
        console.complain("\(result.migration): error \(error.code): \(error.message)\n")
        if !error.advice.isEmpty { console.complain("  next: \(error.advice)\n") }
      }
      if isBad { throw ExitCode(1) }
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

/// What was done on standard output, what was not on standard error.
private func say(_ outcome: OperationOutcome, of migration: MigrationName, _ console: Console) {
  for line in outcome.done { console.write("\(line)\n") }
  for line in outcome.missed { console.complain("not done: \(migration): \(line)\n") }
}

/// The plan, and operations on its agents (and no cloud). `isEmergency`: guardrails, which say what may be moved, don't
/// stand in the way of moving it back.
private func openOperations(
  _ options: PlanFileOptions, _ console: Console, isEmergency: Bool
) throws -> (PlanDocument, MigrationOperations) {
  let document = try PlanDocument.load(options, console: console, isEmergency: isEmergency)
  let world = try World.make(
    document, withClouds: false, journal: nil, console: console, report: console.complaining)
  return (
    document,
    MigrationOperations(plan: document.plan, gateways: world.gateways, services: world.services, who: world.who)
  )
}

private func operate(
  _ options: PlanFileOptions, _ migration: String, _ console: Console,
  _ body: (MigrationOperations, MigrationName) async throws(GatewayError) -> OperationOutcome
) async throws {
  try await operateOnEach(options, migration, console, body)
}

/// Does `body` for the migration that is named, or for each (nil) that has a session, and says what came of it. One that
/// fails keeps no other back.
private func operateOnEach(
  _ options: PlanFileOptions, _ migration: String?, _ console: Console, isEmergency: Bool = false,
  startsAgents: Bool = false,
  _ body: (MigrationOperations, MigrationName) async throws(GatewayError) -> OperationOutcome
) async throws {
  let (document, operations) = try openOperations(options, console, isEmergency: isEmergency)
  let names = try migration.map { [try document.migration($0)] } ?? document.plan.sortedMigrations.map(\.name)
  var isBad = false
  for name in names {
    do throws(GatewayError) {
      if startsAgents { try await startAgents(of: name, document, console) }
      let outcome = try await body(operations, name)
      say(outcome, of: name, console)
      isBad = isBad || (startsAgents && !outcome.missed.isEmpty)
    } catch {
      if migration == nil, error.code == ApplyCode.sessionMissing { continue }
      isBad = true
      console.complain("\(name): error \(error.code): \(error.message)\n")
      if !error.advice.isEmpty { console.complain("  next: \(error.advice)\n") }
    }
  }
  if isBad { throw ExitCode(1) }
}

/// A hold that a dead agent caused is kept by both: apply does not cross it to start the agent, so this has to.
private func startAgents(
  of name: MigrationName, _ document: PlanDocument, _ console: Console
) async throws(GatewayError) {
  guard let migration = document.plan.migrations[name] else { return }
  let world = try World.make(
    document, withClouds: false, journal: nil, console: console, report: console.complaining)
  for host in [migration.source, migration.destination].compactMap({ document.plan.hosts[$0] }) {
    let state = try await world.gateways.hosts.state(of: host)
    if state.agentDigest != nil, !state.agentRunning { try await world.gateways.hosts.deploy(to: host) }
  }
}
