import BlockModel
import LinuxPlatform
import NBDServer
import Seams
import Synchronization
import TestSupport
import Testing
import VolumeTap

/// Keeps requests until the test answers them.
private final class PatientExport: NBDExport {
  struct Held: Sendable {
    var request: NBDRequest
    var payload: PayloadBuffer
    var completion: NBDCompletion
  }
  let name = "disk"
  let sizeBytes: UInt64 = 1 << 30
  let blockSizes = NBDBlockSizes()
  let isReadOnly = false
  let hasDirtyMap = true
  let held = Monitor<[Held]>([])
  let isOpen = Atomic<Bool>(true)
  let clients = Monitor(0)

  func submit(_ request: NBDRequest, payload: PayloadBuffer, completion: @escaping NBDCompletion) {
    held.change { $0.append(Held(request: request, payload: payload, completion: completion)) }
  }
  func blockStatus(of range: ByteRange, context: NBDMetaContext, limit: Int) throws(NBDErrorCode) -> [NBDExtent] {
    if context == .allocation { return [NBDExtent(lengthBytes: range.length, flags: 0)] }
    return Array(
      [
        NBDExtent(lengthBytes: 65_536, flags: 1), NBDExtent(lengthBytes: 65_536, flags: 1),
        NBDExtent(lengthBytes: 1 << 40, flags: 0),
      ]
      .prefix(limit))
  }
  func connectionOpened() -> Bool {
    clients.change { $0 += 1 }
    return isOpen.load(ordering: .relaxed)
  }
  func connectionClosed() { clients.change { $0 -= 1 } }

  /// Waits until `count` requests are held, and takes them.
  func take(_ count: Int) -> [Held] {
    let deadline = MonotonicTime.now.adding(seconds: 20)
    return held.wait(until: deadline) { held in
      guard held.count >= count else { return nil }
      defer { held = [] }
      return held
    } ?? []
  }
}

/// A client that says exactly what the test wants.
private final class RawClient: Sendable {
  let channel: SocketChannel
  private let thread: PlatformThread?

  convenience init(_ server: NBDServer) throws {
    let (near, far) = try SocketChannel.pair()
    try self.init(near, try PlatformThread.start(name: "serve") { server.serve(channel: far) })
  }

  /// To a server that listens.
  convenience init(connecting path: String) throws { try self.init(SocketConnector.unix(path: path), nil) }

  private init(_ channel: SocketChannel, _ thread: PlatformThread?) throws {
    self.channel = channel
    self.thread = thread
    let export = "disk"
    var hello: [UInt8] = [0, 0, 0, 3]
    hello.appendBigEndian(NBDWire.optionMagic)
    hello.appendBigEndian(UInt32(1))
    hello.appendBigEndian(UInt32(export.utf8.count))
    try send(hello + Array(export.utf8))
    _ = try receive(18 + 10)
  }

  func send(_ bytes: [UInt8]) throws {
    try bytes.withUnsafeBytes { raw in try channel.write(raw) }
  }
  func receive(_ count: Int) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    try bytes.withUnsafeMutableBytes { raw in try channel.readFully(into: raw) }
    return bytes
  }
  func request(_ type: UInt16, cookie: UInt64, offset: UInt64 = 0, length: UInt32, payload: [UInt8] = []) throws {
    var bytes: [UInt8] = []
    bytes.appendBigEndian(NBDWire.requestMagic)
    bytes.appendBigEndian(UInt16(0))
    bytes.appendBigEndian(type)
    bytes.appendBigEndian(cookie)
    bytes.appendBigEndian(offset)
    bytes.appendBigEndian(length)
    try send(bytes + payload)
  }
  /// Cookie and error of the next simple reply.
  func reply() throws -> (cookie: UInt64, error: UInt32) {
    try receive(16).withUnsafeBytes { ($0.bigEndian(at: 8, as: UInt64.self), $0.bigEndian(at: 4, as: UInt32.self)) }
  }
  var hasLeft: Bool { thread?.join(until: MonotonicTime.now.adding(seconds: 20)) ?? false }
}

