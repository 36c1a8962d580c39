import Foundation
import LinuxPlatform
import Reconciling
import Rendering
import Synchronization

/// Standard output and error, with what is known of the terminal.
///
/// Sendable: writes take turns by a lock, so that a line of a running step never lands inside another. A stream that
/// nobody reads any more (a closed terminal, a pipe whose reader is gone) is written to no further: losing sight of a
/// run must not end it half-way.
final class Console: Sendable {
  private struct Lost: Sendable {
    var output = false
    var error = false
  }
  let style: TextStyle
  let canAsk: Bool
  private let lost = Mutex(Lost())

  init(environment: [String: String] = ProcessInfo.processInfo.environment) {
    ProcessSetup.ignoreBrokenPipes()
    let isTerminal = Terminal.isTerminal(.output)
    style = TextStyle.detected(
      environment: environment, isTerminal: isTerminal,
      columns: Terminal.columns(of: .output) ?? environment["COLUMNS"].flatMap(Int.init))
    canAsk = isTerminal && Terminal.isTerminal(.input)
  }

  func write(_ text: String) {
    guard !text.isEmpty else { return }
    lost.withLock { lost in if !lost.output { lost.output = !Self.put(text, to: .standardOutput) } }
  }

  /// Whether nobody reads standard output any more.
  var isLost: Bool { lost.withLock(\.output) }

  /// One line on standard output. Whoever its words are from: control characters are shown, not obeyed.
  func say(_ line: String) { write(safe(line) + "\n") }

  /// Lines on standard error, which carries no colours: control characters are shown, not obeyed.
  func complain(_ text: String) {
    guard !text.isEmpty else { return }
    lost.withLock { lost in if !lost.error { lost.error = !Self.put(safeLines(text), to: .standardError) } }
  }

  /// One line that says what failed, one what to do next. `subject`: what it failed for, where many are worked on.
  func complain(_ error: any Error, of subject: String? = nil) {
    let lead = subject.map { "\($0): " } ?? ""
    guard let error = error as? GatewayError else { return complain("\(lead)error: \(error)\n") }
    complain("\(lead)error \(error.code): \(safe(error.message))\n")
    if !error.advice.isEmpty { complain("  next: \(safe(error.advice))\n") }
  }

  /// For commands that show no progress: only notes matter, and they are no part of what was asked for.
  var complaining: @Sendable (ProgressEvent) -> Void {
    { event in if case .note(let text) = event { self.complain("note: \(safe(text))\n") } }
  }

  private static func put(_ text: String, to stream: FileHandle) -> Bool {
    do {
      try stream.write(contentsOf: Data(text.utf8))
      return true
    } catch {
      return false
    }
  }

  /// Asks a question and reads a line; nil at the end of the input.
  func ask(_ question: String) -> String? {
    write(safeLines(question))
    return readLine()
  }
}

/// How a command fails on its own: one line on what happened, one on what to do next. Exit 1.
struct CommandFailure: Error, CustomStringConvertible {
  let message: String
  let advice: String
  init(_ message: String, advice: String) {
    self.message = message
    self.advice = advice
  }
  var description: String { advice.isEmpty ? message : "\(message)\n  next: \(advice)" }
}
