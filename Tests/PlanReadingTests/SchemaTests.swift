import Foundation
import PlanReading
import Testing

@Suite struct SchemaTests {
  static let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()
  static let committed = package.appending(path: "schemas/migration-plan.schema.json")
  static let cases = package.appending(path: "Tests/GoldenTests/cases/reading")

  /// UPDATE_SCHEMA=1 writes the file.
  @Test func theCommittedSchemaIsTheFieldTables() throws {
    let json = PlanSchema.json()
    if ProcessInfo.processInfo.environment["UPDATE_SCHEMA"] == "1" {
      try FileManager.default.createDirectory(
        at: Self.committed.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data(json.utf8).write(to: Self.committed)
    }
    let text = String(decoding: try Data(contentsOf: Self.committed), as: UTF8.self)
    #expect(text == json, "run UPDATE_SCHEMA=1 swift test --filter SchemaTests")
  }

  @Test func itIsTheSameEveryTime() { #expect(PlanSchema.json() == PlanSchema.json()) }

  static let hasValidator: Bool = (try? run(["-c", "import jsonschema, yaml"]).status) == 0

  private static func run(_ arguments: [String]) throws -> (status: Int32, output: String) {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/python3")
    process.arguments = arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus, output)
  }

  /// Documents that the reader accepts pass the schema too, and the faults that a schema can see do not. What the
  /// validator says comes one line a document: its path, a space, and "valid" or the first fault.
  @Test(.enabled(if: hasValidator, "python3 has no jsonschema or no yaml"), .timeLimit(.minutes(2)))
  func editorsAgreeWithTheReader() throws {
    let names = try FileManager.default.contentsOfDirectory(atPath: Self.cases.path).sorted()
    var files = names.map { Self.cases.appending(path: "\($0)/plan.yaml").path }
    let examples = Self.package.appending(path: "examples")
    let walker = FileManager.default.enumerator(atPath: examples.path)
    while let path = walker?.nextObject() as? String {
      if path.hasSuffix("/plan.yaml") { files.append(examples.appending(path: path).path) }
    }
    let script = Self.package.appending(path: "Tests/PlanReadingTests/validate.py").path
    let (status, output) = try Self.run([script, Self.committed.path] + files)
    #expect(status == 0, "\(output)")
    let lines = output.split(separator: "\n").map(String.init)
    #expect(lines.count == files.count)
    for (file, line) in zip(files, lines) {
      let name = URL(filePath: file).deletingLastPathComponent().lastPathComponent
      let isValid = line.hasSuffix(" valid")
      if name.hasPrefix("good-") || file.contains("/examples/") { #expect(isValid, "\(line)") }
      if Self.seenBySchema.contains(where: { name.hasPrefix($0) }) { #expect(!isValid, "\(line)") }
    }
  }

  static let seenBySchema = [
    "key-", "kind-", "type-list", "type-text", "type-days", "type-boolean", "number-", "unit-", "enum-", "time-",
    "secret-literal", "secret-as", "secret-in", "ids-", "names-", "cloud-unknown", "disk-and-", "disk-nothing",
    "host-ssh-", "window-list-empty",
  ]
}
