/// Why a volume could not be made a device, or be taken out again.
package struct TapError: Error, Sendable, Equatable, CustomStringConvertible {
  package enum Code: String, Sendable {
    /// Root, /dev/fuse or a loop device is missing.
    case notPermitted
    /// Somebody uses the device; `message` names who.
    case inUse
    /// The agent's socket could not be reached, or serves another volume than it should.
    case serverUnreachable
    /// A system call failed; `message` names it, what it was about, and the error.
    case systemFailed
    /// The holder did not do what it should in time, or another holder has this directory.
    case holderFailed
    /// Bad arguments or a bad state file.
    case invalid
  }
  package let code: Code
  package let message: String
  package init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }
  package var description: String { message }
}
