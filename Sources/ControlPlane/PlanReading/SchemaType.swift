internal import YAMLTree

/// What a field may hold, as far as a JSON Schema can say it. The reader's own type says the rest.
indirect enum SchemaType: Sendable {
  /// Any one value taken as text. YAML's `4711` and `no` are text to the reader, so a schema lets them pass.
  case text
  /// Text with a form, as an ECMA 262 regular expression.
  case pattern(String)
  case boolean
  /// Nothing after the ':'.
  case null
  case integer(ClosedRange<Int>)
  case choice([String])
  /// As `choice`, written as a number too: a zone.
  case numericChoice([String])
  case list(SchemaType, minimum: Int)
  /// A mapping whose keys the user chooses.
  case map(keyPattern: String, SchemaType)
  case shape(Shape)
  case either([SchemaType])

  /// For messages: "a text", "a list".
  var noun: String {
    switch self {
    case .text, .pattern: "a text"
    case .boolean: "true or false"
    case .null: "nothing"
    case .integer: "a whole number"
    case .choice(let words), .numericChoice(let words): "one of " + words.joined(separator: ", ")
    case .list: "a list"
    case .map: "a mapping"
    case .shape: "a mapping"
    case .either(let types): types.first?.noun ?? "a value"
    }
  }
}

/// A field's type: how it is described, and how it is read. Reading reports every fault and then answers nil.
struct ValueType<Value: Sendable>: Sendable {
  let schema: SchemaType
  /// From text alone; nil for collections. Makes the table's defaults from their text.
  let parse: (@Sendable (String) throws(ValueFault) -> Value)?
  let read: @Sendable (YAMLNode, Reading) -> Value?

  init(
    schema: SchemaType, parse: (@Sendable (String) throws(ValueFault) -> Value)? = nil,
    read: @escaping @Sendable (YAMLNode, Reading) -> Value?
  ) {
    self.schema = schema
    self.parse = parse
    self.read = read
  }

  /// A scalar. `noun` is what messages call it: "a size such as '256 GiB'".
  init(schema: SchemaType, noun: String, parse: @escaping @Sendable (String) throws(ValueFault) -> Value) {
    self.schema = schema
    self.parse = parse
    self.read = { node, reading in
      guard let text = reading.text(node, expected: noun) else { return nil }
      do throws(ValueFault) {
        return try parse(text)
      } catch {
        reading.report(error, at: node)
        return nil
      }
    }
  }
}
