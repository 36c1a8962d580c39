package import BlockModel

/// A bounded number of named threads that run blocking jobs in order of arrival. Threads start when they are needed
/// and leave after `idleSeconds` without work.
package final class ThreadPool: Sendable {
  package typealias Job = @Sendable () -> Void

  private struct Work: Sendable {
    var waiting: [Job] = []
    var threads = 0
    var idle = 0
    var started = 0
    /// Threads that wait for room, or for the pool's end.
    var others = 0
    var isShutDown = false
  }

  package let name: String
  package let threadLimit: Int
  package let waitingLimit: Int
  private let idleSeconds: Double
  private let stackBytes: Int
  private let work = Monitor(Work())

  package init(
    name: String, threadLimit: Int, waitingLimit: Int = 1024, idleSeconds: Double = 10,
    stackBytes: Int = PlatformThread.defaultStackBytes
  ) {
    precondition(threadLimit >= 1 && waitingLimit >= 1)
    self.name = name
    self.threadLimit = threadLimit
    self.waitingLimit = waitingLimit
    self.idleSeconds = idleSeconds
    self.stackBytes = stackBytes
  }

  /// Waits for room among the waiting jobs. Throws ESHUTDOWN after `shutDown`, ETIMEDOUT at the deadline.
  package func submit(until deadline: MonotonicTime? = nil, _ job: @escaping Job) throws(SystemError) {
    work.withLock { $0.others += 1 }
    let taken: Bool? = work.wait(until: deadline) { work in
      if work.isShutDown { return false }
      guard work.waiting.count < waitingLimit else { return nil }
      work.waiting.append(job)
      return true
    }
    work.withLock { $0.others -= 1 }
    try afterSubmitting(taken)
  }

  /// Like `submit`, but where there is no room it throws EAGAIN at once. May be called from the cooperative pool.
  package func trySubmit(_ job: @escaping Job) throws(SystemError) {
    let taken: Bool? = work.withLock { work in
      if work.isShutDown { return false }
      guard work.waiting.count < waitingLimit else { return nil }
      work.waiting.append(job)
      return true
    }
    try afterSubmitting(taken)
  }

  /// Lets the waiting jobs run, then ends the threads; returns when all have left (or at the deadline).
  package func shutDown(until deadline: MonotonicTime? = nil) {
    work.change { work in
      work.isShutDown = true
      work.others += 1
    }
    defer { work.withLock { $0.others -= 1 } }
    _ = work.wait(until: deadline) { $0.threads == 0 ? true : nil }
  }

  private func afterSubmitting(_ taken: Bool?) throws(SystemError) {
    guard let taken else {
      throw SystemError(
        "run work on \(name)", errorNumber: Errno.again, detail: "\(waitingLimit) jobs wait already; try again later")
    }
    guard taken else { throw SystemError("run work on \(name)", errorNumber: Errno.shutDown) }
    let (number, isAlone): (Int?, Bool) = work.withLock { work in
      guard work.idle < work.waiting.count, work.threads < threadLimit else { return (nil, work.others == 0) }
      work.threads += 1
      work.started += 1
      return (work.started, work.others == 0)
    }
    wake(isAlone)
    guard let number else { return }
    do {
      try PlatformThread.start(name: "\(name)-\(number)", stackBytes: stackBytes) { self.runJobs() }
    } catch {
      // With a thread left, it will come to the job; with none, the job would wait forever.
      let isAlone = work.change { work in
        work.threads -= 1
        if work.threads == 0 { work.waiting.removeAll() }
        return work.threads == 0
      }
      if isAlone { throw error }
    }
  }

  /// All wait on one condition: where only idle threads do, one of them is enough.
  private func wake(_ onlyIdle: Bool) {
    if onlyIdle { work.notifyOne() } else { work.notifyAll() }
  }

  private func runJobs() {
    while true {
      let deadline = MonotonicTime.afterNow(seconds: idleSeconds)
      work.withLock { $0.idle += 1 }
      // Whoever takes a job stops being idle in the same step, or the next submitter would count on a busy thread.
      var hasOthers = false
      let next: Job?? = work.wait(until: deadline) { work -> Job?? in
        guard work.waiting.isEmpty else {
          work.idle -= 1
          hasOthers = work.others > 0
          return .some(work.waiting.removeFirst())
        }
        return work.isShutDown ? .some(nil) : nil
      }
      guard let job = next ?? nil else {
        // A job may have come between the end of the wait and here; then stay.
        let leaves = work.change { work in
          work.idle -= 1
          guard work.waiting.isEmpty else { return false }
          work.threads -= 1
          return true
        }
        if leaves { return }
        continue
      }
      if hasOthers { work.notifyAll() }
      job()
    }
  }
}

/// The pool behind `onBlockingThread`.
package enum BlockingWork {
  package static let threadLimit = 64
  package static let waitingLimit = 4096
  static let pool = ThreadPool(name: "blocking", threadLimit: threadLimit, waitingLimit: waitingLimit)
}

/// Runs blocking work off Swift's cooperative pool, on at most `BlockingWork.threadLimit` threads. Cancelling the task
/// does not interrupt `body`: what it calls has deadlines and cancel signals of its own.
/// Throws what `body` throws, or `SystemError` where `BlockingWork.waitingLimit` calls wait already.
package func onBlockingThread<Result: Sendable>(
  _ body: @escaping @Sendable () throws -> Result
) async throws -> Result {
  try await withCheckedThrowingContinuation { continuation in
    do {
      try BlockingWork.pool.trySubmit {
        continuation.resume(with: Swift.Result { try body() })
      }
    } catch {
      continuation.resume(throwing: error)
    }
  }
}
