import Synchronization

/// Memory for the payload of one request: aligned to 4 KiB, so that O_DIRECT takes it as it is.
///
/// `@unchecked Sendable`: one owner at a time. The connection fills it before it submits the request, the export has it
/// until it completes the request, then the connection's reply writer; each handover passes a lock.
package final class PayloadBuffer: @unchecked Sendable {
  package static let alignmentBytes = 4096
  private let base: UnsafeMutableRawPointer
  let capacity: Int
  let sizeClass: Int
  /// Bytes of the payload; at most `capacity`.
  package internal(set) var count: Int

  init(capacity: Int, sizeClass: Int) {
    base = UnsafeMutableRawPointer.allocate(byteCount: max(capacity, 1), alignment: Self.alignmentBytes)
    // Touched once here, so that no page fault waits on the I/O path.
    base.initializeMemory(as: UInt8.self, repeating: 0, count: max(capacity, 1))
    self.capacity = capacity
    self.sizeClass = sizeClass
    count = 0
  }

  deinit { base.deallocate() }

  /// A buffer of its own, outside of any pool.
  package convenience init(byteCount: Int) {
    self.init(capacity: byteCount, sizeClass: -1)
    count = byteCount
  }

  /// The payload.
  package var bytes: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(start: base, count: count) }

  /// For requests that carry none.
  package static let empty = PayloadBuffer(capacity: 0, sizeClass: -1)
}

/// Payload buffers of a few sizes, handed out within a budget of bytes and reused.
final class PayloadPool: Sendable {
  static let classBytes = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 32 << 20]

  private struct State {
    var free: [[PayloadBuffer]]
    var idleBytes = 0
    var usedBytes = 0
    /// Connections that wait for room, oldest first.
    var waiting: [Waiter] = []
  }
  private struct Waiter {
    let need: Int
    let parking: any NBDParking
    let grant: Grant
  }
  /// Set under the pool's lock, read by the waiter under it.
  private final class Grant: Sendable {
    let given = Atomic<Bool>(false)
  }

  private let budgetBytes: Int
  private let idleLimitBytes: Int
  private let state: Mutex<State>

  init(budgetBytes: Int, idleLimitBytes: Int) {
    precondition(budgetBytes >= 2 * Int(NBDLimits.maxPayloadBytes), "the payload budget holds less than two requests")
    self.budgetBytes = budgetBytes
    self.idleLimitBytes = idleLimitBytes
    let free = Self.classBytes.map { _ in [PayloadBuffer]() }
    state = Mutex(State(free: free))
  }

  var usedBytes: Int { state.withLock { $0.usedBytes } }

  static func sizeClass(for byteCount: Int) -> Int {
    var index = 0
    while classBytes[index] < byteCount { index += 1 }
    return index
  }

  /// A buffer with `count` set to `byteCount`, or nil where the budget has no room now.
  func takeNow(_ byteCount: Int) -> PayloadBuffer? {
    let sizeClass = Self.sizeClass(for: byteCount)
    let need = Self.classBytes[sizeClass]
    let taken: PayloadBuffer?? = state.withLock { state in
      guard state.waiting.isEmpty, state.usedBytes + need <= budgetBytes else { return .none }
      state.usedBytes += need
      return .some(Self.popFree(&state, sizeClass))
    }
    guard let taken else { return nil }
    return prepare(taken, sizeClass, byteCount)
  }

  /// Like `takeNow`, but waits its turn on `parking`.
  func take(_ byteCount: Int, parking: any NBDParking) -> PayloadBuffer {
    if let buffer = takeNow(byteCount) { return buffer }
    let sizeClass = Self.sizeClass(for: byteCount)
    let need = Self.classBytes[sizeClass]
    let grant = Grant()
    state.withLock { state in
      state.waiting.append(Waiter(need: need, parking: parking, grant: grant))
      grantWaiting(&state)
    }
    while !grant.given.load(ordering: .acquiring) { parking.park() }
    return prepare(state.withLock { Self.popFree(&$0, sizeClass) }, sizeClass, byteCount)
  }

  func give(back buffer: PayloadBuffer) {
    guard buffer.sizeClass >= 0 else { return }
    state.withLock { state in
      state.usedBytes -= buffer.capacity
      if state.idleBytes + buffer.capacity <= idleLimitBytes {
        state.idleBytes += buffer.capacity
        state.free[buffer.sizeClass].append(buffer)
      }
      if !state.waiting.isEmpty { grantWaiting(&state) }
    }
  }

  private static func popFree(_ state: inout State, _ sizeClass: Int) -> PayloadBuffer? {
    guard let buffer = state.free[sizeClass].popLast() else { return nil }
    state.idleBytes -= buffer.capacity
    return buffer
  }

  private func prepare(_ reused: PayloadBuffer?, _ sizeClass: Int, _ byteCount: Int) -> PayloadBuffer {
    let buffer = reused ?? PayloadBuffer(capacity: Self.classBytes[sizeClass], sizeClass: sizeClass)
    buffer.count = byteCount
    return buffer
  }

  /// In order: a long request is not overtaken for ever by short ones.
  private func grantWaiting(_ state: inout State) {
    while let first = state.waiting.first, state.usedBytes + first.need <= budgetBytes {
      state.waiting.removeFirst()
      state.usedBytes += first.need
      first.grant.given.store(true, ordering: .releasing)
      first.parking.unpark()
    }
  }
}
