import COpenSSL
import Foundation
import LinuxPlatform
import Seams

/// base64 as JWTs have it: for URLs, without padding (RFC 7515, section 2).
enum Base64URL {
  static func text(_ bytes: [UInt8]) -> String {
    Data(bytes).base64EncodedString().replacingOccurrences(of: "+", with: "-")
      .replacingOccurrences(of: "/", with: "_").replacingOccurrences(of: "=", with: "")
  }

  /// Nil where it is none.
  static func bytes(_ text: some StringProtocol) -> [UInt8]? {
    let plain = text.replacingOccurrences(of: "-", with: "+").replacingOccurrences(of: "_", with: "/")
    return Data(base64Encoded: plain + String(repeating: "=", count: (4 - plain.utf8.count % 4) % 4)).map { Array($0) }
  }
}

/// A JWT that a client signs in with, taken apart. Nothing in it is believed yet.
struct ClientAssertion: Sendable {
  static let limitBytes = 64 << 10

  enum Algorithm: String, Sendable {
    case ps256 = "PS256"
    case rs256 = "RS256"
  }

  let header: JSONValue
  let claims: JSONValue
  /// What is signed: header and claims as they came.
  let input: [UInt8]
  let signature: [UInt8]

  /// Nil where it is no signed JWT.
  init?(_ text: String) {
    guard text.utf8.count <= Self.limitBytes else { return nil }
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 3, let header = Base64URL.bytes(parts[0]).flatMap(JSONValue.parse), header.object != nil,
      let claims = Base64URL.bytes(parts[1]).flatMap(JSONValue.parse), claims.object != nil,
      let signature = Base64URL.bytes(parts[2])
    else { return nil }
    self.header = header
    self.claims = claims
    self.signature = signature
    input = Array("\(parts[0]).\(parts[1])".utf8)
  }

  var algorithm: Algorithm? { header["alg"]?.text.flatMap(Algorithm.init(rawValue:)) }
  var issuer: String { claims["iss"]?.text ?? "" }
  var subject: String { claims["sub"]?.text ?? "" }

  /// `aud` is a text, or a list of them (RFC 7519, section 4.1.3).
  var audiences: [String] {
    claims["aud"]?.text.map { [$0] } ?? claims["aud"]?.items?.compactMap(\.text) ?? []
  }

  /// Whether the signature is the key's. False where there is no such key.
  func isSigned(by key: OpaquePointer?, as algorithm: Algorithm) -> Bool {
    cmc_sign_verify(key, algorithm == .ps256 ? 1 : 0, input, input.count, signature, signature.count) == 1
  }
}

/// A certificate of the client's, as its registration has it: the public part alone.
package struct RegisteredCertificate: Sendable, Equatable {
  static let fileLimitBytes = 1 << 20

  let der: [UInt8]
  /// As `x5t#S256` names it.
  let thumbprint: String
  /// As `x5t` of older clients does.
  let oldThumbprint: String
  var validFrom: Double
  var validUntil: Double

  /// All that a PEM file has. Blocks.
  package static func read(file: String) throws(EmulatorError) -> [RegisteredCertificate] {
    let bytes = try contents(of: file)
    guard let memory = BIO_new_mem_buf(bytes, Int32(bytes.count)) else { throw EmulatorError("out of memory") }
    defer { BIO_free(memory) }
    var found: [RegisteredCertificate] = []
    while let certificate = cmc_tls_read_certificate(memory) {
      defer { X509_free(certificate) }
      guard let one = RegisteredCertificate(certificate) else {
        throw EmulatorError("a certificate in \(file) can't be read")
      }
      found.append(one)
    }
    ERR_clear_error()
    guard !found.isEmpty else { throw EmulatorError("\(file) has no certificate as PEM") }
    return found
  }

  static func contents(of file: String) throws(EmulatorError) -> [UInt8] {
    do throws(SystemError) {
      return try Files.read(file, limitBytes: fileLimitBytes)
    } catch {
      throw EmulatorError("\(file) can't be read: \(error)")
    }
  }

  private init?(_ certificate: OpaquePointer) {
    var digest = [UInt8](repeating: 0, count: 32)
    var oldDigest = [UInt8](repeating: 0, count: 20)
    var (from, until): (Int64, Int64) = (0, 0)
    let count = cmc_sign_der(certificate, nil)
    guard count > 0, cmc_sign_thumbprint(certificate, &digest) == 1,
      cmc_sign_old_thumbprint(certificate, &oldDigest) == 1, cmc_sign_validity(certificate, &from, &until) == 1
    else { return nil }
    var der = [UInt8](repeating: 0, count: Int(count))
    guard cmc_sign_der(certificate, &der) == count else { return nil }
    self.der = der
    thumbprint = Base64URL.text(digest)
    oldThumbprint = Base64URL.text(oldDigest)
    (validFrom, validUntil) = (Double(from), Double(until))
  }

  func signed(_ assertion: ClientAssertion, as algorithm: ClientAssertion.Algorithm) -> Bool {
    let key = cmc_sign_certified_key(der, der.count)
    defer { EVP_PKEY_free(key) }
    return assertion.isSigned(by: key, as: algorithm)
  }
}

