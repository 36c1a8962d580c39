import BlockModel
import LinuxPlatform
import Seams
import TLSChannel
import Testing

@Suite struct HandshakeTests {
  @Test func pairedAgentsMeet() throws {
    let first = try AgentIdentity.make()
    let second = try AgentIdentity.make()
    let outcome = try Link.handshake(
      client: first, expecting: second.fingerprint, server: second, admitting: first.fingerprint)
    let client = try outcome.client.get()
    let server = try outcome.server.get()
    #expect(client.peerFingerprint == second.fingerprint && server.peerFingerprint == first.fingerprint)
    let fastest = ProcessSetup.hasAESInstructions ? "TLS_AES_128_GCM_SHA256" : "TLS_CHACHA20_POLY1305_SHA256"
    #expect(client.cipherName == fastest)
    try client.send([1, 2, 3])
    #expect(try server.receive(3) == [1, 2, 3])
  }

  @Test func aStrangerIsRefusedAndToldSo() throws {
    let client = try AgentIdentity.make()
    let server = try AgentIdentity.make()
    let somebody = try AgentIdentity.make().fingerprint
    let outcome = try Link.handshake(
      client: client, expecting: server.fingerprint, server: server, admitting: somebody)
    #expect(outcome.client.code == .untrustedPeer && outcome.server.code == .untrustedPeer)
  }

  @Test func anImpostorIsRefusedAndToldSo() throws {
    let client = try AgentIdentity.make()
    let server = try AgentIdentity.make()
    let expected = try AgentIdentity.make().fingerprint
    let outcome = try Link.handshake(
      client: client, expecting: expected, server: server, admitting: client.fingerprint)
    #expect(outcome.client.code == .untrustedPeer && outcome.server.code == .untrustedPeer)
    if case .failure(let error) = outcome.client {
      #expect(error.message.contains(server.fingerprint.text))
    }
  }

  @Test func garbageIsRefused() throws {
    let sockets = try Link.sockets()
    try sockets.client.send([UInt8](repeating: 0x41, count: 400))
    let identity = try AgentIdentity.make()
    #expect { try TLSChannel.accept(over: sockets.server, identity: identity) { _ in true } } throws: {
      isChannelError($0, .broken)
    }
  }

  @Test func aSilentPeerIsGivenUp() throws {
    let sockets = try Link.sockets()
    let identity = try AgentIdentity.make()
    #expect {
      try TLSChannel.accept(over: sockets.server, identity: identity, handshakeTimeoutSeconds: 0.05) { _ in true }
    } throws: { isChannelError($0, .timedOut) }
    withExtendedLifetime(sockets.client) {}
  }

  /// What `openssl s_client` with `arguments` gets from an agent that admits everybody, and what the agent says.
  private func meetOpenSSL(_ arguments: [String]) throws -> (ended: ChildResult, server: Link.Outcome) {
    let listener = try SocketListener.tcp(.loopback(port: 0))
    let identity = try AgentIdentity.make()
    let accepted = Monitor<Link.Outcome?>(nil)
    let thread = try PlatformThread.start(name: "acceptor") {
      guard let socket = try? listener.accept(until: soon) else { return }
      let outcome = Link.Outcome { () throws(ChannelError) in
        try TLSChannel.accept(over: socket, identity: identity) { _ in true }
      }
      accepted.change { $0 = outcome }
    }
    let command = ChildCommand(
      executable: "/usr/bin/openssl",
      arguments: ["s_client", "-connect", "\(try listener.localAddress())"] + arguments, environment: [:],
      timeoutSeconds: 60)
    let ended = try PosixChildProcesses().run(command)
    #expect(thread.join(until: soon))
    return (ended, try #require(accepted.withLock { $0 }))
  }

  @Test(.enabled(if: Files.exists("/usr/bin/openssl"))) func olderTLSIsRefused() throws {
    let met = try meetOpenSSL(["-tls1_2"])
    #expect(!met.ended.succeeded && met.server.code == .broken)
    #expect(String(decoding: met.ended.errorOutput, as: UTF8.self).contains("protocol version"))
  }

  @Test(.enabled(if: Files.exists("/usr/bin/openssl"))) func whoShowsNoKeyIsRefused() throws {
    #expect(try meetOpenSSL(["-tls1_3"]).server.code == .untrustedPeer)
  }
}
