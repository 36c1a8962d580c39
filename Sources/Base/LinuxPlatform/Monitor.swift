package import BlockModel
import CLinux
import Glibc

/// What a monitor guards where it is only a lock, for things whose users take turns. Not `Void`: the address of an empty
/// state is the monitor's own, which the thread sanitizer takes for a race.
package struct Turn: Sendable {
  private let mark: UInt8 = 0
  package init() {}
}

/// A value under a lock, with a way to wait for it to change. Synchronization.Mutex can't wait.
/// Any thread, but never Swift's cooperative pool: every call may block.
/// `@unchecked Sendable`: `state` is read and written only with the pthread mutex held.
package final class Monitor<State: Sendable>: @unchecked Sendable {
  // Sendable: `state` is touched only between lock and unlock of `mutex`, and the pointers never change.
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>
  private var state: State

  package init(_ state: State) {
    self.state = state
    mutex = .allocate(capacity: 1)
    condition = .allocate(capacity: 1)
    let mutexResult = pthread_mutex_init(mutex, nil)
    let conditionResult = cmc_condition_init(condition)
    // Both fail only for lack of memory, which Swift does not survive either.
    precondition(mutexResult == 0 && conditionResult == 0)
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  /// Reads or changes the state; wakes nobody.
  package func withLock<Result, Failure: Error>(
    _ body: (inout State) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return try body(&state)
  }

  /// Changes the state and wakes all who wait for it.
  package func change<Result, Failure: Error>(
    _ body: (inout State) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    pthread_mutex_lock(mutex)
    // After unlocking, or whoever wakes would at once wait for the mutex.
    defer {
      pthread_mutex_unlock(mutex)
      pthread_cond_broadcast(condition)
    }
    return try body(&state)
  }

  /// Waits until `body` gives something (it is asked at once, and again after every change) or until `deadline` on
  /// CLOCK_MONOTONIC, then nil. What `body` does to the state wakes nobody: call `notifyAll` where it should.
  package func wait<Result, Failure: Error>(
    until deadline: MonotonicTime? = nil, _ body: (inout State) throws(Failure) -> Result?
  ) throws(Failure) -> Result? {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while true {
      if let result = try body(&state) { return result }
      if cmc_condition_wait(condition, mutex, deadline?.nanoseconds ?? .max) == ETIMEDOUT {
        return try body(&state)
      }
    }
  }

  package func notifyOne() { pthread_cond_signal(condition) }
  package func notifyAll() { pthread_cond_broadcast(condition) }
}
