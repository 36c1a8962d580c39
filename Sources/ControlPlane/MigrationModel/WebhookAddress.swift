/// The URL of a webhook, as far as it matters whom it reaches: HTTPS, or plain HTTP to this machine; no user, no fragment.
package struct WebhookAddress: Sendable, Equatable {
  package static let lengthLimitBytes = 4_096
  /// "https://host:port", in lower case, without the scheme's own port.
  package let origin: String
  /// From the first "/", without query; may be empty.
  package let path: String

  /// Nil where the text is no such URL; what it is then must not be shown, it may be a secret.
  package init?(_ text: String) {
    guard text.utf8.count <= Self.lengthLimitBytes,
      text.utf8.allSatisfy({ $0 > 32 && $0 < 127 && !"#\\\"".utf8.contains($0) })
    else { return nil }
    let isPlain = text.hasPrefix("http://")
    guard isPlain || text.hasPrefix("https://") else { return nil }
    let rest = text.dropFirst(isPlain ? 7 : 8)
    let authority = rest.prefix { $0 != "/" && $0 != "?" }
    let isNumeric = authority.hasPrefix("[")
    let host = isNumeric ? Substring(authority.prefix { $0 != "]" } + "]") : authority.prefix { $0 != ":" }
    guard authority.hasPrefix(host) else { return nil }
    let port = authority.dropFirst(host.count)
    guard isNumeric ? Self.isNumericHost(host) : Self.isName(host), Self.isPort(port),
      !isPlain || Self.isLoopback(String(host))
    else { return nil }
    let isUsual = port.isEmpty || port == (isPlain ? ":80" : ":443")
    origin = (isPlain ? "http://" : "https://") + host.lowercased() + (isUsual ? "" : String(port))
    path = String(rest.dropFirst(authority.count).prefix { $0 != "?" })
  }

  /// Whether it is below the other one: the same origin, and the other's path or one beneath it.
  package func isWithin(_ other: WebhookAddress) -> Bool {
    guard origin == other.origin else { return false }
    var base = other.path
    while base.hasSuffix("/") { base.removeLast() }
    if base.isEmpty { return true }
    // A server may take these for a way out of the path.
    let lower = path.lowercased()
    guard !["..", "%2e", "%2f", "%5c"].contains(where: lower.contains) else { return false }
    return path == base || path.hasPrefix(base + "/")
  }

  private static func isName(_ host: Substring) -> Bool {
    !host.isEmpty && host.allSatisfy { $0.isLetter || $0.isNumber || "._-".contains($0) }
  }

  private static func isNumericHost(_ host: Substring) -> Bool {
    host.count > 2 && host.dropFirst().dropLast().allSatisfy { $0.isHexDigit || ":.".contains($0) }
  }

  /// ":443", or nothing.
  private static func isPort(_ port: Substring) -> Bool {
    if port.isEmpty { return true }
    let digits = port.dropFirst()
    return port.first == ":" && digits.allSatisfy(\.isNumber) && UInt16(digits) != nil
  }

  private static func isLoopback(_ host: String) -> Bool {
    if host == "localhost" || host == "[::1]" { return true }
    let parts = host.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
  }
}
