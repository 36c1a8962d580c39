import Foundation

/// JSON as a value that keeps the order of its members, because the service's answers have one.
enum JSONValue: Sendable, Equatable {
  case null
  case bool(Bool)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object(JSONObject)

  /// Nil where `bytes` are no JSON.
  static func parse(_ bytes: [UInt8]) -> JSONValue? { try? JSONDecoder().decode(JSONValue.self, from: Data(bytes)) }

  subscript(_ name: String) -> JSONValue? {
    if case .object(let object) = self { object[name] } else { nil }
  }

  var text: String? { if case .string(let text) = self { text } else { nil } }
  var flag: Bool? { if case .bool(let flag) = self { flag } else { nil } }
  var double: Double? { if case .number(let number) = self { number } else { nil } }
  var integer: Int? { double.flatMap { Int(exactly: $0) } }
  var items: [JSONValue]? { if case .array(let items) = self { items } else { nil } }
  var object: JSONObject? { if case .object(let object) = self { object } else { nil } }
  var isNull: Bool { self == .null }

  /// An object of strings, such as tags; nil where it is anything else.
  var strings: [String: String]? {
    guard case .object(let object) = self else { return nil }
    var result: [String: String] = [:]
    for member in object.members {
      guard let text = member.value.text else { return nil }
      result[member.name] = text
    }
    return result
  }

  static func strings(_ pairs: [String: String]) -> JSONValue {
    .object(JSONObject(pairs.sorted { $0.key < $1.key }.map { ($0.key, .string($0.value)) }))
  }

  func write(into text: inout String) {
    switch self {
    case .null: text += "null"
    case .bool(let flag): text += flag ? "true" : "false"
    case .number(let number):
      if let integer = Int64(exactly: number) { text += String(integer) } else { text += String(number) }
    case .string(let string): Self.quote(string, into: &text)
    case .array(let items):
      text += "["
      for (index, item) in items.enumerated() {
        if index > 0 { text += "," }
        item.write(into: &text)
      }
      text += "]"
    case .object(let object):
      text += "{"
      for (index, member) in object.members.enumerated() {
        if index > 0 { text += "," }
        Self.quote(member.name, into: &text)
        text += ":"
        member.value.write(into: &text)
      }
      text += "}"
    }
  }

  var bytes: [UInt8] {
    var text = ""
    write(into: &text)
    return Array(text.utf8)
  }

  private static func quote(_ string: String, into text: inout String) {
    text += "\""
    for scalar in string.unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\n": text += "\\n"
      case "\r": text += "\\r"
      case "\t": text += "\\t"
      case let control where control.value < 0x20:
        let digits = String(control.value, radix: 16)
        text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: text.unicodeScalars.append(scalar)
      }
    }
    text += "\""
  }
}

struct JSONObject: Sendable, Equatable {
  struct Member: Sendable, Equatable {
    var name: String
    var value: JSONValue
  }
  private(set) var members: [Member]

  init(_ members: [(String, JSONValue)] = []) { self.members = members.map { Member(name: $0.0, value: $0.1) } }

  /// Names have no case for the service. Setting nil removes; a new name goes to the end.
  subscript(_ name: String) -> JSONValue? {
    get {
      let wanted = name.lowercased()
      return members.first { $0.name.lowercased() == wanted }?.value
    }
    set {
      let wanted = name.lowercased()
      let index = members.firstIndex { $0.name.lowercased() == wanted }
      switch (index, newValue) {
      case (let index?, let value?): members[index].value = value
      case (let index?, nil): members.remove(at: index)
      case (nil, let value?): members.append(Member(name: name, value: value))
      case (nil, nil): break
      }
    }
  }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral {
  init(stringLiteral text: String) { self = .string(text) }
  init(booleanLiteral flag: Bool) { self = .bool(flag) }
  init(integerLiteral number: Int) { self = .number(Double(number)) }
  static func int(_ number: Int) -> JSONValue { .number(Double(number)) }
}

extension JSONValue: ExpressibleByDictionaryLiteral, ExpressibleByArrayLiteral {
  init(dictionaryLiteral members: (String, JSONValue)...) { self = .object(JSONObject(members)) }
  init(arrayLiteral items: JSONValue...) { self = .array(items) }
}

extension JSONValue: Codable {
  private struct Name: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  init(from decoder: any Decoder) throws {
    if let container = try? decoder.container(keyedBy: Name.self) {
      var members: [(String, JSONValue)] = []
      for key in container.allKeys.sorted(by: { $0.stringValue < $1.stringValue }) {
        members.append((key.stringValue, try container.decode(JSONValue.self, forKey: key)))
      }
      self = .object(JSONObject(members))
      return
    }
    if var container = try? decoder.unkeyedContainer() {
      var items: [JSONValue] = []
      while !container.isAtEnd { items.append(try container.decode(JSONValue.self)) }
      self = .array(items)
      return
    }
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let flag = try? container.decode(Bool.self) {
      self = .bool(flag)
    } else if let number = try? container.decode(Double.self) {
      self = .number(number)
    } else {
      self = .string(try container.decode(String.self))
    }
  }

  func encode(to encoder: any Encoder) throws {
    switch self {
    case .object(let object):
      var container = encoder.container(keyedBy: Name.self)
      for member in object.members {
        try container.encode(member.value, forKey: Name(stringValue: member.name))
      }
    case .array(let items):
      var container = encoder.unkeyedContainer()
      for item in items { try container.encode(item) }
    case .null:
      var container = encoder.singleValueContainer()
      try container.encodeNil()
    case .bool(let flag):
      var container = encoder.singleValueContainer()
      try container.encode(flag)
    case .number(let number):
      var container = encoder.singleValueContainer()
      if let integer = Int64(exactly: number) { try container.encode(integer) } else { try container.encode(number) }
    case .string(let text):
      var container = encoder.singleValueContainer()
      try container.encode(text)
    }
  }
}
