import AgentClient
import AgentProtocol
import BlockModel
import LinuxPlatform
import Reconciling
import Seams
import Testing

/// One end of a pipe in memory, in both directions.
final class MemoryChannel: ByteChannel {
  final class Stream: Sendable {
    struct Contents: Sendable {
      var bytes: [UInt8] = []
      var isClosed = false
    }
    let contents = Monitor(Contents())
  }
  let incoming: Stream
  let outgoing: Stream

  init(incoming: Stream, outgoing: Stream) {
    self.incoming = incoming
    self.outgoing = outgoing
  }

  static func pair() -> (MemoryChannel, MemoryChannel) {
    let one = Stream()
    let other = Stream()
    return (MemoryChannel(incoming: one, outgoing: other), MemoryChannel(incoming: other, outgoing: one))
  }

  func read(into buffer: UnsafeMutableRawBufferPointer) throws(ChannelError) -> Int {
    let taken: [UInt8]? = incoming.contents.wait { contents in
      if contents.bytes.isEmpty { return contents.isClosed ? [] : nil }
      defer { contents.bytes.removeFirst(min(buffer.count, contents.bytes.count)) }
      return Array(contents.bytes.prefix(buffer.count))
    }
    guard let taken, !taken.isEmpty else { throw ChannelError(.closed, "closed") }
    buffer.copyBytes(from: taken)
    return taken.count
  }

  func write(_ buffer: UnsafeRawBufferPointer) throws(ChannelError) {
    let isClosed = outgoing.contents.change { contents in
      contents.bytes.append(contentsOf: buffer)
      return contents.isClosed
    }
    if isClosed { throw ChannelError(.closed, "closed") }
  }

  func shutDown() {
    incoming.contents.change { $0.isClosed = true }
    outgoing.contents.change { $0.isClosed = true }
  }

  func send(_ line: [UInt8]) { try? line.withUnsafeBytes { try write($0) } }

  /// The next whole line; nil at the end.
  func receive(_ splitter: inout LineSplitter) -> [UInt8]? {
    while true {
      if let line = splitter.next() { return line }
      var chunk = [UInt8](repeating: 0, count: 4096)
      guard let count = try? chunk.withUnsafeMutableBytes({ try read(into: $0) }) else { return nil }
      guard (try? splitter.append(chunk[..<count])) != nil else { return nil }
    }
  }
}

/// Time that passes at once, or never.
struct InstantPause: Pausing {
  func pause(seconds: Double) async throws(CancellationError) {
    if Task.isCancelled { throw CancellationError() }
  }
}

struct EndlessPause: Pausing {
  func pause(seconds: Double) async throws(CancellationError) {
    let (stream, _) = AsyncStream.makeStream(of: Never.self)
    for await _ in stream {}
    throw CancellationError()
  }
}

/// An agent that answers as its script says, on a thread of its own.
func startAgent(
  _ channel: MemoryChannel, protocolVersion: Int = 1,
  answer: @escaping @Sendable (JSONRPC.RequestHead, [UInt8]) -> [[UInt8]]
) throws {
  let hello = AgentHello(
    agentVersion: "1", protocolVersion: protocolVersion, fingerprint: KeyFingerprint("SHA256:00"), bootID: "b",
    processID: 1, startedAt: WallTime(secondsSince1970: 0), capabilities: [])
  try PlatformThread.start(name: "agent") {
    var splitter = LineSplitter()
    while let line = channel.receive(&splitter) {
      guard let head = try? JSONRPC.requestHead(of: line), let id = head.id else { continue }
      if head.method == HelloCall.method {
        if let line = try? JSONRPC.answerLine(hello, id: id) { channel.send(line) }
      } else {
        for line in answer(head, line) { channel.send(line) }
      }
    }
  }
}

func openGateway(
  _ channel: MemoryChannel, pausing: any Pausing = EndlessPause(), limits: RPCLimits = RPCLimits(),
  farewell: @escaping @Sendable () -> String? = { nil }
) async throws -> RPCAgentGateway {
  try await RPCAgentGateway.open(
    host: HostName("h"), channel: channel, pausing: pausing, limits: limits, farewell: farewell
  ).gateway
}

