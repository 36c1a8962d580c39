internal import CYAML
internal import Diagnostics

/// What libyaml says of text that is no YAML, in words for someone who edits a plan.
struct SyntaxProblem {
  private let error: yaml_error_type_t
  private let problem: String
  private let context: String
  private let line: Int
  private let column: Int
  private let contextLine: Int
  private let contextColumn: Int
  private let byte: UInt8?
  /// The line that it is on, without the spaces before it.
  private let lineBytes: [UInt8]
  /// A line above the problem that is indented with a no-break space, which web pages are full of.
  private let noBreakSpaceLine: Int?

  init(parser: yaml_parser_t, bytes: UnsafeBufferPointer<UInt8>) {
    error = parser.error
    problem = parser.problem.map { String(cString: $0) } ?? ""
    context = parser.context.map { String(cString: $0) } ?? ""
    contextLine = parser.context_mark.line + 1
    contextColumn = parser.context_mark.column + 1
    if parser.error == YAML_READER_ERROR {
      let offset = min(parser.problem_offset, bytes.count)
      (line, column) = Self.place(of: offset, in: bytes)
      byte = offset < bytes.count ? bytes[offset] : nil
      lineBytes = []
      noBreakSpaceLine = nil
    } else {
      line = parser.problem_mark.line + 1
      column = parser.problem_mark.column + 1
      byte = Self.byte(line: parser.problem_mark.line, column: parser.problem_mark.column, in: bytes)
      // Of a missing ':' libyaml knows only where it gave up; the line that lacks it is where it began.
      let lacksColon = problem == "could not find expected ':'"
      lineBytes = Self.line(lacksColon ? contextLine : line, in: bytes)
      noBreakSpaceLine = Self.noBreakSpace(upTo: line, in: bytes)
    }
  }

  private static func place(of offset: Int, in bytes: UnsafeBufferPointer<UInt8>) -> (line: Int, column: Int) {
    var line = 1
    var column = 1
    for byte in bytes[..<offset] {
      if byte == UInt8(ascii: "\n") {
        line += 1
        column = 1
      } else if byte & 0xc0 != 0x80 {
        column += 1
      }
    }
    return (line, column)
  }

  /// At most so many bytes of a line are looked at.
  private static let lineLimit = 80

  private static func line(_ number: Int, in bytes: UnsafeBufferPointer<UInt8>) -> [UInt8] {
    var remaining = number - 1
    var index = 0
    while remaining > 0, index < bytes.count {
      if bytes[index] == UInt8(ascii: "\n") { remaining -= 1 }
      index += 1
    }
    let rest = bytes[index...].drop { $0 == UInt8(ascii: " ") }
    return Array(rest.prefix { $0 != UInt8(ascii: "\n") && $0 != UInt8(ascii: "\r") }.prefix(lineLimit))
  }

  private static func noBreakSpace(upTo last: Int, in bytes: UnsafeBufferPointer<UInt8>) -> Int? {
    var line = 1
    var isIndentation = true
    for index in bytes.indices where line <= last {
      switch bytes[index] {
      case UInt8(ascii: "\n"):
        line += 1
        isIndentation = true
      case UInt8(ascii: " "): break
      case 0xc2 where isIndentation && index + 1 < bytes.count && bytes[index + 1] == 0xa0: return line
      default: isIndentation = false
      }
    }
    return nil
  }

  private static func byte(line: Int, column: Int, in bytes: UnsafeBufferPointer<UInt8>) -> UInt8? {
    var remaining = line
    var index = 0
    while remaining > 0, index < bytes.count {
      if bytes[index] == UInt8(ascii: "\n") { remaining -= 1 }
      index += 1
    }
    var skip = column
    while index < bytes.count {
      if bytes[index] & 0xc0 != 0x80 {
        if skip == 0 { return bytes[index] }
        skip -= 1
      }
      index += 1
    }
    return nil
  }

