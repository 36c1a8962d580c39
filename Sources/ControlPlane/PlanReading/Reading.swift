internal import Diagnostics
internal import YAMLTree

/// What the reading of one document collects. Confined to one call of `PlanReader.read`.
final class Reading {
  /// Diagnostics that are kept. More would help nobody, and a document of 100 MB can have millions.
  static let maximumDiagnostics = 1_000

  private(set) var diagnostics: [Diagnostic] = []
  private(set) var omittedCount = 0
  /// Values of the document's `variables:`, nil for one without a value.
  var variables: [String: String?] = [:]
  private(set) var usedVariables: Set<String> = []

  func report(_ code: String, at position: SourcePosition?, _ message: String, _ advice: String) {
    add(.error, code, position, message, advice)
  }

  func warn(_ code: String, at position: SourcePosition?, _ message: String, _ advice: String) {
    add(.warning, code, position, message, advice)
  }

  private func add(
    _ severity: Diagnostic.Severity, _ code: String, _ position: SourcePosition?, _ message: String, _ advice: String
  ) {
    guard diagnostics.count < Self.maximumDiagnostics else {
      omittedCount += 1
      return
    }
    diagnostics.append(Diagnostic(severity, code: code, at: position, message, advice: advice))
  }

  func report(_ fault: ValueFault, at node: YAMLNode) {
    report(fault.code, at: node.position, fault.message, fault.advice)
  }

  /// A scalar's text with `{var:NAME}` replaced; nil, and reported, where the node is no scalar or has no value.
  func text(_ node: YAMLNode, expected: String) -> String? {
    guard node.isScalar else {
      if let name = Self.unquotedVariable(node) {
        report(
          "CMC1103", at: node.position, "without quotes YAML takes '{var:\(name)}' for a mapping",
          "write \"{var:\(name)}\" in quotes")
      } else if !(node.isMapping && node.entries.contains { !$0.key.isScalar }) {
        // A key that is no text was reported when the document was parsed: '{{ name }}'.
        let found = node.isMapping ? "a mapping" : "a list"
        report("CMC1103", at: node.position, "\(expected) belongs here, not \(found)", "write one value")
      }
      return nil
    }
    if node.isNull {
      report(
        "CMC1103", at: node.position, "there is no value after the ':'",
        "write \(expected), or remove the line")
      return nil
    }
    let text = node.text
    guard node.contains(byte: UInt8(ascii: "{")) else { return text }
    return substitute(text, at: node)
  }

  private static func unquotedVariable(_ node: YAMLNode) -> String? {
    guard node.isMapping, node.count == 1, let key = node.entries.first?.key.text, key.hasPrefix("var:") else {
      return nil
    }
    return String(key.dropFirst(4))
  }

  /// Replaces each `{var:NAME}` by its value, once: what a value holds is text and never looked at again, so that
  /// variables can neither nest nor change the structure of the document.
  private func substitute(_ text: String, at node: YAMLNode) -> String? {
    guard text.contains("{var:") else { return text }
    var result = ""
    var rest = text[...]
    while let start = rest.firstRange(of: "{var:") {
      result += rest[..<start.lowerBound]
      guard let end = rest[start.upperBound...].firstIndex(of: "}") else { break }
      let name = String(rest[start.upperBound..<end])
      rest = rest[rest.index(after: end)...]
      switch variables[name] {
      case .some(.some(let value)):
        usedVariables.insert(name)
        result += value
      case .some(.none):
        usedVariables.insert(name)
        report(
          "CMC1112", at: node.position, "the variable '\(name)' has no value",
          "give it one with --set \(name)=VALUE, or a default under 'variables:'"
        )
        return nil
      case .none:
        report(
          "CMC1112", at: node.position, "there is no variable '\(name)'",
          orDefault(
            Suggestion.phrase(for: name, among: variables.keys.sorted()), "declare it under 'variables:' at the top"))
        return nil
      }
    }
    return result + rest
  }

  /// All diagnostics in the order of the document.
  func finish() -> [Diagnostic] {
    var sorted = diagnostics.sortedByPosition()
    if omittedCount > 0 {
      sorted.append(
        Diagnostic(code: "CMC1100", "\(omittedCount) more faults are not shown", advice: "repair these first"))
    }
    return sorted
  }
}

/// Why a text is not the value that a field needs.
struct ValueFault: Error, Equatable {
  var code: String
  var message: String
  var advice: String
  init(_ code: String, _ message: String, _ advice: String) {
    self.code = code
    self.message = message
    self.advice = advice
  }
}

func orDefault(_ text: String, _ fallback: String) -> String { text.isEmpty ? fallback : text }

/// "a, b or c", in quotes.
func alternatives(_ words: [String]) -> String {
  let quoted = words.map { "'\($0)'" }
  guard let last = quoted.last, quoted.count > 1 else { return quoted.first ?? "" }
  return quoted.dropLast().joined(separator: ", ") + " or " + last
}

extension String {
  /// At most `limit` characters, for a message; what is cut is shown as an ellipsis.
  func shortened(to limit: Int = 60) -> String { count <= limit ? self : prefix(limit - 1) + "…" }
}
