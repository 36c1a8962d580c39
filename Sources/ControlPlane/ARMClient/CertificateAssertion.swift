import BlockModel
import COpenSSL
import Foundation
import LinuxPlatform
import Reconciling
import Seams

/// A client assertion signed with a certificate's key: PS256, with the certificate named by its SHA-256 thumbprint.
///
/// Source: FACTS, authentication; learn.microsoft.com/entra/identity-platform/certificate-credentials; RFC 7515, 7518.
struct CertificateAssertion {
  /// Longer than a request takes, shorter than anybody could use a stolen one for long.
  static let lifetimeSeconds = 600.0
  /// The authority's clock may be behind ours.
  static let leewaySeconds = 60.0
  static let fileLimitBytes = 1 << 20
  /// An RSA key of 16,384 bits signs as many bytes as this.
  private static let signatureLimitBytes = 2048

  let audience: String
  let clientID: String
  let tokenID: String
  let nowSince1970: Double

  /// The compact JWT. Blocks: the file is read. `password` opens an encrypted key or a PFX file.
  func signed(certificateFile path: String, password: Secret?) throws(GatewayError) -> Secret {
    let bytes: [UInt8]
    do throws(SystemError) {
      bytes = try Files.read(path, limitBytes: Self.fileLimitBytes)
    } catch {
      throw Self.unusable(path, "it can't be read: \(error)", "check that it exists and that you may read it")
    }
    var key: OpaquePointer?
    var certificate: OpaquePointer?
    let isRead = bytes.withUnsafeBytes { raw in
      cmc_sign_read(raw.baseAddress, Int32(raw.count), password?.reveal(), &key, &certificate)
    }
    guard isRead == 1, let key, let certificate else {
      throw Self.unusable(
        path, "it isn't PEM with a certificate and its key, nor PFX, or its password is another",
        "give certificate and private key in one file, and its password if it has one")
    }
    defer {
      EVP_PKEY_free(key)
      X509_free(certificate)
    }
    guard cmc_sign_is_rsa(key) == 1 else {
      throw Self.unusable(path, "its key isn't RSA", "use a certificate with an RSA key: PS256 needs one")
    }
    let input = try header(certificate, path) + "." + claims()
    var signature = [UInt8](repeating: 0, count: Self.signatureLimitBytes)
    var length = signature.count
    let text = Array(input.utf8)
    guard cmc_sign_ps256(key, text, text.count, &signature, &length) == 1 else {
      throw Self.unusable(path, "its key can't sign", "use a key of 2048 bits or more")
    }
    return Secret(input + "." + Self.base64URL(signature[..<length]))
  }

  private func header(_ certificate: OpaquePointer, _ path: String) throws(GatewayError) -> String {
    var thumbprint = [UInt8](repeating: 0, count: 32)
    guard cmc_sign_thumbprint(certificate, &thumbprint) == 1 else {
      throw Self.unusable(path, "its certificate can't be read", "make the file anew")
    }
    let text = #"{"alg":"PS256","typ":"JWT","x5t#S256":"\#(Self.base64URL(thumbprint[...]))"}"#
    return Self.base64URL(Array(text.utf8)[...])
  }

  private struct Claims: Encodable {
    var aud: String
    var iss: String
    var sub: String
    var jti: String
    var nbf: Int
    var iat: Int
    var exp: Int
  }

  private func claims() throws(GatewayError) -> String {
    let claims = Claims(
      aud: audience, iss: clientID, sub: clientID, jti: tokenID, nbf: Int(nowSince1970 - Self.leewaySeconds),
      iat: Int(nowSince1970), exp: Int(nowSince1970 + Self.lifetimeSeconds - Self.leewaySeconds))
    guard let data = try? JSONEncoder().encode(claims) else {
      throw Self.unusable(clientID, "the claims can't be written", "check clientId")
    }
    return Self.base64URL(Array(data)[...])
  }

  private static func base64URL(_ bytes: ArraySlice<UInt8>) -> String {
    Data(bytes).base64EncodedString().replacingOccurrences(of: "+", with: "-")
      .replacingOccurrences(of: "/", with: "_").replacingOccurrences(of: "=", with: "")
  }

  private static func unusable(_ path: String, _ why: String, _ advice: String) -> GatewayError {
    GatewayError(
      code: AzureFaultCode.secretMissing, message: "certificate file \(path) can't be used to sign in: \(why)",
      advice: advice, disposition: .needsOperator)
  }
}

/// A certificate that the plan or the environment names.
struct ClientCertificateSource: TokenSource {
  let name: String
  let endpoint: TokenEndpoint
  let clientID: String
  let certificateFile: String
  let password: @Sendable () throws(GatewayError) -> Secret?

  func fetch() async throws(TokenFailure) -> AccessToken {
    let assertion = CertificateAssertion(
      audience: endpoint.url, clientID: clientID, tokenID: endpoint.sender.services.random.uuid(),
      nowSince1970: endpoint.sender.services.time.wallNow().secondsSince1970)
    let (file, password) = (certificateFile, password)
    let signed: Result<Secret, GatewayError>
    do {
      signed = try await onBlockingThread { () -> Result<Secret, GatewayError> in
        do throws(GatewayError) {
          return .success(try assertion.signed(certificateFile: file, password: try password()))
        } catch {
          return .failure(error)
        }
      }
    } catch {
      throw .failed(busy("read the client certificate", error))
    }
    do throws(GatewayError) {
      return try await endpoint.token(clientID: clientID, assertion: signed.get())
    } catch {
      throw .failed(error)
    }
  }
}
