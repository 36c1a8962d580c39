import CLinux
import Glibc

/// Turning host names into addresses. For the control plane only: glibc's resolver loads modules at run time, which
/// a fully static binary such as cmcagent can't. The agent is given numeric addresses.
package enum NameResolution {
  package static let addressLimit = 16

  /// Addresses of `host` in the resolver's order of preference, at most `addressLimit`. Blocks for as long as the
  /// system's resolver is configured to try.
  package static func addresses(of host: String, port: UInt16) throws(SystemError) -> [SocketAddress] {
    if let numeric = SocketAddress(numeric: host, port: port) { return [numeric] }
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    let status = getaddrinfo(host, nil, &hints, &list)
    guard status == 0 else {
      let reason = status == EAI_SYSTEM ? SystemError.text(of: errno) : String(cString: gai_strerror(status))
      throw SystemError("resolve \(host)", because: "\(reason); check the name, or write its address")
    }
    defer { freeaddrinfo(list) }
    var found: [SocketAddress] = []
    var entry = list
    while let current = entry, found.count < addressLimit {
      entry = current.pointee.ai_next
      guard let raw = current.pointee.ai_addr else { continue }
      switch current.pointee.ai_family {
      case AF_INET:
        raw.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { address in
          let bytes = withUnsafeBytes(of: address.pointee.sin_addr) { Array($0) }
          found.append(SocketAddress(family: .version4, bytes: bytes, port: port, scope: 0))
        }
      case AF_INET6:
        raw.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { address in
          let bytes = withUnsafeBytes(of: address.pointee.sin6_addr) { Array($0) }
          let scope = address.pointee.sin6_scope_id
          found.append(SocketAddress(family: .version6, bytes: bytes, port: port, scope: scope))
        }
      default: break
      }
    }
    return found
  }
}
