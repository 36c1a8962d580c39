import BlockModel
import LinuxPlatform
import Seams
import Testing

@Suite(.serialized) struct SocketTests {
  let scratch: Scratch
  init() throws { scratch = try Scratch() }

  private func connectedTCP(_ address: SocketAddress) throws -> (SocketChannel, SocketChannel) {
    let listener = try SocketListener.tcp(address)
    let client = try SocketConnector.tcp(try listener.localAddress(), timeoutSeconds: 60)
    return (client, try #require(try listener.accept(until: soon)))
  }

  @Test(arguments: ["127.0.0.1", "::1"])
  func bytesCrossTCPBothWays(_ host: String) throws {
    let address = try #require(SocketAddress(numeric: host, port: 0))
    let (client, server) = try connectedTCP(address)
    let data = pattern(3 << 20)
    let writer = try PlatformThread.start(name: "writer") {
      data.withUnsafeBytes { bytes in
        let header = UnsafeRawBufferPointer(rebasing: bytes[..<100])
        try? client.write(header, UnsafeRawBufferPointer(rebasing: bytes[100...]))
      }
    }
    #expect(try server.receive(data.count) == data)
    #expect(writer.join(until: soon))
    try server.send([1, 2])
    #expect(try client.receive(2) == [1, 2])
    server.finishWriting()
    #expect { try client.receive(1) } throws: { ($0 as? ChannelError)?.code == .closed }
  }

  @Test func shuttingDownWakesReaderAndWriter() throws {
    let (near, far) = try SocketChannel.pair()
    let ends = Monitor<[ChannelError.Code]>([])
    let reader = try PlatformThread.start(name: "reader") {
      do { _ = try near.receive(1) } catch { ends.change { $0.append((error as? ChannelError)?.code ?? .closed) } }
    }
    let writer = try PlatformThread.start(name: "writer") {
      let block = [UInt8](repeating: 1, count: 1 << 20)
      do { while true { try near.send(block) } } catch {
        ends.change { $0.append((error as? ChannelError)?.code ?? .closed) }
      }
    }
    near.shutDown()
    #expect(reader.join(until: soon) && writer.join(until: soon))
    #expect(ends.withLock { $0 } == [.broken, .broken])
    withExtendedLifetime(far) {}
  }

  @Test func aSilentPeerTimesOut() throws {
    let listener = try SocketListener.tcp(.loopback(port: 0))
    let client = try SocketConnector.tcp(try listener.localAddress(), idleTimeoutSeconds: 0.02)
    let server = try listener.accept(until: soon)
    #expect { try client.receive(1) } throws: { ($0 as? ChannelError)?.code == .timedOut }
    withExtendedLifetime(server) {}
  }

  @Test func aRefusedConnectionSaysWhere() throws {
    // An address of its own, so that no other test gets the port that was free a moment ago.
    let listener = try SocketListener.tcp(try #require(SocketAddress(numeric: "127.0.77.77", port: 0)))
    let address = try listener.localAddress()
    listener.cancel()
    #expect { try SocketConnector.tcp(address) } throws: {
      ($0 as? SystemError)?.errorNumber == Errno.refused && "\($0)".contains("\(address)")
    }
  }

  @Test func cancellingEndsAccept() throws {
    let listener = try SocketListener.tcp(.loopback(port: 0))
    let answers = Monitor<[Bool]>([])
    let thread = try PlatformThread.start(name: "acceptor") {
      let channel = try? listener.accept()
      answers.change { $0.append(channel == nil) }
    }
    listener.cancel()
    #expect(thread.join(until: soon))
    #expect(answers.withLock { $0 } == [true])
    #expect(try listener.accept() == nil)
  }

  @Test func aUnixSocketKnowsItsPeerAndIsPrivate() throws {
    let listener = try SocketListener.unix(path: scratch("socket"))
    #expect(try Files.facts(scratch("socket")).mode == 0o600)
    let client = try SocketConnector.unix(path: scratch("socket"))
    let server = try #require(try listener.accept(until: soon))
    let peer = try server.peerCredentials()
    #expect(peer.processID == ProcessSetup.processID && peer.userID == ProcessSetup.effectiveUserID)
    try client.send([5])
    #expect(try server.receive(1) == [5])
  }

  @Test func aStaleSocketFileIsReplacedAndALiveOneIsNot() throws {
    let first = try SocketListener.unix(path: scratch("socket"))
    #expect { try SocketListener.unix(path: scratch("socket")) } throws: { "\($0)".contains("another process") }
    // A listener that was killed leaves its file: this one moves where `cancel` does not find it.
    try Files.rename(scratch("socket"), to: scratch("stale"))
    first.cancel()
    #expect(Files.exists(scratch("stale")))
    let second = try SocketListener.unix(path: scratch("stale"))
    second.cancel()
    #expect(!Files.exists(scratch("stale")))
    try Files.replace(scratch("file"), with: [1])
    #expect(throws: SystemError.self) { try SocketListener.unix(path: scratch("file")) }
    #expect(Files.exists(scratch("file")))
  }

  @Test func aPathTooLongIsNamedAsSuch() {
    let path = "/tmp/" + String(repeating: "x", count: 200)
    #expect { try SocketListener.unix(path: path) } throws: { "\($0)".contains("107 bytes") }
    #expect { try SocketConnector.unix(path: path) } throws: { "\($0)".contains("107 bytes") }
  }

  @Test func addressesAreNumericOnly() throws {
    #expect(SocketAddress(numeric: "192.0.2.7", port: 4996)?.description == "192.0.2.7:4996")
    #expect(SocketAddress(numeric: "2001:db8::1", port: 1)?.description == "[2001:db8::1]:1")
    #expect(SocketAddress(numeric: "[::1]", port: 1)?.host == "::1")
    for text in ["localhost", "", "1.2.3", "1.2.3.4.5", "::1%nosuchdevice", "host.example"] {
      #expect(SocketAddress(numeric: text, port: 1) == nil)
    }
    #expect(try NameResolution.addresses(of: "127.0.0.1", port: 7) == [.loopback(port: 7)])
  }

  @Test func listeningEverywhereTakesBothFamilies() throws {
    let listener = try SocketListener.tcp(.any(port: 0))
    let port = try listener.localAddress().port
    for host in ["127.0.0.1", "::1"] {
      let address = try #require(SocketAddress(numeric: host, port: port))
      let client = try SocketConnector.tcp(address)
      #expect(try listener.accept(until: soon) != nil)
      withExtendedLifetime(client) {}
    }
  }
}
