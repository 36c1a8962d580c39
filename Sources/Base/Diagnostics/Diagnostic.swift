/// A place in a document: line and column count from 1, the column in Unicode scalars.
package struct SourcePosition: Hashable, Sendable, Comparable, CustomStringConvertible, Codable {
  package var file: String
  package var line: Int
  package var column: Int
  package init(file: String, line: Int, column: Int) {
    self.file = file
    self.line = line
    self.column = column
  }
  package var description: String { "\(file):\(line):\(column)" }
  package static func < (left: SourcePosition, right: SourcePosition) -> Bool {
    (left.file, left.line, left.column) < (right.file, right.line, right.column)
  }
}

/// A value together with where the document says it; nil where it is a default.
package struct Positioned<Value: Sendable>: Sendable {
  package var value: Value
  package var position: SourcePosition?
  package init(_ value: Value, at position: SourcePosition? = nil) {
    self.value = value
    self.position = position
  }
}

extension Positioned: Equatable where Value: Equatable {}
extension Positioned: Hashable where Value: Hashable {}

/// One thing that the user should know, and what to do about it. User input yields these, all of them, never the first only.
package struct Diagnostic: Sendable, Equatable, Codable {
  package enum Severity: String, Sendable, Codable, Comparable {
    case error
    case warning
    case note
    private var rank: Int { self == .error ? 0 : self == .warning ? 1 : 2 }
    package static func < (left: Severity, right: Severity) -> Bool { left.rank < right.rank }
  }

  package var severity: Severity
  /// Stable code of the rule, "CMC1203".
  package var code: String
  package var position: SourcePosition?
  /// What is wrong, one sentence with no period at the end.
  package var message: String
  /// What to do or write instead; may be empty.
  package var advice: String

  package init(
    _ severity: Severity = .error, code: String, at position: SourcePosition? = nil, _ message: String,
    advice: String = ""
  ) {
    self.severity = severity
    self.code = code
    self.position = position
    self.message = message
    self.advice = advice
  }
}

extension [Diagnostic] {
  package var hasErrors: Bool { contains { $0.severity == .error } }

  /// By position (those without one last), then severity, code and message.
  package func sortedByPosition() -> [Diagnostic] {
    sorted { left, right in
      switch (left.position, right.position) {
      case (let one?, let other?) where one != other: return one < other
      case (_?, nil): return true
      case (nil, _?): return false
      default:
        return (left.severity, left.code, left.message) < (right.severity, right.code, right.message)
      }
    }
  }
}
