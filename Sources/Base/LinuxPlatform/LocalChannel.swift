import CLinux
import Glibc
package import Seams
internal import Synchronization

/// A connected Unix socket whose calls wait in the kernel: one system call for a read that has to wait, where
/// `SocketChannel` takes three. For the I/O path on one host; there is no idle timeout, `shutDown` wakes both directions.
package final class LocalChannel: ByteChannel {
  private let socket: SocketChannel
  /// How often the next read looks before it sleeps. Who waits for each answer before the next request is back within
  /// microseconds, and to sleep and be woken costs it more than that; who doesn't come back is not looked for again
  /// until `sleepsBetweenTrials` reads have slept.
  private let looks = Atomic<Int32>(0)
  private let sleeps = Atomic<Int>(0)
  /// Some 20 microseconds of looking.
  private static let mostLooks: Int32 = 100
  private static let sleepsBetweenTrials = 64
  /// On a single processor the other end can't run meanwhile.
  private static let mayLook = sysconf(Int32(_SC_NPROCESSORS_ONLN)) > 1

  /// Takes over a connected channel: nobody may use `socket` any more.
  package init(_ socket: SocketChannel) throws(SystemError) {
    self.socket = socket
    let operation = "use the socket of \(socket.label)"
    let flags = fcntl(socket.descriptor.number, F_GETFL)
    guard flags >= 0, fcntl(socket.descriptor.number, F_SETFL, flags & ~O_NONBLOCK) >= 0 else {
      throw SystemError(operation, errorNumber: errno)
    }
  }

  package func read(into buffer: UnsafeMutableRawBufferPointer) throws(ChannelError) -> Int {
    precondition(!buffer.isEmpty)
    let count = receive(buffer)
    if count > 0 { return count }
    throw failure(count)
  }

  private func receive(_ buffer: UnsafeMutableRawBufferPointer) -> Int {
    let most = looks.load(ordering: .relaxed)
    if most > 0 {
      let count = cmc_receive_soon(socket.descriptor.number, buffer.baseAddress, buffer.count, most)
      guard count == -Int(EAGAIN) else {
        if most < Self.mostLooks { looks.store(Self.mostLooks, ordering: .relaxed) }
        return count
      }
      looks.store(most / 2, ordering: .relaxed)
    } else if Self.mayLook, sleeps.wrappingAdd(1, ordering: .relaxed).newValue % Self.sleepsBetweenTrials == 0 {
      looks.store(Self.mostLooks, ordering: .relaxed)
    }
    return cmc_receive(socket.descriptor.number, buffer.baseAddress, buffer.count)
  }

  package func write(_ buffer: UnsafeRawBufferPointer) throws(ChannelError) {
    var sent = 0
    while sent < buffer.count {
      let count = cmc_send(socket.descriptor.number, buffer.baseAddress.map { $0 + sent }, buffer.count - sent)
      guard count > 0 else { throw failure(count) }
      sent += count
    }
  }

  package func write(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) throws(ChannelError) {
    var sent = 0
    while sent < first.count {
      let rest = UnsafeRawBufferPointer(rebasing: first[sent...])
      let count = cmc_send_both(
        socket.descriptor.number, rest.baseAddress, rest.count, second.baseAddress, second.count)
      guard count > 0 else { throw failure(count) }
      sent += count
    }
    try write(UnsafeRawBufferPointer(rebasing: second[(sent - first.count)...]))
  }

  package func shutDown() { socket.shutDown() }

  /// For handing the connection to the kernel; who reads or writes here afterwards spoils it.
  package var descriptor: FileDescriptor { socket.descriptor }

  /// Whether the other end is gone. Takes nothing from the stream.
  package var isHungUp: Bool {
    var ready: Int16 = 0
    var none: Int16 = 0
    return cmc_poll(socket.descriptor.number, 0, -1, 0, &ready, &none) > 0
  }

  private func failure(_ result: Int) -> ChannelError {
    if socket.wasShutDown {
      return ChannelError(.broken, "connection with \(socket.label) was shut down from this end")
    }
    if result == 0 { return ChannelError(.closed, "\(socket.label) closed the connection") }
    return ChannelError(.broken, "connection with \(socket.label) broke: \(SystemError.text(of: Int32(-result)))")
  }
}
