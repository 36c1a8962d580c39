package import ArgumentParser
import Diagnostics
import Foundation
import LinuxPlatform
import MigrationModel
import PlanReading
import Rendering
import Seams
import YAMLTree

package struct ValidateCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "validate", abstract: "Check a migration plan without contacting anything.",
    discussion: """
      Every fault of the plan is reported in one pass. Exit 0 where there is no error, 1 otherwise. The formats json \
      (one object a line), github (annotations of a workflow) and sarif (SARIF 2.1.0) go to standard output.
      """)
  enum Format: String, ExpressibleByArgument, CaseIterable { case text, json, github, sarif }

  @OptionGroup var plan: PlanFileOptions
  @Option(help: "text, json, github or sarif.")
  var format = Format.text
  @Option(help: ArgumentHelp("Explain any code, as in CMC1203, and check nothing.", valueName: "code"))
  var explain: String?
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      if let explain { return try Self.explain(explain, console) }
      let read = try PlanDocumentReading(plan)
      switch format {
      case .text: console.complain(read.text)
      case .json: console.write(DiagnosticReport.json(read.diagnostics))
      case .github: console.write(DiagnosticReport.github(read.diagnostics))
      case .sarif:
        console.write(
          DiagnosticReport.sarif(read.diagnostics) { code in RuleCatalogue.rule(code).map { $0.rule + "." } })
      }
      guard let document = read.document else {
        if format == .text { console.complain("\(read.summary); nothing was contacted\n") }
        throw ExitCode(1)
      }
      guard format == .text else { return }
      let volumes = document.plan.migrations.values.reduce(0) { $0 + $1.volumes.count }
      console.write(
        "\(read.files.count == 1 ? read.files[0] : "\(read.files.count) files"): valid; "
          + "\(counted(document.plan.migrations.count, "migration")), \(counted(volumes, "volume")), "
          + "\(counted(document.plan.hosts.count, "host"))\n")
    }
  }

  private static func explain(_ code: String, _ console: Console) throws {
    let text = Explanations.text(of: code)
    guard Explanations.of(code) == nil else { return console.write(text) }
    console.complain(text)
    throw ExitCode(1)
  }
}

package struct SchemaCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "schema", abstract: "Print the JSON Schema of migration plans, for editors.",
    discussion: "Name it in a plan's first line: # yaml-language-server: $schema=FILE")
  @Flag(help: "For one file of a plan that is split over several: nothing is required at the top level.")
  var part = false
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in console.write(PlanSchema.json(ofPart: part)) }
  }
}

package struct FmtCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "fmt", abstract: "Give plans the usual layout: indentation, spaces, empty lines.",
    discussion: """
      Comments, quotes and order stay as they are, and so does what the plan means: that is checked before a file is \
      replaced. Without files, plan.yaml or cmcplan.yaml here; a directory stands for its .yaml files.
      """)
  @Argument(help: "Files or directories; - is standard input, and goes to standard output.")
  var files: [String] = []
  @Flag(help: "Change nothing; exit 1 where something would change.")
  var check = false
  @Flag(help: "Change nothing; show what would change.")
  var diff = false
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      var hasFailed = false
      for path in try PlanFiles.find(files).map(\.file) {
        let bytes = try PlanFiles.contents(of: path, what: "the file")
        guard let formatted = formatted(bytes, path, console) else {
          hasFailed = true
          continue
        }
        guard path != "-" || check || diff else {
          console.write(formatted)
          continue
        }
        guard Array(formatted.utf8) != bytes else { continue }
        if diff { console.write(UnifiedDiff.text(String(decoding: bytes, as: UTF8.self), formatted, file: path)) }
        if check { hasFailed = true }
        if check || diff {
          if !diff { console.write("\(path)\n") }
        } else {
          try PlanFiles.replace(path, with: formatted)
          console.write("\(path)\n")
        }
      }
      if hasFailed { throw ExitCode(1) }
    }
  }

  private func formatted(_ bytes: [UInt8], _ path: String, _ console: Console) -> String? {
    do throws(YAMLFormatter.Failure) {
      guard let text = String(validating: bytes, as: UTF8.self) else { throw .notYAML }
      return try YAMLFormatter.format(text)
    } catch {
      switch error {
      case .notYAML:
        let problems = YAMLTree.parse(bytes: bytes, file: path).diagnostics
        console.complain(
          DiagnosticText.render(problems, sources: [path: String(decoding: bytes, as: UTF8.self)]))
        if problems.isEmpty { console.complain("\(path): this is no UTF-8\n  next: save the file as UTF-8\n") }
      case .unsupported:
        console.complain(
          "\(path): its layout is beyond what fmt knows; the file stays as it is\n"
            + "  next: lay it out by hand, with two spaces a level\n")
      }
      return nil
    }
  }
}
