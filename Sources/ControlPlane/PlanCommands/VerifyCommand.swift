import AgentProtocol
package import ArgumentParser
import BlockModel
import Reconciling
import Rendering

package struct VerifyCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Compare both copies, with the application running, and say what differs.",
    discussion: """
      Both agents read their disks past the page cache, throttled by iQoS, and compare digests: no data crosses the link. \
      What is written meanwhile is compared later. Interrupting this ends the watching only; the same words again watch \
      on. Exits 0 where all is equal at the end, 1 where it isn't or could not be compared.
      """)
  enum Format: String, ExpressibleByArgument, CaseIterable { case text, json }

  @OptionGroup var plan: PlanFileOptions
  @Argument(help: "Migrations; without one, all that are synchronized.")
  var migrations: [String] = []
  @Flag(help: "Only what was written since the initial synchronization.")
  var changed = false
  @Flag(help: "Copy what differs again, from the side with authority.")
  var repair = false
  @Option(help: "text or json.")
  var format = Format.text
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      let document = try PlanDocument.load(plan, console: console)
      let chosen = try migrations.map(document.migration)
      let progress = Progress(console: console, format: .text)
      let showsProgress = format == .text
      let world = try World.make(
        document, withClouds: false, journal: nil, console: console,
        report: { event in
          switch event {
          case .replication where showsProgress: progress.show(event)
          default: console.complaining(event)
          }
        })
      let operations = OpenedPlan(document: document, world: world).operations
      let results = await progress.ticking {
        await operations.verify(chosen, scope: changed ? .changed : .all, repairs: repair)
      }
      // The bars are drawn over by what came of it.
      if showsProgress { progress.clear() }
      switch format {
      case .text: console.write(renderVerification(results, style: console.style))
      case .json: console.write(renderVerificationJSON(results))
      }
      for result in results { if let error = result.error { console.complain(error, of: result.migration.text) } }
      if results.isEmpty { console.complain("the plan has no migration\n") }
      if results.contains(where: { $0.error != nil || $0.report?.isClean == false }) { throw ExitCode(1) }
    }
  }
}
