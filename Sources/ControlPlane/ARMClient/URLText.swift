/// URLs as text: operation URLs are signed and must be followed byte for byte.
enum URLText {
  /// "https://host:port" in lower case, nil where `url` isn't http or https.
  static func origin(of url: String) -> String? {
    guard let scheme = scheme(of: url) else { return nil }
    let rest = url.dropFirst(scheme.count + 3)
    var authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
    if let at = authority.lastIndex(of: "@") { authority = authority[authority.index(after: at)...] }
    return authority.isEmpty ? nil : "\(scheme)://\(authority.lowercased())"
  }

  /// Everything after the origin.
  static func path(of url: String) -> String {
    guard let scheme = scheme(of: url) else { return url }
    return String(url.dropFirst(scheme.count + 3).drop { $0 != "/" })
  }

  static func scheme(of url: String) -> String? {
    ["https", "http"].first { url.lowercased().hasPrefix("\($0)://") }
  }

  /// The host of an origin, without port or brackets.
  static func host(of url: String) -> String? {
    guard let origin = origin(of: url), let scheme = scheme(of: url) else { return nil }
    let authority = origin.dropFirst(scheme.count + 3)
    if authority.hasPrefix("[") { return authority.dropFirst().prefix { $0 != "]" }.description }
    return authority.prefix { $0 != ":" }.description
  }

  static func isLoopback(_ url: String) -> Bool {
    guard let host = host(of: url) else { return false }
    if host == "localhost" || host == "::1" { return true }
    // "127.0.0.1.example.com" is a name, not an address.
    let parts = host.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
  }

  /// Whether a token for `base` may be sent to `url`: the same origin, or (over HTTPS) a regional name below its host.
  static func belongs(_ url: String, to base: String) -> Bool {
    guard let origin = origin(of: url), let home = self.origin(of: base) else { return false }
    if origin == home { return true }
    guard let host = host(of: url), let homeHost = self.host(of: base) else { return false }
    return origin == "https://\(host)" && home == "https://\(homeHost)" && host.hasSuffix(".\(homeHost)")
  }

  /// Everything but unreserved characters (RFC 3986 section 2.3) as %XX.
  static func encoded(_ text: String) -> String {
    let digits = Array("0123456789ABCDEF")
    var result = ""
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
        UInt8(ascii: "~"):
        result.unicodeScalars.append(Unicode.Scalar(byte))
      default:
        result.append("%")
        result.append(digits[Int(byte >> 4)])
        result.append(digits[Int(byte & 15)])
      }
    }
    return result
  }
}
