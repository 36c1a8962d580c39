import Seams

/// Waits on Swift's own clock, which goes on while the machine is suspended.
package struct TaskPause: Pausing {
  package init() {}

  package func pause(seconds: Double) async throws(CancellationError) {
    guard seconds > 0 else {
      if Task.isCancelled { throw CancellationError() }
      return
    }
    do {
      try await Task.sleep(for: .seconds(seconds), tolerance: nil, clock: .continuous)
    } catch {
      throw CancellationError()
    }
  }
}
