package import BlockModel
package import Planning
import Foundation

/// One line of a run's journal: what was about to be done, and how it ended. Never holds a secret: errors are the
/// gateways' messages, which hold none either.
package struct JournalEntry: Sendable, Equatable, Codable {
  package enum Kind: String, Sendable, Codable {
    case runStarted
    case roundStarted
    case stepStarted
    case stepSucceeded
    case stepFailed
    case stepRetrying
    case stepParked
    /// What a command that a step ran wrote.
    case stepOutput
    case interrupted
    /// A word went to one of the plan's `notifications`.
    case notified
    case runEnded
  }
  package static let version = 1
  package var version = JournalEntry.version
  package var at: WallTime?
  package var kind: Kind
  package var step: String?
  package var subject: String?
  package var attempt: Int?
  package var code: String?
  package var message: String?

  package init(
    _ kind: Kind, _ action: Action? = nil, attempt: Int? = nil, code: String? = nil, message: String? = nil
  ) {
    self.kind = kind
    step = action?.kind
    subject = action?.subject
    self.attempt = attempt
    self.code = code
    self.message = message
  }

  package func line() -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    guard let data = try? encoder.encode(self) else { return "{}" }
    return String(decoding: data, as: UTF8.self)
  }
}
