internal import YAMLTree

/// The JSON Schema of a migration plan, made of the same field table that the reader uses.
///
/// What the reader accepts, the schema accepts. The reverse holds but for rules that look at more than one value:
/// references, devices used twice, the limits of disks.
package enum PlanSchema {
  /// The schema (draft 2020-12) as pretty-printed JSON with a newline at the end; the same text every time.
  ///
  /// - Parameter ofPart: of one file of a plan that is split over several: no key is required at the top level.
  package static func json(ofPart: Bool = false) -> String {
    var definitions: [String: JSONValue] = [:]
    collect(DocumentShape.the.shape, into: &definitions)
    let root = definitions.removeValue(forKey: DocumentShape.the.shape.name)
    definitions[variableReference] = .object([
      ("type", .string("string")), ("pattern", .string("\\{var:[A-Za-z_][A-Za-z0-9_]*\\}")),
      ("description", .string("The value of a variable, as in \"{var:NAME}\".")),
    ])
    var members: [(String, JSONValue)] = [
      ("$schema", .string("https://json-schema.org/draft/2020-12/schema")),
      ("title", .string("cmcplan migration plan")),
    ]
    if case .object(let fields)? = root { members += fields.filter { !ofPart || $0.0 != "required" } }
    members.append(("$defs", .object(definitions.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })))
    return JSONValue.object(members).pretty() + "\n"
  }

  private static let variableReference = "variableReference"

  private static func collect(_ shape: Shape, into definitions: inout [String: JSONValue]) {
    guard definitions[shape.name] == nil else { return }
    definitions[shape.name] = object(shape)
    for field in shape.fields {
      for child in shapes(in: field.schema) { collect(child, into: &definitions) }
    }
  }

  private static func shapes(in schema: SchemaType) -> [Shape] {
    switch schema {
    case .shape(let shape): [shape]
    case .list(let element, _), .map(_, let element): shapes(in: element)
    case .either(let types): types.flatMap { shapes(in: $0) }
    default: []
    }
  }

  private static func object(_ shape: Shape) -> JSONValue {
    var members: [(String, JSONValue)] = [
      ("type", .string("object")), ("description", .string(shape.description)),
      ("properties", .object(shape.fields.map { ($0.name, property($0)) })), ("additionalProperties", .boolean(false)),
    ]
    let required = shape.fields.filter(\.isRequired).map { JSONValue.string($0.name) }
    if !required.isEmpty { members.append(("required", .array(required))) }
    let groups =
      shape.exactlyOneOf.map { group in JSONValue.object([("oneOf", .array(group.map { requires([$0]) }))]) }
      + shape.atMostOneOf.map { .object([("not", requires($0))]) }
    if !groups.isEmpty { members.append(("allOf", .array(groups))) }
    return .object(members)
  }

  private static func requires(_ names: [String]) -> JSONValue {
    .object([("required", .array(names.map { .string($0) }))])
  }

  private static func property(_ field: FieldSpec) -> JSONValue {
    var members: [(String, JSONValue)] = [("description", .string(field.description))]
    members += schema(field.schema)
    if let text = field.defaultText { members.append(("default", value(text))) }
    if !field.examples.isEmpty { members.append(("examples", .array(field.examples.map { value($0) }))) }
    return .object(members)
  }

  private static func schema(_ type: SchemaType) -> [(String, JSONValue)] {
    switch type {
    case .text:
      return [("type", .array([.string("string"), .string("number"), .string("boolean")]))]
    case .pattern(let pattern):
      return [("type", types(matching: pattern)), ("pattern", .string(pattern + "|\\{var:"))]
    case .null:
      return [("type", .string("null"))]
    case .boolean:
      return orVariable([("type", .string("boolean"))])
    case .integer(let range):
      return orVariable([
        ("type", .string("integer")), ("minimum", .integer(range.lowerBound)), ("maximum", .integer(range.upperBound)),
      ])
    case .choice(let words) where words.count == 1:
      return [("enum", .array(words.map { .string($0) }))]
    case .choice(let words):
      return orVariable([("enum", .array(words.map { .string($0) }))])
    case .numericChoice(let words):
      return orVariable([
        ("enum", .array(words.map { .string($0) } + words.compactMap { Int($0).map { .integer($0) } }))
      ])
    case .list(let element, let minimum):
      let items: [(String, JSONValue)] = [("type", .string("array")), ("items", .object(schema(element)))]
      return minimum > 0 ? items + [("minItems", .integer(minimum))] : items
    case .map(let pattern, let element):
      return [
        ("type", .string("object")), ("propertyNames", .object([("pattern", .string(pattern))])),
        ("additionalProperties", .object(schema(element))),
      ]
    case .shape(let shape):
      return [("$ref", .string("#/$defs/\(shape.name)"))]
    case .either(let types):
      return [("anyOf", .array(types.map { .object(schema($0)) }))]
    }
  }

  private static func orVariable(_ schema: [(String, JSONValue)]) -> [(String, JSONValue)] {
    [("anyOf", .array([.object(schema), .object([("$ref", .string("#/$defs/\(variableReference)"))])]))]
  }

  /// A form that `1` or `true` has may be written without quotes, where YAML makes a number or boolean of it.
  private static func types(matching pattern: String) -> JSONValue {
    guard let expression = try? Regex(pattern) else { return .string("string") }
    var names = ["string"]
    if "1".firstMatch(of: expression) != nil { names.append("number") }
    if "true".firstMatch(of: expression) != nil { names.append("boolean") }
    return names.count == 1 ? .string("string") : .array(names.map { .string($0) })
  }

  /// The table's examples and defaults are YAML, as users write them.
  private static func value(_ text: String) -> JSONValue {
    guard let tree = YAMLTree.parse(bytes: Array(text.utf8), file: "").tree else { return .string(text) }
    return value(tree.root)
  }

  private static func value(_ node: YAMLNode) -> JSONValue {
    switch node.kind {
    case .sequence: return .array(node.elements.map { value($0) })
    case .mapping: return .object(node.entries.map { ($0.key.text, value($0.value)) })
    case .scalar:
      let text = node.text
      if node.isExplicitText { return .string(text) }
      if let number = Int(text) { return .integer(number) }
      return text == "true" ? .boolean(true) : text == "false" ? .boolean(false) : .string(text)
    }
  }
}

