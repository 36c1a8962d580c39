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
        return "approved \(name) for \(phase.rawValue)" + (expires.map { ", for \($0)" } ?? "")
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
        return "confirmed the swing of \(name)"
      }
    }
  }
}

package struct PauseCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "pause", abstract: "Set a hold that apply never crosses; what replicates goes on.")
  @OptionGroup var plan: PlanFileOptions
  @Argument var migration: String
  @Option(help: "Why, for those who meet the hold.")
  var why = "paused by hand"
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      try await operate(plan, migration, console) { [why] operations, name throws(GatewayError) in
        try await operations.pause(name, why: why)
        return "\(name) is on hold; cmcplan resume \(name) clears it"
      }
    }
  }
}

package struct ResumeCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "resume", abstract: "Clear a hold, whatever set it; start an agent that died.")
  @OptionGroup var plan: PlanFileOptions
  @Argument var migration: String
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      try await operate(plan, migration, console, startsAgents: true) { operations, name throws(GatewayError) in
        try await operations.resume(name)
        return "cleared the hold of \(name); the next apply goes on"
      }
    }
  }
}

package struct RevertCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "revert", abstract: "Revert cMotion now, and hold, so that the next apply doesn't swing again.")
  @OptionGroup var plan: PlanFileOptions
  @Argument var migration: String
  @Option(help: "Why, for those who meet the hold.")
  var why = "reverted by hand"
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      try await operate(plan, migration, console) { [why] operations, name throws(GatewayError) in
        try await operations.revert(name, why: why)
        return "reverted \(name): its I/O is on the source again; it is on hold until cmcplan resume \(name)"
      }
    }
  }
}

/// Loads the plan, reaches its agents (and no cloud), and prints what `body` says it did.
private func operate(
  _ options: PlanFileOptions, _ migration: String, _ console: Console, startsAgents: Bool = false,
  _ body: (MigrationOperations, MigrationName) async throws(GatewayError) -> String
) async throws {
  let document = try PlanDocument.load(options, console: console)
  let name = try document.migration(migration)
  let journal = try RunJournal(beside: document)
  let progress = Progress(console: console, format: .text)
  let world = try World.make(
    document, withClouds: false, journal: journal, console: console, report: { progress.show($0) })
  if startsAgents, let migration = document.plan.migrations[name] {
    // A hold that a dead agent caused is kept by both: apply does not cross it to start the agent, so this has to.
    for host in [migration.source, migration.destination].compactMap({ document.plan.hosts[$0] }) {
      let state = try await world.gateways.hosts.state(of: host)
      if state.agentDigest != nil, !state.agentRunning { try await world.gateways.hosts.deploy(to: host) }
    }
  }
  let operations = MigrationOperations(
    plan: document.plan, gateways: world.gateways, services: world.services, who: world.who)
  let said = try await body(operations, name)
  console.write("\(said)\n")
}
