/// How text looks: colours or not, how wide, whether lines may be drawn over.
package struct TextStyle: Sendable, Equatable {
  package var colours: Bool
  /// Columns; text folds here.
  package var width: Int
  /// Whether this is a terminal on which bars may be redrawn.
  package var live: Bool
  package init(colours: Bool, width: Int, live: Bool) {
    self.colours = colours
    self.width = width
    self.live = live
  }
  package static let plain = TextStyle(colours: false, width: 80, live: false)

  /// NO_COLOR (https://no-color.org) and TERM=dumb turn colours off, as does anything that isn't a terminal.
  package static func detected(environment: [String: String], isTerminal: Bool, columns: Int?) -> TextStyle {
    let dumb = environment["TERM"] == "dumb"
    let colours = isTerminal && !dumb && (environment["NO_COLOR"] ?? "").isEmpty
    return TextStyle(colours: colours, width: min(max(columns ?? 80, 40), 200), live: isTerminal && !dumb)
  }
}

/// Colours by meaning.
enum Ink: String {
  case bold = "1"
  case dim = "2"
  case good = "32"
  case change = "33"
  case bad = "31"
  case oneWay = "1;31"
  case name = "36"
}

extension TextStyle {
  func paint(_ text: String, _ ink: Ink) -> String {
    colours && !text.isEmpty ? "\u{1b}[\(ink.rawValue)m\(text)\u{1b}[0m" : text
  }

  /// Words of `text`, broken so that no line is wider than `width` (but for a longer word), each line after the first
  /// indented by `indent`. The first begins with `lead`, which counts by `leadWidth` columns (it may hold colours).
  func folded(_ lead: String, leadWidth: Int, _ text: String, indent: Int, ink: Ink? = nil) -> String {
    let (begin, end) = colours ? ink.map { ("\u{1b}[\($0.rawValue)m", "\u{1b}[0m") } ?? ("", "") : ("", "")
    var result = lead
    var column = leadWidth
    var isEmpty = true
    for word in text.utf8.split(separator: UInt8(ascii: " ")).map(Substring.init) {
      let columns = word.utf8.allSatisfy { $0 < 128 } ? word.utf8.count : word.count
      if isEmpty {
        result += begin
      } else if column + 1 + columns > width {
        result += end + "\n" + String(repeating: " ", count: indent) + begin
        column = indent
      } else {
        result += " "
        column += 1
      }
      result += word
      column += columns
      isEmpty = false
    }
    return result + (isEmpty ? "" : end) + "\n"
  }
}

/// Words of others (errors, hook output, names) may hold anything: control characters are shown, not obeyed. For one
/// line: its breaks become spaces.
package func safe(_ text: String) -> String { shown(text, breaks: " ", tabs: " ") }

/// The same for text of ours in many lines: its breaks and tabs stay.
package func safeLines(_ text: String) -> String {
  // To Swift "\r\n" is one character, and no line break.
  shown(text.replacing("\r\n", with: "\n"), breaks: "\n", tabs: "\t")
}

private func shown(_ text: String, breaks: String, tabs: String) -> String {
  // 0xC2 begins the two bytes of the control characters from 128 on, and of a few others.
  if text.utf8.allSatisfy({ $0 >= 32 && $0 != 127 && $0 != 0xc2 }) { return text }
  var result = ""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\n": result += breaks
    case "\t": result += tabs
    case _ where scalar.value < 32 || (127...159).contains(scalar.value):
      result += "\\u{\(String(scalar.value, radix: 16))}"
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result
}
