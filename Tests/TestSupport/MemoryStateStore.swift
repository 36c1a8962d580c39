package import Seams
import Synchronization

/// Durable files in memory. Can die at its n-th changing operation; `recover()` shows what a restart would find.
package final class MemoryStateStore: StateStore {
  /// What the operation that dies leaves behind.
  package enum Crash: Sendable, Equatable {
    /// Nothing of it.
    case before
    /// All of it; only the caller never hears of it.
    case after
    /// An append's first bytes; a replace is atomic, so it is as `before`.
    case during
  }

  private struct State {
    var files: [String: [UInt8]] = [:]
    var operations = 0
    var crashAt: (operation: Int, how: Crash)?
    var isDead = false
    var fault: (prefix: String, error: StateStoreError)?
  }
  private let state = Mutex(State())

  package init() {}

  /// Dies at the `operation`-th replace, append or remove from now (1 is the next).
  package func crash(atOperation operation: Int, _ how: Crash) {
    state.withLock { $0.crashAt = ($0.operations + operation, how) }
  }
  /// Works again, with what had become durable.
  package func recover() {
    state.withLock {
      $0.isDead = false
      $0.crashAt = nil
    }
  }
  /// Every operation on a path with this prefix fails, until nil.
  package func fail(
    pathsWithPrefix prefix: String?, _ error: StateStoreError = StateStoreError(.noSpace, "no space left")
  ) {
    state.withLock { $0.fault = prefix.map { ($0, error) } }
  }
  package var operationCount: Int { state.withLock { $0.operations } }
  package var paths: [String] { state.withLock { $0.files.keys.sorted() } }

  package func read(_ path: String) throws(StateStoreError) -> [UInt8]? {
    try locked { state throws(StateStoreError) in
      try Self.check(state, path)
      return state.files[path]
    }
  }

  package func replace(_ path: String, with bytes: [UInt8]) throws(StateStoreError) {
    try change(path) { state, isWhole in if isWhole { state.files[path] = bytes } }
  }

  package func append(_ path: String, _ bytes: [UInt8]) throws(StateStoreError) {
    try change(path) { state, isWhole in
      state.files[path, default: []] += isWhole ? bytes[...] : bytes.prefix(bytes.count / 2)
    }
  }

  package func remove(_ path: String) throws(StateStoreError) {
    try change(path) { state, isWhole in
      guard isWhole else { return }
      state.files = state.files.filter { $0.key != path && !$0.key.hasPrefix(path + "/") }
    }
  }

  package func list(_ path: String) throws(StateStoreError) -> [String] {
    try locked { state throws(StateStoreError) in
      try Self.check(state, path)
      let prefix = path.isEmpty || path == "." ? "" : path + "/"
      let names = state.files.keys.filter { $0.hasPrefix(prefix) }
        .compactMap { $0.dropFirst(prefix.count).split(separator: "/").first.map(String.init) }
      return Set(names).sorted()
    }
  }

  private static func check(_ state: State, _ path: String) throws(StateStoreError) {
    if state.isDead { throw StateStoreError(.failed, "\(path): the process has crashed") }
    if let fault = state.fault, path.hasPrefix(fault.prefix) { throw fault.error }
  }

  private func locked<T>(_ body: (inout State) throws(StateStoreError) -> sending T) throws(StateStoreError) -> T {
    let outcome: Result<T, StateStoreError> = state.withLock { state in
      do throws(StateStoreError) { return .success(try body(&state)) } catch { return .failure(error) }
    }
    return try outcome.get()
  }

  private func change(_ path: String, _ apply: (inout State, _ isWhole: Bool) -> Void) throws(StateStoreError) {
    try locked { state throws(StateStoreError) in
      try Self.check(state, path)
      state.operations += 1
      guard let crash = state.crashAt, crash.operation == state.operations else {
        apply(&state, true)
        return
      }
      state.isDead = true
      if crash.how != .before { apply(&state, crash.how == .after) }
      throw StateStoreError(.failed, "\(path): the process has crashed")
    }
  }
}
