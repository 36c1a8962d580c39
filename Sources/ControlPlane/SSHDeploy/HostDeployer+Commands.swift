import BlockModel
package import MigrationModel
package import Reconciling
import Seams

// MARK: Commands of the plan

extension HostDeployer {
  /// How much later than the host itself this end gives a command up, in seconds: the host kills all that it started,
  /// which a connection that is cut off would not.
  static let commandGraceSeconds = 20.0

  package func run(
    _ command: String, on host: Host, timeoutSeconds: Double
  ) async throws(GatewayError) -> HostCommandOutcome {
    let limit = String(max(1, Int(timeoutSeconds.rounded(.up))))
    let result = try await transport(to: host).run(
      HostScripts.command, arguments: [limit, command], input: [],
      timeoutSeconds: timeoutSeconds + Self.commandGraceSeconds)
    let text = String(decoding: result.output, as: UTF8.self)
    if let outcome = HostCommandOutcome(said: text) { return outcome }
    if result.ending == .timedOut { return HostCommandOutcome(exitCode: nil, output: text) }
    let said = String(decoding: result.errorOutput.suffix(1000), as: UTF8.self).trimmed
    throw GatewayError(
      code: "CMC3213", message: "host \(host.name): a command's end was not seen\(said.isEmpty ? "" : ": \(said)")",
      advice: "check the connection to it, then apply again", disposition: .retry(afterSeconds: 2))
  }
}

extension HostCommandOutcome {
  /// From what `HostScripts.command` printed; nil where its last line is missing.
  init?(said text: String) {
    guard let start = text.ranges(of: HostScripts.commandEnded).last else { return nil }
    let words = text[start.upperBound...].split(whereSeparator: \.isWhitespace)
    guard let word = words.first, word == "timeout" || Int(word) != nil else { return nil }
    self.init(exitCode: Int(word), output: String(text[..<start.lowerBound]).trimmed)
  }
}

extension HostScripts {
  /// What stands before the exit code, or `timeout`, in the last line of `command`'s output.
  static let commandEnded = "cmcplan:ended "

  /// Runs command $3 for $2 seconds at most, then ends it with all that it started, and prints the last 8 KiB of what it
  /// wrote. It begins where hooks do. The inner shell says how it ended, so that no exit code is taken for a timeout.
  static let command = #"""
    HOME=${HOME:-$1}
    export HOME
    cd /
    (
      set -- "$2" /bin/sh -c '/bin/sh -c "$1"; code=$?; echo; echo "cmcplan:ended $code"' cmcplan-command "$3"
      if command -v timeout >/dev/null 2>&1; then set -- timeout -k 5 "$@"; else shift; fi
      "$@" </dev/null 2>&1
      case $? in 124 | 137 | 143) echo; echo "cmcplan:ended timeout" ;; esac
    ) | tail -c 8192
    """#
}
