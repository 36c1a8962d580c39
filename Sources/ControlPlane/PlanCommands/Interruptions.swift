import BlockModel
import LinuxPlatform
import Seams
import Synchronization

/// SIGINT, SIGTERM and a lost terminal, while something runs that can be parked.
enum Interruptions {
  /// How long a run may take, after it was told to stop at once, until it is ended without being asked, in seconds.
  static let stopLimitSeconds = 5.0
  /// As shells show a process that SIGINT ended.
  static let stoppedStatus: Int32 = 130

  /// Calls `interrupt` at the first such signal and at the second, until `body` has returned. A third signal, or
  /// `stopLimitSeconds` after the second, ends the process after `lastWords`.
  static func watching<Result>(
    lastWords: @escaping @Sendable () -> Void, _ interrupt: @escaping @Sendable () -> Void,
    _ body: () async -> Result
  ) async -> Result {
    var signals = [SignalWatcher.interrupt, SignalWatcher.terminate]
    // Under nohup a lost terminal is no reason to stop.
    if !SignalWatcher.isIgnored(SignalWatcher.hangUp) { signals.append(SignalWatcher.hangUp) }
    // Where signals can't be watched they end the process, and the next apply continues: that is what a crash does.
    guard let watcher = try? SignalWatcher(signals) else { return await body() }
    let isOver = Gate()
    _ = try? PlatformThread.start(name: "signals", stackBytes: 128 << 10) {
      for _ in 0..<2 {
        guard case .some = try? watcher.next() else { return }
        interrupt()
      }
      _ = try? watcher.next(until: SystemTime().monotonicNow().adding(seconds: stopLimitSeconds))
      if isOver.isOpen { return }
      lastWords()
      ProcessSetup.endNow(status: stoppedStatus)
    }
    defer {
      isOver.open()
      watcher.cancel()
    }
    return await body()
  }

  /// Opened once, from any thread.
  private final class Gate: Sendable {
    private let state = Atomic(false)
    var isOpen: Bool { state.load(ordering: .acquiring) }
    func open() { state.store(true, ordering: .releasing) }
  }
}
