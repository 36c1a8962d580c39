package import BlockModel
package import LinuxPlatform
package import Seams

/// How lanes get their security: TLS between agents, with exactly the keys that the orchestrator named.
package protocol LinkTransport: Sendable {
  /// Makes a connected socket a secured channel with the agent that has one of these keys. Returns when both ends have
  /// accepted each other's. Blocks up to the deadline.
  func open(
    _ socket: SocketChannel, to peers: Set<KeyFingerprint>, until deadline: MonotonicTime
  ) throws(ChannelError) -> any ByteChannel
  /// The other end: whoever connected must have one of these keys; which one is answered.
  func accept(
    _ socket: SocketChannel, from peers: Set<KeyFingerprint>, until deadline: MonotonicTime
  ) throws(ChannelError) -> (channel: any ByteChannel, peer: KeyFingerprint)
}

/// Limits of the handshake, on both sides.
enum LinkLimits {
  /// From the first byte of a connection until all lanes of its link have said hello.
  static let handshakeSeconds = 10.0
  /// Connections on one port that have not said who they are; further ones are closed at once.
  static let strangers = 64
  /// Links of one session whose lanes are still coming; the oldest gives way.
  static let gatheringPerSession = 4
  static let firstBackoffSeconds = 0.2
  static let longestBackoffSeconds = 5.0
}
