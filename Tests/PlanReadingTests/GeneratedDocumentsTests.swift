import Diagnostics
import Foundation
import Testing

@testable import PlanReading

/// A document as JSON, which is YAML too.
indirect enum Generated {
  case text(String)
  case number(Int)
  case flag(Bool)
  case nothing
  case list([Generated])
  case object([(key: String, value: Generated)])

  var json: String {
    switch self {
    case .text(let text):
      // JSON and YAML escape alike what is used here.
      return "\"" + text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\""
    case .number(let number): return String(number)
    case .flag(let flag): return String(flag)
    case .nothing: return "null"
    case .list(let items): return "[" + items.map(\.json).joined(separator: ", ") + "]"
    case .object(let members):
      return "{" + members.map { "\(Generated.text($0.key).json): \($0.value.json)" }.joined(separator: ", ") + "}"
    }
  }

  var count: Int {
    switch self {
    case .list(let items): items.reduce(1) { $0 + $1.count }
    case .object(let members): members.reduce(1) { $0 + $1.value.count }
    default: 1
    }
  }
}

/// Makes documents of the field table, right by themselves but for what two values must agree on, and breaks them.
struct DocumentGenerator {
  var random: SplitMix
  private var serial = 0

  init(seed: UInt64) { random = SplitMix(state: seed) }

  mutating func document() -> Generated {
    serial = 0
    return object(DocumentShape.the.shape, path: [])
  }

  private mutating func object(_ shape: Shape, path: [String]) -> Generated {
    var members: [(String, Generated)] = []
    let grouped = Set((shape.exactlyOneOf + shape.atMostOneOf).flatMap { $0 })
    let chosen =
      shape.exactlyOneOf.compactMap { $0.randomElement(using: &random) }
      + shape.atMostOneOf.compactMap { Bool.random(using: &random) ? $0.randomElement(using: &random) : nil }
    for field in shape.fields {
      let isWanted =
        grouped.contains(field.name)
        ? chosen.contains(field.name)
        : field.isRequired || ["integrations", "azureVirtualMachine", "address", "sku"].contains(field.name)
          || Int.random(in: 0..<10, using: &random) < 3
      if isWanted { members.append((field.name, value(field.schema, field: field.name, path: path + [field.name]))) }
    }
    return .object(members)
  }

  private mutating func value(_ schema: SchemaType, field: String, path: [String]) -> Generated {
    switch schema {
    case .shape(let shape): return object(shape, path: path)
    case .list(let element, let minimum):
      let count = Int.random(in: max(1, minimum)...max(2, minimum), using: &random)
      var items: [Generated] = []
      for _ in 0..<count { items.append(value(element, field: field, path: path)) }
      return .list(items)
    case .map(_, let element):
      // Two hosts and one of everything else: names that others can refer to.
      let names = field == "hosts" ? ["h1", "h2"] : field == "tags" ? ["tier"] : field == "variables" ? ["v"] : ["n1"]
      var members: [(String, Generated)] = []
      for name in names { members.append((name, value(element, field: field, path: path + [name]))) }
      return .object(members)
    case .either(let types):
      guard let type = types.randomElement(using: &random) else { return .nothing }
      return value(type, field: field, path: path)
    case .choice(let words), .numericChoice(let words): return .text(words.randomElement(using: &random) ?? "")
    case .integer(let range): return .number(Int.random(in: range, using: &random))
    case .boolean: return .flag(field == "operatingSystemLicensed" || Bool.random(using: &random))
    case .null: return .nothing
    case .text: return .text(field == "run" ? "umount /srv" : "some text")
    case .pattern(let pattern): return .text(text(pattern, field: field, path: path))
    }
  }

  private mutating func text(_ pattern: String, field: String, path: [String]) -> String {
    serial += 1
    let texts: [String: String] = [
      "source": "h1", "destination": "h2", "host": "h1", "integration": "n1", "name": "n\(serial)",
      "device": "/dev/mapper/d\(serial)", "root": "r\(serial)", "size": "\(serial) GiB", "throughput": "400 MB/s",
      "networkLimit": "1 Gbit/s", "latencyBound": "20%", "interval": "15m", "linkLossTimeout": "5s",
      "confirmWithin": "30m", "timeout": "60s", "from": "02:00", "to": "04:00", "timeZone": "Europe/Berlin",
      "env": "SECRET", "file": "/run/secret", "address": "192.0.2.\(serial % 250)", "jump": "bastion",
      "identityFile": "~/.ssh/id", "user": "admin", "azureVirtualMachine": "vm", "resourceGroup": "rg",
      "location": "westeurope", "certificateAuthority": "ca.pem", "authority": "https://localhost:1",
      "resourceManager": "https://localhost:2", "tenantId": "11111111-1111-1111-1111-111111111111",
      "id": path.first == "metadata"
        ? "6f1c0c9e-6c1e-4f0e-9d1c-2f6b5a0d7e11"
        : "/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/a/providers/Microsoft.Compute/disks/b",
      "encryptionSet":
        "/subscriptions/2/resourceGroups/a/providers/Microsoft.Compute/diskEncryptionSets/b",
    ]
    return texts[field] ?? (pattern.contains("{8}-") ? "22222222-2222-2222-2222-222222222222" : "n1")
  }

