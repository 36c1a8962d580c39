import AgentProtocol
package import ArgumentParser
import BlockModel
import Foundation
import MigrationModel
import Planning
import Reconciling
import Rendering
import SSHDeploy

package struct SupportBundleCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "support-bundle",
    abstract: "Collect what somebody else needs to find out what went wrong, without secrets.",
    discussion: """
      The plan, what the world looks like now, what cmcplan makes of it, the journals of the last runs, and of every \
      host the agent's log and its sessions' journals, as one tar. What can't be had is named in it. Nothing is changed. \
      With the observation in it the plan can be planned again, anywhere.
      """)
  @OptionGroup var plan: PlanFileOptions
  @Option(help: ArgumentHelp("Where to write it. Default: cmcplan-support-TIME.tar here.", valueName: "file"))
  var out: String?
  @Option(help: ArgumentHelp("Journals of so many runs, the newest.", valueName: "n"))
  var runs = 20
  @Option(help: ArgumentHelp("Ask at most so many hosts at once.", valueName: "n"))
  var parallelism = 10
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      let environment = ProcessInfo.processInfo.environment
      let reading = try PlanDocumentReading(plan)
      var bundle = SupportBundle(redaction: Redaction(reading.document?.plan, environment: environment))
      let now = Date.now
      var absent: [String] = []
      let inputs = addInputs(reading, to: &bundle)
      bundle.add("plan/diagnostics.txt", reading.text.isEmpty ? "nothing is wrong with it\n" : reading.text)
      if let document = reading.document {
        try await addWorld(document, to: &bundle, &absent, console)
        let records = RunRecords(beside: document)
        for name in records.names.suffix(max(0, runs)) {
          guard let bytes = records.bytes(name, console) else { continue }
          bundle.add("runs/\(name)/\(RunRecords.journalFile)", bytes)
          // Whole or not at all: half of it could not be read.
          let decided = "\(records.place(of: name))/\(RunJournal.decidedFile)"
          if let bytes = try? PlanFiles.contents(
            of: decided, what: "what the run decided", limitBytes: SupportBundle.fileLimitBytes)
          {
            bundle.add("runs/\(name)/\(RunJournal.decidedFile)", bytes)
          }
        }
      } else {
        absent.append("the world: the plan can't be read, so nothing was contacted")
      }
      absent += bundle.leftOut.map { "\($0): the bundle is full" }
      bundle.add("README.txt", readme(inputs, absent), isNeeded: true)
      let stamp = now.formatted(
        .iso8601.year().month().day().time(includingFractionalSeconds: false).timeSeparator(.omitted))
      let name = "cmcplan-support-\(stamp)"
      let path = out ?? "\(name).tar"
      guard
        FileManager.default.createFile(
          atPath: path, contents: Data(bundle.archive(in: name, at: Int(now.timeIntervalSince1970))),
          attributes: [.posixPermissions: 0o600])
      else {
        throw CommandFailure("the bundle can't be written to \(path)", advice: "check the directory and its space")
      }
      for line in absent { console.complain("note: not in it: \(safe(line))\n") }
      console.say("wrote \(path): \(counted(bundle.files.count, "file")); look through it before you send it")
    }
  }

  /// The plan and what belongs to it, under names that say how they were given. Answers how to give them again.
  private func addInputs(_ reading: PlanDocumentReading, to bundle: inout SupportBundle) -> String {
    var options = ""
    for (index, input) in reading.inputs.enumerated() {
      let name = "plan/\(index + 1)-\((input.file as NSString).lastPathComponent)"
      bundle.add(name, input.bytes)
      options += " --\(input.option) \(shellQuoted(name))"
    }
    for value in plan.set { options += " --set \(shellQuoted(value))" }
    return options
  }

  private func addWorld(
    _ document: PlanDocument, to bundle: inout SupportBundle, _ absent: inout [String], _ console: Console
  ) async throws {
    let world = try World.make(
      document, withClouds: true, journal: nil, console: console, report: console.complaining)
    let opened = OpenedPlan(document: document, world: world)
    let observation = await opened.observe()
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    bundle.add("observation.json", [UInt8](try encoder.encode(observation)))
    let options = opened.planning()
    let changes = diff(document.plan, observation, options: options)
    bundle.add("plan.txt", renderText(changes, style: .plain))
    bundle.add("plan.json", renderJSON(changes))
    bundle.add("status.txt", renderStatus(document.plan, observation, options: options, style: .plain))
    bundle.add("versions.txt", versions(observation))
    absent += notSeen(in: observation)
    var found: [(String, [UInt8])] = []
    // Those that could not be reached a moment ago would cost their timeout once more.
    let hosts = document.plan.hosts.values.filter { observation.hosts[$0.name]?.state != nil }.sorted {
      $0.name < $1.name
    }
    _ = await onEach(
      hosts, parallelism: max(1, parallelism),
      { host in
        await outcome { () async throws(GatewayError) -> HostRecords in try await records(of: host, observation, world)
        }
      },
      report: { host, result in
        switch result {
        case .success(let records):
          found += records.files.map { ("hosts/\(host.name)/\($0.name)", $0.bytes) }
          absent += records.absent.map { "host \(host.name): \($0)" }
        case .failure(let error): absent.append("host \(host.name): its agent's log: \(error.message)")
        }
      })
    for (name, bytes) in found.sorted(by: { $0.0 < $1.0 }) { bundle.add(name, bytes) }
  }

  private struct HostRecords: Sendable {
    var files: [(name: String, bytes: [UInt8])] = []
    var absent: [String] = []
  }

  /// The log whether or not the agent runs; journals of its sessions where it does.
  private func records(
    of host: MigrationModel.Host, _ observation: Observation, _ world: World
  ) async throws(GatewayError) -> HostRecords {
    var records = HostRecords()
    let log = try await world.deployer.agentLog(of: host)
    records.files.append(("agent.log", log))
    guard let sessions = observation.hosts[host.name]?.agent?.sessions, !sessions.isEmpty else { return records }
    let agent = try await world.deployer.agent(on: host)
    for session in sessions {
      let name = "\(session.migration).\(session.role.rawValue).journal.jsonl"
      do throws(GatewayError) {
        records.files.append((name, try await journalEnd(of: session, from: agent)))
      } catch {
        records.absent.append("\(name): \(error.message)")
      }
    }
    await agent.close()
    return records
  }

  /// As much of the journal's end as one message of the agent carries.
  private func journalEnd(
    of session: SessionObservation, from agent: any AgentGateway
  ) async throws(GatewayError) -> [UInt8] {
    var part = try await agent.call(
      ReadEvidenceCall(session: session.session, role: session.role, evidence: .journal, offset: 0))
    let limit = UInt64(ReadEvidenceCall.partLimitBytes)
    if let size = part.sizeBytes, size > limit {
      part = try await agent.call(
        ReadEvidenceCall(session: session.session, role: session.role, evidence: .journal, offset: size - limit))
    }
    return part.bytes ?? []
  }

  private func versions(_ observation: Observation) -> String {
    let kernel = (try? String(contentsOfFile: "/proc/version", encoding: .utf8)) ?? "an unknown kernel\n"
    var text = "cmcplan \(VersionCommand.version)\n\(kernel)\n"
    for (name, host) in observation.hosts.sorted(by: { $0.key < $1.key }) {
      guard let hello = host.agent?.hello else {
        text += "\(name): no agent answers; installed: \(host.state?.agentDigest ?? "none")\n"
        continue
      }
      text +=
        "\(name): cmcagent \(hello.agentVersion), protocol \(hello.protocolVersion), up since \(rendered(hello.startedAt)), "
        + "can \(hello.capabilities.joined(separator: ", "))\n"
    }
    return text
  }

  private func readme(_ inputs: String, _ absent: [String]) -> String {
    """
    What cmcplan saw and did, for somebody who looks into it. Values of secrets were taken out; names of hosts, devices
    and people are in it.

      plan.txt, plan.json, status.txt   what cmcplan made of it
      observation.json                  what it rests on
      plan/                             the plan's files
      runs/                             journals of runs on that machine, and what they decided on
      hosts/                            the ends of agents' logs and of their sessions' journals

    The same plan again, without contacting anything:

      cmcplan plan\(inputs) --observation observation.json

    A run again, step by step, and what it decided decided again:

      cmcplan replay\(inputs) runs/RUN

    Not in it:

    \(absent.isEmpty ? "  nothing is missing" : absent.map { "  \($0)" }.joined(separator: "\n"))

    """
  }
}
