package import BlockModel
import COpenSSL
package import Seams

/// An agent's private key (ECDSA P-256) with the self-signed certificate that carries its public half.
package final class AgentIdentity: @unchecked Sendable {
  // Sendable: both OpenSSL objects are only read once made here, and OpenSSL counts their references atomically.
  let key: OpaquePointer
  let certificate: OpaquePointer
  /// SHA-256 over the public key: what peers know this agent by.
  package let fingerprint: KeyFingerprint

  package static let keyPath = "agent.key"
  package static let certificatePath = "agent.crt"
  package static let defaultCommonName = "cmcagent"

  /// Takes over both references.
  private init(key: OpaquePointer, certificate: OpaquePointer) throws(TLSError) {
    self.key = key
    self.certificate = certificate
    guard let fingerprint = KeyFingerprint.of(certificate: certificate) else {
      throw TLSError.fromLibrary("cannot read the public key of the agent's certificate")
    }
    self.fingerprint = fingerprint
  }

  deinit {
    X509_free(certificate)
    EVP_PKEY_free(key)
  }

  /// A new key and its certificate. `commonName` is for people who look at the certificate, nothing relies on it.
  package static func make(commonName: String = defaultCommonName) throws(TLSError) -> AgentIdentity {
    ERR_clear_error()
    guard let key = cmc_tls_make_key() else { throw TLSError.fromLibrary("cannot make a private key") }
    return try certified(key, commonName)
  }

  /// From PEM text. The certificate must belong to the key.
  package static func read(keyPEM: [UInt8], certificatePEM: [UInt8]) throws(TLSError) -> AgentIdentity {
    let key = try readKey(keyPEM)
    ERR_clear_error()
    let certificate = certificatePEM.withUnsafeBytes { bytes -> OpaquePointer? in
      let memory = cmc_tls_memory_over(bytes.baseAddress, Int32(clamping: bytes.count))
      defer { BIO_free(memory) }
      return cmc_tls_read_certificate(memory)
    }
    guard let certificate else {
      EVP_PKEY_free(key)
      throw TLSError.fromLibrary("cannot read the agent's certificate")
    }
    guard X509_check_private_key(certificate, key) == 1 else {
      EVP_PKEY_free(key)
      X509_free(certificate)
      throw TLSError("the agent's certificate belongs to another key")
    }
    return try AgentIdentity(key: key, certificate: certificate)
  }

  /// The identity kept in `store`, made there when missing. A key is never replaced: one that can't be read is an error,
  /// because peers know the agent by it. A certificate that is missing or doesn't fit is made again from the key.
  package static func loadOrMake(
    in store: any StateStore, commonName: String = defaultCommonName
  ) throws(TLSError) -> AgentIdentity {
    do throws(StateStoreError) {
      guard let keyPEM = try store.read(keyPath) else {
        let made = try? make(commonName: commonName)
        guard let made, let pem = made.privateKeyPEM(), let certificate = made.certificatePEM() else {
          throw StateStoreError(.failed, "cannot make a private key: \(TLSError.libraryReason())")
        }
        try store.replace(keyPath, with: pem)
        try store.replace(certificatePath, with: certificate)
        return made
      }
      let certificatePEM = try store.read(certificatePath) ?? []
      if let identity = try? read(keyPEM: keyPEM, certificatePEM: certificatePEM) { return identity }
      let renewed: AgentIdentity
      do throws(TLSError) {
        renewed = try certified(try readKey(keyPEM), commonName)
      } catch {
        throw StateStoreError(
          .failed, "\(keyPath) is damaged (\(error)); restore it, or remove it and pair this agent with its peers again"
        )
      }
      if let certificate = renewed.certificatePEM() { try store.replace(certificatePath, with: certificate) }
      return renewed
    } catch {
      throw TLSError("cannot load the agent's identity: \(error)")
    }
  }

  /// The identity whose key is kept at `path`, with a certificate made anew; nil where there is no such file.
  static func load(_ path: String, in store: any StateStore) throws(TLSError) -> AgentIdentity? {
    let pem: [UInt8]?
    do throws(StateStoreError) {
      pem = try store.read(path)
    } catch {
      throw TLSError("cannot load the agent's key: \(error)")
    }
    guard let pem else { return nil }
    do throws(TLSError) {
      return try certified(try readKey(pem), defaultCommonName)
    } catch {
      throw TLSError("\(path) is damaged (\(error)); remove it, and rotate the key again")
    }
  }

  package func certificatePEM() -> [UInt8]? {
    Self.written { PEM_write_bio_X509($0, self.certificate) }
  }

  /// The secret itself, in PKCS #8. For a 0600 file only; nil where OpenSSL fails.
  package func privateKeyPEM() -> [UInt8]? {
    Self.written { cmc_tls_write_key($0, self.key) }
  }

  /// Takes over `key`.
  private static func certified(_ key: OpaquePointer, _ commonName: String) throws(TLSError) -> AgentIdentity {
    ERR_clear_error()
    guard let certificate = cmc_tls_make_certificate(key, commonName) else {
      EVP_PKEY_free(key)
      throw TLSError.fromLibrary("cannot make a certificate")
    }
    return try AgentIdentity(key: key, certificate: certificate)
  }

  private static func readKey(_ pem: [UInt8]) throws(TLSError) -> OpaquePointer {
    ERR_clear_error()
    let key = pem.withUnsafeBytes { bytes -> OpaquePointer? in
      let memory = cmc_tls_memory_over(bytes.baseAddress, Int32(clamping: bytes.count))
      defer { BIO_free(memory) }
      return cmc_tls_read_key(memory)
    }
    guard let key else { throw TLSError.fromLibrary("cannot read the agent's private key") }
    return key
  }

  private static func written(_ body: (OpaquePointer) -> Int32) -> [UInt8]? {
    guard let memory = cmc_tls_memory() else { return nil }
    defer { BIO_free(memory) }
    guard body(memory) == 1 else { return nil }
    var start: UnsafePointer<CChar>?
    let count = cmc_tls_memory_bytes(memory, &start)
    return Array(UnsafeRawBufferPointer(start: start, count: count))
  }
}

extension KeyFingerprint {
  /// Of a certificate's public key; nil where it has none that can be encoded.
  static func of(certificate: OpaquePointer) -> KeyFingerprint? {
    var digest = [UInt8](repeating: 0, count: Digests.sha256Bytes)
    let isDone = digest.withUnsafeMutableBufferPointer { cmc_tls_public_key_digest(certificate, $0.baseAddress) } == 1
    return isDone ? KeyFingerprint("SHA256:\(Digests.hex(digest))") : nil
  }
}
