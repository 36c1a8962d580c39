import BlockModel
import LinuxPlatform
import Seams
import TLSChannel
import Testing

@Suite struct TransferTests {
  /// Sends `total` bytes in blocks of growing size, header and payload, and gives their digest.
  private static func send(_ total: Int, over channel: TLSChannel, seed: UInt8) throws -> [UInt8] {
    let block = [UInt8]((0..<65_536 + 977).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ Int(seed)) })
    let hasher = SHA256Hasher()
    var left = total
    var length = 1
    while left > 0 {
      let count = min(left, length)
      try block.withUnsafeBytes { bytes in
        let part = UnsafeRawBufferPointer(rebasing: bytes[..<count])
        let header = UnsafeRawBufferPointer(rebasing: part[..<min(count, 40)])
        try channel.write(header, UnsafeRawBufferPointer(rebasing: part[header.count...]))
        hasher.update(part)
      }
      left -= count
      length = length * 3 % block.count + 1
    }
    return hasher.finish()
  }

  private static func receive(_ total: Int, over channel: TLSChannel) throws -> [UInt8] {
    let buffer = AlignedBuffer(byteCount: 256 << 10)
    let hasher = SHA256Hasher()
    var left = total
    while left > 0 {
      let count = try channel.read(
        into: UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<min(left, buffer.count)]))
      hasher.update(UnsafeRawBufferPointer(rebasing: buffer.readOnly[..<count]))
      left -= count
    }
    return hasher.finish()
  }

  @Test func bothWaysAtOnce() throws {
    let (client, server) = try Link.pair()
    let total = 64 << 20
    let digests = Monitor<[String: [UInt8]]>([:])
    var threads: [PlatformThread] = []
    for (name, channel, seed) in [("client", client, 1), ("server", server, 2)] as [(String, TLSChannel, UInt8)] {
      threads.append(
        try PlatformThread.start(name: "\(name) sends") {
          let digest = try? Self.send(total, over: channel, seed: seed)
          digests.change { $0["\(name) sent"] = digest }
        })
      threads.append(
        try PlatformThread.start(name: "\(name) receives") {
          let digest = try? Self.receive(total, over: channel)
          digests.change { $0["\(name) received"] = digest }
        })
    }
    for thread in threads { #expect(thread.join(until: soon)) }
    let found = digests.withLock { $0 }
    #expect(found.count == 4)
    #expect(found["client sent"] == found["server received"] && found["server sent"] == found["client received"])
  }

  @Test func whatWasDecryptedAlreadyIsNotWaitedFor() throws {
    // One record, read in pieces: after the first piece the socket is empty, and the rest is inside OpenSSL.
    let (client, server) = try Link.pair()
    try client.send([UInt8](repeating: 7, count: 16_000))
    for _ in 0..<160 { #expect(try server.receive(100) == [UInt8](repeating: 7, count: 100)) }
    // Several records that one system call fetched.
    for byte in UInt8(0)..<50 { try client.send([byte]) }
    for byte in UInt8(0)..<50 { #expect(try server.receive(1) == [byte]) }
  }

  @Test func twoWritersDoNotMixTheirMessages() throws {
    let (client, server) = try Link.pair()
    let length = 40_000
    let writers = try (1...2).map { byte in
      try PlatformThread.start(name: "writer \(byte)") {
        for _ in 0..<20 { try? client.send([UInt8](repeating: UInt8(byte), count: length)) }
      }
    }
    for _ in 0..<40 { #expect(Set(try server.receive(length)).count == 1) }
    for writer in writers { #expect(writer.join(until: soon)) }
  }

  @Test func anOrderlyEndIsTold() throws {
    let (client, server) = try Link.pair()
    try client.send([1])
    client.shutDown()
    #expect(try server.receive(1) == [1])
    #expect { try server.receive(1) } throws: { isChannelError($0, .closed) }
    #expect { try client.send([1]) } throws: { isChannelError($0, .broken) }
    #expect { try client.receive(1) } throws: { isChannelError($0, .broken) }
  }

  @Test func aPeerThatVanishesIsNotAnOrderlyEnd() throws {
    let sockets = try Link.sockets()
    let first = try AgentIdentity.make()
    let second = try AgentIdentity.make()
    let thread = try PlatformThread.start(name: "acceptor") {
      let channel = try? TLSChannel.accept(over: sockets.server, identity: second) { _ in true }
      // What a killed process leaves: the kernel ends the connection, and nobody says goodbye in TLS.
      sockets.server.shutDown()
      withExtendedLifetime(channel) {}
    }
    let client = try TLSChannel.connect(over: sockets.client, identity: first, expecting: [second.fingerprint])
    #expect { try client.receive(1) } throws: { isChannelError($0, .broken) }
    #expect(thread.join(until: soon))
  }

  @Test func shuttingDownWakesReaderAndWriter() throws {
    let (client, server) = try Link.pair()
    let codes = Monitor<[ChannelError.Code?]>([])
    let reader = try PlatformThread.start(name: "reader") {
      do { _ = try client.receive(1) } catch { codes.change { $0.append((error as? ChannelError)?.code) } }
    }
    let writer = try PlatformThread.start(name: "writer") {
      do { while true { try client.send([UInt8](repeating: 0, count: 1 << 20)) } } catch {
        codes.change { $0.append((error as? ChannelError)?.code) }
      }
    }
    client.shutDown()
    #expect(reader.join(until: soon) && writer.join(until: soon))
    #expect(codes.withLock { $0 } == [.broken, .broken])
    withExtendedLifetime(server) {}
  }
}
