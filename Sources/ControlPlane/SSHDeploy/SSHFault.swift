import MigrationModel
import Reconciling

/// What OpenSSH says when it fails, told in plain words with the next step. Pure. The client runs with LC_ALL=C.
enum SSHFault {
  /// Codes of SSH's own: CMC3240 to CMC3259. A code is never reused.
  static let unknownHostKey = "CMC3240"
  static let changedHostKey = "CMC3241"
  static let notAuthenticated = "CMC3242"
  static let notResolved = "CMC3243"
  static let unreachable = "CMC3244"
  static let refused = "CMC3245"
  static let broken = "CMC3246"
  static let badConfiguration = "CMC3247"
  static let failed = "CMC3248"
  static let noSudo = "CMC3249"
  static let noShell = "CMC3250"
  static let noClient = "CMC3251"
  static let noRuntimeDirectory = "CMC3252"
  static let crowded = "CMC3253"
  static let stopping = "CMC3254"

  static func cancelled(_ target: SSHTarget) -> GatewayError {
    GatewayError(
      code: stopping, message: "host \(target.host): logging in was given up because this run is stopping",
      advice: "run again continues", disposition: .terminal)
  }

  static func crowded(_ what: String, _ target: SSHTarget) -> GatewayError {
    GatewayError(
      code: crowded, message: "host \(target.host): \(what) already", advice: "lower --parallelism, then run again",
      disposition: .retry(afterSeconds: 5))
  }

  /// `said` is the client's standard error; `fingerprint` of the key that the server showed, where it could be had.
  static func error(_ said: String, target: SSHTarget, timedOut: Bool, fingerprint: String? = nil) -> GatewayError {
    let lines = said.split { $0 == "\n" || $0 == "\r" || $0 == "\r\n" }.map(String.init)
    let route = target.access.jump.map { " by way of \($0)" } ?? ""
    let start = "host \(target.host): \(target.address)\(route)"
    func has(_ texts: String...) -> Bool { texts.contains { said.contains($0) } }
    func first(_ text: String) -> String { lines.first { $0.contains(text) } ?? lines.last ?? "" }
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED") { return changed(lines, start, target) }
    if isUnknownKey(said) { return unknown(lines, start, target, fingerprint) }
    if has("Bad configuration option", "Bad owner or permissions", "bad configuration options", "Bad configuration") {
      return GatewayError(
        code: badConfiguration, message: "host \(target.host): OpenSSH refuses its configuration: \(first("Bad"))",
        advice: "mend that file; \(target.typed) shows the same error", disposition: .needsOperator)
    }
    if has("Permission denied (", "Too many authentication failures", "no mutual signature") {
      let keys = lines.filter { $0.contains("Load key") || $0.contains("no such identity") || $0.contains("agent ") }
      return GatewayError(
        code: notAuthenticated,
        message: "\(start) lets nobody in: \(([first("Permission denied")] + keys).joined(separator: "; "))",
        advice: "check that `\(target.typed) true` works with no question asked: the key's path (ssh.identityFile),"
          + " ssh-add for a key with a passphrase, and authorized_keys on the host", disposition: .needsOperator)
    }
    if has("Could not resolve hostname") {
      return GatewayError(
        code: notResolved, message: "host \(target.host): \(first("Could not resolve hostname"))",
        advice: "correct address, or name resolution on this machine", disposition: .needsOperator)
    }
    if has("No route to host", "Network is unreachable", "timed out", "Timeout, server") || timedOut {
      let what = timedOut && lines.isEmpty ? "no answer" : first("timed out")
      return GatewayError(
        code: unreachable, message: "\(start) can't be reached: \(has("route") ? first("route") : what)",
        advice: "check that it runs, and that `\(target.typed) true` works; a slow one gets ConnectTimeout in"
          + " ~/.ssh/config", disposition: .retry(afterSeconds: 5))
    }
    if has("Connection refused") {
      return GatewayError(
        code: refused, message: "\(start) refuses connections: \(first("Connection refused"))",
        advice: "check that sshd runs there, and ssh.port", disposition: .retry(afterSeconds: 5))
    }
    let isBroken = has(
      "Connection closed", "Connection reset", "closed by remote host", "Broken pipe", "Session open refused",
      "kex_exchange_identification", "mux_client", "UNKNOWN port 65535")
    return GatewayError(
      code: isBroken ? broken : failed,
      message: "\(start): the SSH connection \(isBroken ? "broke" : "failed"): \(lines.last ?? "ssh gave no reason")",
      advice: "apply again continues; `\(target.typed) true` shows whether the host can be reached",
      disposition: .retry(afterSeconds: 2))
  }

