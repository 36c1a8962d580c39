package import AgentProtocol
internal import BlockModel
internal import LinuxPlatform
internal import Seams

/// The control socket: a thread a connection, and one more for each call that may take long, so that a hook keeps
/// nobody from observing. Only this user and root are let in.
package final class ControlServer: Sendable {
  package static let connectionLimit = 32
  /// Slow calls of one connection at a time; the next one waits its turn.
  package static let slowCallLimit = 8
  /// Calls that are under way when the agent ends get this long to be answered, that which ends it among them.
  package static let farewellSeconds = 1.0

  private let listener: SocketListener
  private let table: CallTable
  private let userID: UInt32
  private let log: @Sendable (String) -> Void
  private let connections = Monitor([ObjectIdentifier: SocketChannel]())
  private let calls = Monitor(0)

  /// Listens at `path` from now on; a socket file that a dead agent left is replaced.
  package init(
    path: String, table: CallTable, log: @escaping @Sendable (String) -> Void
  ) throws(AgentFault) {
    self.table = table
    self.log = log
    userID = ProcessSetup.effectiveUserID
    do throws(SystemError) {
      listener = try SocketListener.unix(path: path)
      try PlatformThread.start(name: "control") { [weak self] in
        while self?.acceptOne() == true {}
      }
    } catch {
      throw AgentFault(.failed, "the control socket can't be opened: \(error)")
    }
  }

  private func acceptOne() -> Bool {
    do throws(SystemError) {
      guard let channel = try listener.accept() else { return false }
      let peer = try channel.peerCredentials()
      guard peer.userID == 0 || peer.userID == userID else {
        log("user \(peer.userID) may not control this agent; its connection was closed")
        channel.shutDown()
        return true
      }
      let isAdmitted = connections.change { connections in
        guard connections.count < Self.connectionLimit else { return false }
        connections[ObjectIdentifier(channel)] = channel
        return true
      }
      guard isAdmitted else {
        channel.shutDown()
        return true
      }
      do throws(SystemError) {
        try PlatformThread.start(name: "call") { [self] in
          ControlConnection(channel: channel, table: table, calls: calls).run()
          channel.shutDown()
          connections.change { _ = $0.removeValue(forKey: ObjectIdentifier(channel)) }
        }
      } catch {
        connections.change { _ = $0.removeValue(forKey: ObjectIdentifier(channel)) }
        throw error
      }
    } catch {
      if listener.isCancelled { return false }
      log("a control connection failed: \(error)")
      pauseThread(milliseconds: 20)
    }
    return true
  }

  /// Lets nobody in any more and hangs up; removes the socket's file.
  package func stop() {
    listener.cancel()
    _ = calls.wait(until: MonotonicTime.now.adding(seconds: Self.farewellSeconds)) { $0 == 0 ? true : nil }
    for channel in connections.withLock({ Array($0.values) }) { channel.shutDown() }
  }
}

/// One client's requests, answered as they are done.
private final class ControlConnection: Sendable {
  private let channel: SocketChannel
  private let table: CallTable
  private let slowCalls = Monitor(0)
  /// Of all connections, from the request's line until its answer is out.
  private let calls: Monitor<Int>

  init(channel: SocketChannel, table: CallTable, calls: Monitor<Int>) {
    self.calls = calls
    self.channel = channel
    self.table = table
  }

  func run() {
    var splitter = LineSplitter()
    let buffer = AlignedBuffer(byteCount: 64 << 10)
    do {
      while true {
        let count = try channel.read(into: buffer.bytes)
        try splitter.append(buffer.bytes[..<count])
        while let line = splitter.next() { answer(line) }
      }
    } catch let fault as AgentFault {
      send(JSONRPC.faultLine(fault, id: nil))
    } catch {
      // The client hung up, which is how conversations end.
    }
    _ = slowCalls.wait { $0 == 0 ? true : nil }
  }

  private func answer(_ line: [UInt8]) {
    let head: JSONRPC.RequestHead
    do throws(AgentFault) {
      head = try JSONRPC.requestHead(of: line)
    } catch {
      return send(JSONRPC.faultLine(error, id: nil))
    }
    guard CallTable.isSlow(method: head.method) else { return answer(line, head) }
    _ = slowCalls.wait { count -> Bool? in
      guard count < ControlServer.slowCallLimit else { return nil }
      count += 1
      return true
    }
    do throws(SystemError) {
      try PlatformThread.start(name: head.method) { [self] in
        answer(line, head)
        slowCalls.change { $0 -= 1 }
      }
    } catch {
      answer(line, head)
      slowCalls.change { $0 -= 1 }
    }
  }

  private func answer(_ line: [UInt8], _ head: JSONRPC.RequestHead) {
    calls.withLock { $0 += 1 }
    defer { calls.change { $0 -= 1 } }
    if let answer = table.answer(line, head: head) { send(answer) }
  }

  private func send(_ line: [UInt8]) {
    // A client that is gone needs no answer; the call was done all the same.
    try? line.withUnsafeBytes { try channel.write($0) }
  }
}