/// JSON to be written, with members in the order given.
indirect enum JSONValue {
  case string(String)
  case integer(Int)
  case boolean(Bool)
  case array([JSONValue])
  case object([(String, JSONValue)])

  func pretty(indent: Int = 0) -> String {
    let inner = String(repeating: "  ", count: indent + 1)
    let outer = String(repeating: "  ", count: indent)
    switch self {
    case .string(let text): return Self.quoted(text)
    case .integer(let number): return String(number)
    case .boolean(let flag): return String(flag)
    case .array(let items):
      if items.isEmpty { return "[]" }
      let isFlat = items.allSatisfy { item in
        switch item {
        case .array, .object: false
        default: true
        }
      }
      if isFlat { return "[" + items.map { $0.pretty() }.joined(separator: ", ") + "]" }
      return "[\n" + items.map { inner + $0.pretty(indent: indent + 1) }.joined(separator: ",\n") + "\n\(outer)]"
    case .object(let members):
      if members.isEmpty { return "{}" }
      let lines = members.map { "\(inner)\(Self.quoted($0.0)): \($0.1.pretty(indent: indent + 1))" }
      return "{\n" + lines.joined(separator: ",\n") + "\n\(outer)}"
    }
  }

  private static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\t": result += "\\t"
      default:
        if scalar.value < 32 {
          let digits = String(scalar.value, radix: 16)
          result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        } else {
          result.unicodeScalars.append(scalar)
        }
      }
    }
    return result + "\""
  }
}
