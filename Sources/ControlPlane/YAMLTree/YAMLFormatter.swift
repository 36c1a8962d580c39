/// Gives a document the usual layout: two spaces a level, one space between tokens, no more than one empty line, no
/// spaces at the end of lines. Keys, values, quotes, comments and their order stay as they are.
///
/// Formatting twice is formatting once. The result is parsed again and compared with the original: a document that
/// would change its meaning, or lose a comment, is refused.
package enum YAMLFormatter {
  package enum Failure: Error, Equatable, Sendable {
    /// It has faults of syntax, which `YAMLTree.parse` describes.
    case notYAML
    /// The formatter does not know how to lay this out; nothing is lost by leaving it.
    case unsupported
  }

  /// - Parameter text: one YAML document.
  package static func format(_ text: String) throws(Failure) -> String {
    var source = text
    if source.unicodeScalars.first == "\u{feff}" { source.unicodeScalars.removeFirst() }
    source = withLineFeeds(source)
    // To libyaml these end a line too, and only in quotes or comments would anybody have them.
    guard !source.unicodeScalars.contains(where: { ["\u{85}", "\u{2028}", "\u{2029}"].contains($0) }) else {
      throw .unsupported
    }
    guard let tokens = YAMLScan.tokens(of: Array(source.utf8)),
      let before = YAMLTree.parse(bytes: Array(source.utf8), file: "").tree
    else { throw .notYAML }
    let lines = source.split(separator: "\n", omittingEmptySubsequences: false).map { Array($0.unicodeScalars) }
    var layout = LineLayout(lines: lines, tokens: tokens)
    let result = layout.run()
    guard let after = YAMLTree.parse(bytes: Array(result.utf8), file: "").tree, isSame(before.root, after.root),
      layout.comments == comments(of: result)
    else { throw .unsupported }
    return result
  }

  /// Every line end as one line feed. By scalars: to Swift CR LF is one character, which a CR before a line feed may
  /// become part of.
  private static func withLineFeeds(_ text: String) -> String {
    var result = String.UnicodeScalarView()
    var previous: Unicode.Scalar?
    for scalar in text.unicodeScalars {
      if scalar == "\r" || (scalar == "\n" && previous != "\r") {
        result.append("\n")
      } else if scalar != "\n" {
        result.append(scalar)
      }
      previous = scalar
    }
    return String(result)
  }

  private static func comments(of text: String) -> [String]? {
    guard let tokens = YAMLScan.tokens(of: Array(text.utf8)) else { return nil }
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { Array($0.unicodeScalars) }
    var layout = LineLayout(lines: lines, tokens: tokens)
    _ = layout.run()
    return layout.comments
  }

  private static func isSame(_ one: YAMLNode, _ other: YAMLNode) -> Bool {
    guard one.kind == other.kind, one.count == other.count, one.style == other.style else { return false }
    switch one.kind {
    case .scalar: return one.text == other.text && one.isExplicitText == other.isExplicitText
    case .sequence: return zip(one.elements, other.elements).allSatisfy { isSame($0, $1) }
    case .mapping:
      return zip(one.entries, other.entries).allSatisfy { isSame($0.key, $1.key) && isSame($0.value, $1.value) }
    }
  }
}

/// Lays out lines by the tokens that begin on them.
struct LineLayout {
  private struct Level {
    var isSequence: Bool
    /// A list whose dashes stand in the column of their key has no start of its own.
    var isImplicit: Bool
    var oldColumn: Int
    var newColumn: Int
  }

  let lines: [[Unicode.Scalar]]
  private let tokens: [YAMLScan.Token]
  private var position = 0
  private var levels: [Level] = []
  /// What was open on the last line that is no comment: a block's end is known only at what follows it.
  private var levelsOfLast: [Level] = []
  private var output: [String] = []
  /// Comment lines and empty lines that wait for the column of what follows.
  private var waiting: [Int] = []
  /// Every comment, in order, without the spaces around it.
  private(set) var comments: [String] = []
  private var flowDepth = 0

  init(lines: [[Unicode.Scalar]], tokens: [YAMLScan.Token]) {
    self.lines = lines
    self.tokens = tokens
  }

  /// The whole document, with a line feed at its end.
  mutating func run() -> String {
    var line = 0
    while line < lines.count {
      let here = takeTokens(of: line)
      if here.texts.isEmpty {
        waiting.append(line)
        line += 1
        continue
      }
      flushWaiting(oldColumn: here.oldColumn, newColumn: here.newColumn, previous: levelsOfLast)
      line = emit(here, line: line)
      levelsOfLast = levels
    }
    flushWaiting(oldColumn: 0, newColumn: 0, previous: levelsOfLast)
    while output.last == "" { output.removeLast() }
    return output.map { $0 + "\n" }.joined()
  }

