internal import MigrationModel
internal import YAMLTree

extension ValueType where Value == String {
  /// Any text of `length` characters. YAML's idea of its type doesn't matter: `no` is "no".
  static func text(_ noun: String = "a text", length: ClosedRange<Int> = 0...4_096) -> ValueType {
    ValueType(schema: .text, noun: noun) { text throws(ValueFault) in
      // Bytes are known, characters must be counted, and there are never more of these.
      if length.lowerBound <= 1, text.utf8.count <= length.upperBound, length.lowerBound == 0 || !text.isEmpty {
        return text
      }
      guard length.contains(text.count) else {
        throw ValueFault(
          "CMC1107", text.isEmpty ? "the text is empty" : "the text has \(text.count) characters",
          "use \(length.lowerBound) to \(length.upperBound) characters")
      }
      return text
    }
  }

  /// Text of a form. `isValid` is the rule; `pattern` says it to editors; `advice` says it to people.
  static func formed(
    _ noun: String, pattern: String, advice: String, fix: @escaping @Sendable (String) -> String? = { _ in nil },
    isValid: @escaping @Sendable (String) -> Bool
  ) -> ValueType {
    ValueType(schema: .pattern(pattern), noun: noun) { text throws(ValueFault) in
      guard isValid(text) else {
        let better = fix(text).map { "write '\($0)'" }
        throw ValueFault("CMC1108", "'\(text.shortened())' is not \(noun)", better ?? advice)
      }
      return text
    }
  }

  static let namePattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
  /// A key that the user chooses: migrations, volumes, hosts, integrations.
  static let name = formed(
    "a name", pattern: namePattern,
    advice: "use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends", fix: Names.repaired,
    isValid: Names.isValid)

  static let uuid = formed(
    "a UUID", pattern: "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
    advice: "32 hexadecimal digits as in 6f1c0c9e-6c1e-4f0e-9d1c-2f6b5a0d7e11 ('uuidgen' makes one)",
    isValid: Names.isUUID)

  /// A service principal's id. Not repeated in messages: its secret is easily put in its place.
  static let clientID = ValueType(schema: uuid.schema, noun: "a UUID") { text throws(ValueFault) in
    if Names.isUUID(text) { return text }
    throw ValueFault(
      "CMC1121", "this is not an application's id",
      "write the service principal's UUID ('az ad sp list --display-name NAME')")
  }

  /// A directory (tenant): its id or one of its domains.
  static let tenant = formed(
    "a tenant", pattern: "^[0-9a-zA-Z][0-9a-zA-Z.-]*$",
    advice: "write the tenant's UUID ('az account show --query tenantId') or one of its domains"
  ) { Names.isUUID($0) || ($0.contains(".") && Names.isHostName($0)) }

  static let location = formed(
    "an Azure location", pattern: "^[a-z0-9]+$", advice: "write it as in 'westeurope' ('az account list-locations')",
    fix: { text in
      let name = text.lowercased().filter { $0 != " " && $0 != "-" && $0 != "_" }
      return Names.isLowerAlphanumeric(name) ? name : nil
    }, isValid: Names.isLowerAlphanumeric)

  static let resourceGroup = formed(
    "a resource group's name", pattern: "^[-\\w._()]{0,89}[-\\w_()]$",
    advice: "use 1 to 90 letters, digits, '-', '_', '(', ')' and '.', not ending with '.'",
    isValid: Names.isResourceGroup)

  static let diskName = formed(
    "a disk's name", pattern: "^[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,78}[a-zA-Z0-9_])?$",
    advice: "use 1 to 80 of a-z, A-Z, 0-9, '_', '-' and '.', first a letter or digit, last one or '_'",
    isValid: Names.isDiskName)

  static func resourceID(_ type: String) -> ValueType {
    formed(
      "a resource id of \(type)", pattern: "^/[sS]ubscriptions/[^/]+/[rR]esource[gG]roups/[^/]+/providers/[^ ]+$",
      advice: "write /subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/\(type)/NAME"
    ) { Names.isResourceID($0, type: type) }
  }

