import LinuxPlatform
import Synchronization

/// What `body` answers, or nil once the time is over: then it is cancelled, and not waited for.
func withTimeLimit<Value: Sendable>(
  seconds: Double, _ body: @escaping @Sendable () async -> Value
) async -> Value? {
  let first = FirstAnswer<Value>()
  let work = Task { first.give(await body()) }
  let timer = Task {
    do { try await TaskPause().pause(seconds: seconds) } catch { return }
    work.cancel()
    first.give(nil)
  }
  let answer = await first.value()
  timer.cancel()
  return answer
}

/// The first answer of several that are under way; later ones are dropped.
private final class FirstAnswer<Value: Sendable>: Sendable {
  private enum State {
    case open
    case awaited(CheckedContinuation<Value?, Never>)
    case given(Value?)
    case taken
  }
  private let state = Mutex(State.open)

  func give(_ value: Value?) {
    let waiting: CheckedContinuation<Value?, Never>? = state.withLock { state in
      switch state {
      case .open:
        state = .given(value)
        return nil
      case .awaited(let continuation):
        state = .taken
        return continuation
      case .given, .taken: return nil
      }
    }
    waiting?.resume(returning: value)
  }

  /// Asked once.
  func value() async -> Value? {
    await withCheckedContinuation { continuation in
      let given: Value?? = state.withLock { state in
        guard case .given(let value) = state else {
          state = .awaited(continuation)
          return nil
        }
        state = .taken
        return .some(value)
      }
      if let given { continuation.resume(returning: given) }
    }
  }
}