private func served(_ limits: NBDLimits = .standard) -> (NBDServer, PatientExport) {
  let server = NBDServer(limits: limits)
  let export = PatientExport()
  server.add(export)
  return (server, export)
}

@Suite("NBD connections", .timeLimit(.minutes(10))) struct ConnectionTests {
  @Test("replies come in the order in which the export finishes") func outOfOrder() async throws {
    try await onBlockingThread {
      let (server, export) = served()
      let client = try RawClient(server)
      for cookie in 1...3 as ClosedRange<UInt64> { try client.request(3, cookie: cookie, length: 0) }
      let held = export.take(3)
      for index in [2, 0, 1] { held[index].completion(.success(())) }
      #expect(try [client.reply().cookie, client.reply().cookie, client.reply().cookie] == [3, 1, 2])
      try client.request(2, cookie: 9, length: 0)
      #expect(client.hasLeft)
      #expect(export.clients.withLock { $0 } == 0)
    }
  }

  @Test("a goodbye waits for what is in flight, and its answers still come") func goodbye() async throws {
    try await onBlockingThread {
      let (server, export) = served()
      let client = try RawClient(server)
      try client.request(1, cookie: 5, length: 4096, payload: [UInt8](repeating: 7, count: 4096))
      try client.request(2, cookie: 6, length: 0)
      let held = export.take(1)
      #expect(held.first?.payload.bytes.allSatisfy { $0 == 7 } == true)
      held.first?.completion(.failure(.noSpace))
      #expect(try client.reply() == (5, 28))
      #expect(client.hasLeft)
    }
  }

  @Test("a client that dies in the middle of a write harms nobody, and its write is never carried out")
  func deathInPayload() async throws {
    try await onBlockingThread {
      let (server, export) = served()
      let client = try RawClient(server)
      let other = try RawClient(server)
      try client.request(1, cookie: 5, length: 1 << 20, payload: [1, 2, 3])
      client.channel.shutDown()
      #expect(client.hasLeft)
      try other.request(3, cookie: 1, length: 0)
      let held = export.take(1)
      #expect(held.map(\.request.kind) == [.flush])
      held.first?.completion(.success(()))
      #expect(try other.reply() == (1, 0))
    }
  }

  @Test("a wrong request magic ends that connection only") func wrongMagic() async throws {
    try await onBlockingThread {
      let (server, export) = served()
      let client = try RawClient(server)
      let other = try RawClient(server)
      try client.send([UInt8](repeating: 0x55, count: 28))
      #expect(client.hasLeft)
      try other.request(3, cookie: 1, length: 0)
      export.take(1).first?.completion(.success(()))
      #expect(try other.reply() == (1, 0))
    }
  }

  @Test("past the limit of requests in flight the socket isn't read, and goes on when one is answered")
  func requestLimit() async throws {
    try await onBlockingThread {
      var limits = NBDLimits()
      limits.maxRequestsInFlight = 4
      let (server, export) = served(limits)
      let client = try RawClient(server)
      for cookie in 1...6 as ClosedRange<UInt64> { try client.request(3, cookie: cookie, length: 0) }
      let first = export.take(4)
      #expect(first.count == 4)
      for held in first { held.completion(.success(())) }
      for held in export.take(2) { held.completion(.success(())) }
      for cookie in 1...6 as ClosedRange<UInt64> { #expect(try client.reply() == (cookie, 0)) }
    }
  }

  @Test("past the payload budget the socket isn't read, and everything is answered in the end")
  func payloadBudget() async throws {
    try await onBlockingThread {
      var limits = NBDLimits()
      limits.payloadBudgetBytes = 64 << 20
      let (server, export) = served(limits)
      let greedy = try RawClient(server)
      for cookie in 1...3 as ClosedRange<UInt64> { try greedy.request(0, cookie: cookie, length: 32 << 20) }
      let first = export.take(2)
      #expect(first.count == 2)
      #expect(export.held.withLock { $0.isEmpty }, "the third waits for memory")
      let answering = try PlatformThread.start(name: "answer") {
        for held in first { held.completion(.success(())) }
        for held in export.take(1) { held.completion(.success(())) }
      }
      for _ in 1...3 {
        #expect(try greedy.reply().error == 0)
        _ = try greedy.receive(32 << 20)
      }
      answering.join()
    }
  }

  @Test("a removed export answers SHUTDOWN, and new clients don't find it") func removed() async throws {
    try await onBlockingThread {
      let (server, _) = served()
      let client = try RawClient(server)
      server.remove(name: "disk")
      try client.request(1, cookie: 1, length: 512, payload: [UInt8](repeating: 0, count: 512))
      #expect(try client.reply() == (1, 108))
      #expect(throws: (any Error).self) { try RawClient(server) }
    }
  }

  @Test("a closed export lets nobody in") func closed() async throws {
    try await onBlockingThread {
      let (server, export) = served()
      export.isOpen.store(false, ordering: .relaxed)
      #expect(throws: (any Error).self) { try RawClient(server) }
      #expect(server.connectionCounts.isEmpty)
    }
  }

  @Test("shutting down finishes what is in flight, then hangs up") func shutDown() async throws {
    try await onBlockingThread {
      let (server, export) = served()
      let busy = try RawClient(server)
      let idle = try RawClient(server)
      try busy.request(3, cookie: 1, length: 0)
      let held = export.take(1)
      server.shutDown()
      #expect(idle.hasLeft)
      held.first?.completion(.success(()))
      #expect(try busy.reply() == (1, 0))
      #expect(busy.hasLeft)
    }
  }

  @Test("whoever completes a request never waits for a client that doesn't read") func deafClient() async throws {
    try await onBlockingThread {
      let (server, export) = served()
      let deaf = try RawClient(server)
      let other = try RawClient(server)
      for cookie in 1...3 as ClosedRange<UInt64> { try deaf.request(0, cookie: cookie, length: 8 << 20) }
      // 24 MiB of replies, which no socket buffer holds; nobody reads them.
      for held in export.take(3) { held.completion(.success(())) }
      try other.request(3, cookie: 1, length: 0)
      export.take(1).first?.completion(.success(()))
      #expect(try other.reply() == (1, 0))
      deaf.channel.shutDown()
      #expect(deaf.hasLeft)
    }
  }

  @Test(
    "nbdinfo draws the changed data map, neighbours joined and cut to the volume",
    .enabled(if: Program.are(.nbdinfo))) func dirtyMap() async throws
  {
    try await onBlockingThread {
      let server = NBDServer()
      server.add(PatientExport())
      let directory = try TemporaryDirectory.make()
      defer { try? Files.removeTree(directory) }
      let listener = try TapListener(path: directory + "/nbd.sock", server: server)
      defer { listener.stop() }
      let uri = "nbd+unix:///disk?socket=\(directory)/nbd.sock"
      let rows = try Program.nbdinfo.run("--map=cmc:dirty", uri).text.split(separator: "\n").map {
        $0.split(separator: " ").prefix(3).joined(separator: " ")
      }
      #expect(rows == ["0 131072 1", "131072 1073610752 0"])
    }
  }

  @Test("a listener stops although a client neither finishes its write nor reads its replies") func stubbornClients()
    async throws
  {
    try await onBlockingThread {
      let server = NBDServer()
      let export = PatientExport()
      server.add(export)
      let directory = try TemporaryDirectory.make()
      defer { try? Files.removeTree(directory) }
      let listener = try TapListener(path: directory + "/nbd.sock", server: server)
      let halting = try RawClient(connecting: directory + "/nbd.sock")
      try halting.request(1, cookie: 5, length: 1 << 20, payload: [1, 2, 3])
      let deaf = try RawClient(connecting: directory + "/nbd.sock")
      try deaf.request(0, cookie: 5, length: 8 << 20)
      export.take(1).first?.completion(.success(()))
      listener.stop(graceSeconds: 0.1)
      #expect(export.clients.withLock { $0 } == 0)
    }
  }
}