  /// A virtual machine: a name in the integration's resource group, or a resource id.
  static let virtualMachine = formed(
    "a virtual machine's name or resource id", pattern: "^(/[sS]ubscriptions/[^ ]+|[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63})$",
    advice: "write its name, or /subscriptions/…/providers/Microsoft.Compute/virtualMachines/NAME"
  ) {
    $0.hasPrefix("/")
      ? Names.isResourceID($0, type: "Microsoft.Compute/virtualMachines") : $0.utf8.count <= 64 && Names.isDiskName($0)
  }

  static let address = formed(
    "a host name or address", pattern: "^[0-9A-Za-z:][0-9A-Za-z.:%_-]*$",
    advice: "write a DNS name or an IP address, without user, port or 'ssh://'",
    fix: { text in text.contains("@") ? text.split(separator: "@").last.map(String.init) : nil },
    isValid: Names.isAddress)

  static let path = formed(
    "a path", pattern: "^[^\\u0000\\n]+$", advice: "write a path, on one line"
  ) { !$0.isEmpty && $0.utf8.count <= 4_095 && !$0.unicodeScalars.contains { $0.value < 32 } }

  /// A path that nobody could have meant as a URL: it would be made as a directory of that name.
  static let directory = formed(
    "a directory", pattern: "^(?![A-Za-z][A-Za-z0-9+.-]*:/)[^\\u0000\\n]+$",
    advice: "write the path of a directory; a share or container has to be mounted there"
  ) { text in
    let scheme = text.prefix { $0 != ":" }
    let isURL =
      scheme.count < text.count && text.dropFirst(scheme.count).hasPrefix(":/") && scheme.first?.isLetter == true
      && scheme.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "+.-".contains($0)) }
    return !isURL && !text.isEmpty && text.utf8.count <= 4_095 && !text.unicodeScalars.contains { $0.value < 32 }
  }

  static let url = formed(
    "a base URL", pattern: "^https?://[^/?#@ ]+(/[^?# ]*)?$",
    advice: "write https://HOST[:PORT], without user, query or fragment; http:// only for this machine",
    isValid: Names.isBaseURL)

  static let timeZone = ValueType(schema: .pattern("^(UTC|[A-Za-z_]+/[A-Za-z0-9_+/-]+)$"), noun: "a time zone") {
    text throws(ValueFault) in
    if TimeZones.isKnown(text) { return text }
    throw ValueFault(
      "CMC1114", "'\(text.shortened())' is no time zone",
      orDefault(TimeZones.suggestion(for: text), "write an IANA name such as Europe/Berlin, or UTC"))
  }

  static let environmentName = "^[A-Za-z_][A-Za-z0-9_]*$"
}

extension ValueType where Value == Bool {
  static let boolean = ValueType(schema: .boolean) { node, reading in
    guard let text = reading.text(node, expected: "true or false") else { return nil }
    // Quotes are needed around "{var:name}", and mean a text everywhere else.
    let isWrittenPlain = !node.isExplicitText || text != node.text
    switch text {
    case "true" where isWrittenPlain, "True" where isWrittenPlain, "TRUE" where isWrittenPlain: return true
    case "false" where isWrittenPlain, "False" where isWrittenPlain, "FALSE" where isWrittenPlain: return false
    default: break
    }
    let word = text.lowercased()
    let advice =
      ["yes", "on", "y", "1", "true"].contains(word)
      ? "write 'true', without quotes"
      : ["no", "off", "n", "0", "false"].contains(word) ? "write 'false', without quotes" : "write 'true' or 'false'"
    let isQuoted = node.isExplicitText && ["true", "false"].contains(word)
    reading.report(
      "CMC1111", at: node.position,
      isQuoted ? "\"\(text)\" is a text here" : "'\(text.shortened())' is neither true nor false", advice)
    return nil
  }
}

