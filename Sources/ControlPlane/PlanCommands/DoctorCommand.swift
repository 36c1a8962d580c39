package import ArgumentParser
import ARMClient
import AgentProtocol
import BlockModel
import Diagnostics
import Foundation
import MigrationModel
import Planning
import Reconciling
import Rendering
import SSHDeploy
import Seams

package struct DoctorCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "doctor", abstract: "Run every check that a plan's migrations depend on; change nothing.",
    discussion: "Exits 1 where a check failed or could not be made.")
  enum Format: String, ExpressibleByArgument, CaseIterable { case text, json }

  @OptionGroup var plan: PlanFileOptions
  @OptionGroup var fleet: FleetOptions
  @Option(help: "text or json.")
  var format = Format.text
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      let opened = try OpenedPlan.open(plan, console)
      let world = opened.world
      var checks: [Check] = []
      var machine: String?
      do throws(GatewayError) {
        machine = try await world.deployer.shippedAgentMachine()
        let digest = try await world.deployer.shippedAgentDigest()
        checks.append(Check("cmcplan", "agent", .ok, "\(digest.prefix(12)) for \(machine ?? "an unknown machine")"))
      } catch {
        checks.append(Check("cmcplan", "agent", .failed, error.message, advice: error.advice))
      }
      checks += await hostChecks(opened.document, world, machine)
      let observation = await opened.observe()
      for (name, report) in world.credentials.sorted(by: { $0.key < $1.key }) {
        checks.append(Self.credentialCheck(name, await report()))
      }
      checks += Self.agentChecks(observation)
      checks += Self.cloudChecks(opened.plan, observation)
      let changes = diff(opened.plan, observation, options: opened.planning())
      checks += Self.migrationChecks(changes)
      checks += await RecordChecks.checks(opened.document.plan, environment: ProcessInfo.processInfo.environment)
      console.write(format == .json ? renderChecksJSON(checks) : renderChecks(checks, style: console.style))
      if checks.contains(where: { $0.result == .failed || $0.result == .unknown }) { throw ExitCode(1) }
    }
  }

  private func hostChecks(_ document: PlanDocument, _ world: World, _ machine: String?) async -> [Check] {
    let sources = Set(document.plan.migrations.values.map(\.source))
    let deployer = world.deployer
    var found: [HostName: [Check]] = [:]
    _ = await onEach(document.plan.hosts.values.sorted { $0.name < $1.name }, parallelism: fleet.parallelism) { host in
      await outcome { () async throws(GatewayError) -> HostFacts in try await deployer.facts(of: host) }
    } report: { host, result in
      switch result {
      case .success(let facts):
        found[host.name] = HostChecks.checks(host, facts, machine: machine, isSource: sources.contains(host.name))
      case .failure(let error): found[host.name] = HostChecks.reached(host, error)
      }
    }
    return found.sorted { $0.key < $1.key }.flatMap(\.value)
  }

  static func credentialCheck(_ integration: String, _ report: CredentialReport) -> Check {
    Check(
      "integration \(integration)", "credential", report.failure == nil ? .ok : .failed,
      report.failure.map { "\($0.code): \($0.message)" } ?? report.text, advice: report.failure?.advice ?? "")
  }

  /// What running agents say that is wrong with their sessions, and that nothing in the plan shows.
  static func agentChecks(_ observation: Observation) -> [Check] {
    observation.hosts.sorted { $0.key < $1.key }.flatMap { name, host -> [Check] in
      guard let agent = host.agent else { return [] }
      let subject = "host \(name)"
      var checks = (agent.unreadable ?? []).map {
        Check(
          subject, "session", .failed, $0,
          advice: "restore that file from a backup; cmcplan agent remove \(name) --force gives the session up")
      }
      for session in agent.sessions {
        let why = session.lastError?.message ?? "no reason known"
        if session.couldNotStart == true {
          checks.append(
            Check(
              subject, "session", .failed, "\(session.migration) can't be brought up: \(why)",
              advice: "mend what it names, then start the agent anew: cmcplan agent upgrade \(name)"))
        } else if session.role == .source, !session.connected, session.needsLink {
          checks.append(
            Check(
              subject, "connection", .failed, "\(session.migration): \(why)",
              advice: session.configuration.isWithinAgent
                ? "the agent's log says more: journalctl -u cmcagent"
                : "check address, port and firewalls between both hosts, and that both agents run (cmcplan agent list)")
          )
        }
      }
      if agent.hello.nextFingerprint != nil {
        checks.append(
          Check(
            subject, "key", .warning, "the agent's key is being replaced, and the run that did it has ended",
            advice: "cmcplan agent rotate-key \(name) goes on with it"))
      }
      return checks
    }
  }

  static func cloudChecks(_ plan: MigrationPlan, _ observation: Observation) -> [Check] {
    observation.clouds.sorted { $0.key < $1.key }.flatMap { name, cloud in
      let subject = "integration \(name)"
      var checks = cloud.allFaults.map {
        Check(subject, $0.part, .failed, "\($0.code): \($0.message)", advice: $0.advice)
      }
      if cloud.allFaults.isEmpty {
        checks.append(Check(subject, "access", .ok, "signed in; \(counted(cloud.disks.count, "disk")) of this plan"))
      }
      for (reference, machine) in cloud.machines.sorted(by: { $0.key < $1.key }) {
        checks.append(Check(subject, "machine", .ok, "\(reference) is \(machine.name)"))
      }
      return checks
    }
  }

  /// What planning has to say of each migration: the same words as in `plan`.
  static func migrationChecks(_ changes: ChangeSet) -> [Check] {
    changes.migrations.flatMap { entry in
      let subject = "migration \(entry.migration)"
      let found = entry.diagnostics.filter { $0.severity != .note }
      guard !found.isEmpty else { return [Check(subject, "preflight", .ok, "nothing is in its way")] }
      return found.map { diagnostic in
        // What could not be looked at is no verdict on the migration.
        let isUnseen =
          diagnostic.code == PlanningCode.hostNotObserved || diagnostic.code == PlanningCode.cloudNotObserved
        return Check(
          subject, "preflight", isUnseen ? .unknown : diagnostic.severity == .error ? .failed : .warning,
          "\(diagnostic.code): \(diagnostic.message)", advice: diagnostic.advice)
      }
    }
  }
}

extension SessionObservation {
  /// Whether the two halves still have something to say to each other.
  fileprivate var needsLink: Bool {
    switch stage {
    case .prepared, .synchronizing, .tracking, .swinging, .standIn, .tapClosed, .proving, .proven: true
    case .fenced, .released, .cancelled: false
    }
  }
}
