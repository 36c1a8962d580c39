/// One row of the field table.
struct FieldSpec: Sendable {
  var name: String
  var schema: SchemaType
  var isRequired: Bool
  /// As it would be written.
  var defaultText: String?
  var description: String
  /// As they would be written.
  var examples: [String]
  /// In place of an example that nobody should copy.
  var adviceIfMissing: String?
}

/// A handle on a row of the field table that knows the type of what is read.
struct Field<Value: Sendable>: Sendable {
  let name: String
  /// Of its row, in the shape that it was made for.
  let index: Int
  let type: ValueType<Value>
  let defaultValue: Value?
}

/// A mapping with known keys: its part of the field table. The reader and the JSON Schema are both made of it.
final class Shape: Sendable {
  /// Names the definition in the schema: "volume".
  let name: String
  /// What messages call it: "a volume".
  let noun: String
  let description: String
  let fields: [FieldSpec]
  /// Keys of which exactly one must be there.
  let exactlyOneOf: [[String]]
  /// Keys that exclude each other.
  let atMostOneOf: [[String]]
  let indexes: [String: Int]
  /// Of the fields that must be there.
  let required: [Int]

  init(_ table: FieldTable) {
    name = table.name
    noun = table.noun
    description = table.description
    fields = table.fields
    exactlyOneOf = table.exactlyOneOf
    atMostOneOf = table.atMostOneOf
    indexes = Dictionary(uniqueKeysWithValues: table.fields.enumerated().map { ($1.name, $0) })
    required = table.fields.indices.filter { table.fields[$0].isRequired }
  }

  /// The row of a field, also of one that was made for another shape and copied from there.
  func index<Value>(of field: Field<Value>) -> Int? {
    if field.index < fields.count, fields[field.index].name == field.name { return field.index }
    return indexes[field.name]
  }

  /// The shape below one of the fields, through lists and maps.
  func child(_ field: FieldSpec) -> Shape? { Self.shape(in: field.schema) }

  private static func shape(in schema: SchemaType) -> Shape? {
    switch schema {
    case .shape(let shape): shape
    case .list(let element, _), .map(_, let element): shape(in: element)
    case .either(let types): types.lazy.compactMap { shape(in: $0) }.first
    default: nil
    }
  }
}

/// Collects the rows of one shape.
struct FieldTable {
  let name: String
  let noun: String
  let description: String
  private(set) var fields: [FieldSpec] = []
  var exactlyOneOf: [[String]] = []
  var atMostOneOf: [[String]] = []

  init(_ name: String, noun: String? = nil, _ description: String) {
    self.name = name
    self.noun = noun ?? name
    self.description = description
  }

  /// Adds a row. `defaultText` goes through the type's own parser, so that the table can't promise what isn't so.
  mutating func add<Value>(
    _ name: String, _ type: ValueType<Value>, required: Bool = false, default defaultText: String? = nil,
    examples: [String] = [], adviceIfMissing: String? = nil, _ description: String
  ) -> Field<Value> {
    fields.append(
      FieldSpec(
        name: name, schema: type.schema, isRequired: required, defaultText: defaultText, description: description,
        examples: examples, adviceIfMissing: adviceIfMissing))
    var defaultValue: Value?
    if let defaultText, let parse = type.parse {
      defaultValue = try? parse(defaultText)
      precondition(defaultValue != nil, "the default of '\(name)' is not a value of its type")
    }
    return Field(name: name, index: fields.count - 1, type: type, defaultValue: defaultValue)
  }

  fileprivate mutating func appendRow(_ field: FieldSpec) { fields.append(field) }
}

extension FieldTable {
  /// Adds rows of another shape, none of them required and none with a default: what `defaults:` may say.
  mutating func copy(from shape: Shape, where isWanted: (String) -> Bool) {
    for var field in shape.fields where isWanted(field.name) {
      field.isRequired = false
      field.defaultText = nil
      appendRow(field)
    }
  }
}
