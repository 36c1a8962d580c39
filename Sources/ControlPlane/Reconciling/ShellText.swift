/// One word of a shell's command line: a path or a name is data, and nothing in it may be read by the shell.
package func shellQuoted(_ text: String) -> String {
  let isPlain = text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "@%_+=:,./-".contains($0)) }
  guard !isPlain || text.isEmpty else { return text }
  return "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: #"'\''"#) + "'"
}
