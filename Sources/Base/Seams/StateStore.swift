/// Why a durable record could not be read or written.
package struct StateStoreError: Error, Sendable, Equatable, CustomStringConvertible {
  package enum Code: String, Sendable {
    case notFound
    case noSpace
    case denied
    case failed
  }
  package let code: Code
  package let message: String
  package init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }
  package var description: String { message }
}

/// Small durable files below one directory. Paths are relative, with `/`, and never leave it.
/// Calls block; one caller a path at a time.
package protocol StateStore: AnyObject, Sendable {
  /// Nil where there is no such file.
  func read(_ path: String) throws(StateStoreError) -> [UInt8]?
  /// At most `limitBytes` from `offset` on; nil where there is no such file.
  func readPart(_ path: String, from offset: UInt64, limitBytes: Int) throws(StateStoreError) -> StateFilePart?
  /// Replaces the file atomically: after a crash it holds the old or the new bytes whole, and once this returned the
  /// new ones (temporary file, fsync, rename, fsync of the directory). Makes missing directories (0700); files are 0600.
  func replace(_ path: String, with bytes: [UInt8]) throws(StateStoreError)
  /// Appends durably (fdatasync before it returns).
  func append(_ path: String, _ bytes: [UInt8]) throws(StateStoreError)
  /// Removes a file or a directory with all in it; no error where there is none. Durable when it returned.
  func remove(_ path: String) throws(StateStoreError)
  /// Names (not paths) in a directory, sorted; empty where there is none.
  func list(_ path: String) throws(StateStoreError) -> [String]
}

/// Some bytes of a durable file, and how many it has in all.
package struct StateFilePart: Sendable, Equatable {
  package var bytes: [UInt8]
  package var sizeBytes: UInt64
  package init(bytes: [UInt8], sizeBytes: UInt64) {
    self.bytes = bytes
    self.sizeBytes = sizeBytes
  }
}

extension StateStore {
  package func readPart(
    _ path: String, from offset: UInt64, limitBytes: Int
  ) throws(StateStoreError) -> StateFilePart? {
    guard let bytes = try read(path) else { return nil }
    let start = min(Int(clamping: offset), bytes.count)
    return StateFilePart(bytes: Array(bytes[start...].prefix(limitBytes)), sizeBytes: UInt64(bytes.count))
  }
}
