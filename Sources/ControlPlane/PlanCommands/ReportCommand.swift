package import ArgumentParser
import Foundation
import Planning
import Rendering

package struct ReportCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "report", abstract: "Write down what was moved, when, by whom, and what proves it.",
    discussion: """
      Markdown, or one HTML file that needs nothing else. With terraform, import blocks and resources of the azurerm \
      provider for the disks and their attachments, so that the Terraform of the virtual machine takes them over and \
      doesn't detach them. Nothing is changed.
      """)
  enum Format: String, ExpressibleByArgument, CaseIterable { case markdown, html, terraform }

  @OptionGroup var plan: PlanFileOptions
  @Option(help: "markdown, html or terraform.")
  var format = Format.markdown
  @Option(help: ArgumentHelp("Where to write it, instead of standard output.", valueName: "file"))
  var out: String?
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      let opened = try OpenedPlan.open(plan, console)
      let observation = await opened.observe()
      let text =
        switch format {
        case .markdown: renderMarkdown(blocks(opened, observation, console))
        case .html: renderHTML(blocks(opened, observation, console))
        case .terraform: renderTerraform(opened.plan, observation)
        }
      if let out {
        do {
          try Data(text.utf8).write(to: URL(fileURLWithPath: out), options: .atomic)
        } catch {
          throw CommandFailure("the report can't be written to \(out)", advice: "check the directory and its space")
        }
      } else {
        console.write(text)
      }
      // Whoever files it must know that something is missing in it.
      if !observation.isComplete {
        console.complain("warning: not everything could be seen; what is missing is named in cmcplan status\n")
        throw ExitCode(1)
      }
    }
  }

  private func blocks(_ opened: OpenedPlan, _ observation: Observation, _ console: Console) -> [ReportBlock] {
    report(
      of: opened.plan, observation, runs: RunRecords(beside: opened.document).all(console), options: opened.planning())
  }
}
