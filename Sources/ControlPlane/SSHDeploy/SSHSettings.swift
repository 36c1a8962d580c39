import LinuxPlatform
import MigrationModel
import Reconciling

/// How the system's OpenSSH client is run: always by a configuration file of the run's own, which says what cmcplan
/// insists on, then includes the user's, then the system's, then says what holds where neither says anything (in
/// OpenSSH the first value wins). A jump host's client gets the same file, so what is insisted on holds there too.
package struct SSHSettings: Sendable {
  /// Absolute path of the `ssh` program.
  var program: String
  /// The user's configuration as `Include` takes it.
  var userConfiguration: String { namedConfiguration ?? "~/.ssh/config" }
  var namedConfiguration: String?
  /// All that `ssh` sees of this process's environment: nothing that could be a secret.
  var environment: [String: String]
  /// Where the run's directory of sockets is made; short, for a socket's path has at most 104 bytes.
  var runtimeDirectory: String

  static let connectSeconds = 10
  static let keepaliveSeconds = 5
  static let keepaliveCount = 3
  private static let handedOn = ["HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "KRB5CCNAME", "XDG_RUNTIME_DIR"]

  /// `CMCPLAN_SSH_CONFIG` names a configuration to use in place of ~/.ssh/config, as `ssh -F` would; its path is absolute.
  package init(environment: [String: String]) {
    let directories = (environment["PATH"] ?? "").split(separator: ":").map(String.init) + ["/usr/bin", "/bin"]
    program = directories.map { "\($0)/ssh" }.first { $0.hasPrefix("/") && Files.exists($0) } ?? "/usr/bin/ssh"
    let named = environment["CMCPLAN_SSH_CONFIG"] ?? ""
    namedConfiguration = named.isEmpty ? nil : named
    // Nothing may ask in the middle of a run: neither on a terminal nor in a window.
    var handed = [
      "PATH": RemoteScript.hostPath, "LC_ALL": "C", "SSH_ASKPASS": "/bin/false", "SSH_ASKPASS_REQUIRE": "force",
    ]
    for name in Self.handedOn { handed[name] = environment[name] }
    self.environment = handed
    let own = environment["XDG_RUNTIME_DIR"] ?? ""
    runtimeDirectory = own.hasPrefix("/") && own.utf8.count <= 32 && Files.exists(own) ? own : "/tmp"
  }

  /// OpenSSH includes a file that isn't there, or that lies beside another than was meant, without a word.
  func checkNamedConfiguration() throws(GatewayError) {
    guard let named = namedConfiguration else { return }
    func refusal(_ why: String, _ advice: String) -> GatewayError {
      GatewayError(
        code: SSHFault.badConfiguration, message: "CMCPLAN_SSH_CONFIG is \(named): \(why)", advice: advice,
        disposition: .needsOperator)
    }
    let path = named.hasPrefix("~/") ? (environment["HOME"] ?? "") + named.dropFirst(1) : named
    guard path.hasPrefix("/") else { throw refusal("that is no absolute path", "write it from / on, or unset it") }
    do throws(SystemError) {
      _ = try Files.read(path)
    } catch {
      throw refusal("it can't be read: \(error)", "name an OpenSSH configuration that is there, or unset it")
    }
  }

  /// The text of the run's configuration file.
  var configuration: String {
    """
    # Made by cmcplan for one run; it is deleted at its end.
    Host *
      BatchMode yes
      StrictHostKeyChecking yes
      ForwardAgent no
      ForwardX11 no
      ClearAllForwardings yes
      PermitLocalCommand no
      RemoteCommand none
      RequestTTY no
      EscapeChar none
      LogLevel INFO
    Include \(Self.quoted(userConfiguration))
    Host *
    Include /etc/ssh/ssh_config
    Host *
      ConnectTimeout \(Self.connectSeconds)
      ServerAliveInterval \(Self.keepaliveSeconds)
      ServerAliveCountMax \(Self.keepaliveCount)

    """
  }

  /// In double quotes where the file's syntax wants them.
  private static func quoted(_ path: String) -> String {
    path.contains { $0 == " " || $0 == "\t" || $0 == "#" } ? "\"\(path)\"" : path
  }
}

/// Whom `ssh` is to reach, and how. Pure.
struct SSHTarget: Sendable, Equatable {
  var host: String
  var address: String
  var access: SSHAccess
  /// A configuration in place of ~/.ssh/config, for what a person is told to type.
  var configuration: String?

  /// The client's options and the destination; `--` keeps an address from being an option.
  var arguments: [String] {
    var words: [String] = []
    if let port = access.port { words += ["-p", String(port)] }
    if let user = access.user { words += ["-l", user] }
    if let file = access.identityFile { words += ["-i", file] }
    if let jump = access.jump { words += ["-J", jump] }
    return words + ["--", address]
  }

  /// The same as a person would type it, for an error's advice.
  var typed: String {
    var words = ["ssh"]
    if let configuration { words += ["-F", shellQuoted(configuration)] }
    if let port = access.port { words += ["-p", String(port)] }
    if let file = access.identityFile { words += ["-i", shellQuoted(file)] }
    if let jump = access.jump { words += ["-J", shellQuoted(jump)] }
    return (words + [shellQuoted((access.user.map { "\($0)@" } ?? "") + address)]).joined(separator: " ")
  }

  /// The name of its key in known_hosts.
  var knownHostsName: String { access.port.map { $0 == 22 ? address : "[\(address)]:\($0)" } ?? address }

}
