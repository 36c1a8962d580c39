import ArgumentParser
import BlockModel
import Foundation
import LinuxPlatform
import Reconciling
import Synchronization

/// How long `apply --reconcile-every` waits between two rounds: its interval, and longer while rounds fail, so that
/// what is broken isn't hammered; never so long that a night's window would be slept through.
struct ReconcilePace {
  /// A round that comes more often than this would find its own steps still running, in seconds.
  static let leastSeconds = 5.0
  /// The longest wait after faults, where the interval itself is no longer, in seconds.
  static let longestBackoffSeconds = 900.0
  private static let doublingLimit = 16

  let intervalSeconds: Double
  private(set) var faults = 0

  init(intervalSeconds: Double) { self.intervalSeconds = intervalSeconds }

  /// Seconds until the next round, after one that ended with this exit code.
  mutating func pause(after exitCode: Int32) -> Double {
    guard exitCode == 1 else {
      faults = 0
      return intervalSeconds
    }
    let seconds = intervalSeconds * Double(1 << min(faults, Self.doublingLimit))
    faults += 1
    return min(seconds, max(intervalSeconds, Self.longestBackoffSeconds))
  }
}

/// Where the signals of a run go: to the run that is there, or to the pause between two.
final class Stopping: Sendable {
  private struct State: Sendable {
    var count = 0
    var run: ApplyRun?
    var pause: Task<Void, Never>?
  }
  private let state = Mutex(State())

  var isAsked: Bool { state.withLock { $0.count > 0 } }

  /// From any thread.
  func interrupt() {
    let now = state.withLock { state in
      state.count += 1
      return state
    }
    now.run?.interrupt()
    now.pause?.cancel()
  }

  /// Also signals that came before it began.
  func passing<Result: Sendable>(to run: ApplyRun, _ body: () async -> Result) async -> Result {
    let earlier = state.withLock { state in
      state.run = run
      return state.count
    }
    for _ in 0..<earlier { run.interrupt() }
    defer { state.withLock { $0.run = nil } }
    return await body()
  }

  /// Ends early once somebody asks.
  func pause(seconds: Double) async {
    let task = Task {
      do { try await TaskPause().pause(seconds: seconds) } catch { return }
    }
    let isAsked = state.withLock { state in
      state.pause = task
      return state.count > 0
    }
    if isAsked { task.cancel() }
    await task.value
    state.withLock { $0.pause = nil }
  }
}

/// What `apply --reconcile-every` keeps between its rounds; all else each of them finds anew, the plan's files too.
final class ReconcileLoop: Sendable {
  private let console: Console
  let stopping = Stopping()
  /// What was shown last: a round that has the same to say says nothing.
  private let shown = Mutex("")
  private let pace: Mutex<ReconcilePace>

  init(intervalSeconds: Double, console: Console) {
    self.console = console
    pace = Mutex(ReconcilePace(intervalSeconds: intervalSeconds))
  }

  private func waitText(_ seconds: Double) -> String {
    seconds < 120 ? "\(Int(seconds.rounded())) s" : "\(Int((seconds / 60).rounded())) min"
  }

  func isNews(_ text: String) -> Bool {
    shown.withLock { shown in
      defer { shown = text }
      return shown != text
    }
  }

  /// Round after round until a signal; answers the exit code of the last that was carried out.
  func run(_ round: () async throws -> Int32) async -> Int32 {
    var code: Int32 = 0
    while !stopping.isAsked {
      do {
        code = try await round()
      } catch let exit as ExitCode {
        code = exit.rawValue
      } catch {
        console.complain(error)
        code = 1
      }
      // Connections aren't kept for minutes: the next round opens its own.
      await OpenConnections.shared.closeAll()
      if stopping.isAsked { break }
      let seconds = pace.withLock { $0.pause(after: code) }
      if code == 1 {
        console.complain("note: this round failed; the next one is in \(waitText(seconds))\n")
      }
      await stopping.pause(seconds: seconds)
    }
    return code
  }
}

/// When the world was reconciled last, and how that ended: beside the plan, for `status`. A record, never a source.
enum ReconcileMark {
  private static let limitBytes = 4096
  private static func path(_ directory: String) -> String { "\(directory)/.cmcplan/reconciled" }

  static func note(_ text: String, in directory: String) {
    let path = path(directory)
    let parent = (path as NSString).deletingLastPathComponent
    try? FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
    try? Data("\(text)\n".utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
  }

  /// Nil where nothing says so.
  static func last(in directory: String) -> String? {
    let path = path(directory)
    guard FileManager.default.fileExists(atPath: path),
      let bytes = try? PlanFiles.contents(of: path, what: "the mark of the last run", limitBytes: limitBytes)
    else { return nil }
    return String(decoding: bytes, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
  }
}
