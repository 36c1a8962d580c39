/// How a script, its arguments and its input reach a host through `ssh`.
///
/// What `ssh` is asked to run is a constant. Script and arguments follow on standard input, a line each with every byte
/// that could mean something to a shell written as an octal escape, and then the input as it is. So no name, path or
/// volume is ever a word of a command line, whatever quotes, line ends or `$(…)` are in it. Pure.
enum RemoteScript {
  /// The line that the constant command prints before the script runs. What a login shell's own start-up files print
  /// comes before it and is dropped.
  static let marker = "cmcplan:begin"

  /// For any login shell: single quotes and nothing in them that sh, csh or fish would expand. `printf %b` is a builtin
  /// of every POSIX shell in use; the `x` keeps line ends at the end of an argument from being cut off.
  private static let reader = """
    /bin/sh -c 'PATH=\(hostPath);LC_ALL=C;export PATH LC_ALL;IFS= read -r n||exit 97;\
    while [ "$n" -gt 0 ];do IFS= read -r l||exit 97;v=$(printf %bx "$l");set -- "$@" "${v%x}";n=$((n-1));done;\
    s=$1;shift;echo \(marker);eval "$s"' cmcplan-deploy
    """
  static let hostPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

  static func command(withSudo: Bool) -> String { withSudo ? "exec sudo -n -- \(reader)" : "exec \(reader)" }

  /// What the keeper of a connection runs: says who it is on the host, then waits for the end of its input.
  static func loginCommand(asksSudo: Bool) -> String {
    let sudo =
      asksSudo
      ? "s=missing;command -v sudo >/dev/null 2>&1&&{ sudo -n /bin/sh -c : 2>/dev/null&&s=yes||s=no;};" : "s=unasked;"
    return """
      exec /bin/sh -c 'PATH=\(hostPath);export PATH;u=$(id -u);\(sudo)\
      printf "\(loginMarker) %s %s %s\\n" "$u" "$s" "$HOME";exec cat >/dev/null' cmcplan-login
      """
  }
  static let loginMarker = "cmcplan:login"

  /// What goes before the input of `script` with `arguments` as $1, $2….
  static func header(_ script: String, _ arguments: [String]) -> [UInt8] {
    let fields = [script] + arguments
    var bytes = Array("\(fields.count)\n".utf8)
    for field in fields {
      for byte in field.utf8 { append(byte, to: &bytes) }
      bytes.append(UInt8(ascii: "\n"))
    }
    return bytes
  }

  private static func append(_ byte: UInt8, to bytes: inout [UInt8]) {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: " "), UInt8(ascii: "/"), UInt8(ascii: "."),
      UInt8(ascii: "_"):
      bytes.append(byte)
    default:
      let digits = [byte >> 6, (byte >> 3) & 7, byte & 7].map { $0 + UInt8(ascii: "0") }
      bytes += [UInt8(ascii: "\\"), UInt8(ascii: "0")] + digits
    }
  }

  /// What the script itself printed; nil where it never began.
  static func output(of bytes: [UInt8]) -> [UInt8]? {
    let wanted = Array(marker.utf8)
    var start = bytes.startIndex
    while start < bytes.endIndex {
      let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.endIndex
      let next = end < bytes.endIndex ? end + 1 : end
      if bytes[start..<end].elementsEqual(wanted) { return Array(bytes[next...]) }
      start = next
    }
    return nil
  }
}

/// What a fresh login said about itself.
struct SSHLogin: Sendable, Equatable {
  enum Sudo: String, Sendable {
    /// The plan doesn't ask for it.
    case unasked
    case yes
    /// It is there, and would ask for a password or refuses.
    case no
    case missing
  }
  var userID: Int
  var sudo: Sudo
  var home: String

  /// Nil where the line isn't the login's.
  init?(line: String) {
    let words = line.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false).map(String.init)
    guard words.count == 4, words[0] == RemoteScript.loginMarker, let userID = Int(words[1]),
      let sudo = Sudo(rawValue: words[2])
    else { return nil }
    self.userID = userID
    self.sudo = sudo
    home = words[3]
  }

  var isRoot: Bool { userID == 0 }
}
