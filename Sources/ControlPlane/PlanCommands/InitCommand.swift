package import ArgumentParser
import Diagnostics
import Foundation
import LinuxPlatform
import PlanReading
import Rendering
import Seams

package struct InitCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "init", abstract: "Write a first migration plan, commented, and its schema for editors.",
    discussion: """
      On a terminal it asks for what no option says. Elsewhere options must say it all; --set QUESTION=ANSWER answers \
      one, --questions lists them. An existing plan is never replaced.
      """)
  @Option(
    name: [.short, .long], help: ArgumentHelp("Where to write the plan; - is standard output.", valueName: "file"))
  var out = "plan.yaml"
  @Option(help: ArgumentHelp("Answer a question. May be given many times.", valueName: "question=answer"))
  var set: [String] = []
  @Flag(help: "List the questions, and what is taken where they aren't answered.")
  var questions = false
  @Flag(name: .customLong("no-schema"), help: "Don't write the schema beside the plan.")
  var withoutSchema = false
  /// Answers to a question that are tried before giving up.
  private static let attempts = 5
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      if questions { return Self.list(console) }
      if out != "-", FileManager.default.fileExists(atPath: out) {
        throw CommandFailure("\(out) exists, and is not replaced", advice: "write another one with --out FILE")
      }
      let answers = try answers(console)
      let text = PlanTemplate(id: SystemRandom().uuid(), answers: answers).text()
      let (plan, diagnostics) = PlanReader.read(text: text, file: out)
      console.complain(DiagnosticText.render(diagnostics, sourceText: text))
      // Answers that are right by themselves may still not fit together.
      guard plan != nil else {
        console.complain("the answers make no valid plan; nothing was written\n")
        throw ExitCode(1)
      }
      try write(text, console)
    }
  }

  private static func list(_ console: Console) {
    for question in PlanTemplate.Question.allCases {
      let fallback = question.suggestion.map { $0.isEmpty ? "may be empty" : "default \($0)" } ?? "needed"
      console.write("\(question.rawValue): \(question.text); \(fallback)\n")
    }
  }

  private func answers(_ console: Console) throws -> [PlanTemplate.Question: String] {
    var answers: [PlanTemplate.Question: String] = [:]
    for text in set {
      let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
      guard parts.count == 2, let question = PlanTemplate.Question(rawValue: parts[0]) else {
        throw CommandFailure("--set \(text) answers no question", advice: "'cmcplan init --questions' lists them")
      }
      if let fault = question.fault(of: parts[1]) {
        throw CommandFailure("--set \(text): \(fault.message)", advice: fault.advice)
      }
      answers[question] = parts[1]
    }
    let missing = PlanTemplate.Question.allCases.filter { answers[$0] == nil }
    guard console.canAsk else {
      let needed = missing.filter { $0.suggestion == nil }
      guard needed.isEmpty else {
        let options = needed.map { "--set \($0.rawValue)=…" }.joined(separator: " ")
        throw CommandFailure("there is no terminal to ask on, and answers are missing", advice: "add \(options)")
      }
      return answers
    }
    for question in missing { answers[question] = try ask(question, console) }
    return answers
  }

  private func ask(_ question: PlanTemplate.Question, _ console: Console) throws -> String {
    let shown = question.suggestion.map { $0.isEmpty ? "" : " [\($0)]" } ?? ""
    for _ in 0..<Self.attempts {
      guard let line = console.ask("\(question.text)\(shown): ") else {
        throw CommandFailure("the answers ended before the questions", advice: "nothing was written; run it again")
      }
      let typed = line.trimmingCharacters(in: .whitespaces)
      let answer = typed.isEmpty ? question.suggestion ?? "" : typed
      guard let fault = question.fault(of: answer) else { return answer }
      console.complain("  \(fault.message); \(fault.advice)\n")
    }
    throw CommandFailure(
      "\(Self.attempts) answers to '\(question.text)' were wrong", advice: "nothing was written; run it again")
  }

  private func write(_ text: String, _ console: Console) throws {
    guard out != "-" else { return console.write(text) }
    let directory = URL(fileURLWithPath: out).deletingLastPathComponent()
    do {
      try Data(text.utf8).write(to: URL(fileURLWithPath: out), options: .withoutOverwriting)
      if !withoutSchema {
        let schema = directory.appendingPathComponent(PlanTemplate.schemaFile)
        try Data(PlanSchema.json().utf8).write(to: schema, options: .atomic)
      }
    } catch {
      throw CommandFailure("\(out) can't be written", advice: "check its directory, and the space there")
    }
    console.write("wrote \(out); next: cmcplan validate -f \(out)\n")
  }
}
