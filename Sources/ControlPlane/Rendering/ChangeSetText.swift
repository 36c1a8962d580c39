import AgentProtocol
import BlockModel
import Diagnostics
package import Planning

/// The change set for people: what is, what will be, each step with why and its price, what waits, what is unmanaged.
package func renderText(_ changes: ChangeSet, style: TextStyle) -> String {
  var text = style.paint("Migration plan \(safe(changes.planName))", .bold)
  text += ", observed \(rendered(changes.observedAt))\n"
  for entry in changes.migrations { text += renderMigration(entry, style) }
  if !changes.unmanaged.isEmpty {
    text += "\n" + style.paint("Unmanaged", .bold) + ", left alone: ours by their id, but not in the document\n"
    for item in changes.unmanaged {
      text += style.folded(
        "  \(item.kind.rawValue) ", leadWidth: 3 + item.kind.rawValue.count,
        "\(safe(item.name)): \(safe(item.detail))", indent: 6)
    }
  }
  for diagnostic in changes.diagnostics { text += "\n" + renderDiagnostic(diagnostic, style) }
  return text + "\n" + style.folded("", leadWidth: 0, summaryLine(changes), indent: 0, ink: .bold)
}

/// "Plan: 12 steps in 2 migrations, …", or that there is nothing to do.
func summaryLine(_ changes: ChangeSet) -> String {
  let steps = changes.migrations.flatMap(\.changes)
  let errors = changes.allDiagnostics.count { $0.severity == .error }
  let broken =
    errors == 0
    ? "" : " \(Quantity.count(errors, "error")) \(errors == 1 ? "keeps" : "keep") migrations from being planned."
  guard !steps.isEmpty else {
    return errors == 0 ? "No changes. Every migration is where the plan wants it." : "No changes can be made." + broken
  }
  let busy = changes.migrations.count { !$0.changes.isEmpty }
  var parts = ["\(Quantity.count(steps.count, "step")) in \(Quantity.count(busy, "migration"))"]
  let bytes = steps.compactMap(\.price.bytesToMove).reduce(0, +)
  if bytes > 0 { parts.append("\(Quantity.bytes(bytes)) to move") }
  let unpriced = steps.count { if case .synchronize = $0.action { $0.price.bytesToMove == nil } else { false } }
  if unpriced > 0 { parts.append("\(Quantity.count(unpriced, "synchronization")) of a size not known yet") }
  let waiting = steps.count { $0.waitsFor != nil }
  if waiting > 0 { parts.append("\(waiting) waiting") }
  let oneWay = steps.count { $0.reversibility == .oneWay }
  if oneWay > 0 { parts.append("\(oneWay) one-way") }
  return "Plan: " + parts.joined(separator: ", ") + "." + broken
}

private func renderMigration(_ entry: MigrationChanges, _ style: TextStyle) -> String {
  var head =
    entry.reached.phase == entry.target && entry.changes.isEmpty && entry.isPruned != true
    ? entry.reached.word : "\(entry.reached.word) → \(entry.targetWord)"
  if let health = entry.health { head += ", " + healthText(health) }
  let name = safe(entry.migration.text)
  var text =
    "\n" + style.folded(style.paint(name, .name) + ": ", leadWidth: name.count + 2, safe(head), indent: 6)
  for diagnostic in entry.diagnostics { text += renderDiagnostic(diagnostic, style) }
  if entry.changes.isEmpty, !entry.diagnostics.hasErrors { text += "    no changes\n" }
  var shown: Int?
  for change in entry.changes {
    if change.waitsFor != shown, let index = change.waitsFor, entry.waiting.indices.contains(index) {
      text += renderWaiting(entry.waiting[index], style)
    }
    shown = change.waitsFor
    text += renderChange(change, style)
  }
  // What a wave, a group or a hold goes before, and would be in the way after it.
  let used = Set(entry.changes.compactMap(\.waitsFor))
  for index in entry.waiting.indices where !used.contains(index) { text += renderWaiting(entry.waiting[index], style) }
  return text
}

private func renderDiagnostic(_ diagnostic: Diagnostic, _ style: TextStyle) -> String {
  let word = "\(diagnostic.severity.rawValue) \(diagnostic.code)"
  var text = style.folded(
    "  " + style.paint(word, diagnostic.severity == .error ? .bad : .change) + ": ", leadWidth: word.count + 4,
    safe(diagnostic.message), indent: 6)
  // On a line of its own, never folded: terminals and editors follow it.
  if let position = diagnostic.position { text += "      at \(safe(position.description))\n" }
  if !diagnostic.advice.isEmpty { text += style.folded("      = ", leadWidth: 8, safe(diagnostic.advice), indent: 8) }
  return text
}

