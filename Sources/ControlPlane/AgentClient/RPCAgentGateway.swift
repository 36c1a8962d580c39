package import AgentProtocol
package import BlockModel
import Foundation
import LinuxPlatform
package import Reconciling
package import Seams
import Synchronization

/// Limits of one control connection.
package struct RPCLimits: Sendable {
  /// How long an ordinary call may take, in seconds.
  package var callSeconds = 30.0
  /// What a call that waits for something on the host (a hook) may take beyond that thing's own limit, in seconds.
  package var graceSeconds = 15.0
  /// Most calls on their way at once.
  package var pendingCalls = 64
  package init() {}
}

/// One agent, spoken to in JSON-RPC lines over a byte channel: the standard streams of `cmcagent rpc`.
///
/// Any number of tasks may call at once, up to `RPCLimits.pendingCalls`; answers are matched by id and may come in any
/// order. A thread reads and a thread writes, so that a peer that stops reading holds up nobody's task past its limit.
/// A connection that broke stays broken: every later call fails at once with a disposition to retry on a new one.
package final class RPCAgentGateway: AgentGateway {
  private struct Table: Sendable {
    var nextID: Int64 = 1
    var pending: [Int64: CheckedContinuation<Result<[UInt8], GatewayError>, Never>] = [:]
    var broken: GatewayError?
  }

  private let host: HostName
  private let channel: any ByteChannel
  private let pausing: any Pausing
  private let limits: RPCLimits
  private let table = Mutex(Table())
  private let outgoing: BlockingQueue<[UInt8]>
  /// Called once, off the cooperative pool, when the channel is done with; says why the peer ended, if that is known.
  private let farewell: @Sendable () -> String?

  private init(
    host: HostName, channel: any ByteChannel, pausing: any Pausing, limits: RPCLimits,
    farewell: @escaping @Sendable () -> String?
  ) {
    self.host = host
    self.channel = channel
    self.pausing = pausing
    self.limits = limits
    self.farewell = farewell
    outgoing = BlockingQueue(capacity: limits.pendingCalls)
  }

  /// Starts talking over `channel` and settles the protocol's version with the agent.
  ///
  /// `farewell` is called once the channel has ended, on a thread that may block: it ends what carried the channel and
  /// may say why that died. Throws with a disposition to retry where no agent answers, `.needsOperator` where the agent
  /// speaks no version that this build speaks.
  package static func open(
    host: HostName, channel: any ByteChannel, pausing: any Pausing, limits: RPCLimits = RPCLimits(),
    farewell: @escaping @Sendable () -> String? = { nil }
  ) async throws(GatewayError) -> (gateway: RPCAgentGateway, hello: AgentHello) {
    let gateway = RPCAgentGateway(
      host: host, channel: channel, pausing: pausing, limits: limits, farewell: farewell)
    try gateway.startThreads()
    do throws(GatewayError) {
      let hello = try await gateway.call(HelloCall())
      guard (AgentProtocolVersion.oldest...AgentProtocolVersion.newest).contains(hello.protocolVersion) else {
        throw GatewayError(
          code: "CMC3214",
          message: "host \(host): its agent \(hello.agentVersion) speaks version \(hello.protocolVersion) of the "
            + "control protocol, this cmcplan \(AgentProtocolVersion.oldest) to \(AgentProtocolVersion.newest)",
          advice: "use the cmcplan that is as new as the agent", disposition: .needsOperator)
      }
      return (gateway, hello)
    } catch {
      await gateway.close()
      throw error
    }
  }

  package func call<Call: AgentCall>(_ call: Call) async throws(GatewayError) -> Call.Answer {
    let id = table.withLock { table in
      defer { table.nextID += 1 }
      return table.nextID
    }
    let line: [UInt8]
    do {
      line = try JSONRPC.requestLine(call, id: .number(id))
    } catch {
      throw GatewayError(agentFault: error, host: host, method: Call.method)
    }
    let answer = try await exchange(line, id: id, method: Call.method, limitSeconds: limitSeconds(of: call))
    let response: JSONRPC.Response<Call.Answer>
    do {
      response = try JSONRPC.response(of: answer, to: Call.self)
    } catch {
      throw GatewayError(agentFault: error, host: host, method: Call.method)
    }
    switch response.result {
    case .success(let answer): return answer
    case .failure(let fault): throw GatewayError(agentFault: fault, host: host, method: Call.method)
    }
  }

  package func close() async {
    fail(
      GatewayError(
        code: "CMC3213", message: "host \(host): the control connection was closed", advice: "",
        disposition: .retry(afterSeconds: 1)))
  }

  private func limitSeconds(of call: some AgentCall) -> Double {
    if let hook = call as? RunHookCall { return hook.timeoutSeconds + limits.graceSeconds }
    return limits.callSeconds
  }

  /// Sends a line and waits for the answer with its id, the time limit, or the task's cancellation.
  private func exchange(
    _ line: [UInt8], id: Int64, method: String, limitSeconds: Double
  ) async throws(GatewayError) -> [UInt8] {
    let host = host
    let timer = Task { [pausing, weak self] in
      guard (try? await pausing.pause(seconds: limitSeconds)) != nil else { return }
      self?.resolve(
        id,
        .failure(
          GatewayError(
            code: "CMC3211", message: "host \(host): its agent did not answer \(method) in \(Int(limitSeconds)) s",
            advice: "look at agent.log on the host; apply again continues", disposition: .retry(afterSeconds: 2))))
    }
    defer { timer.cancel() }
    let result = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        send(line, id: id, continuation)
      }
    } onCancel: {
      resolve(id, .failure(Self.cancelled(host, method)))
    }
    return try result.get()
  }

  private static func cancelled(_ host: HostName, _ method: String) -> GatewayError {
    GatewayError(
      code: "CMC3212", message: "host \(host): \(method) was given up because this run is stopping",
      advice: "apply again continues", disposition: .terminal)
  }

  private func send(
    _ line: [UInt8], id: Int64, _ continuation: CheckedContinuation<Result<[UInt8], GatewayError>, Never>
  ) {
    let refusal: GatewayError? = table.withLock { table in
      if let broken = table.broken { return broken }
      guard table.pending.count < limits.pendingCalls else {
        return GatewayError(
          code: "CMC3215", message: "host \(host): \(limits.pendingCalls) calls to its agent are on their way already",
          advice: "lower --parallelism", disposition: .retry(afterSeconds: 1))
      }
      table.pending[id] = continuation
      return nil
    }
    if let refusal {
      continuation.resume(returning: .failure(refusal))
      return
    }
    // Cancelled before the call was in the table: its handler found nothing to resolve.
    if Task.isCancelled {
      resolve(id, .failure(Self.cancelled(host, "a call")))
      return
    }
    if !outgoing.tryPush(line) {
      // Room is for as many lines as calls may be pending, so this is a closed queue or a peer that reads nothing.
      resolve(
        id,
        .failure(
          GatewayError(
            code: "CMC3210", message: "host \(host): its agent takes no more calls",
            advice: "look at agent.log on the host; apply again continues", disposition: .retry(afterSeconds: 2))))
    }
  }

  /// The first to resolve a call wins: answer, time limit, cancellation, or the end of the connection.
  private func resolve(_ id: Int64, _ result: Result<[UInt8], GatewayError>) {
    table.withLock { $0.pending.removeValue(forKey: id) }?.resume(returning: result)
  }

  /// Ends the connection for good; everything pending fails with `error`.
  private func fail(_ error: GatewayError) {
    let waiting = table.withLock { table in
      if table.broken == nil { table.broken = error }
      defer { table.pending = [:] }
      return table.pending
    }
    outgoing.cancel()
    channel.shutDown()
    for id in waiting.keys.sorted() { waiting[id]?.resume(returning: .failure(error)) }
  }
}

