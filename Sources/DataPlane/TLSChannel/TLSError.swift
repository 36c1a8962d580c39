import COpenSSL

/// Why a key or certificate could not be made, read or kept. Never contains key material.
package struct TLSError: Error, Sendable, Equatable, CustomStringConvertible {
  package let message: String
  package init(_ message: String) { self.message = message }
  package var description: String { message }

  /// With OpenSSL's first reason from this thread's error queue.
  static func fromLibrary(_ what: String) -> TLSError { TLSError("\(what): \(libraryReason())") }

  /// OpenSSL's first reason in this thread's error queue, such as "certificate verify failed".
  static func libraryReason() -> String {
    let error = cmc_tls_first_error()
    guard error != 0, let text = ERR_reason_error_string(error) else { return "no reason given" }
    return String(cString: text)
  }
}
