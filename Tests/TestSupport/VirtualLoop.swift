package import BlockModel
import Seams
import Synchronization

/// Runs tasks on the calling thread, one job at a time, in an order that a seed decides, on a clock that jumps to the
/// next sleeper when nothing else can run. The same seed runs the same way.
package final class VirtualLoop: TaskExecutor, TimeSource {
  private struct Sleeper {
    var id: UInt64
    var at: Double
    var continuation: CheckedContinuation<Void, Never>
  }
  private struct State {
    var jobs: [UnownedJob] = []
    var sleepers: [Sleeper] = []
    var cancelled: Set<UInt64> = []
    var now = 0.0
    var nextID: UInt64 = 0
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
          state.sleepers.append(Sleeper(id: id, at: state.now + max(0, seconds), continuation: continuation))
          return false
        }
        if isLate { continuation.resume() }
      }
    } onCancel: {
      let sleeper = state.withLock { state -> Sleeper? in
        guard let index = state.sleepers.firstIndex(where: { $0.id == id }) else {
          state.cancelled.insert(id)
          return nil
        }
        return state.sleepers.remove(at: index)
      }
      sleeper?.continuation.resume()
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

  private func takeJob() -> UnownedJob? {
    state.withLock { state in
      state.jobs.isEmpty ? nil : state.jobs.remove(at: random.below(min(state.jobs.count, 4)))
    }
  }

  private func wakeNext() -> Bool {
    let sleeper = state.withLock { state -> Sleeper? in
      guard let index = state.sleepers.indices.min(by: { state.sleepers[$0].at < state.sleepers[$1].at }) else {
        return nil
      }
      let sleeper = state.sleepers.remove(at: index)
      state.now = max(state.now, sleeper.at)
      return sleeper
    }
    sleeper?.continuation.resume()
    return sleeper != nil
  }
}

private final class Box<Value: Sendable>: Sendable {
  let value = Mutex<Value?>(nil)
}