  private struct LineContent {
    /// What is visible on the line: everything but starts and ends of blocks.
    var texts: [YAMLScan.Token] = []
    var oldColumn = 0
    var newColumn = 0
    /// Column of the innermost block at the end of the line.
    var parentColumn = 0
    var parentOldColumn = 0
  }

  private mutating func takeTokens(of line: Int) -> LineContent {
    var content = LineContent()
    let isContinuation = flowDepth > 0
    var startsKey = false
    while position < tokens.count, tokens[position].line == line {
      let token = tokens[position]
      track(token)
      position += 1
      let isImplied = token.kind == .key && token.endColumn == token.column && token.endLine == token.line
      switch token.kind {
      case .blockMappingStart, .blockSequenceStart, .blockEnd: continue
      case .key where isImplied:
        startsKey = startsKey || content.texts.isEmpty
        continue
      default: content.texts.append(token)
      }
      guard content.texts.count == 1 else { continue }
      content.oldColumn = token.column
      content.newColumn = column(of: token, startsKey: startsKey, isContinuation: isContinuation)
    }
    content.parentColumn = levels.last?.newColumn ?? 0
    content.parentOldColumn = levels.last?.oldColumn ?? 0
    return content
  }

  /// Where a line goes that begins with this token.
  private func column(of token: YAMLScan.Token, startsKey: Bool, isContinuation: Bool) -> Int {
    guard let level = levels.last, token.kind != .marker else { return isContinuation ? token.column : 0 }
    if isContinuation { return max(token.column + level.newColumn - level.oldColumn, level.newColumn + 2) }
    switch token.kind {
    case .key, .value, .blockEntry: return level.newColumn
    default: return startsKey ? level.newColumn : level.newColumn + 2
    }
  }

  private mutating func track(_ token: YAMLScan.Token) {
    switch token.kind {
    case .flowStart: flowDepth += 1
    case .flowEnd: flowDepth -= 1
    case .blockMappingStart, .blockSequenceStart:
      let isSequence = token.kind == .blockSequenceStart
      let parent = levels.last.map { $0.newColumn + 2 } ?? 0
      levels.append(Level(isSequence: isSequence, isImplicit: false, oldColumn: token.column, newColumn: parent))
    case .blockEntry where flowDepth == 0 && levels.last?.isSequence == false:
      let parent = levels.last?.newColumn ?? 0
      levels.append(Level(isSequence: true, isImplicit: true, oldColumn: token.column, newColumn: parent + 2))
    case .key where flowDepth == 0 && levels.last?.isImplicit == true:
      levels.removeLast()
    case .blockEnd:
      if levels.last?.isImplicit == true { levels.removeLast() }
      if !levels.isEmpty { levels.removeLast() }
    default: break
    }
  }

  /// Writes the line and those that its last token goes on over; answers the line after them.
  private mutating func emit(_ content: LineContent, line: Int) -> Int {
    var text = ""
    var last: YAMLScan.Token?
    for token in content.texts {
      if let last { text += gap(from: last, to: token) }
      text += slice(token.line, token.column, token.endLine == line ? token.endColumn : nil)
      last = token
    }
    let column = content.newColumn
    guard let last else { return line + 1 }
    if last.kind == .blockScalar { return emitBlockScalar(last, content, prefix: text, column: column) }
    if last.endLine > line {
      return emitMultiline(content, text: text, column: column, through: last)
    }
    append(text + trailing(line, from: last.endColumn), column: column)
    return line + 1
  }

  private mutating func append(_ text: String, column: Int) {
    output.append(String(repeating: " ", count: column) + text)
  }

  private func slice(_ line: Int, _ from: Int, _ to: Int?) -> String {
    let scalars = lines[line]
    let end = min(to ?? scalars.count, scalars.count)
    guard from < end else { return "" }
    var view = String.UnicodeScalarView()
    view.append(contentsOf: scalars[from..<end])
    return trimmedEnd(String(view))
  }

  private func trimmedEnd(_ text: String) -> String {
    var view = text.unicodeScalars
    while let last = view.last, last == " " || last == "\t" { view.removeLast() }
    return String(view)
  }

  private func gap(from one: YAMLScan.Token, to other: YAMLScan.Token) -> String {
    switch (one.kind, other.kind) {
    case (.flowStart, _), (_, .flowEntry), (_, .flowEnd): return ""
    case (.alias, .value), (.flowEntry, .value): return " "
    case (_, .value): return ""
    default: return " "
    }
  }

  /// The comment behind the last token, with the spaces before it as they were.
  private mutating func trailing(_ line: Int, from column: Int) -> String {
    let rest = slice(line, column, nil)
    guard let hash = rest.unicodeScalars.firstIndex(of: "#") else { return "" }
    let comment = String(rest.unicodeScalars[hash...])
    comments.append(comment)
    let spaces = rest.unicodeScalars.distance(from: rest.unicodeScalars.startIndex, to: hash)
    return String(repeating: " ", count: max(1, spaces)) + comment
  }