private func renderWaiting(_ waiting: Waiting, _ style: TextStyle) -> String {
  var text = style.folded(
    "  " + style.paint("waiting", .change) + ": ", leadWidth: 11, safe(waitingText(waiting)), indent: 6)
  if !waiting.advice.isEmpty { text += style.folded("      = ", leadWidth: 8, safe(waiting.advice), indent: 8) }
  return text
}

func waitingText(_ waiting: Waiting) -> String {
  switch waiting.reason {
  case .window(let opensAt):
    return waiting.message + (opensAt.map { ", next opening \(rendered($0))" } ?? ", and none will open")
  case .confirmation(let by): return waiting.message + (by.map { " at \(rendered($0))" } ?? "")
  case .approval, .hold, .moves, .saved, .guardrail, .unreviewed, .group: return waiting.message
  case .wave(_, let until): return waiting.message + (until.map { ", until \(rendered($0))" } ?? "")
  }
}

func symbol(of change: Change) -> String {
  if change.reversibility == .oneWay { return "!" }
  switch change.action {
  // One that is there is changed, live.
  case .ensureDisk: return change.reversibility == .live ? "~" : "+"
  case .deployAgent, .attachDisks, .archive: return "+"
  case .synchronize: return ">"
  case .configureSession where change.why.contains("don't know"): return "+"
  case .retire, .removeAgent: return "-"
  default: return "~"
  }
}

private func renderChange(_ change: Change, _ style: TextStyle) -> String {
  let mark = symbol(of: change)
  let ink: Ink = mark == "!" ? .oneWay : mark == "+" ? .good : .change
  let isWaiting = change.waitsFor != nil
  var text = style.folded(
    "  " + (isWaiting ? " " : "") + style.paint(mark, ink) + (isWaiting ? " " : "  "), leadWidth: 5,
    safe(change.summary), indent: 7)
  var facts = [safe(change.why)]
  let price = priceText(change)
  if !price.isEmpty { facts.append(safe(price)) }
  text += style.folded("       ", leadWidth: 7, facts.joined(separator: "; "), indent: 7, ink: .dim)
  if !change.precondition.isEmpty {
    text += style.folded("       ", leadWidth: 7, "needs: " + safe(change.precondition), indent: 9, ink: .dim)
  }
  return text
}

/// What it costs and whether it can be taken back, in a few words.
func priceText(_ change: Change) -> String {
  var parts: [String] = []
  let price = change.price
  if let bytes = price.bytesToMove {
    var part = Quantity.bytes(bytes) + " to move"
    if let seconds = price.estimatedSeconds {
      part += ", about \(Quantity.duration(seconds))" + (price.bandwidthMeasured ? "" : " at an assumed 100 MB/s")
    }
    parts.append(part)
  } else if case .synchronize = change.action {
    parts.append("size not known yet")
  }
  if let pause = price.pauseSeconds { parts.append("pause about \(Quantity.duration(pause))") }
  if !price.note.isEmpty { parts.append(price.note) }
  switch change.reversibility {
  case .live: break
  case .reversible: parts.append("reversible")
  case .oneWay: parts.append("ONE-WAY")
  }
  return parts.joined(separator: ", ")
}

func healthText(_ health: ReplicationHealth) -> String {
  switch health {
  case .idle: return "idle"
  case .initializing: return "initializing"
  case .synchronizing(let percent, let rate, let eta):
    return "synchronizing \(percentText(percent)), \(Quantity.rate(rate))"
      + (eta.map { ", \(Quantity.duration($0)) left" } ?? "")
  case .tracking(let bytes, let seconds):
    return bytes == 0
      ? "tracking, in step" : "tracking, \(Quantity.bytes(bytes)) (\(Quantity.duration(seconds))) behind"
  case .stalled(let why): return "stalled: \(why)"
  case .disconnected(let since): return "disconnected since \(rendered(since))"
  case .degraded(let copy, let why): return "degraded (\(copy.rawValue)): \(why)"
  }
}

/// Never says 100 % before it is: rounds down.
func percentText(_ percent: Double) -> String {
  let clamped = percent.isFinite ? min(max(percent, 0), 100) : 0
  return "\(Int(clamped)) %"
}
