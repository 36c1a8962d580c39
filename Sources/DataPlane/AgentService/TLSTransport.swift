package import BlockModel
package import LinuxPlatform
package import Seams
package import TLSChannel

/// Lanes under TLS 1.3 with the agents' own keys.
package struct TLSTransport: LinkTransport {
  private let identity: AgentIdentity
  package init(identity: AgentIdentity) { self.identity = identity }

  package func open(
    _ socket: SocketChannel, to peer: KeyFingerprint, until deadline: MonotonicTime
  ) throws(ChannelError) -> any ByteChannel {
    try TLSChannel.connect(
      over: socket, identity: identity, expecting: peer, handshakeTimeoutSeconds: Self.left(until: deadline))
  }

  package func accept(
    _ socket: SocketChannel, from peers: Set<KeyFingerprint>, until deadline: MonotonicTime
  ) throws(ChannelError) -> (channel: any ByteChannel, peer: KeyFingerprint) {
    let channel = try TLSChannel.accept(
      over: socket, identity: identity, handshakeTimeoutSeconds: Self.left(until: deadline)
    ) { peers.contains($0) }
    return (channel, channel.peerFingerprint)
  }

  private static func left(until deadline: MonotonicTime) -> Double {
    max(0.1, deadline.seconds(since: .now))
  }
}
