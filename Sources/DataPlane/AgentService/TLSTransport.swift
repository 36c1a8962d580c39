package import BlockModel
package import LinuxPlatform
package import Seams
package import TLSChannel

/// Lanes under TLS 1.3 with the agents' own keys: whichever this agent's is when a lane opens.
package struct TLSTransport: LinkTransport {
  private let keys: KeyRing
  package init(keys: KeyRing) { self.keys = keys }

  package func open(
    _ socket: SocketChannel, to peers: Set<KeyFingerprint>, until deadline: MonotonicTime
  ) throws(ChannelError) -> any ByteChannel {
    try TLSChannel.connect(
      over: socket, identity: keys.current, expecting: peers, handshakeTimeoutSeconds: Self.left(until: deadline))
  }

  package func accept(
    _ socket: SocketChannel, from peers: Set<KeyFingerprint>, until deadline: MonotonicTime
  ) throws(ChannelError) -> (channel: any ByteChannel, peer: KeyFingerprint) {
    let channel = try TLSChannel.accept(
      over: socket, identity: keys.current, handshakeTimeoutSeconds: Self.left(until: deadline)
    ) { peers.contains($0) }
    return (channel, channel.peerFingerprint)
  }

  private static func left(until deadline: MonotonicTime) -> Double {
    max(0.1, deadline.seconds(since: .now))
  }
}