extension ValueType where Value == Int {
  static func integer(_ range: ClosedRange<Int>) -> ValueType {
    let parse: @Sendable (String) throws(ValueFault) -> Int = { text throws(ValueFault) in
      try parseInteger(text, in: range)
    }
    let scalar = ValueType(schema: .integer(range), noun: "a whole number", parse: parse)
    return ValueType(schema: scalar.schema, parse: parse) { node, reading in
      if node.isScalar, node.isExplicitText, !node.contains(byte: UInt8(ascii: "{")) {
        reading.report(
          "CMC1111", at: node.position, "'\(node.text.shortened())' is a text here, and a number is needed",
          "write the number without quotes")
        return nil
      }
      return scalar.read(node, reading)
    }
  }

  /// Decimal, and the core schema's `0o17` and `0x1F`. What YAML 1.1 and 1.2 read differently is refused.
  static func parseInteger(_ text: String, in range: ClosedRange<Int>) throws(ValueFault) -> Int {
    if text.utf8.contains(where: { $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: ",") }) {
      let plain = text.filter { $0 != "_" && $0 != "," }
      throw ValueFault("CMC1111", "'\(text.shortened())' is no whole number", "write '\(plain.shortened())'")
    }
    if text.utf8.first == UInt8(ascii: "0"), text.count > 1, text.allSatisfy({ $0.isASCII && $0.isNumber }) {
      let decimal = String(text.drop { $0 == "0" })
      throw ValueFault(
        "CMC1111", "'\(text.shortened())' is 8-based in YAML 1.1 and 10-based in YAML 1.2",
        "write '\(orDefault(decimal, "0").shortened())'")
    }
    let value: Int? =
      if text.hasPrefix("0x") { Int(text.dropFirst(2), radix: 16) } else if text.hasPrefix("0o") {
        Int(text.dropFirst(2), radix: 8)
      } else { Int(text) }
    guard let value else {
      throw ValueFault(
        "CMC1111", "'\(text.shortened())' is no whole number",
        "write a number from \(range.lowerBound) to \(range.upperBound)")
    }
    guard range.contains(value) else {
      throw ValueFault(
        "CMC1107", "\(value) is out of range", "write a number from \(range.lowerBound) to \(range.upperBound)")
    }
    return value
  }
}

extension ValueType where Value: CaseIterable & RawRepresentable<String> {
  /// One of the cases, by raw value.
  static var choice: ValueType {
    let words = Value.allCases.map(\.rawValue)
    return ValueType(schema: .choice(words), noun: "one of " + words.joined(separator: ", ")) {
      text throws(ValueFault) in
      if let value = Value(rawValue: text) { return value }
      throw ValueFault(
        "CMC1104", "'\(text.shortened())' is not one of \(words.joined(separator: ", "))",
        orDefault(Suggestion.phrase(for: text, among: words), "write \(alternatives(words))"))
    }
  }
}

extension ValueType where Value == UInt64 {
  static let size = ValueType(
    schema: .pattern("^[0-9]+(\\.[0-9]+)? ?([KMGTP]iB|[kMGTP]?B)$"), noun: "a size such as '256 GiB'",
    parse: Quantities.size)
  static let rate = ValueType(
    schema: .pattern("^[0-9]+(\\.[0-9]+)? ?([kMGT]?bit|[KMGTP]iB|[kMGTP]?B)/s$"),
    noun: "a rate such as '400 Mbit/s'", parse: Quantities.rate)
}

extension ValueType where Value == Double {
  static func duration(_ range: ClosedRange<Double>, _ words: String) -> ValueType {
    ValueType(
      schema: .pattern("^(?=[0-9])([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$"),
      noun: "a duration such as '15m'"
    ) { text throws(ValueFault) in
      let seconds = try Quantities.duration(text)
      guard range.contains(seconds) else {
        throw ValueFault("CMC1107", "'\(text.shortened())' is out of range", "write a duration of \(words)")
      }
      return seconds
    }
  }

  static func percent(_ range: ClosedRange<Double>, _ words: String) -> ValueType {
    ValueType(schema: .pattern("^[0-9]+(\\.[0-9]+)? ?%$"), noun: "a percentage such as '20%'") {
      text throws(ValueFault) in
      let share = try Quantities.percent(text)
      guard range.contains(share) else {
        throw ValueFault("CMC1107", "'\(text.shortened())' is out of range", "write \(words)")
      }
      return share
    }
  }
}
