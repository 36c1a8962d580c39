import BlockModel
import LinuxPlatform
import Seams
import TLSChannel
import Testing

var soon: MonotonicTime { .now.adding(seconds: 120) }

/// Runs both ends of a handshake over loopback TCP, the accepting one on a thread of its own.
enum Link {
  typealias Outcome = Result<TLSChannel, ChannelError>

  static func sockets() throws -> (client: SocketChannel, server: SocketChannel) {
    let listener = try SocketListener.tcp(.loopback(port: 0))
    let client = try SocketConnector.tcp(try listener.localAddress(), timeoutSeconds: 60, idleTimeoutSeconds: 120)
    return (client, try #require(try listener.accept(until: soon, idleTimeoutSeconds: 120)))
  }

  static func handshake(
    client: AgentIdentity, expecting: KeyFingerprint, server: AgentIdentity, admitting: KeyFingerprint
  ) throws -> (client: Outcome, server: Outcome) {
    let sockets = try sockets()
    let accepted = Monitor<Outcome?>(nil)
    let thread = try PlatformThread.start(name: "acceptor") {
      let outcome = Outcome { () throws(ChannelError) in
        try TLSChannel.accept(over: sockets.server, identity: server) { $0 == admitting }
      }
      accepted.change { $0 = outcome }
    }
    let connected = Outcome { () throws(ChannelError) in
      try TLSChannel.connect(over: sockets.client, identity: client, expecting: [expecting])
    }
    #expect(thread.join(until: soon))
    return (connected, try #require(accepted.withLock { $0 }))
  }

  static func pair() throws -> (client: TLSChannel, server: TLSChannel) {
    let client = try AgentIdentity.make()
    let server = try AgentIdentity.make()
    let outcome = try handshake(
      client: client, expecting: server.fingerprint, server: server, admitting: client.fingerprint)
    return (try outcome.client.get(), try outcome.server.get())
  }
}

extension Result where Failure == ChannelError {
  var code: ChannelError.Code? {
    if case .failure(let error) = self { error.code } else { nil }
  }
}

func isChannelError(_ error: any Error, _ code: ChannelError.Code) -> Bool { (error as? ChannelError)?.code == code }

extension ByteChannel {
  func send(_ bytes: [UInt8]) throws { try bytes.withUnsafeBytes { try write($0) } }

  func receive(_ count: Int) throws -> [UInt8] {
    var result = [UInt8](repeating: 0, count: count)
    try result.withUnsafeMutableBytes { try readFully(into: $0) }
    return result
  }
}
