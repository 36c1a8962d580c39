import ARMClient
import AgentClient
import Diagnostics
import PlanReading
import Planning
import Reconciling
import SSHDeploy

/// What every code means, whichever room says it.
enum Explanations {
  /// In the order of their codes.
  static let all: [CodeExplanation] =
    (RuleCatalogue.rules + PlanningExplanations.all + AzureExplanations.all + HostExplanations.deploying
    + HostExplanations.ssh + AgentExplanations.all + ApplyExplanations.all + commands).sorted { $0.code < $1.code }

  private static let commands: [CodeExplanation] = [
    .init(
      "CMC3260", "an agent is removed only where nothing needs it, and somebody agreed",
      "Sessions that are given up can't be taken up again.", "cmcplan agent remove erp-db --force"),
    .init(
      "CMC3261", "an agent's key is replaced while every peer that has to know the new one can be told",
      "A peer that knows only the former key would refuse the link, and a stand-in without its link goes back.",
      "cmcplan agent list\ncmcplan agent rotate-key erp-db"),
  ]

  /// Nil where nothing says this code. It may be written in lower case.
  static func of(_ code: String) -> CodeExplanation? { all.first { $0.code == code.uppercased() } }

  /// Rule, reason and example as lines; for an unknown code, the nearest ones.
  static func text(of code: String) -> String {
    guard let known = Explanations.of(code) else {
      let near = RuleCatalogue.suggestion(for: code, among: all.map(\.code))
      return "There is no rule \(String(code.prefix(40))); \(near.isEmpty ? "codes are CMC and four digits" : near).\n"
    }
    return "\(known.code): \(known.rule).\n\n\(known.reason)\n\n"
      + known.example.split(separator: "\n").map { "    \($0)\n" }.joined()
  }
}
