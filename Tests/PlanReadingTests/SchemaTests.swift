import Diagnostics
import Foundation
import PlanReading
import Testing
import YAMLTree

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

  /// What the validator says of each file, a line each: its path, a tab, and "valid" or the first fault.
  static func verdicts(_ files: [String]) throws -> [String] {
    let script = package.appending(path: "Tests/PlanReadingTests/validate.py").path
    let list = FileManager.default.temporaryDirectory.appending(path: "files-\(UUID().uuidString)")
    try Data(files.map { $0 + "\n" }.joined().utf8).write(to: list)
    defer { try? FileManager.default.removeItem(at: list) }
    let (status, output) = try run([script, committed.path, "@" + list.path])
    #expect(status == 0, "\(output)")
    return output.split(separator: "\n").map(String.init)
  }

  /// Documents that the reader accepts pass the schema too, and the faults that a schema can see do not. What the
  /// validator says comes one line a document: its path, a tab, and "valid" or the first fault.
  @Test(.enabled(if: hasValidator, "python3 has no jsonschema or no yaml"), .timeLimit(.minutes(10)))
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
      let isValid = line.hasSuffix("\tvalid")
      if name.hasPrefix("good-") || file.contains("/examples/") { #expect(isValid, "\(line)") }
      if Self.seenBySchema.contains(where: { name.hasPrefix($0) }) { #expect(!isValid, "\(line)") }
    }
  }

  /// Every value of the design's sample replaced by odd ones: what the reader takes, the schema takes, and what only
  /// the reader refuses is a rule that a schema can't express.
  @Test(.enabled(if: hasValidator, "python3 has no jsonschema or no yaml"), .timeLimit(.minutes(5)))
  func editorsAgreeWithTheReaderOnOddValues() throws {
    let text = try #require(try Files.goodPlans().first { $0.name == "good-design" }).text
    let tree = try #require(YAMLTree.parse(bytes: Array(text.utf8), file: "plan.yaml").tree)
    let odd = ["no", "012", "x y", "~", "[a]", "\"{var:v}\""]
    let directory = FileManager.default.temporaryDirectory.appending(path: "schema-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    var expected: [(file: String, diagnostics: [Diagnostic])] = []
    for value in Self.plainValues(tree.root) {
      for replacement in odd {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { Array($0) }
        let start = value.column - 1
        lines[value.line - 1].replaceSubrange(start..<(start + value.text.count), with: Array(replacement))
        let document = lines.map { String($0) }.joined(separator: "\n") + "variables: {v: w}\n"
        let file = directory.appending(path: "\(value.line)-\(value.column)-\(expected.count).yaml").path
        try Data(document.utf8).write(to: URL(filePath: file))
        expected.append((file, read(document).diagnostics))
      }
    }
    #expect(expected.count > 300)
    let script = Self.package.appending(path: "Tests/PlanReadingTests/validate.py").path
    let (status, output) = try Self.run([script, Self.committed.path] + expected.map(\.file))
    #expect(status == 0)
    for ((_, diagnostics), line) in zip(expected, output.split(separator: "\n")) {
      let isValid = line.hasSuffix("\tvalid")
      if !diagnostics.hasErrors { #expect(isValid, "\(line)") }
      if isValid {
        let errors = Set(diagnostics.filter { $0.severity == .error }.map(\.code))
        let unseen = errors.subtracting(Self.beyondSchema).filter { !$0.hasPrefix("CMC12") }
        #expect(unseen.isEmpty, "\(line): \(diagnostics.filter { unseen.contains($0.code) })")
      }
    }
  }

  private static func plainValues(_ node: YAMLNode) -> [YAMLNode] {
    switch node.kind {
    case .scalar: node.isExplicitText || node.text.isEmpty ? [] : [node]
    case .sequence: node.elements.flatMap(plainValues)
    case .mapping: node.entries.flatMap { plainValues($0.value) }
    }
  }

  /// What a schema doesn't say: the value of a variable, the length of a text, the database of time zones.
  static let beyondSchema: Set<String> = [
    "CMC1104", "CMC1105", "CMC1106", "CMC1107", "CMC1108", "CMC1111", "CMC1112", "CMC1114",
    "CMC1121",
  ]

  static let seenBySchema = [
    "key-", "kind-", "type-list", "type-text", "type-days", "type-boolean", "number-", "unit-", "enum-", "time-",
    "secret-literal", "secret-as", "secret-in", "ids-", "names-", "cloud-unknown", "disk-and-", "disk-nothing",
    "host-ssh-", "window-list-empty",
  ]
}
