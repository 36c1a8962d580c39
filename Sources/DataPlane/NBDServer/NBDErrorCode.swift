/// The error values that the NBD protocol allows in a reply (document section "Error values"). The raw value is what
/// goes over the wire.
package enum NBDErrorCode: UInt32, Error, Sendable, Equatable, CaseIterable, CustomStringConvertible {
  case notPermitted = 1
  case inputOutput = 5
  case noMemory = 12
  case invalid = 22
  case noSpace = 28
  case overflow = 75
  case notSupported = 95
  case shutdown = 108

  /// For the person at the client: what happened and what to do.
  package var description: String {
    switch self {
    case .notPermitted: "the export is read-only; write to the copy that has authority"
    case .inputOutput: "the device beneath the export failed; look at the agent's journal and the kernel's log"
    case .noMemory: "the server is out of memory; send smaller requests"
    case .invalid: "the request breaks the export's rules: range, alignment, flags or command"
    case .noSpace: "no space: the range lies beyond the export's end, or the device beneath is full"
    case .overflow: "the request is longer than the export's maximum; split it"
    case .notSupported: "fast zeroing can't be promised here; repeat without the flag, or write zeroes"
    case .shutdown: "the export is closing; connect again later"
    }
  }
}
