import LinuxPlatform
import Synchronization

/// SIGINT, SIGTERM and a lost terminal, while something runs that can be parked.
enum Interruptions {
  private static let signals = [SignalWatcher.interrupt, SignalWatcher.terminate, SignalWatcher.hangUp]

  /// Calls `interrupt` for every such signal until `body` has returned.
  static func watching<Result>(
    _ interrupt: @escaping @Sendable () -> Void, _ body: () async -> Result
  ) async -> Result {
    // Where signals can't be watched they end the process, and the next apply continues: that is what a crash does.
    let watcher = try? SignalWatcher(signals)
    _ = try? watcher?.forEach { _ in interrupt() }
    defer { watcher?.cancel() }
    return await body()
  }
}
