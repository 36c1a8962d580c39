import CLinux
import Glibc

/// Why the operating system refused something: what was tried, on what, and what to do about it.
package struct SystemError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Infinitive phrase with its object: "open /dev/sdb".
  package let operation: String
  /// The operating system's errno; 0 where this library itself refused.
  package let errorNumber: Int32
  /// The reason where `errorNumber` is 0, or what else helps.
  package let detail: String

  package init(_ operation: String, errorNumber: Int32, detail: String = "") {
    self.operation = operation
    self.errorNumber = errorNumber
    self.detail = detail
  }

  /// A refusal that no system call made.
  package init(_ operation: String, because detail: String) {
    self.init(operation, errorNumber: 0, detail: detail)
  }

  package var description: String {
    var reasons: [String] = []
    if errorNumber != 0 { reasons.append(Self.text(of: errorNumber)) }
    if !detail.isEmpty { reasons.append(detail) }
    if let advice = Self.advice(for: errorNumber) { reasons.append(advice) }
    return "cannot \(operation): \(reasons.joined(separator: "; "))"
  }

  package var isNotFound: Bool { errorNumber == ENOENT || errorNumber == ENOTDIR }
  package var isBusy: Bool { errorNumber == EBUSY || errorNumber == EWOULDBLOCK }
  package var timedOut: Bool { errorNumber == ETIMEDOUT }
  package var wasCancelled: Bool { errorNumber == ECANCELED }

  /// "No such file or directory" for ENOENT.
  package static func text(of errorNumber: Int32) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
      guard let text = cmc_error_text(errorNumber, buffer.baseAddress, buffer.count) else {
        return "error \(errorNumber)"
      }
      return String(cString: text)
    }
  }

  private static func advice(for errorNumber: Int32) -> String? {
    switch errorNumber {
    case EACCES, EPERM: "run as root, or grant this user the right"
    case EMFILE, ENFILE: "raise the limit of open files (LimitNOFILE, ulimit -n)"
    case EBUSY: "something else uses it; stop that first (lsblk, fuser -v)"
    case ENOSPC, EDQUOT: "free some space"
    default: nil
    }
  }
}

/// Turns a shim's "result or negated errno" into a value or an error.
func check(_ result: Int, _ operation: @autoclosure () -> String) throws(SystemError) -> Int {
  guard result >= 0 else { throw SystemError(operation(), errorNumber: Int32(-result)) }
  return result
}
