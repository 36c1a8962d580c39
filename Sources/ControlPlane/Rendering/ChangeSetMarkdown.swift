import BlockModel
import Diagnostics
package import Planning

/// For a pull request: warnings first, a table, folded details, always under `limitBytes`.
package func renderMarkdown(_ changes: ChangeSet) -> String {
  let limitBytes = 60_000
  var text = "## cmcplan: \(markdownEscaped(changes.planName))\n\n\(markdownEscaped(summaryLine(changes)))\n\n"
  var remarks = changes.allDiagnostics.filter { $0.severity != .note }.map { diagnostic in
    "- **\(diagnostic.severity.rawValue) \(diagnostic.code)** \(markdownEscaped(diagnostic.message))\n"
  }
  for entry in changes.migrations where entry.changes.contains(where: { $0.reversibility == .oneWay }) {
    remarks.append("- **one-way**: \(markdownEscaped(entry.migration.text)) → \(entry.targetWord)\n")
  }
  for (index, remark) in remarks.enumerated() {
    guard text.utf8.count + remark.utf8.count < limitBytes / 4 else {
      text += "- …and \(remarks.count - index) more\n"
      break
    }
    text += remark
  }
  text += "\n| migration | is | will be | steps | waits for |\n|---|---|---|---|---|\n"
  for entry in changes.migrations {
    let waits = entry.waiting.map(waitingText).joined(separator: "; ")
    text +=
      "| \(markdownEscaped(entry.migration.text)) | \(entry.reached.word) | \(entry.targetWord) | \(entry.changes.count) | \(markdownEscaped(waits)) |\n"
    if text.utf8.count > limitBytes / 2 {
      text += "\n…and more; see the text or JSON output.\n"
      return text
    }
  }
  for entry in changes.migrations where !entry.changes.isEmpty {
    var details = "\n<details><summary>\(markdownEscaped(entry.migration.text))</summary>\n\n"
    for change in entry.changes {
      details += "- `\(symbol(of: change))` \(markdownEscaped(change.summary)): \(markdownEscaped(change.why))"
      let price = priceText(change)
      details += price.isEmpty ? "\n" : " (\(markdownEscaped(price)))\n"
    }
    details += "\n</details>\n"
    guard text.utf8.count + details.utf8.count < limitBytes else {
      text += "\n…details of further migrations are left out; see the text or JSON output.\n"
      break
    }
    text += details
  }
  return text
}
