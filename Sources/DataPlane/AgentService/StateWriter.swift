internal import BlockModel
internal import LinuxPlatform
internal import Seams

/// One thread a session that makes records durable, so that no lock is held over an fsync. A later write to the same
/// path replaces one that waits; both are answered when the later is durable.
final class StateWriter: Sendable {
  private struct Job: Sendable {
    var path: String
    var bytes: [UInt8]
    /// Done after the file is durable, before the answer: a label on a device.
    var afterwards: (@Sendable () -> Bool)?
    var answers: [@Sendable (Bool) -> Void]
  }

  private struct State: Sendable {
    var waiting: [Job] = []
    var isStopped = false
    var isIdle = true
  }

  private let store: any StateStore
  private let state = Monitor(State())
  private let failed: @Sendable (StateStoreError) -> Void

  /// `failed` is told of every write that failed, beside its answer.
  init(store: any StateStore, failed: @escaping @Sendable (StateStoreError) -> Void) throws(SystemError) {
    self.store = store
    self.failed = failed
    try PlatformThread.start(name: "state") { [self] in run() }
  }

  /// Never waits; at most one job a path waits, so the queue is bounded by what a session has files.
  func replace(
    _ path: String, with bytes: [UInt8], afterwards: (@Sendable () -> Bool)? = nil,
    answer: @escaping @Sendable (Bool) -> Void
  ) {
    let isStopped = state.change { state in
      guard !state.isStopped else { return true }
      if let index = state.waiting.firstIndex(where: { $0.path == path }) {
        state.waiting[index].bytes = bytes
        state.waiting[index].afterwards = afterwards
        state.waiting[index].answers.append(answer)
      } else {
        state.waiting.append(Job(path: path, bytes: bytes, afterwards: afterwards, answers: [answer]))
      }
      return false
    }
    if isStopped { answer(false) }
  }

  /// Lets what waits be written, then ends the thread.
  func stop() {
    state.change { $0.isStopped = true }
    _ = state.wait { $0.waiting.isEmpty && $0.isIdle ? true : nil }
  }

  private func run() {
    while true {
      let next: Job?? = state.wait { state -> Job?? in
        guard !state.waiting.isEmpty else { return state.isStopped ? .some(nil) : nil }
        state.isIdle = false
        return .some(state.waiting.removeFirst())
      }
      guard let job = next ?? nil else { return }
      var isStored = true
      do throws(StateStoreError) {
        try store.replace(job.path, with: job.bytes)
        isStored = job.afterwards?() ?? true
      } catch {
        isStored = false
        failed(error)
      }
      for answer in job.answers { answer(isStored) }
      state.change { $0.isIdle = true }
    }
  }
}
