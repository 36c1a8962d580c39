import Diagnostics
import Foundation
import PlanReading
import Testing

@Suite struct RuleCatalogueTests {
  @Test func everyCodeThatIsReportedIsExplained() throws {
    var used: Set<String> = []
    for room in ["YAMLTree", "PlanReading"] {
      let directory = Files.package.appending(path: "Sources/ControlPlane/\(room)")
      for name in try FileManager.default.contentsOfDirectory(atPath: directory.path)
      where name.hasSuffix(".swift") && name != "RuleCatalogue.swift" {
        let text = try String(contentsOf: directory.appending(path: name), encoding: .utf8)
        used.formUnion(text.matches(of: /"(CMC1[0-9]{3})"/).map { String($0.1) })
      }
    }
    let explained = RuleCatalogue.rules.map(\.code)
    #expect(Set(explained) == used)
    #expect(explained == explained.sorted())
    #expect(Set(explained).count == explained.count)
  }
}
