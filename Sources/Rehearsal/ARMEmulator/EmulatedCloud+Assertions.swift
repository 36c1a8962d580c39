import Foundation

/// Why the authority gives no token, in its own words.
struct TokenRefusal: Error, Sendable {
  var status: Int
  var error: String
  var description: String
  init(_ description: String, status: Int = 401, error: String = "invalid_client") {
    self.status = status
    self.error = error
    self.description = description
  }
}

/// What stands in for a secret: a JWT that the client's certificate signed, or one of an issuer that the client trusts.
///
/// Source: learn.microsoft.com/entra/identity-platform/certificate-credentials and reference-error-codes;
/// learn.microsoft.com/entra/workload-id/workload-identity-federation.
extension EmulatedCloud {
  /// Clocks may differ by so much.
  static let clockSkewSeconds = 300.0

  func checkAssertion(_ text: String, tokenURL: String, now: Double) throws(TokenRefusal) {
    guard let assertion = ClientAssertion(text) else {
      throw TokenRefusal("AADSTS50027: JWT token is invalid or malformed.", status: 400, error: "invalid_request")
    }
    // Issuers of workloads are URLs; a client is its own.
    if assertion.issuer.contains("://") {
      try checkFederated(assertion, now: now)
    } else {
      try checkCertified(assertion, tokenURL: tokenURL, now: now)
    }
  }

  private func checkCertified(_ assertion: ClientAssertion, tokenURL: String, now: Double) throws(TokenRefusal) {
    let client = configuration.clientID.lowercased()
    guard assertion.issuer.lowercased() == client, assertion.subject.lowercased() == client else {
      throw TokenRefusal("AADSTS700021: Client assertion application identifier doesn't match 'client_id' parameter.")
    }
    guard !configuration.certificates.isEmpty else {
      throw TokenRefusal(
        "AADSTS700026: Client application '\(configuration.clientID)' has no configured keys or they are all expired.")
    }
    let algorithm = assertion.algorithm
    let named = assertion.header[algorithm == .ps256 ? "x5t#S256" : "x5t"]?.text
    guard let algorithm, let named else {
      throw TokenRefusal(
        "AADSTS50027: Invalid JWT token. No certificate thumbprint specified in token header.", status: 400,
        error: "invalid_request")
    }
    // Microsoft's own library for Python pads it, against the RFC.
    let digest = Base64URL.bytes(named) ?? []
    let thumbprint = digest.map { String(format: "%02X", $0) }.joined()
    func badSignature(_ reason: String, _ found: RegisteredCertificate?) -> TokenRefusal {
      let key = found.map {
        ", Found key 'Start=\(Self.shortTime($0.validFrom)), End=\(Self.shortTime($0.validUntil))'"
      }
      return TokenRefusal(
        "AADSTS700027: Client assertion contains an invalid signature. [Reason - \(reason), Thumbprint of key used by "
          + "client: '\(thumbprint)'\(key ?? ""), Please visit the Azure Portal, Graph Explorer or directly use MS Graph "
          + "to see configured keys for app Id '\(configuration.clientID)'.]")
    }
    guard
      let certificate = configuration.certificates.first(where: {
        Base64URL.text(digest) == (algorithm == .ps256 ? $0.thumbprint : $0.oldThumbprint)
      })
    else { throw badSignature("The key was not found.", nil) }
    guard now < certificate.validUntil else { throw badSignature("The key used is expired.", certificate) }
    guard certificate.signed(assertion, as: algorithm) else {
      throw badSignature("Key was found, but use of the key to verify the signature failed.", certificate)
    }
    guard assertion.audiences == [tokenURL] else {
      throw TokenRefusal("AADSTS700023: Client assertion audience claim does not match Realm issuer.")
    }
    try checkTimes(assertion, now: now)
    guard let identifier = assertion.claims["jti"]?.text, !identifier.isEmpty else {
      throw TokenRefusal(
        "AADSTS50027: Invalid JWT token. It has no 'jti' claim.", status: 400, error: "invalid_request")
    }
  }

  private func checkFederated(_ assertion: ClientAssertion, now: Double) throws(TokenRefusal) {
    func unmatched(_ code: Int, _ what: String, _ value: String) -> TokenRefusal {
      TokenRefusal(
        "AADSTS\(code): No matching federated identity record found for presented assertion \(what) '\(value)'. Check your "
          + "federated identity credential Subject, Audience and Issuer against the presented assertion. "
          + "https://learn.microsoft.com/entra/workload-id/workload-identity-federation")
    }
    let byIssuer = configuration.federatedCredentials.filter { $0.issuer == assertion.issuer }
    guard !byIssuer.isEmpty else { throw unmatched(700_211, "issuer", assertion.issuer) }
    let bySubject = byIssuer.filter { $0.subject == assertion.subject }
    guard !bySubject.isEmpty else { throw unmatched(700_213, "subject", assertion.subject) }
    let matching = bySubject.filter { assertion.audiences.contains($0.audience) }
    guard !matching.isEmpty else {
      throw unmatched(700_212, "audience", assertion.audiences.joined(separator: ", "))
    }
    guard assertion.algorithm == .rs256, matching.contains(where: { $0.signed(assertion) }) else {
      throw TokenRefusal(
        "AADSTS50027: Invalid JWT token. External ID token from issuer '\(assertion.issuer)' failed signature "
          + "verification.", status: 400, error: "invalid_request")
    }
    try checkTimes(assertion, now: now)
  }

  private func checkTimes(_ assertion: ClientAssertion, now: Double) throws(TokenRefusal) {
    let from = assertion.claims["nbf"]?.double
    let until = assertion.claims["exp"]?.double
    if let until, until + Self.clockSkewSeconds > now, (from ?? 0) - Self.clockSkewSeconds <= now { return }
    throw TokenRefusal(
      "AADSTS700024: Client assertion is not within its valid time range. Current time: \(Self.longTime(now)), assertion "
        + "valid from \(Self.longTime(from ?? 0)), expiry time of assertion \(Self.longTime(until ?? 0)). Review the "
        + "documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials .")
  }

  private static func longTime(_ seconds: Double) -> String {
    timestamp(min(max(0, seconds), 253_402_300_799)).replacingOccurrences(of: "+00:00", with: "Z")
  }

  /// "07/18/2021 19:33:23"
  private static func shortTime(_ seconds: Double) -> String {
    let parts = longTime(seconds).split(whereSeparator: { "-T.".contains($0) })
    return parts.count > 3 ? "\(parts[1])/\(parts[2])/\(parts[0]) \(parts[3])" : ""
  }
}
