import Foundation
import LinuxPlatform
import Rendering
import Synchronization

/// Standard output and error, with what is known of the terminal.
///
/// Sendable: writes take turns by a lock, so that a line of a running step never lands inside another.
final class Console: Sendable {
  let style: TextStyle
  let canAsk: Bool
  private let turn = Mutex(())

  init(environment: [String: String] = ProcessInfo.processInfo.environment) {
    let isTerminal = Terminal.isTerminal(.output)
    style = TextStyle.detected(
      environment: environment, isTerminal: isTerminal,
      columns: Terminal.columns(of: .output) ?? environment["COLUMNS"].flatMap(Int.init))
    canAsk = isTerminal && Terminal.isTerminal(.input)
  }

  func write(_ text: String) {
    guard !text.isEmpty else { return }
    turn.withLock { _ in FileHandle.standardOutput.write(Data(text.utf8)) }
  }

  func complain(_ text: String) {
    guard !text.isEmpty else { return }
    turn.withLock { _ in FileHandle.standardError.write(Data(text.utf8)) }
  }

  /// Asks a question and reads a line; nil at the end of the input.
  func ask(_ question: String) -> String? {
    write(question)
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
