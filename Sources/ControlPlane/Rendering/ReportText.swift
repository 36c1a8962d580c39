/// For a wiki or a ticket.
package func renderMarkdown(_ blocks: [ReportBlock]) -> String {
  var text = ""
  for block in blocks {
    if !text.isEmpty { text += "\n" }
    switch block {
    case .heading(let level, let words): text += String(repeating: "#", count: level) + " \(markdownEscaped(words))\n"
    case .paragraph(let words): text += markdownEscaped(words) + "\n"
    case .list(let items): text += items.map { "- \(markdownEscaped($0))\n" }.joined()
    case .table(let rows):
      for (index, row) in rows.enumerated() {
        text += "| \(row.map(markdownEscaped).joined(separator: " | ")) |\n"
        if index == 0 { text += "|" + String(repeating: "---|", count: row.count) + "\n" }
      }
    }
  }
  return text
}

/// One file that needs nothing else: no script, no font, no picture, nothing from anywhere.
package func renderHTML(_ blocks: [ReportBlock]) -> String {
  var body = ""
  var title = "cmcplan"
  for block in blocks {
    switch block {
    case .heading(let level, let words):
      if level == 1 { title = words }
      body += "<h\(level)>\(htmlEscaped(words))</h\(level)>\n"
    case .paragraph(let words): body += "<p>\(htmlEscaped(words))</p>\n"
    case .list(let items): body += "<ul>\n" + items.map { "<li>\(htmlEscaped($0))</li>\n" }.joined() + "</ul>\n"
    case .table(let rows):
      body += "<table>\n"
      for (index, row) in rows.enumerated() {
        let cell = index == 0 ? "th" : "td"
        body += "<tr>" + row.map { "<\(cell)>\(htmlEscaped($0))</\(cell)>" }.joined() + "</tr>\n"
      }
      body += "</table>\n"
    }
  }
  return """
    <!DOCTYPE html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width">
    <title>\(htmlEscaped(title))</title>
    <style>
    body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
    h2 { border-top: 1px solid #ccc; padding-top: 1rem; margin-top: 2rem; }
    table { border-collapse: collapse; margin: 1rem 0; }
    th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #ddd; }
    li, td { overflow-wrap: anywhere; }
    </style>
    </head>
    <body>
    \(body)</body>
    </html>

    """
}

/// Nothing in a name or a message may become markup.
func markdownEscaped(_ text: String) -> String {
  var result = ""
  for character in safe(text) {
    switch character {
    case "<": result += "&lt;"
    case ">": result += "&gt;"
    case "&": result += "&amp;"
    case "|", "*", "_", "`", "[", "]", "#", "\\": result += "\\\(character)"
    default: result.append(character)
    }
  }
  return result
}

private func htmlEscaped(_ text: String) -> String {
  var result = ""
  for character in safe(text) {
    switch character {
    case "<": result += "&lt;"
    case ">": result += "&gt;"
    case "&": result += "&amp;"
    case "\"": result += "&quot;"
    case "'": result += "&#39;"
    default: result.append(character)
    }
  }
  return result
}
