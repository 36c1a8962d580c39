import CLinux
import Glibc

/// A numeric Internet address with its port. Names are resolved by `NameResolution`, on the control plane only.
package struct SocketAddress: Sendable, Hashable, CustomStringConvertible {
  package enum Family: Sendable, Hashable {
    case version4
    case version6

    var number: Int32 { self == .version4 ? AF_INET : AF_INET6 }
    static func of(_ number: Int32) -> Family? {
      number == AF_INET ? .version4 : number == AF_INET6 ? .version6 : nil
    }
  }

  package let family: Family
  /// Network order: 4 or 16 bytes.
  package let bytes: [UInt8]
  package let port: UInt16
  /// Interface of a link-local IPv6 address; 0 otherwise.
  package let scope: UInt32

  init(family: Family, bytes: [UInt8], port: UInt16, scope: UInt32) {
    self.family = family
    self.bytes = bytes
    self.port = port
    self.scope = scope
  }

  /// "192.0.2.1", "2001:db8::1", "fe80::1%eth0" or the same in brackets; nil for anything else, such as a name.
  package init?(numeric text: String, port: UInt16) {
    var host = text
    if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
    var scope: UInt32 = 0
    if let percent = host.firstIndex(of: "%") {
      scope = if_nametoindex(String(host[host.index(after: percent)...]))
      guard scope != 0 else { return nil }
      host = String(host[..<percent])
    }
    for family in [Family.version4, .version6] {
      var raw = [UInt8](repeating: 0, count: family == .version4 ? 4 : 16)
      let isParsed = raw.withUnsafeMutableBytes { inet_pton(family.number, host, $0.baseAddress) } == 1
      if isParsed, family == .version6 || scope == 0 {
        self.init(family: family, bytes: raw, port: port, scope: scope)
        return
      }
    }
    return nil
  }

  package static func loopback(port: UInt16) -> SocketAddress {
    SocketAddress(family: .version4, bytes: [127, 0, 0, 1], port: port, scope: 0)
  }

  /// Every address of this host, IPv6 and (mapped) IPv4.
  package static func any(port: UInt16) -> SocketAddress {
    SocketAddress(family: .version6, bytes: Array(repeating: 0, count: 16), port: port, scope: 0)
  }

  /// The address alone, without brackets or port.
  package var host: String {
    let text = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { buffer -> String in
      let found = bytes.withUnsafeBytes {
        inet_ntop(family.number, $0.baseAddress, buffer.baseAddress, socklen_t(buffer.count))
      }
      return found.map { String(cString: $0) } ?? "?"
    }
    return scope == 0 ? text : "\(text)%\(scope)"
  }

  package var description: String { family == .version4 ? "\(host):\(port)" : "[\(host)]:\(port)" }

  /// This end's or the peer's address of an Internet socket.
  static func of(_ descriptor: FileDescriptor, peer: Bool) throws(SystemError) -> SocketAddress {
    var family: Int32 = 0
    var port: UInt16 = 0
    var scope: UInt32 = 0
    var raw = [UInt8](repeating: 0, count: 16)
    let result = raw.withUnsafeMutableBufferPointer {
      cmc_socket_name(descriptor.number, peer ? 1 : 0, &family, &port, &scope, $0.baseAddress)
    }
    _ = try check(result, "read a socket's address")
    guard let known = Family.of(family) else {
      throw SystemError("read a socket's address", because: "it is no Internet socket")
    }
    return SocketAddress(family: known, bytes: known == .version4 ? Array(raw[..<4]) : raw, port: port, scope: scope)
  }
}
