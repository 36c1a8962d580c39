import BlockModel
import CLinux
import Glibc

/// Opening connections.
package enum SocketConnector {
  package static let defaultTimeoutSeconds = 10.0

  /// Connects to a Unix socket. A full backlog is waited for up to the timeout.
  package static func unix(
    path: String, timeoutSeconds: Double = defaultTimeoutSeconds, idleTimeoutSeconds: Double = .infinity,
    cancel: CancelSignal? = nil
  ) throws(SystemError) -> SocketChannel {
    let operation = "connect to \(path)"
    try UnixSocket.checkPath(path, operation)
    let descriptor = FileDescriptor(owning: Int32(try check(cmc_socket(AF_UNIX), "make a socket")))
    let deadline = MonotonicTime.now.adding(seconds: timeoutSeconds)
    while true {
      let result = cmc_connect_unix(descriptor.number, path)
      // A non-blocking Unix socket says EAGAIN for a full backlog, and poll does not tell when there is room.
      guard result == -Int(EAGAIN) || result == -Int(EINTR) else {
        _ = try check(result, operation)
        return try SocketChannel(descriptor, label: path, idleTimeoutSeconds: idleTimeoutSeconds)
      }
      if cancel?.isCancelled == true { throw SystemError(operation, errorNumber: ECANCELED) }
      if MonotonicTime.now >= deadline { throw SystemError(operation, errorNumber: ETIMEDOUT) }
      pauseThread(milliseconds: 5)
    }
  }

  /// Connects to a TCP address and sets TCP_NODELAY.
  package static func tcp(
    _ address: SocketAddress, timeoutSeconds: Double = defaultTimeoutSeconds, idleTimeoutSeconds: Double = .infinity,
    cancel: CancelSignal? = nil
  ) throws(SystemError) -> SocketChannel {
    let operation = "connect to \(address)"
    let descriptor = FileDescriptor(owning: Int32(try check(cmc_socket(address.family.number), "make a socket")))
    let result = address.bytes.withUnsafeBytes {
      cmc_connect_internet(descriptor.number, address.family.number, $0.baseAddress, address.port, address.scope)
    }
    if result == -Int(EINPROGRESS) || result == -Int(EINTR) {
      let deadline = MonotonicTime.now.adding(seconds: timeoutSeconds)
      switch try Poll.wait(descriptor.number, for: .writing, cancel: cancel, until: deadline) {
      case .ready: break
      case .cancelled: throw SystemError(operation, errorNumber: ECANCELED)
      case .timedOut:
        throw SystemError(operation, errorNumber: ETIMEDOUT, detail: "check the address, routes and firewalls")
      }
      let number = cmc_socket_error(descriptor.number)
      guard number == 0 else { throw SystemError(operation, errorNumber: number) }
    } else {
      _ = try check(result, operation)
    }
    _ = try check(cmc_set_no_delay(descriptor.number), operation)
    return try SocketChannel(descriptor, label: "\(address)", idleTimeoutSeconds: idleTimeoutSeconds)
  }
}
