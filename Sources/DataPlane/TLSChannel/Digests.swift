import COpenSSL

/// SHA-256, all at once.
package enum Digests {
  package static let sha256Bytes = 32

  package static func sha256(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
    let hasher = SHA256Hasher()
    hasher.update(bytes)
    return hasher.finish()
  }

  package static func sha256(_ bytes: [UInt8]) -> [UInt8] { bytes.withUnsafeBytes { sha256($0) } }

  /// Lower-case hexadecimal digits.
  package static func hex(_ bytes: some Sequence<UInt8>) -> String {
    let digits = Array("0123456789abcdef".utf8)
    var text: [UInt8] = []
    for byte in bytes {
      text.append(digits[Int(byte >> 4)])
      text.append(digits[Int(byte & 15)])
    }
    return String(decoding: text, as: UTF8.self)
  }
}

/// SHA-256 piece by piece: some 1.8 GB/s a core with SHA instructions. One thread at a time.
package final class SHA256Hasher {
  private let context: OpaquePointer

  package init() {
    // OpenSSL fails here only without memory, or without SHA-256, which it can't be built without.
    guard let context = EVP_MD_CTX_new() else { preconditionFailure("no memory for a digest") }
    self.context = context
    begin()
  }

  deinit { EVP_MD_CTX_free(context) }

  package func update(_ bytes: UnsafeRawBufferPointer) {
    guard let start = bytes.baseAddress else { return }
    let isDone = EVP_DigestUpdate(context, start, bytes.count) == 1
    precondition(isDone, "SHA-256 failed")
  }

  package func update(_ bytes: [UInt8]) { bytes.withUnsafeBytes { update($0) } }

  /// The 32 bytes of the digest; the hasher begins anew.
  package func finish() -> [UInt8] {
    var digest = [UInt8](repeating: 0, count: Digests.sha256Bytes)
    digest.withUnsafeMutableBytes { finish(into: $0) }
    return digest
  }

  /// Writes the 32 bytes of the digest without allocating; the hasher begins anew.
  package func finish(into buffer: UnsafeMutableRawBufferPointer) {
    precondition(buffer.count >= Digests.sha256Bytes)
    let start = buffer.baseAddress?.assumingMemoryBound(to: UInt8.self)
    let isDone = EVP_DigestFinal_ex(context, start, nil) == 1
    precondition(isDone, "SHA-256 failed")
    begin()
  }

  private func begin() {
    let isDone = EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1
    precondition(isDone, "SHA-256 is not available")
  }
}
