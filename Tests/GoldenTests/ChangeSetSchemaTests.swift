import Foundation
import Testing

/// `schemas/change-set.schema.json` says what the JSON of every golden case is: no field too many, none missing.
@Suite struct ChangeSetSchemaTests {
  @Test(arguments: PlanningCases.names) func theSchemaSaysWhatIsPrinted(_ name: String) throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let file = root.appending(path: "schemas/change-set.schema.json")
    let schema = try #require(
      try JSONSerialization.jsonObject(with: try Data(contentsOf: file)) as? [String: Any])
    let printed = try Data(contentsOf: PlanningCases.directory.appending(path: "\(name)/expected.json"))
    let document = try JSONSerialization.jsonObject(with: printed)
    let checker = Checker(definitions: schema["$defs"] as? [String: [String: Any]] ?? [:])
    #expect(checker.problems(document, schema, "") == [])
  }

  /// The part of JSON Schema that the file uses; fields that the schema doesn't name are a fault here.
  private struct Checker {
    let definitions: [String: [String: Any]]

    func problems(_ value: Any, _ schema: [String: Any], _ path: String) -> [String] {
      if let reference = schema["$ref"] as? String, let name = reference.split(separator: "/").last {
        return definitions[String(name)].map { problems(value, $0, path) } ?? ["\(path): no \(reference)"]
      }
      if let allowed = schema["enum"] as? [String] {
        return allowed.contains(value as? String ?? "") ? [] : ["\(path): \(value) is none of \(allowed)"]
      }
      if let constant = schema["const"] as? NSObject {
        return constant.isEqual(value) ? [] : ["\(path): \(value) is not \(constant)"]
      }
      switch schema["type"] as? String {
      case "object": return object(value, schema, path)
      case "array":
        guard let list = value as? [Any], let items = schema["items"] as? [String: Any] else {
          return ["\(path): no list"]
        }
        return list.enumerated().flatMap { problems($1, items, "\(path)[\($0)]") }
      case "string": return value is String ? [] : ["\(path): no text"]
      case "boolean", "number", "integer": return value is NSNumber ? [] : ["\(path): no number or truth value"]
      default: return ["\(path): the schema says no type"]
      }
    }

    private func object(_ value: Any, _ schema: [String: Any], _ path: String) -> [String] {
      guard let fields = value as? [String: Any] else { return ["\(path): no object"] }
      guard let known = schema["properties"] as? [String: [String: Any]] else { return [] }
      let missing = (schema["required"] as? [String] ?? []).filter { fields[$0] == nil }
      var found = missing.map { "\(path)/\($0): missing" }
      for (name, inner) in fields.sorted(by: { $0.key < $1.key }) {
        guard let own = known[name] else {
          found.append("\(path)/\(name): not in the schema")
          continue
        }
        found += problems(inner, own, "\(path)/\(name)")
      }
      return found
    }
  }
}