@Suite struct AgentClientTests {
  @Test func callsAreAnsweredById_whateverTheOrder() async throws {
    let (ours, theirs) = MemoryChannel.pair()
    let held = Monitor<[[UInt8]]>([])
    try startAgent(theirs) { head, line in
      // Answers come three at a time, the last call first.
      guard let id = head.id, let call = try? JSONRPC.parameters(of: line, as: InspectDevicesCall.self),
        let answer = try? JSONRPC.answerLine(call.paths.map { DeviceReport(path: $0, kind: .file) }, id: id)
      else { return [] }
      return held.withLock { held in
        held.append(answer)
        defer { if held.count == 3 { held = [] } }
        return held.count == 3 ? held.reversed() : []
      }
    }
    let gateway = try await openGateway(ours)
    let paths = try await withThrowingTaskGroup(of: String.self) { group in
      for number in 0..<30 {
        group.addTask {
          let path = "/dev/\(number)"
          let answer = try await gateway.call(InspectDevicesCall(paths: [path]))
          return answer.first?.path == path ? path : "answer of another call"
        }
      }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    #expect(Set(paths) == Set((0..<30).map { "/dev/\($0)" }))
    await gateway.close()
  }

  @Test func anAgentThatSpeaksAnotherVersionIsRefusedWithWhatToDo() async throws {
    let (ours, theirs) = MemoryChannel.pair()
    try startAgent(theirs, protocolVersion: 9) { _, _ in [] }
    let error = await #expect(throws: GatewayError.self) { try await openGateway(ours) }
    #expect(error?.code == "CMC3214")
    #expect(error?.disposition == .needsOperator)
    #expect(error?.advice.isEmpty == false)
  }

  @Test func aCallWithNoAnswerEndsAtItsLimit() async throws {
    let (ours, theirs) = MemoryChannel.pair()
    try startAgent(theirs) { _, _ in [] }
    // Hello races an instant time limit, so this gateway is opened with one and called with the other.
    let switching = SwitchedPause()
    let gateway = try await openGateway(ours, pausing: switching)
    switching.isInstant.change { $0 = true }
    let error = await #expect(throws: GatewayError.self) { try await gateway.call(ObserveCall()) }
    #expect(error?.code == "CMC3211")
    #expect(error?.disposition == .retry(afterSeconds: 2))
    await gateway.close()
  }

  @Test func aDeadAgentFailsWhatWaitsAndEveryLaterCall() async throws {
    let (ours, theirs) = MemoryChannel.pair()
    try startAgent(theirs) { _, _ in
      theirs.shutDown()
      return []
    }
    let gateway = try await openGateway(ours, farewell: { "killed by signal 9" })
    for _ in 0..<2 {
      let error = await #expect(throws: GatewayError.self) { try await gateway.call(ObserveCall()) }
      #expect(error?.message.contains("killed by signal 9") == true)
      #expect(error?.disposition == .retry(afterSeconds: 1))
    }
  }

  @Test func cancellingTheTaskGivesTheCallUp() async throws {
    let (ours, theirs) = MemoryChannel.pair()
    try startAgent(theirs) { _, _ in [] }
    let gateway = try await openGateway(ours)
    let task = Task { try await gateway.call(ObserveCall()) }
    task.cancel()
    let error = await #expect(throws: GatewayError.self) { try await task.value }
    #expect(error?.code == "CMC3212")
    await gateway.close()
  }

  @Test func refusalsCarryWhatAReconcilerMustKnow() async throws {
    let (ours, theirs) = MemoryChannel.pair()
    try startAgent(theirs) { head, _ in
      [JSONRPC.faultLine(AgentFault(.notBlank, "the disk holds an ext4 file system"), id: head.id)]
    }
    let gateway = try await openGateway(ours)
    let error = await #expect(throws: GatewayError.self) { try await gateway.call(ObserveCall()) }
    #expect(error?.disposition == .needsOperator)
    #expect(error?.message == "host h: observe: the disk holds an ext4 file system")
    #expect(error?.advice.isEmpty == false)
    await gateway.close()
  }

  @Test func garbageFromTheAgentHurtsNoCall() async throws {
    let (ours, theirs) = MemoryChannel.pair()
    try startAgent(theirs) { head, _ in
      guard let id = head.id, let answer = try? JSONRPC.answerLine([DeviceReport](), id: id) else { return [] }
      return [Array("garbage\n{}\n{\"id\":\"x\"}\n{\"id\":4711,\"result\":{}}\n".utf8), answer]
    }
    let gateway = try await openGateway(ours)
    #expect(try await gateway.call(InspectDevicesCall(paths: [])) == [])
    await gateway.close()
  }

  @Test func anEndlessLineEndsTheConnection() async throws {
    let (ours, theirs) = MemoryChannel.pair()
    try startAgent(theirs) { _, _ in
      (0..<65).map { _ in [UInt8](repeating: 120, count: 1 << 16) }
    }
    let gateway = try await openGateway(ours)
    let error = await #expect(throws: GatewayError.self) { try await gateway.call(ObserveCall()) }
    #expect(error?.message.contains("longer than") == true)
  }

  @Test func noMoreCallsAreOnTheirWayThanTheLimitAllows() async throws {
    let (ours, theirs) = MemoryChannel.pair()
    try startAgent(theirs) { _, _ in [] }
    var limits = RPCLimits()
    limits.pendingCalls = 1
    let gateway = try await openGateway(ours, limits: limits)
    let first = Task { try await gateway.call(ObserveCall()) }
    let second = Task { try await gateway.call(ObserveCall()) }
    // One of the two is refused at once; the other waits until the end.
    let outcome = await withTaskGroup(of: GatewayError?.self) { group in
      for task in [first, second] {
        group.addTask {
          do {
            _ = try await task.value
            return nil
          } catch {
            return error as? GatewayError
          }
        }
      }
      let refused = await group.next() ?? nil
      first.cancel()
      second.cancel()
      return refused
    }
    #expect(outcome?.code == "CMC3215")
    await gateway.close()
  }
}

/// Endless at first; instant for pauses that begin once it was switched.
final class SwitchedPause: Pausing {
  let isInstant = Monitor(false)
  func pause(seconds: Double) async throws(CancellationError) {
    if isInstant.withLock({ $0 }) { return }
    try await EndlessPause().pause(seconds: seconds)
  }
}
