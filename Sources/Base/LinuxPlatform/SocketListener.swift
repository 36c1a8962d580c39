package import BlockModel
import CLinux
import Glibc

/// A listening stream socket. `cancel` ends `accept` in every thread that waits in it.
package final class SocketListener: Sendable {
  package static let backlog: Int32 = 128

  package let label: String
  private let descriptor: FileDescriptor
  private let cancelSignal: CancelSignal
  private let unixPath: String?

  private init(_ descriptor: FileDescriptor, label: String, unixPath: String?) throws(SystemError) {
    self.descriptor = descriptor
    self.label = label
    self.unixPath = unixPath
    cancelSignal = try CancelSignal()
  }

  /// Listens on a Unix socket file, `mode` 0600 by default. A file left by a listener that is gone (connecting to it
  /// is refused) is removed first; where one still answers, EADDRINUSE.
  package static func unix(path: String, mode: UInt32 = 0o600) throws(SystemError) -> SocketListener {
    try UnixSocket.checkPath(path, "listen on \(path)")
    try UnixSocket.removeStale(path)
    let descriptor = FileDescriptor(owning: Int32(try check(cmc_socket(AF_UNIX), "make a socket")))
    // The mode of the socket's own inode is what the new file gets (less the umask), so that it is never wider.
    _ = try check(cmc_fchmod(descriptor.number, mode), "restrict \(path)")
    _ = try check(cmc_bind_unix(descriptor.number, path), "listen on \(path)")
    _ = try check(cmc_chmod(path, mode), "restrict \(path)")
    _ = try check(cmc_listen(descriptor.number, backlog), "listen on \(path)")
    return try SocketListener(descriptor, label: path, unixPath: path)
  }

  /// Listens on a TCP address; port 0 lets the kernel choose, see `localAddress`.
  package static func tcp(_ address: SocketAddress) throws(SystemError) -> SocketListener {
    let descriptor = FileDescriptor(owning: Int32(try check(cmc_socket(address.family.number), "make a socket")))
    let operation = "listen on \(address)"
    _ = try check(cmc_set_reuse_address(descriptor.number), operation)
    if address.family == .version6 {
      let isAny = address.bytes.allSatisfy { $0 == 0 }
      _ = try check(cmc_set_v6_only(descriptor.number, isAny ? 0 : 1), operation)
    }
    let bound = address.bytes.withUnsafeBytes {
      cmc_bind_internet(descriptor.number, address.family.number, $0.baseAddress, address.port, address.scope)
    }
    if bound == -Int(EADDRINUSE) {
      throw SystemError(
        operation, errorNumber: EADDRINUSE, detail: "choose another port or stop what listens there (ss -ltnp)")
    }
    _ = try check(bound, operation)
    _ = try check(cmc_listen(descriptor.number, backlog), operation)
    return try SocketListener(descriptor, label: "\(address)", unixPath: nil)
  }

  /// Waits for a peer. Nil after `cancel` or at the deadline. A peer that gave up while waiting is passed over.
  /// A TCP channel comes with TCP_NODELAY set.
  package func accept(
    until deadline: MonotonicTime? = nil, idleTimeoutSeconds: Double = .infinity
  ) throws(SystemError) -> SocketChannel? {
    while true {
      guard try Poll.wait(descriptor.number, for: .reading, cancel: cancelSignal, until: deadline) == .ready else {
        return nil
      }
      let number = cmc_accept(descriptor.number)
      if number < 0, cancelSignal.isCancelled { return nil }
      if Self.passedOver.contains(Int32(-min(0, number))) { continue }
      let accepted = FileDescriptor(owning: Int32(try check(number, "accept a connection on \(label)")))
      guard unixPath == nil else {
        return try SocketChannel(accepted, label: "a client of \(label)", idleTimeoutSeconds: idleTimeoutSeconds)
      }
      // The peer may be gone already; then its address is unknown, and the next read says so.
      let peer = try? SocketAddress.of(accepted, peer: true)
      let channel = try SocketChannel(
        accepted, label: peer.map { "\($0)" } ?? "a client of \(label)", idleTimeoutSeconds: idleTimeoutSeconds)
      _ = cmc_set_no_delay(accepted.number)
      return channel
    }
  }

  /// Errors of accept(2) that concern the one connection, not the listener.
  private static let passedOver: Set<Int32> = [
    EAGAIN, ECONNABORTED, EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, ENETUNREACH,
  ]

  /// Ends all waiting and later `accept` calls. Any thread, any number of times. Removes a Unix socket's file.
  package func cancel() {
    guard !cancelSignal.isCancelled else { return }
    cancelSignal.cancel()
    if let unixPath { _ = cmc_unlinkat(AT_FDCWD, unixPath, 0) }
    descriptor.close()
  }

  package var isCancelled: Bool { cancelSignal.isCancelled }

  /// The address that it listens on, with the real port. TCP only.
  package func localAddress() throws(SystemError) -> SocketAddress { try .of(descriptor, peer: false) }
}

enum UnixSocket {
  static func checkPath(_ path: String, _ operation: String) throws(SystemError) {
    let limit = cmc_unix_path_limit()
    guard !path.isEmpty, path.utf8.count <= limit else {
      throw SystemError(
        operation, errorNumber: ENAMETOOLONG,
        detail: "a Unix socket's path has 1 to \(limit) bytes, this one \(path.utf8.count); use a shorter directory")
    }
  }

  /// Removes the socket file that a dead listener left; throws EADDRINUSE where one lives.
  static func removeStale(_ path: String) throws(SystemError) {
    var facts = cmc_file_facts()
    guard cmc_statat(AT_FDCWD, path, 0, &facts) == 0 else { return }
    guard cmc_is_socket(facts.mode) != 0 else {
      throw SystemError("listen on \(path)", errorNumber: EEXIST, detail: "it is not a socket; it was left alone")
    }
    let probe = FileDescriptor(owning: Int32(try check(cmc_socket(AF_UNIX), "make a socket")))
    let result = cmc_connect_unix(probe.number, path)
    guard result == -Int(ECONNREFUSED) else {
      throw SystemError("listen on \(path)", errorNumber: EADDRINUSE, detail: "another process serves this socket")
    }
    _ = try check(cmc_unlinkat(AT_FDCWD, path, 0), "remove the stale socket \(path)")
  }
}
