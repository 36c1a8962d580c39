package import Diagnostics

/// Diagnostics as people read them: what is wrong, the line of the document with a caret below, what to do.
///
///     plan.yaml:14:7: error CMC1101: host 'erp-db' has no key 'adress'
///       14 |     adress: 192.0.2.10
///          |     ^
///        = did you mean 'address'?
package enum DiagnosticText {
  /// Longer lines are cut, around the caret.
  private static let maximumWidth = 120
  /// What these are about may be a secret: of the document's line only what stands before it is shown.
  private static let secretCodes: Set<String> = ["CMC1120", "CMC1121"]

  /// - Parameters:
  ///   - diagnostics: in the order in which they are to be shown.
  ///   - sourceText: the document that they are about; without it, positions are shown without the line.
  package static func render(_ diagnostics: [Diagnostic], sourceText: String? = nil) -> String {
    let files = Set(diagnostics.compactMap { $0.position?.file })
    let sources = sourceText.map { text in files.map { ($0, text) } } ?? []
    return render(diagnostics, sources: Dictionary(uniqueKeysWithValues: sources))
  }

  /// As `render(_:sourceText:)`, of several files, by the names that positions carry.
  package static func render(_ diagnostics: [Diagnostic], sources: [String: String]) -> String {
    var lines: [String: [Int: String]] = [:]
    for (file, text) in sources {
      let wanted = Set(diagnostics.compactMap { $0.position?.file == file ? $0.position?.line : nil })
      lines[file] = excerptLines(of: text, wanted: wanted)
    }
    var secretColumns: [SourceLine: Int] = [:]
    for diagnostic in diagnostics where secretCodes.contains(diagnostic.code) {
      guard let position = diagnostic.position else { continue }
      let line = SourceLine(file: position.file, line: position.line)
      secretColumns[line] = min(position.column, secretColumns[line] ?? .max)
    }
    var text = ""
    for diagnostic in diagnostics {
      let place = diagnostic.position.map { "\($0): " } ?? ""
      text += "\(place)\(diagnostic.severity.rawValue) \(diagnostic.code): \(visible(diagnostic.message))\n"
      if let position = diagnostic.position, let line = lines[position.file]?[position.line] {
        let secretColumn = secretColumns[SourceLine(file: position.file, line: position.line)]
        text += excerpt(line, position, secretColumn: secretColumn)
      }
      if !diagnostic.advice.isEmpty { text += "   = \(visible(diagnostic.advice))\n" }
    }
    return text
  }

  private struct SourceLine: Hashable {
    var file: String
    var line: Int
  }

  private static func excerptLines(of text: String, wanted: Set<Int>) -> [Int: String] {
    var result: [Int: String] = [:]
    guard let last = wanted.max() else { return result }
    var number = 1
    var start = text.utf8.startIndex
    while number <= last, start <= text.utf8.endIndex {
      let end = text.utf8[start...].firstIndex(of: UInt8(ascii: "\n")) ?? text.utf8.endIndex
      if wanted.contains(number) { result[number] = String(text[start..<end]) }
      guard end < text.utf8.endIndex else { break }
      start = text.utf8.index(after: end)
      number += 1
    }
    return result
  }

  private static func excerpt(_ line: String, _ position: SourcePosition, secretColumn: Int?) -> String {
    var scalars = Array(withoutSecrets(line).unicodeScalars)
    if let secretColumn, secretColumn - 1 < scalars.count {
      scalars = scalars[..<max(0, secretColumn - 1)] + Array("(hidden)".unicodeScalars)
    }
    var column = min(position.column, scalars.count + 1)
    if scalars.count > maximumWidth {
      let start = max(0, min(column - maximumWidth / 2, scalars.count - maximumWidth))
      scalars = Array(scalars[start..<(start + maximumWidth)])
      column -= start
    }
    let number = String(position.line)
    let margin = String(repeating: " ", count: max(0, 4 - number.count))
    let blank = String(repeating: " ", count: max(4, number.count))
    var shown = String.UnicodeScalarView()
    // One column a scalar, so that the caret stands right whatever the line holds.
    shown.append(contentsOf: scalars.map { $0.value < 32 || $0.value == 127 ? " " : $0 })
    let indent = String(repeating: " ", count: max(0, column - 1))
    return "\(margin)\(number) | \(String(shown))\n\(blank) | \(indent)^\n"
  }

  /// A line is shown for one fault and may hold a secret in another place: literals after such keys are covered with
  /// as many asterisks, which keeps the columns.
  private static func withoutSecrets(_ line: String) -> String {
    let keys = ["secret", "password", "passphrase", "token"]
    guard keys.contains(where: { line.lowercased().contains($0) }) else { return line }
    var result: [Character] = []
    var word = ""
    var rest = Array(line)[...]
    while let character = rest.popFirst() {
      result.append(character)
      if character.isLetter || character.isNumber || character == "_" || character == "-" {
        word.append(character)
        continue
      }
      let isSecretKey = character == ":" && keys.contains { word.lowercased().contains($0) }
      if character != "\"" && character != "'" { word = "" }
      guard isSecretKey else { continue }
      while rest.first == " " { result.append(rest.removeFirst()) }
      if rest.first == "{" || rest.first == "#" || rest.starts(with: "[{") || rest.isEmpty { continue }
      while let next = rest.first, next != "}" {
        result.append("*")
        rest = rest.dropFirst()
      }
    }
    return String(result)
  }

  /// Text from the document can't move the cursor or colour the terminal.
  private static func visible(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: { $0.value < 32 || $0.value == 127 }) else { return text }
    var result = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      if scalar.value < 32 || scalar.value == 127 {
        result.append(contentsOf: "\\u{\(String(scalar.value, radix: 16))}".unicodeScalars)
      } else {
        result.append(scalar)
      }
    }
    return String(result)
  }
}
