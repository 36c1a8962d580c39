/// One request in flight. Reused, so that the hot path allocates nothing.
///
/// `@unchecked Sendable`: one owner at a time. The connection's thread fills it, the export's completion settles it, the
/// connection's reply writer sends it; each handover passes the connection's outbox lock.
final class NBDTransaction: @unchecked Sendable {
  enum Answer {
    /// Error or success without data.
    case status
    /// Success with the payload.
    case data
    /// Bytes that are ready to go.
    case prepared([UInt8])
  }

  var cookie: UInt64 = 0
  var offset: UInt64 = 0
  var isRead = false
  var payload: PayloadBuffer = .empty
  var error: NBDErrorCode?
  var answer = Answer.status
  /// Whether the export owes a completion.
  var isSubmitted = false
  /// Made once, and cut when the connection ends: it holds this transaction.
  var completion: NBDCompletion?
}
