/// The forms of names and ids, checked byte by byte: a hundred thousand volumes have a few of each.
enum Names {
  private static func isLower(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "a") && byte <= UInt8(ascii: "z") }
  private static func isUpper(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") }
  private static func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }
  private static func isAlphanumeric(_ byte: UInt8) -> Bool { isLower(byte) || isUpper(byte) || isDigit(byte) }

  static func isValid(_ text: String) -> Bool {
    let bytes = text.utf8
    guard let first = bytes.first, let last = bytes.last, bytes.count <= 63 else { return false }
    guard isLower(first) || isDigit(first), isLower(last) || isDigit(last) else { return false }
    return bytes.allSatisfy { isLower($0) || isDigit($0) || $0 == UInt8(ascii: "-") }
  }

  /// The nearest valid name, nil where nothing is left of it.
  static func repaired(_ text: String) -> String? {
    let mapped = text.lowercased().utf8.map { isLower($0) || isDigit($0) ? $0 : UInt8(ascii: "-") }
    let trimmed = String(decoding: mapped, as: UTF8.self).split(separator: "-").joined(separator: "-")
    let short = String(trimmed.prefix(63))
    return isValid(short) ? short : nil
  }

  static func isUUID(_ text: String) -> Bool {
    let bytes = text.utf8
    guard bytes.count == 36 else { return false }
    for (index, byte) in bytes.enumerated() {
      switch index {
      case 8, 13, 18, 23: if byte != UInt8(ascii: "-") { return false }
      default:
        let lower = byte | 0x20
        guard isDigit(byte) || (lower >= UInt8(ascii: "a") && lower <= UInt8(ascii: "f")) else { return false }
      }
    }
    return true
  }

  static func isLowerAlphanumeric(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.count <= 64 && text.utf8.allSatisfy { isLower($0) || isDigit($0) }
  }

  static func isLowerAlphanumericOrHyphen(_ byte: UInt8) -> Bool {
    isLower(byte) || isDigit(byte) || byte == UInt8(ascii: "-")
  }

  static func isResourceGroup(_ text: String) -> Bool {
    guard let last = text.last, last != ".", text.count <= 90 else { return false }
    return text.allSatisfy { $0.isLetter || $0.isNumber || "-_.()".contains($0) }
  }

  static func isDiskName(_ text: String) -> Bool {
    let bytes = text.utf8
    guard let first = bytes.first, let last = bytes.last, bytes.count <= 80 else { return false }
    guard isAlphanumeric(first), isAlphanumeric(last) || last == UInt8(ascii: "_") else { return false }
    return bytes.allSatisfy { isAlphanumeric($0) || "_-.".utf8.contains($0) }
  }

  /// ARM's resource ids are case-insensitive.
  static func isResourceID(_ text: String, type: String) -> Bool {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map { $0.lowercased() }
    guard parts.count == 9, text.utf8.count <= 1_024, !parts.dropFirst().contains("") else { return false }
    return parts[0].isEmpty && parts[1] == "subscriptions" && parts[3] == "resourcegroups" && parts[5] == "providers"
      && parts[6] + "/" + parts[7] == type.lowercased()
  }

  static func isHostName(_ text: String) -> Bool {
    let bytes = text.utf8
    guard let first = bytes.first, bytes.count <= 253, isAlphanumeric(first) else { return false }
    return bytes.allSatisfy { isAlphanumeric($0) || "._-".utf8.contains($0) }
  }

  /// A host name, an IPv4 address, or an IPv6 address with or without a scope.
  static func isAddress(_ text: String) -> Bool {
    if isHostName(text) { return true }
    guard text.utf8.count <= 64, text.utf8.filter({ $0 == UInt8(ascii: ":") }).count >= 2 else { return false }
    let address = text.split(separator: "%", maxSplits: 1, omittingEmptySubsequences: false)
    return address[0].utf8.allSatisfy { byte in
      let lower = byte | 0x20
      return isDigit(byte) || (lower >= UInt8(ascii: "a") && lower <= UInt8(ascii: "f")) || ":.".utf8.contains(byte)
    }
  }

  static func isBaseURL(_ text: String) -> Bool {
    let isPlain = text.hasPrefix("http://")
    guard isPlain || text.hasPrefix("https://"), text.utf8.count <= 2_048 else { return false }
    let rest = text.dropFirst(isPlain ? 7 : 8)
    guard let first = rest.first, first != "/", first != ":" else { return false }
    guard rest.utf8.allSatisfy({ $0 > 32 && $0 < 127 && !"?#@\\\"".utf8.contains($0) }) else { return false }
    return !isPlain || isLoopback(String(rest.prefix { $0 != "/" }))
  }

  private static func isLoopback(_ authority: String) -> Bool {
    let host =
      authority.hasPrefix("[") ? String(authority.prefix { $0 != "]" }) + "]" : String(authority.prefix { $0 != ":" })
    return host == "localhost" || host == "[::1]"
      || host.hasPrefix("127.") && host.allSatisfy { $0.isNumber || $0 == "." }
  }

  static func isEnvironmentName(_ text: String) -> Bool {
    guard let first = text.utf8.first, text.utf8.count <= 256, !isDigit(first) else { return false }
    return text.utf8.allSatisfy { isAlphanumeric($0) || $0 == UInt8(ascii: "_") }
  }
}
