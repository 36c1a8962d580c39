/// The only way for async code to wait for time to pass.
package protocol Pausing: Sendable {
  /// Returns after `seconds` (at once where they are zero or less), or throws as soon as the calling task is cancelled.
  func pause(seconds: Double) async throws(CancellationError)
}
