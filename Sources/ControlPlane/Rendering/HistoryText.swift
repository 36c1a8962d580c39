import BlockModel
import Planning
import Reconciling

/// A table of runs: when, who, how many steps, how it ended.
package func renderRuns(_ runs: [RunRecord], style: TextStyle) -> String {
  guard !runs.isEmpty else { return "no run left a journal here\n" }
  var rows = [["RUN", "BEGAN", "STEPS", "FAILED", "ENDED"]]
  for run in runs {
    let entries = run.entries
    let ended = entries.last { $0.kind == .runEnded }?.message
    let interrupted = entries.contains { $0.kind == .interrupted }
    rows.append([
      safe(run.name), entries.first?.at.map(rendered) ?? "-", String(entries.count { $0.kind == .stepSucceeded }),
      String(entries.count { $0.kind == .stepFailed }),
      (ended.map(safe) ?? "did not end: killed, or still at work") + (interrupted ? ", interrupted" : ""),
    ])
  }
  return table(rows, style)
}

/// One run, step by step.
package func renderRun(_ run: RunRecord, style: TextStyle) -> String {
  var text = style.paint("Run \(safe(run.name))", .bold) + "\n"
  for entry in run.entries {
    let at = entry.at.map(rendered) ?? ""
    var line = word(entry)
    if let step = entry.step { line += " \(step)" }
    if let subject = entry.subject, !subject.isEmpty { line += " of \(subject)" }
    if let attempt = entry.attempt, attempt > 1, entry.kind == .stepStarted { line += ", attempt \(attempt)" }
    if let code = entry.code { line += " (\(code))" }
    if let message = entry.message { line += ": \(message)" }
    text += style.folded("\(at)  ", leadWidth: at.count + 2, safe(line), indent: at.count + 4)
  }
  return text
}

private func word(_ entry: JournalEntry) -> String {
  switch entry.kind {
  case .runStarted: "run started by"
  case .roundStarted: "round \(entry.attempt ?? 1)"
  case .stepStarted: "began"
  case .stepSucceeded: "done"
  case .stepFailed: "failed"
  case .stepRetrying: "trying again"
  case .stepParked: "parked"
  case .stepOutput: "output"
  case .interrupted: "interrupted"
  case .notified: "notified"
  case .runEnded: "run ended"
  }
}
