package import MigrationModel
package import Reconciling
import Foundation

/// A value that must not be shown: printing, dumping or interpolating it shows no part of it.
package struct Secret: Sendable, Equatable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  private let value: String
  package init(_ value: String) { self.value = value }
  /// The value itself, for the one place that sends it.
  package func reveal() -> String { value }
  package var description: String { "(secret)" }
  package var debugDescription: String { "(secret)" }
  package var customMirror: Mirror { Mirror(self, children: [:]) }
}

/// Finds secrets where a plan says they are, at the moment they are needed.
package struct SecretReader: Sendable {
  package static let fileLimitBytes = 64 << 10
  private let environment: [String: String]
  package init(environment: [String: String]) { self.environment = environment }

  /// The variable's or file's text without the line end at its end. Blocks: a file is read.
  package func read(_ reference: SecretReference) throws(GatewayError) -> Secret {
    switch reference {
    case .environment(let name):
      guard let value = environment[name], !value.isEmpty else {
        throw Self.missing(
          "environment variable \(name) is not set", "export \(name) with the secret before you run cmcplan")
      }
      return Secret(value)
    case .file(let path): return Secret(try Self.text(ofFile: path))
    }
  }

  /// A small text file, whole, without trailing line ends.
  static func text(ofFile path: String) throws(GatewayError) -> String {
    guard let file = FileHandle(forReadingAtPath: path) else {
      throw missing("secret file \(path) can't be opened", "check that it exists and that you may read it")
    }
    defer { try? file.close() }
    guard let data = try? file.read(upToCount: fileLimitBytes + 1), data.count <= fileLimitBytes else {
      throw missing(
        "secret file \(path) can't be read, or is larger than \(fileLimitBytes >> 10) KiB",
        "put nothing but the secret into it")
    }
    var text = String(decoding: data, as: UTF8.self)
    while let last = text.last, last.isNewline { text.removeLast() }
    guard !text.isEmpty else { throw missing("secret file \(path) is empty", "put the secret into it") }
    return text
  }

  private static func missing(_ message: String, _ advice: String) -> GatewayError {
    GatewayError(
      code: AzureFaultCode.secretMissing, message: message, advice: advice, disposition: .needsOperator,
      field: .credential)
  }
}
