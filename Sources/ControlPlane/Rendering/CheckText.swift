/// One thing that `doctor` looked at.
package struct Check: Sendable, Equatable, Encodable {
  package enum Result: String, Sendable, Encodable {
    case ok
    case warning
    case failed
    /// It could not be looked at, because something before it failed.
    case unknown
  }
  /// "host erp-db", "integration corp", "migration erp-db", "cmcplan".
  package var subject: String
  /// What was looked at: "reached", "clock".
  package var what: String
  package var result: Result
  package var detail: String
  package var advice: String
  package init(_ subject: String, _ what: String, _ result: Result, _ detail: String, advice: String = "") {
    self.subject = subject
    self.what = what
    self.result = result
    self.detail = detail
    self.advice = advice
  }
}

/// A table of checks by subject, in the given order; advice under what needs it, and a count at the end.
package func renderChecks(_ checks: [Check], style: TextStyle) -> String {
  var text = ""
  var subject: String?
  let width = checks.map(\.what.count).max() ?? 0
  for check in checks {
    if check.subject != subject {
      text += (subject == nil ? "" : "\n") + style.paint(safe(check.subject), .bold) + "\n"
      subject = check.subject
    }
    let word = check.result.rawValue.padding(to: 7)
    let ink: Ink =
      switch check.result {
      case .ok: .good
      case .warning, .unknown: .change
      case .failed: .bad
      }
    let lead = "  \(style.paint(word, ink))  \(check.what.padding(to: width))  "
    let indent = 2 + 7 + 2 + width + 2
    text += style.folded(lead, leadWidth: indent, safe(check.detail), indent: indent)
    if !check.advice.isEmpty {
      text += style.folded(
        String(repeating: " ", count: indent) + "next: ", leadWidth: indent + 6, safe(check.advice), indent: indent + 6)
    }
  }
  let failed = checks.count { $0.result == .failed }
  let warnings = checks.count { $0.result == .warning }
  let unknown = checks.count { $0.result == .unknown }
  text +=
    "\n\(checks.count - failed - warnings - unknown) ok, \(warnings) warnings, \(failed) failed, \(unknown) unknown\n"
  return text
}

/// One versioned JSON object on one line.
package func renderChecksJSON(_ checks: [Check]) -> String {
  struct Document: Encodable {
    var version = 1
    var checks: [Check]
  }
  return encoded(Document(checks: checks)) + "\n"
}

extension String {
  fileprivate func padding(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
