import Diagnostics
import Foundation
import MigrationModel
import PlanReading
import Rendering
import Testing

/// Each directory of `cases/reading` holds a `plan.yaml` and, in `expected.txt`, what a user is told about it.
/// UPDATE_GOLDEN=1 writes what is said now; read the difference before committing it.
@Suite struct ReadingCases {
  static let directory = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "cases/reading")

  static let names: [String] = {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
    return names.filter { !$0.hasPrefix(".") }.sorted()
  }()

  @Test func thereAreCases() { #expect(Self.names.count { !$0.hasPrefix("good-") } >= 150) }

  @Test(arguments: names) func saysWhatIsExpected(_ name: String) throws {
    let directory = Self.directory.appending(path: name)
    let bytes = [UInt8](try Data(contentsOf: directory.appending(path: "plan.yaml")))
    let (plan, diagnostics) = PlanReader.read(bytes: bytes, file: "plan.yaml")
    var text = DiagnosticText.render(diagnostics, sourceText: String(decoding: bytes, as: UTF8.self))
    if plan != nil { text += "plan read\n" }
    #expect((plan == nil) == diagnostics.hasErrors)
    #expect(name.hasPrefix("good-") == (plan != nil))
    if name.hasPrefix("secret-") { #expect(!text.contains("hunter2")) }
    let expectedFile = directory.appending(path: "expected.txt")
    if ProcessInfo.processInfo.environment["UPDATE_GOLDEN"] == "1" {
      try Data(text.utf8).write(to: expectedFile)
    }
    let expected = String(decoding: try Data(contentsOf: expectedFile), as: UTF8.self)
    #expect(text == expected)
  }
}
