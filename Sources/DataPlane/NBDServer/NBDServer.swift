package import Seams
import Synchronization

/// Serves exports to NBD clients.
///
/// It makes no system call: whoever accepts a connection calls `serve(channel:)` on a thread of its own, where it stays
/// until the client has left. Safe to use from any thread.
package final class NBDServer: Sendable {
  private struct State {
    var exports: [any NBDExport] = []
    var connections: [ObjectIdentifier: NBDConnection] = [:]
    var isShuttingDown = false
  }

  let limits: NBDLimits
  let pool: PayloadPool
  private let makeParking: @Sendable () -> any NBDParking
  let startThread: @Sendable (@escaping @Sendable () -> Void) -> Bool
  private let state = Mutex(State())

  /// - Parameters:
  ///   - makeParking: a new waiting place (the platform has semaphores, this room doesn't).
  ///   - startThread: runs the body on a thread of its own, or answers false. Called at most once a connection, when an
  ///     export first completes a request on another thread: replies to a slow client then hold up only themselves.
  package init(
    limits: NBDLimits = .standard, makeParking: @escaping @Sendable () -> any NBDParking,
    startThread: @escaping @Sendable (@escaping @Sendable () -> Void) -> Bool
  ) {
    self.limits = limits
    self.makeParking = makeParking
    self.startThread = startThread
    pool = PayloadPool(budgetBytes: limits.payloadBudgetBytes, idleLimitBytes: limits.idlePayloadBytes)
  }

  /// From now on clients can choose it. One with the same name is replaced for new connections; those that are open
  /// stay with the old one. The first export is also the default (empty name), unless one is named so.
  package func add(_ export: any NBDExport) {
    state.withLock { state in
      if let index = state.exports.firstIndex(where: { $0.name == export.name }) {
        state.exports[index] = export
      } else {
        state.exports.append(export)
      }
    }
  }

  /// No new client finds it; clients that have it are told NBD_ESHUTDOWN for every further request.
  package func remove(name: String) {
    let connections = state.withLock { state in
      state.exports.removeAll { $0.name == name }
      return Array(state.connections.values)
    }
    for connection in connections { connection.retire(exportName: name) }
  }

  /// Clients that are in the transmission phase, by export name.
  package var connectionCounts: [String: Int] {
    let connections = state.withLock { Array($0.connections.values) }
    var counts: [String: Int] = [:]
    for connection in connections {
      if let name = connection.chosenExportName { counts[name, default: 0] += 1 }
    }
    return counts
  }

  /// Talks to one client, from the greeting until it has left or broke the protocol. Blocks. The channel is shut down
  /// on return, and nothing of this client is in flight any more.
  package func serve(channel: any ByteChannel) {
    let connection = NBDConnection(
      channel: channel, server: self, parking: makeParking(), writerParking: makeParking())
    let admitted = state.withLock { state in
      guard !state.isShuttingDown, state.connections.count < limits.maxConnections else { return false }
      state.connections[ObjectIdentifier(connection)] = connection
      return true
    }
    if admitted {
      connection.run()
      state.withLock { _ = $0.connections.removeValue(forKey: ObjectIdentifier(connection)) }
    }
    channel.shutDown()
  }

  /// Shuts every channel down now, answered or not: for clients that neither send nor read while the server wants to end.
  package func hangUp() {
    let connections = state.withLock { Array($0.connections.values) }
    for connection in connections { connection.channel.shutDown() }
  }

  /// Requests in flight are finished, further ones are answered NBD_ESHUTDOWN and options NBD_REP_ERR_SHUTDOWN, then
  /// every channel is shut down. Returns at once; each `serve` returns when its client's last reply is out.
  package func shutDown() {
    let connections = state.withLock { state in
      state.isShuttingDown = true
      return Array(state.connections.values)
    }
    for connection in connections { connection.shutDown() }
  }

  func export(named name: String) -> (any NBDExport)? {
    state.withLock { state in
      state.exports.first { $0.name == name } ?? (name.isEmpty ? state.exports.first : nil)
    }
  }

  /// What clients can choose from now, the default first.
  var descriptions: [NBDExportDescription] {
    let exports = state.withLock { $0.exports }
    return exports.map {
      NBDExportDescription(
        name: $0.name, sizeBytes: $0.sizeBytes, isReadOnly: $0.isReadOnly, blockSizes: $0.blockSizes,
        hasDirtyMap: $0.hasDirtyMap)
    }
  }
}