  static func isUnknownKey(_ said: String) -> Bool {
    said.contains("Host key verification failed") && !said.contains("REMOTE HOST IDENTIFICATION HAS CHANGED")
      || said.contains("host key is known for")
  }

  private static func unknown(
    _ lines: [String], _ start: String, _ target: SSHTarget, _ fingerprint: String?
  ) -> GatewayError {
    // "No ED25519 host key is known for [192.0.2.1]:2222 and you have requested strict checking."
    let sentence = lines.first { $0.contains("host key is known for") }
    let name =
      sentence?.components(after: "host key is known for ")?.split(separator: " ").first.map(String.init)
      ?? target.knownHostsName
    let shown = fingerprint.map { " It shows \($0)." } ?? ""
    return GatewayError(
      code: unknownHostKey, message: "\(start): the host key of \(name) isn't known yet.\(shown)",
      advice:
        "compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host's own console; where it is"
        + " the same, accept it with: \(target.typed) true", disposition: .needsOperator)
  }

  private static func changed(_ lines: [String], _ start: String, _ target: SSHTarget) -> GatewayError {
    let fingerprint = lines.first { $0.hasPrefix("SHA256:") }.map { String($0.prefix { $0 != " " }.trimmedDot) }
    // "Offending ED25519 key in /home/me/.ssh/known_hosts:3"
    let offending = lines.first { $0.contains("Offending") && $0.contains("key in ") }?.components(after: "key in ")
    let file = offending.flatMap { text in text.lastIndex(of: ":").map { String(text[..<$0]) } }
    let name =
      lines.first { $0.contains("ost key for ") && $0.contains(" has changed") }?.components(after: "ost key for ")?
      .split(separator: " ").first.map(String.init) ?? target.knownHostsName
    let forget =
      "ssh-keygen -R \(shellQuoted(name))" + (file.map { " -f \(shellQuoted($0))" } ?? "")
    return GatewayError(
      code: changedHostKey,
      message: "\(start): the host key of \(name) CHANGED: it now shows \(fingerprint ?? "another key")"
        + (offending.map { ", not the one in \($0)" } ?? ""),
      advice: "somebody may be in between, or the host was made anew. Only if you know why it changed: \(forget), then"
        + " \(target.typed) true", disposition: .needsOperator)
  }

  /// The last key that a verbose client saw: of the host that it gave up at.
  static func fingerprint(inVerbose said: String) -> String? {
    let lines = said.split { $0 == "\n" || $0 == "\r\n" }
    guard let line = lines.last(where: { $0.contains("Server host key: ") }),
      let text = String(line).components(after: "Server host key: ")
    else { return nil }
    return text.trimmed
  }

  static func sudo(_ login: SSHLogin, target: SSHTarget) -> GatewayError {
    let user = target.access.user ?? "the user"
    return GatewayError(
      code: noSudo,
      message: login.sudo == .missing
        ? "host \(target.host): there is no sudo, and \(user) isn't root"
        : "host \(target.host): sudo -n refuses \(user): it would ask for a password, or isn't allowed",
      advice: login.sudo == .missing
        ? "install sudo there, log in as root, or leave ssh.sudo out where the volumes are files of that user"
        : "put this line into /etc/sudoers.d/cmcplan on the host (visudo -f): "
          + "\(target.access.user ?? "USER") ALL=(root) NOPASSWD: ALL", disposition: .needsOperator)
  }
}

extension String {
  /// What follows the first occurrence of `text`; nil where there is none.
  func components(after text: String) -> String? {
    var rest = self[...]
    while !rest.isEmpty {
      if rest.hasPrefix(text) { return String(rest.dropFirst(text.count)) }
      rest.removeFirst()
    }
    return nil
  }
}

extension StringProtocol {
  fileprivate var trimmedDot: String { last == "." ? String(dropLast()) : String(self) }
}
