/// Where one thread waits for others: the server may not make a system call, so it is handed this.
///
/// A permit that is given while nobody waits is kept, at most one; `park` may return without one (callers check again).
package protocol NBDParking: AnyObject, Sendable {
  /// Blocks the calling thread until a permit is there, and takes it.
  func park()
  /// Gives the permit. Any thread.
  func unpark()
}
