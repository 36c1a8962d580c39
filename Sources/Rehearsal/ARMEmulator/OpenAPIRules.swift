/// What the service's OpenAPI files say of request bodies: members, types, closed lists of values. What they don't say
/// (ranges, references, states) is checked where the request is carried out.
enum OpenAPIRules {
  enum Root: String {
    case disk = "Disk"
    case diskUpdate = "DiskUpdate"
    case machine = "VirtualMachine"
    case machineUpdate = "VirtualMachineUpdate"
    case attachDetach = "AttachDetachDataDisksRequest"

    /// The version that the definitions are of. A later one may have members that they don't know.
    var version: String { self == .disk || self == .diskUpdate ? "2024-03-02" : "2024-07-01" }
  }

  indirect enum Kind: Sendable {
    case text
    case integer
    case number
    case flag
    case anything
    case object(String)
    case list(Kind)
    case map(Kind)
    case oneOf([String])
  }

  struct Member: Sendable {
    var name: String
    var kind: Kind
    var isRequired: Bool
    var isReadOnly: Bool
  }

  /// Deeper nesting than any definition has.
  static let depthLimit = 32

  static let all: [String: [String: Member]] = {
    var found: [String: [String: Member]] = [:]
    for line in definitions.split(separator: "\n") {
      guard let colon = line.firstIndex(of: ":") else { continue }
      var members: [String: Member] = [:]
      for word in line[line.index(after: colon)...].split(separator: " ") {
        guard let mark = word.firstIndex(where: { ":!-".contains($0) }) else { continue }
        let name = String(word[..<mark])
        members[name.lowercased()] = Member(
          name: name, kind: kind(word[word.index(after: mark)...]), isRequired: word[mark] == "!",
          isReadOnly: word[mark] == "-")
      }
      found[String(line[..<colon])] = members
    }
    return found
  }()

  private static func kind(_ text: Substring) -> Kind {
    switch text.first {
    case "s": .text
    case "i": .integer
    case "n": .number
    case "b": .flag
    case ">": .object(String(text.dropFirst()))
    case "[": .list(kind(text.dropFirst().dropLast()))
    case "{": .map(kind(text.dropFirst().dropLast()))
    case "e": .oneOf(text.dropFirst(2).dropLast().split(separator: ",").map(String.init))
    default: .anything
    }
  }

  /// Refuses what the definitions don't allow. `version`: the request's `api-version`.
  static func check(_ body: JSONObject, as root: Root, version: String) throws(Refusal) {
    let checker = Checker(
      refusesUnknown: version <= root.version, isUpdate: root == .diskUpdate || root == .machineUpdate)
    try checker.check(.object(body), .object(root.rawValue), at: "", depth: 0)
  }

  private struct Checker {
    let refusesUnknown: Bool
    /// A PATCH may leave everything out.
    let isUpdate: Bool

    func check(_ value: JSONValue, _ kind: Kind, at path: String, depth: Int) throws(Refusal) {
      guard !value.isNull, depth < OpenAPIRules.depthLimit else { return }
      switch kind {
      case .anything: return
      case .text: guard value.text != nil else { throw wrong(value, "String", path) }
      case .integer: guard value.integer != nil else { throw wrong(value, "Int64", path) }
      case .number: guard value.double != nil else { throw wrong(value, "Double", path) }
      case .flag: guard value.flag != nil else { throw wrong(value, "Boolean", path) }
      case .oneOf(let names):
        guard let text = value.text, names.contains(where: { $0.lowercased() == text.lowercased() }) else {
          throw Refusal.invalid(
            path,
            "The value '\(value.text ?? "")' of parameter '\(path)' is invalid. The allowed values are "
              + "\(names.joined(separator: ", ")).")
        }
      case .list(let inner):
        guard let items = value.items else { throw wrong(value, "array", path) }
        for (index, item) in items.enumerated() { try check(item, inner, at: "\(path)[\(index)]", depth: depth + 1) }
      case .map(let inner):
        guard let object = value.object else { throw wrong(value, "object", path) }
        for member in object.members { try check(member.value, inner, at: "\(path).\(member.name)", depth: depth + 1) }
      case .object(let name): try check(value, object: name, at: path, depth: depth)
      }
    }

    private func check(_ value: JSONValue, object name: String, at path: String, depth: Int) throws(Refusal) {
      guard let object = value.object else { throw wrong(value, "object", path) }
      guard let members = OpenAPIRules.all[name] else { return }
      for member in object.members {
        let inner = path.isEmpty ? member.name : "\(path).\(member.name)"
        guard let rule = members[member.name.lowercased()] else {
          guard refusesUnknown else { continue }
          throw Refusal(
            400, "BadRequest", "Could not find member '\(member.name)' on object of type '\(name)'. Path '\(inner)'.",
            target: inner)
        }
        if rule.isReadOnly { continue }
        try check(member.value, rule.kind, at: inner, depth: depth + 1)
      }
      guard !isUpdate else { return }
      for rule in members.values.sorted(by: { $0.name < $1.name }) where rule.isRequired && rule.name != "location" {
        guard object[rule.name]?.isNull ?? true else { continue }
        throw Refusal.missing(path.isEmpty ? rule.name : "\(path).\(rule.name)")
      }
    }

    private func wrong(_ value: JSONValue, _ type: String, _ path: String) -> Refusal {
      Refusal(
        400, "BadRequest", "Error converting value to type '\(type)'. Path '\(path)': it is \(value.kindName).",
        target: path)
    }
  }
}

extension JSONValue {
  fileprivate var kindName: String {
    switch self {
    case .null: "null"
    case .bool: "a boolean"
    case .number: "a number"
    case .string: "a string"
    case .array: "an array"
    case .object: "an object"
    }
  }
}
