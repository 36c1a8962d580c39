import BlockModel
import Diagnostics
import Planning
package import Reconciling

/// How a run ended: each migration, every failure with its cause and what to do next.
package func renderSummary(_ summary: ApplySummary, style: TextStyle) -> String {
  var rows = [["MIGRATION", "PHASE", "PLANNED", "RESULT"]]
  for entry in summary.migrations {
    rows.append([entry.migration.text, entry.reached.word, entry.targetWord, word(entry.result)])
  }
  var text = "\n" + table(rows, style)
  for entry in summary.migrations where !entry.note.isEmpty && entry.result != .failed {
    text += style.folded(
      "\(entry.migration): ", leadWidth: entry.migration.text.count + 2, safe(entry.note), indent: 4)
    for waiting in entry.waiting where !waiting.advice.isEmpty {
      text += style.folded("    = ", leadWidth: 6, safe(waiting.advice), indent: 6)
    }
  }
  for failure in summary.failures {
    let lead = "\(failure.step) of \(failure.subject)"
    text += style.folded(
      style.paint("failed", .bad) + ": ", leadWidth: 8,
      safe("\(lead) (\(failure.error.code)): \(failure.error.message)"), indent: 4)
    if let position = failure.error.position { text += "    at \(safe(position.description))\n" }
    if !failure.error.advice.isEmpty {
      text += style.folded("    = ", leadWidth: 6, safe(failure.error.advice), indent: 6)
    }
  }
  for diagnostic in summary.remaining.allDiagnostics where diagnostic.severity == .error {
    text += style.folded(
      style.paint("error", .bad) + " ", leadWidth: 6, safe("\(diagnostic.code): \(diagnostic.message)"), indent: 4)
    if let position = diagnostic.position { text += "    at \(safe(position.description))\n" }
    if !diagnostic.advice.isEmpty { text += style.folded("    = ", leadWidth: 6, safe(diagnostic.advice), indent: 6) }
  }
  let ink: Ink = summary.result == .failed ? .bad : summary.result == .reached ? .good : .change
  var last = "\(summary.interrupted ? "Interrupted: " : "")\(closing(summary.result))"
  last += " \(Quantity.count(summary.stepsDone, "step")) in \(Quantity.duration(summary.seconds))."
  return text + "\n" + style.folded("", leadWidth: 0, last, indent: 0, ink: ink)
}

private func word(_ result: ApplyResult) -> String {
  switch result {
  case .reached: "reached"
  case .converging: "converging"
  case .waiting: "waiting"
  case .failed: "failed"
  }
}

private func closing(_ result: ApplyResult) -> String {
  switch result {
  case .reached: "Every migration is where the plan wants it."
  case .converging: "Nothing failed; replication goes on. Run apply again, or with --wait."
  case .waiting: "Nothing failed; something has to happen first (see above)."
  case .failed: "Not everything could be done. Apply again goes on from here."
  }
}
