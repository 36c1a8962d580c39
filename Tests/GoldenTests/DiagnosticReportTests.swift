import Diagnostics
import Foundation
import Rendering
import Testing

@Suite struct DiagnosticReportTests {
  static let diagnostics = [
    Diagnostic(
      code: "CMC1101", at: SourcePosition(file: "a b,c/plän.yaml", line: 3, column: 5), "no key 'x'\n100%",
      advice: "did you mean 'y'?"),
    Diagnostic(.warning, code: "CMC1260", "no licence"),
  ]

  @Test func gitHubGetsAnnotations() {
    #expect(
      DiagnosticReport.github(Self.diagnostics) == """
        ::error file=a b%2Cc/plän.yaml,line=3,col=5,title=CMC1101::no key 'x'%0A100%25; did you mean 'y'?
        ::warning title=CMC1260::no licence

        """)
  }

  @Test func jsonIsAnObjectALine() throws {
    let lines = DiagnosticReport.json(Self.diagnostics).split(separator: "\n")
    #expect(lines.count == 2)
    let first = try #require(try JSONSerialization.jsonObject(with: Data(lines[0].utf8)) as? [String: Any])
    #expect(first["formatVersion"] as? Int == 1)
    #expect(first["line"] as? Int == 3)
    #expect(first["message"] as? String == "no key 'x'\n100%")
  }

  @Test func sarifNamesRulesAndPlaces() throws {
    let text = DiagnosticReport.sarif(Self.diagnostics) { $0 == "CMC1101" ? "every key has a meaning" : nil }
    let log = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    #expect(log["version"] as? String == "2.1.0")
    let run = try #require((log["runs"] as? [[String: Any]])?.first)
    let results = try #require(run["results"] as? [[String: Any]])
    #expect(results.map { $0["level"] as? String } == ["error", "warning"])
    #expect(text.contains("\"uri\":\"a%20b%2Cc/pl%C3%A4n.yaml\""))
    #expect(text.contains("\"id\":\"CMC1101\",\"shortDescription\":{\"text\":\"every key has a meaning\"}"))
  }

  @Test func textIsWrittenWithoutASource() {
    #expect(
      DiagnosticText.render(Self.diagnostics) == """
        a b,c/plän.yaml:3:5: error CMC1101: no key 'x'\\u{a}100%
           = did you mean 'y'?
        warning CMC1260: no licence

        """)
  }
}