// MARK: Threads

extension RPCAgentGateway {
  private func startThreads() throws(GatewayError) {
    do {
      try PlatformThread.start(name: "rpc-read") { self.readUntilEnd() }
      try PlatformThread.start(name: "rpc-write") { self.writeUntilEnd() }
    } catch {
      let failure = GatewayError(
        code: "CMC3216", message: "host \(host): \(error)", advice: "lower --parallelism",
        disposition: .retry(afterSeconds: 2))
      fail(failure)
      throw failure
    }
  }

  private func writeUntilEnd() {
    while let line = outgoing.pop() {
      do {
        try line.withUnsafeBytes { try channel.write($0) }
      } catch {
        // The reader sees the end too, and knows more of it.
        channel.shutDown()
        return
      }
    }
  }

  private func readUntilEnd() {
    let why = readLines()
    let said = farewell()
    fail(
      GatewayError(
        code: "CMC3210", message: "host \(host): the connection to its agent ended: \(said ?? why)",
        advice: "apply again continues; it starts the agent where it is dead", disposition: .retry(afterSeconds: 1)))
  }

  private func readLines() -> String {
    var splitter = LineSplitter()
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    do {
      while true {
        let count = try chunk.withUnsafeMutableBytes { try channel.read(into: $0) }
        try splitter.append(chunk[..<count])
        while let line = splitter.next() { deliver(line) }
      }
    } catch let error as ChannelError {
      return error.code == .closed ? "the agent closed it" : error.message
    } catch let fault as AgentFault {
      return fault.message
    } catch {
      return "\(error)"
    }
  }

  private struct Envelope: Decodable {
    var id: RequestID?
  }

  /// A line that answers no pending call came too late, and is dropped.
  private func deliver(_ line: [UInt8]) {
    guard let envelope = try? JSONDecoder().decode(Envelope.self, from: Data(line)),
      case .number(let id)? = envelope.id
    else { return }
    resolve(id, .success(line))
  }
}
