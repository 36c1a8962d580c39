import Diagnostics
import Foundation
import Testing

@testable import PlanCommands

@Suite struct ExplanationTests {
  /// Codes in quotes, as they stand in the sources.
  private static func used() throws -> Set<String> {
    let sources = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "Sources")
    let files = try #require(FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil))
    var found: Set<String> = []
    for case let file as URL in files where file.pathExtension == "swift" {
      let name = file.lastPathComponent
      // There a code is explained, which is not to say it.
      if name.hasSuffix("Explanations.swift") || name == "RuleCatalogue.swift" { continue }
      for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
      where !line.drop(while: { $0 == " " }).hasPrefix("//") {
        found.formUnion(line.matches(of: /"(CMC[0-9]{4})"/).map { String($0.1) })
      }
    }
    return found
  }

  @Test func everyCodeThatIsSaidIsExplainedAndNoOther() throws {
    // Said where it is explained: the removal of an agent has no table of codes of its own.
    let used = try Self.used()
    #expect(used.count > 150)
    let explained = Explanations.all.map(\.code)
    #expect(used.subtracting(explained).sorted() == [])
    #expect(Set(explained).subtracting(used).sorted() == [])
    #expect(Set(explained).count == explained.count, "no code is explained twice")
  }

  @Test func noCodeHasTwoNames() throws {
    // Of constants, one file at a time; codes that are written out may be said in several places.
    let values = [DefinedCodes.planning, DefinedCodes.apply].flatMap { $0 }
    #expect(Set(values).count == values.count)
  }

  @Test func explanationsAreForPeople() {
    #expect(
      Explanations.text(of: "cmc1243") == """
        CMC1243: a disk has whole GiB.

        Azure takes no other size. 500 GB are 465.7 GiB.

            size: 466 GiB

        """)
    #expect(Explanations.text(of: "CMC2043").hasPrefix("CMC2043: a name is free before another session gets it."))
    #expect(Explanations.text(of: "CMC124").hasPrefix("There is no rule CMC124"))
    let incomplete = Explanations.all.filter { $0.rule.isEmpty || $0.reason.isEmpty || $0.example.isEmpty }
    #expect(incomplete.map(\.code) == [])
    #expect(Explanations.all.filter { $0.rule.hasSuffix(".") || $0.example.hasSuffix("\n") }.map(\.code) == [])
  }
}

/// The codes that files define by name, as they stand there.
private enum DefinedCodes {
  static let planning = codes(in: "Planning/Preflight.swift")
  static let apply = codes(in: "Reconciling/ReconcileLimits.swift")

  private static func codes(in file: String) -> [String] {
    let path = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "Sources/ControlPlane/\(file)")
    let text = (try? String(contentsOf: path, encoding: .utf8)) ?? ""
    return text.matches(of: /static let [a-zA-Z]+ = "(CMC[0-9]{4})"/).map { String($0.1) }
  }
}