  func diagnostic(file: String) -> Diagnostic {
    let position = SourcePosition(file: file, line: max(1, line), column: max(1, column))
    if error == YAML_MEMORY_ERROR {
      return Diagnostic(code: "CMC1004", at: position, "memory ran out", advice: "split the plan in several")
    }
    if error == YAML_READER_ERROR {
      let isControl = problem.contains("control characters")
      return Diagnostic(
        code: "CMC1001", at: position,
        isControl ? "a control character that YAML doesn't allow" : "these bytes are not UTF-8",
        advice: isControl
          ? "remove it; in double quotes it can be written as an escape such as \\x07"
          : "save the file as UTF-8 (iconv -f LATIN1 -t UTF-8 FILE)")
    }
    if problem.contains("tab character") || byte == UInt8(ascii: "\t") {
      return Diagnostic(
        code: "CMC1002", at: position, "a tab is used for indentation", advice: "indent with spaces, two a level")
    }
    if let noBreakSpaceLine {
      return Diagnostic(
        code: "CMC1002", at: SourcePosition(file: file, line: noBreakSpaceLine, column: 1),
        "this line is indented with no-break spaces, which look like spaces", advice: "replace them with spaces")
    }
    if let mark = ["<<<<<<<", "=======", ">>>>>>>"].first(where: { lineBytes.starts(with: Array($0.utf8)) }) {
      let start = SourcePosition(
        file: file, line: problem == "could not find expected ':'" ? contextLine : line, column: 1)
      return Diagnostic(
        code: "CMC1003", at: start, "'\(mark)' is left over from a merge with a conflict",
        advice: "decide for one of the versions, and remove the marks")
    }
    if lineBytes.count > 1, lineBytes[0] == UInt8(ascii: "-"),
      ![UInt8(ascii: " "), UInt8(ascii: "-")].contains(lineBytes[1]),
      problem == "did not find expected key"
    {
      return Diagnostic(
        code: "CMC1003", at: position, "the list item on this line has no space after its '-'",
        advice: "write '- ', with a space after the '-'")
    }
    if context.contains("quoted scalar"), problem.contains("end of stream") || problem.contains("document indicator") {
      let start = SourcePosition(file: file, line: contextLine, column: contextColumn)
      return Diagnostic(
        code: "CMC1003", at: start, "the quote that opens here is never closed", advice: "close it on the same line")
    }
    if problem == "could not find expected ':'" {
      // libyaml notices on a later line; the key that lacks it is where it began to look.
      let start = SourcePosition(file: file, line: contextLine, column: contextColumn)
      return Diagnostic(
        code: "CMC1003", at: start, "there is no ': ' after this key",
        advice: "write 'key: value', with a space after the ':'")
    }
    if problem.hasPrefix("did not find expected ',' or"), contextLine != line {
      let start = SourcePosition(file: file, line: contextLine, column: contextColumn)
      let bracket = problem.hasSuffix("'}'") ? "{" : "["
      return Diagnostic(
        code: "CMC1003", at: start, "the '\(bracket)' that opens here is not closed before line \(line)",
        advice: "close it with '\(bracket == "{" ? "}" : "]")', and put a ',' between entries")
    }
    let (message, advice) = explanation
    return Diagnostic(code: "CMC1003", at: position, message, advice: advice)
  }

  private var explanation: (message: String, advice: String) {
    switch problem {
    case "mapping values are not allowed in this context":
      return (
        "a ':' stands where no key can be",
        "put quotes around a value that contains ': ', and start a key in the same column as its neighbours"
      )
    case "did not find expected key":
      return (
        "no key was found here, in the mapping that starts on line \(contextLine)",
        "start all keys of a mapping in the same column; put quotes around the whole of a value, not a part of it"
      )
    case "found character that cannot start any token":
      let character = byte.map { String(UnicodeScalar($0)) } ?? ""
      return ("no value can start with '\(character)'", "put quotes around the value")
    case "did not find expected ',' or '}'", "did not find expected ',' or ']'":
      let (what, bracket) = problem.hasSuffix("'}'") ? ("mapping", "}") : ("list", "]")
      return (
        "the \(what) that opens on line \(contextLine) lacks a ',' or its '\(bracket)' before this",
        "separate entries with ',' and close with '\(bracket)'; put quotes around text that has any of ,[]{}"
      )
    case "did not find expected '-' indicator":
      return (
        "this stands below a list, but is no item of it",
        "start items with '- ' in the column of the others (line \(contextLine)), and keys left of them"
      )
    case "block sequence entries are not allowed in this context":
      return ("a list item can't start on this line", "put each '- item' on a line of its own below the key")
    case "found unknown escape character":
      return (
        "this escape has no meaning in double quotes", "write '\\\\' for a backslash, or use single quotes"
      )
    case "did not find expected <document start>":
      return ("text after the end of the document", "check the indentation: all top-level keys start in column 1")
    default:
      let place = context.isEmpty ? "" : " \(context)"
      return ("this is not YAML: \(problem)\(place)", "check the indentation, quotes and brackets around here")
    }
  }
}
