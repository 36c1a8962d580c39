package import BlockModel
import CLinux
import Glibc
package import Seams

/// Who is at the other end of a Unix socket (SO_PEERCRED), as the kernel recorded it when the peer connected.
package struct PeerCredentials: Sendable, Equatable {
  package var processID: Int32
  package var userID: UInt32
  package var groupID: UInt32
}

/// A connected stream socket as a byte channel. It is non-blocking beneath; calls wait with poll, so that `shutDown`
/// from another thread wakes both directions and nothing moves for at most `idleTimeoutSeconds` a call.
package final class SocketChannel: ByteChannel {
  package let descriptor: FileDescriptor
  /// What to call the peer in messages.
  package let label: String
  /// Longest wait for one read or write to make progress, in seconds; infinite by default.
  package let idleTimeoutSeconds: Double
  private let writing = Monitor(Turn())
  private let isShutDown = Monitor(false)

  /// Takes over a connected stream socket.
  package init(
    _ descriptor: FileDescriptor, label: String, idleTimeoutSeconds: Double = .infinity
  ) throws(SystemError) {
    _ = try check(cmc_set_nonblocking(descriptor.number), "use the socket of \(label)")
    self.descriptor = descriptor
    self.label = label
    self.idleTimeoutSeconds = idleTimeoutSeconds
  }

  /// Two ends that are connected with each other.
  package static func pair(label: String = "socket pair") throws(SystemError) -> (SocketChannel, SocketChannel) {
    var ends: (Int32, Int32) = (-1, -1)
    let result = withUnsafeMutableBytes(of: &ends) { raw in
      cmc_socket_pair(raw.assumingMemoryBound(to: Int32.self).baseAddress)
    }
    _ = try check(result, "make a socket pair")
    let first = FileDescriptor(owning: ends.0)
    let second = FileDescriptor(owning: ends.1)
    return (try SocketChannel(first, label: label), try SocketChannel(second, label: label))
  }

  package func read(into buffer: UnsafeMutableRawBufferPointer) throws(ChannelError) -> Int {
    precondition(!buffer.isEmpty)
    while true {
      let count = cmc_receive(descriptor.number, buffer.baseAddress, buffer.count)
      if count > 0 { return count }
      if count == 0 {
        throw wasShutDown ? shutDownError : ChannelError(.closed, "\(label) closed the connection")
      }
      try waitAfter(count, .reading)
    }
  }

  package func write(_ buffer: UnsafeRawBufferPointer) throws(ChannelError) {
    try writing.withLock { _ throws(ChannelError) in try writeAll(buffer) }
  }

  package func write(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) throws(ChannelError) {
    try writing.withLock { _ throws(ChannelError) in
      var sent = 0
      while sent < first.count {
        let rest = UnsafeRawBufferPointer(rebasing: first[sent...])
        let count = cmc_send_both(descriptor.number, rest.baseAddress, rest.count, second.baseAddress, second.count)
        if count < 0 { try waitAfter(count, .writing) } else { sent += count }
      }
      let sentOfSecond = sent - first.count
      if sentOfSecond < second.count { try writeAll(UnsafeRawBufferPointer(rebasing: second[sentOfSecond...])) }
    }
  }

  package func shutDown() {
    isShutDown.withLock { $0 = true }
    _ = cmc_shutdown(descriptor.number)
  }

  /// Tells the peer that nothing more will come; reading goes on.
  package func finishWriting() { _ = cmc_shutdown_writing(descriptor.number) }

  package var wasShutDown: Bool { isShutDown.withLock { $0 } }

  /// Whoever connected the Unix socket's other end.
  package func peerCredentials() throws(SystemError) -> PeerCredentials {
    var peer = PeerCredentials(processID: 0, userID: 0, groupID: 0)
    _ = try check(
      cmc_peer_credentials(descriptor.number, &peer.processID, &peer.userID, &peer.groupID), "see who \(label) is")
    return peer
  }

  /// What a lost TCP peer costs: an error after at most `userTimeoutSeconds` of unanswered data, or
  /// `keepaliveSeconds` + 3 probes of silence.
  package func tuneTCP(userTimeoutSeconds: Double?, keepaliveSeconds: Int?) throws(SystemError) {
    let operation = "set TCP options of \(label)"
    _ = try check(cmc_set_no_delay(descriptor.number), operation)
    if let userTimeoutSeconds {
      _ = try check(
        cmc_set_user_timeout(descriptor.number, Int32(clamping: Int(userTimeoutSeconds * 1000))), operation)
    }
    if let keepaliveSeconds {
      let interval = Int32(max(1, keepaliveSeconds / 3))
      _ = try check(cmc_set_keepalive(descriptor.number, Int32(max(1, keepaliveSeconds)), interval, 3), operation)
    }
  }

  /// While it is on, only full segments leave: fewer packets, and fewer times that the peer's thread is woken. Off lets
  /// the rest go. Nothing on sockets that have no segments.
  package func setCork(_ isOn: Bool) { _ = cmc_set_cork(descriptor.number, isOn ? 1 : 0) }

  /// From how many bytes on a wait for reading ends; an end of the stream or an error always ends it. The caller knows
  /// that so many are to come, and sets it to 1 again. The kernel bounds it by the receive buffer.
  package func setLowWater(_ byteCount: Int) { _ = cmc_set_low_water(descriptor.number, Int32(clamping: byteCount)) }

  private func writeAll(_ buffer: UnsafeRawBufferPointer) throws(ChannelError) {
    var sent = 0
    while sent < buffer.count {
      let count = cmc_send(descriptor.number, buffer.baseAddress.map { $0 + sent }, buffer.count - sent)
      if count < 0 { try waitAfter(count, .writing) } else { sent += count }
    }
  }

  /// Waits where the call would have blocked; throws for every other failure.
  private func waitAfter(_ result: Int, _ direction: Poll.Direction) throws(ChannelError) {
    guard result == -Int(EAGAIN) else {
      if wasShutDown { throw shutDownError }
      throw ChannelError(.broken, "connection with \(label) broke: \(SystemError.text(of: Int32(-result)))")
    }
    try waitUntilReady(direction)
  }

  /// Waits until the socket can be read or written, at most the idle timeout. For a protocol layer that reads and
  /// writes the descriptor itself.
  package func waitUntilReady(_ direction: Poll.Direction, until deadline: MonotonicTime? = nil) throws(ChannelError) {
    let readiness: Readiness
    do {
      let limit = deadline ?? MonotonicTime.afterNow(seconds: idleTimeoutSeconds)
      readiness = try Poll.wait(descriptor.number, for: direction, until: limit)
    } catch {
      throw ChannelError(.broken, "connection with \(label) broke: \(error)")
    }
    if readiness != .ready {
      throw ChannelError(.timedOut, "nothing moved on the connection with \(label) for too long; check that it runs")
    }
  }

  private var shutDownError: ChannelError {
    ChannelError(.broken, "connection with \(label) was shut down from this end")
  }
}