  /// The same document with one thing wrong somewhere.
  mutating func broken(_ document: Generated) -> Generated {
    var place = Int.random(in: 1..<max(2, document.count), using: &random)
    return change(document, &place)
  }

  private mutating func change(_ value: Generated, _ place: inout Int) -> Generated {
    if place == 0 {
      place = -1
      return odd(value)
    }
    place -= 1
    switch value {
    case .list(let items):
      var result: [Generated] = []
      for item in items { result.append(place < 0 ? item : change(item, &place)) }
      return .list(result)
    case .object(let members):
      var result: [(String, Generated)] = []
      for (key, inner) in members {
        guard place == 0 else {
          result.append((key, place < 0 ? inner : change(inner, &place)))
          continue
        }
        switch Int.random(in: 0..<4, using: &random) {
        case 0: place = -1
        case 1:
          place = -1
          result.append((key + "x", inner))
        default: result.append((key, change(inner, &place)))
        }
      }
      return .object(result)
    default: return value
    }
  }

  private mutating func odd(_ value: Generated) -> Generated {
    let values: [Generated] = [
      .nothing, .text(""), .text("x y"), .text("no"), .number(0), .number(7), .number(-1), .flag(true), .list([value]),
      .list([]), .object([]), .object([("odd", value)]), .text("{var:v}"), .text("-x"), .number(99_999_999),
      .text("15"),
    ]
    return values.randomElement(using: &random) ?? .nothing
  }
}

/// SplitMix64: the same documents every time.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}

/// Schema and reader accept the same documents, but for rules that a schema can't express. CMC_DOCUMENTS sets how many
/// are made, CMC_DOCUMENTS_SEED which ones.
@Suite struct GeneratedDocumentsTests {
  private static func setting(_ name: String) -> Int? { ProcessInfo.processInfo.environment[name].flatMap { Int($0) } }
  static let count = setting("CMC_DOCUMENTS") ?? 400

  @Test(.enabled(if: SchemaTests.hasValidator, "python3 has no jsonschema or no yaml"), .timeLimit(.minutes(10)))
  func schemaAndReaderAgree() throws {
    let directory = FileManager.default.temporaryDirectory.appending(path: "generated-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    var generator = DocumentGenerator(seed: UInt64(Self.setting("CMC_DOCUMENTS_SEED") ?? 1))
    var files: [(path: String, text: String, diagnostics: [Diagnostic])] = []
    for index in 0..<Self.count {
      let right = generator.document()
      for (kind, document) in [("right", right), ("broken", generator.broken(right))] {
        let text = document.json
        let path = directory.appending(path: "\(index)-\(kind).json").path
        try Data(text.utf8).write(to: URL(filePath: path))
        files.append((path, text, read(text).diagnostics))
      }
    }
    let verdicts = try SchemaTests.verdicts(files.map(\.path))
    try #require(verdicts.count == files.count)
    var accepted = 0
    var refused = 0
    for ((_, text, diagnostics), verdict) in zip(files, verdicts) {
      let errors = Set(diagnostics.filter { $0.severity == .error }.map(\.code))
      if errors.isEmpty { accepted += 1 }
      if !verdict.hasSuffix("\tvalid") {
        refused += 1
        #expect(!errors.isEmpty, "only the schema refuses it: \(verdict)\n\(text)")
      } else {
        // Of a variable's value a schema sees nothing; of other values not their length, nor what databases know.
        let beyond = text.contains("{var:") ? SchemaTests.beyondSchema : ["CMC1107", "CMC1108", "CMC1112", "CMC1114"]
        let unseen = errors.subtracting(beyond).filter { !$0.hasPrefix("CMC12") }
        #expect(
          unseen.isEmpty, "only the reader refuses it: \(diagnostics.filter { unseen.contains($0.code) })\n\(text)")
      }
    }
    // Both kinds of verdict are tried often enough to mean something.
    #expect(accepted > Self.count / 20, "\(accepted) of \(files.count) accepted")
    #expect(refused > Self.count / 4, "\(refused) of \(files.count) refused")
  }
}
