package import Diagnostics

/// Diagnostics for programs: a line of JSON each, GitHub's workflow commands, or SARIF. Positions count from 1, columns
/// in Unicode code points. `DiagnosticText` is for people.
package enum DiagnosticReport {
  /// One object a line, keys sorted, each with `kind` and `formatVersion`. Readers ignore fields that they don't
  /// know, and refuse a `formatVersion` that they don't know.
  package static func json(_ diagnostics: [Diagnostic]) -> String {
    diagnostics.map { encoded(Line($0)) + "\n" }.joined()
  }

  private struct Line: Encodable {
    var kind = "diagnostic"
    var formatVersion = 1
    var severity: String
    var code: String
    var file: String?
    var line: Int?
    var column: Int?
    var message: String
    var advice: String
    init(_ diagnostic: Diagnostic) {
      severity = diagnostic.severity.rawValue
      code = diagnostic.code
      file = diagnostic.position?.file
      line = diagnostic.position?.line
      column = diagnostic.position?.column
      message = diagnostic.message
      advice = diagnostic.advice
    }
  }

  /// Annotations of a pull request (https://docs.github.com/actions/reference/workflow-commands-for-github-actions).
  package static func github(_ diagnostics: [Diagnostic]) -> String {
    diagnostics.map { diagnostic in
      let command =
        switch diagnostic.severity {
        case .error: "error"
        case .warning: "warning"
        case .note: "notice"
        }
      var properties: [String] = []
      if let position = diagnostic.position {
        properties = ["file=\(property(position.file))", "line=\(position.line)", "col=\(position.column)"]
      }
      properties.append("title=\(property(diagnostic.code))")
      return "::\(command) \(properties.joined(separator: ","))::\(escaped(sentence(diagnostic)))\n"
    }.joined()
  }

  private static func sentence(_ diagnostic: Diagnostic) -> String {
    diagnostic.advice.isEmpty ? diagnostic.message : "\(diagnostic.message); \(diagnostic.advice)"
  }

  private static func escaped(_ text: String) -> String {
    safeLines(text).replacing("%", with: "%25").replacing("\r", with: "%0D").replacing("\n", with: "%0A")
  }

  private static func property(_ text: String) -> String {
    escaped(text).replacing(":", with: "%3A").replacing(",", with: "%2C")
  }

  /// A SARIF 2.1.0 log (https://docs.oasis-open.org/sarif/sarif/v2.1.0). `rules` gives a sentence for a code.
  package static func sarif(_ diagnostics: [Diagnostic], rules: (String) -> String? = { _ in nil }) -> String {
    let codes = Set(diagnostics.map(\.code)).sorted()
    let driver = Driver(
      rules: codes.map { code in Rule(id: code, shortDescription: rules(code).map { Text(text: $0) }) })
    return encoded(Log(runs: [Run(tool: Tool(driver: driver), results: diagnostics.map { Result($0) })])) + "\n"
  }

  private struct Text: Encodable { var text: String }
  private struct Log: Encodable {
    enum CodingKeys: String, CodingKey {
      case schema = "$schema"
      case version, runs
    }
    var schema = "https://json.schemastore.org/sarif-2.1.0.json"
    var version = "2.1.0"
    var runs: [Run]
  }
  private struct Run: Encodable {
    var tool: Tool
    var columnKind = "unicodeCodePoints"
    var results: [Result]
  }
  private struct Tool: Encodable { var driver: Driver }
  private struct Driver: Encodable {
    var name = "cmcplan"
    var rules: [Rule]
  }
  private struct Rule: Encodable {
    var id: String
    var shortDescription: Text?
  }
  private struct Result: Encodable {
    var ruleId: String
    var level: String
    var message: Text
    var locations: [Location]
    init(_ diagnostic: Diagnostic) {
      ruleId = diagnostic.code
      level = diagnostic.severity.rawValue
      message = Text(text: sentence(diagnostic))
      locations = diagnostic.position.map { [Location($0)] } ?? []
    }
  }
  private struct Location: Encodable {
    struct Physical: Encodable {
      var artifactLocation: Artifact
      var region: Region
    }
    struct Artifact: Encodable { var uri: String }
    struct Region: Encodable {
      var startLine: Int
      var startColumn: Int
    }
    var physicalLocation: Physical
    init(_ position: SourcePosition) {
      physicalLocation = Physical(
        artifactLocation: Artifact(uri: uri(position.file)),
        region: Region(startLine: position.line, startColumn: position.column))
    }
  }

  /// A path as a URI reference: what isn't unreserved or '/' is percent-encoded (RFC 3986 section 2).
  private static func uri(_ path: String) -> String {
    var result = ""
    for byte in path.utf8 {
      let scalar = UnicodeScalar(byte)
      if scalar.isASCII, scalar.properties.isAlphabetic || (48...57).contains(byte) || "-._~/".utf8.contains(byte) {
        result.unicodeScalars.append(scalar)
      } else {
        let digits = String(byte, radix: 16, uppercase: true)
        result += "%" + (digits.count < 2 ? "0" : "") + digits
      }
    }
    return result
  }
}