/// A workload elsewhere that may sign in as the client (workload identity federation), and its issuer's keys, which the
/// real service would fetch.
package struct FederatedCredential: Sendable, Equatable {
  struct Key: Sendable, Equatable {
    var identifier: String?
    var modulus: [UInt8]
    var exponent: [UInt8]
  }
  static let usualAudience = "api://AzureADTokenExchange"

  let issuer: String
  let subject: String
  let audience: String
  let keys: [Key]

  /// Reads `issuer=URL,subject=TEXT,keys=FILE[,audience=TEXT]`, and the file. Blocks.
  package init(argument: String) throws(EmulatorError) {
    var parts: [Substring: String] = [:]
    for part in argument.split(separator: ",", omittingEmptySubsequences: false) {
      let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard pair.count == 2, ["issuer", "subject", "keys", "audience"].contains(pair[0]), !pair[1].isEmpty else {
        throw EmulatorError("'\(part)' of a federated credential is not issuer=…, subject=…, keys=… or audience=…")
      }
      parts[pair[0]] = String(pair[1])
    }
    guard let issuer = parts["issuer"], let subject = parts["subject"], let file = parts["keys"] else {
      throw EmulatorError("federated credential '\(argument)' needs issuer=URL, subject=TEXT and keys=FILE")
    }
    self.issuer = issuer
    self.subject = subject
    audience = parts["audience"] ?? Self.usualAudience
    let set = JSONValue.parse(try RegisteredCertificate.contents(of: file))
    keys = (set?["keys"]?.items ?? []).compactMap { key in
      guard key["kty"]?.text == "RSA", let modulus = key["n"]?.text.flatMap({ Base64URL.bytes($0) }),
        let exponent = key["e"]?.text.flatMap({ Base64URL.bytes($0) })
      else { return nil }
      return Key(identifier: key["kid"]?.text, modulus: modulus, exponent: exponent)
    }
    guard !keys.isEmpty else {
      throw EmulatorError(
        "\(file) has no RSA key of a JSON Web Key Set: {\"keys\": [{\"kty\": \"RSA\", \"n\": …, \"e\": …}]}")
    }
  }

  /// Whether one of the issuer's keys signed it: the one that it names, or any where it names none.
  func signed(_ assertion: ClientAssertion) -> Bool {
    let named = assertion.header["kid"]?.text
    return keys.contains { key in
      guard named == nil || key.identifier == nil || named == key.identifier else { return false }
      let made = cmc_sign_public_key(key.modulus, Int32(key.modulus.count), key.exponent, Int32(key.exponent.count))
      defer { EVP_PKEY_free(made) }
      return assertion.isSigned(by: made, as: .rs256)
    }
  }
}
