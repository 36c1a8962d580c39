/// Why a channel can't be used any more.
package struct ChannelError: Error, Sendable, Equatable, CustomStringConvertible {
  package enum Code: String, Sendable {
    /// The peer closed its end in an orderly way.
    case closed
    /// The connection broke, or this end was shut down.
    case broken
    /// Nothing moved for longer than the channel's own limit.
    case timedOut
    /// The peer isn't who it should be.
    case untrustedPeer
  }
  package let code: Code
  package let message: String
  package init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }
  package var description: String { message }
}

/// An ordered, reliable stream of bytes in both directions. Calls block. One thread may read while another writes;
/// two writers take turns by a lock of their own. `shutDown` may be called from any thread and wakes both.
package protocol ByteChannel: AnyObject, Sendable {
  /// Fills at least one byte and at most the buffer; throws `.closed` at the end of the stream.
  func read(into buffer: UnsafeMutableRawBufferPointer) throws(ChannelError) -> Int
  /// Fills the whole buffer.
  func readFully(into buffer: UnsafeMutableRawBufferPointer) throws(ChannelError)
  /// Writes everything.
  func write(_ buffer: UnsafeRawBufferPointer) throws(ChannelError)
  /// Writes both, one after the other, in as few system calls as possible.
  func write(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) throws(ChannelError)
  func shutDown()
}

extension ByteChannel {
  package func write(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) throws(ChannelError) {
    try write(first)
    if !second.isEmpty { try write(second) }
  }

  package func readFully(into buffer: UnsafeMutableRawBufferPointer) throws(ChannelError) {
    var filled = 0
    while filled < buffer.count {
      filled += try read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[filled...]))
    }
  }
}