  /// Lines of a plain or quoted text that goes on: what they are indented with means nothing.
  private mutating func emitMultiline(
    _ content: LineContent, text: String, column: Int, through token: YAMLScan.Token
  ) -> Int {
    append(text, column: column)
    let shift = column - content.oldColumn
    let least = levels.isEmpty ? 0 : content.parentColumn + 2
    var line = content.texts[0].line + 1
    while line < token.endLine {
      appendContinuation(line, to: nil, shift: shift, least: least)
      line += 1
    }
    // Behind its end there may be more of the line.
    let more = takeTokens(of: token.endLine)
    var rest = ""
    var last = token
    for next in more.texts {
      rest += gap(from: last, to: next)
      rest += slice(next.line, next.column, next.endLine == next.line ? next.endColumn : nil)
      last = next
    }
    appendContinuation(token.endLine, to: token.endColumn, shift: shift, least: least)
    output[output.count - 1] += rest
    if last.endLine > token.endLine {
      var inner = content
      inner.texts = [last]
      // What goes on from here moves as this line did, not as the one that the outer text began on.
      inner.oldColumn = indentation(of: lines[token.endLine])
      let open = output.removeLast()
      return emitMultiline(inner, text: String(open.drop { $0 == " " }), column: leading(open), through: last)
    }
    if last.endLine == token.endLine { output[output.count - 1] += trailing(token.endLine, from: last.endColumn) }
    return token.endLine + 1
  }

  private func leading(_ text: String) -> Int { text.prefix { $0 == " " }.count }

  private func indentation(of line: [Unicode.Scalar]) -> Int { line.prefix { $0 == " " || $0 == "\t" }.count }

  private mutating func appendContinuation(_ line: Int, to end: Int?, shift: Int, least: Int) {
    let scalars = lines[line]
    let indent = indentation(of: scalars)
    let text = slice(line, indent, end)
    if text.isEmpty { output.append("") } else { append(text, column: max(indent + shift, least)) }
  }

  /// The lines below `|` or `>` move together, two columns to the right of what they belong to.
  private mutating func emitBlockScalar(
    _ token: YAMLScan.Token, _ content: LineContent, prefix: String, column: Int
  ) -> Int {
    var header = String.UnicodeScalarView()
    var explicit: Int?
    var headerEnd = token.column
    for scalar in lines[token.line][token.column...] {
      guard "|>+-0123456789".unicodeScalars.contains(scalar) else { break }
      headerEnd += 1
      if let digit = Int(String(scalar)) { explicit = digit } else { header.append(scalar) }
    }
    let first = token.line + 1
    let lastLine = token.endColumn == 0 ? token.endLine : token.endLine + 1
    let body = first..<max(first, min(lastLine, lines.count))
    let parentOld = levels.isEmpty ? -1 : content.parentOldColumn
    let written = body.map { lines[$0] }
    let detected = written.first { line in line.contains { $0 != " " } }.map { line in line.prefix { $0 == " " }.count }
    let oldIndent = explicit.map { max(0, parentOld) + $0 } ?? detected ?? 0
    let newIndent = levels.isEmpty ? oldIndent : content.parentColumn + 2
    var start = prefix
    // The prefix ends with the header as it was written, and whatever stood behind it.
    let tail = slice(token.line, token.column, nil)
    if start.hasSuffix(tail) { start = String(start.dropLast(tail.count)) }
    start += String(header.prefix(1)) + (explicit == nil ? "" : "2") + String(header.dropFirst())
    append(start + trailing(token.line, from: headerEnd), column: column)
    for line in body {
      let scalars = lines[line]
      guard scalars.count > oldIndent else {
        output.append("")
        continue
      }
      var view = String.UnicodeScalarView()
      view.append(contentsOf: scalars[oldIndent...])
      output.append(String(repeating: " ", count: newIndent) + String(view))
    }
    return body.upperBound
  }

  /// Comments take the column of what they stand above, or that of the block which they end.
  private mutating func flushWaiting(oldColumn: Int, newColumn: Int, previous: [Level]) {
    for line in waiting {
      let scalars = lines[line]
      guard let start = scalars.firstIndex(where: { $0 != " " && $0 != "\t" }) else {
        if let last = output.last, last != "" { output.append("") }
        continue
      }
      let text = slice(line, start, nil)
      comments.append(text)
      let column: Int
      if start == oldColumn {
        column = newColumn
      } else if let level = previous.last(where: { $0.oldColumn == start }) {
        column = level.newColumn
      } else if let level = previous.last(where: { $0.oldColumn < start }), level.oldColumn > oldColumn {
        column = level.newColumn
      } else {
        column = newColumn
      }
      append(text, column: column)
    }
    waiting = []
  }
}
