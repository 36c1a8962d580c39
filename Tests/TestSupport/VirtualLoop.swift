package import BlockModel
import Seams
import Synchronization

/// Runs tasks on the calling thread, one job at a time, in an order that a seed decides, on a clock that jumps to the
/// next sleeper when nothing else can run. The same seed runs the same way.
package final class VirtualLoop: TaskExecutor, TimeSource {
  private struct State {
    /// Those before `head` were taken.
    var jobs: [UnownedJob] = []
    var head = 0
    /// One that was cancelled stays until its time, without a continuation.
    var sleepers = TimeHeap<UInt64>()
    var continuations: [UInt64: CheckedContinuation<Void, Never>] = [:]
    var cancelled: Set<UInt64> = []
    var now = 0.0
    var nextID: UInt64 = 0

    /// One of the first few, those before it keep their order.
    mutating func takeJob(_ choice: (Int) -> Int) -> UnownedJob? {
      let count = jobs.count - head
      guard count > 0 else { return nil }
      let place = head + choice(min(count, 4))
      let job = jobs[place]
      for index in stride(from: place, to: head, by: -1) { jobs[index] = jobs[index - 1] }
      head += 1
      if head == jobs.count || head > 4096 {
        jobs.removeFirst(head)
        head = 0
      }
      return job
    }
  }
  private let state = Mutex(State())
  package let random: SeededRandom
  package static let start = WallTime(secondsSince1970: 1_893_456_000)

  package init(seed: UInt64) { random = SeededRandom(seed: seed) }

  package func monotonicNow() -> MonotonicTime {
    MonotonicTime(nanoseconds: 1_000_000_000 + UInt64(state.withLock(\.now) * 1e9))
  }
  package func wallNow() -> WallTime { Self.start.adding(seconds: state.withLock(\.now)) }
  package func skip(seconds: Double) { state.withLock { $0.now += seconds } }

  package func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    state.withLock { $0.jobs.append(job) }
  }

  package func pause(seconds: Double) async {
    let id = state.withLock { state in
      state.nextID += 1
      return state.nextID
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isLate = state.withLock { state in
          if state.cancelled.remove(id) != nil { return true }
          state.continuations[id] = continuation
          state.sleepers.insert(id, at: state.now + max(0, seconds))
          return false
        }
        if isLate { continuation.resume() }
      }
    } onCancel: {
      let sleeper = state.withLock { state in
        let sleeper = state.continuations.removeValue(forKey: id)
        if sleeper == nil { state.cancelled.insert(id) }
        return sleeper
      }
      sleeper?.resume()
    }
  }

  /// Nil where everything waits for something that never comes.
  package func run<Value: Sendable>(_ body: @escaping @Sendable () async -> Value) -> Value? {
    let result = Box<Value>()
    Task(executorPreference: self) {
      let value = await body()
      result.value.withLock { $0 = value }
    }
    while true {
      if let value = result.value.withLock({ $0 }) { return value }
      if let job = takeJob() {
        job.runSynchronously(on: asUnownedTaskExecutor())
      } else if !wakeNext() {
        return nil
      }
    }
  }

  private func takeJob() -> UnownedJob? { state.withLock { state in state.takeJob { random.below($0) } } }

  private func wakeNext() -> Bool {
    let sleeper = state.withLock { state -> CheckedContinuation<Void, Never>? in
      while let sleeper = state.sleepers.popFirst() {
        guard let continuation = state.continuations.removeValue(forKey: sleeper.item) else { continue }
        state.now = max(state.now, sleeper.at)
        return continuation
      }
      return nil
    }
    sleeper?.resume()
    return sleeper != nil
  }
}

private final class Box<Value: Sendable>: Sendable {
  let value = Mutex<Value?>(nil)
}
