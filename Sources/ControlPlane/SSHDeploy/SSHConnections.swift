import BlockModel
import LinuxPlatform
import MigrationModel
import Reconciling
package import Seams

/// All SSH connections of a run, and the directory that their sockets are in. `closeAll` before the process ends.
package actor SSHConnections {
  private let settings: SSHSettings
  private let children: any ChildProcesses
  private let pausing: any Pausing
  private let turns = SSHTurns()
  private var directory: String?
  private var connections: [HostName: SSHConnection] = [:]
  /// Of hosts that are reached otherwise by now; who still uses one may, until the end.
  private var replaced: [SSHConnection] = []
  /// Names sockets: never given twice in a run.
  private var made = 0

  package init(settings: SSHSettings, children: any ChildProcesses, pausing: any Pausing) {
    self.settings = settings
    self.children = children
    self.pausing = pausing
  }

  func connection(to host: HostName, address: String, access: SSHAccess) throws(GatewayError) -> SSHConnection {
    let target = SSHTarget(
      host: host.text, address: address, access: access, configuration: settings.namedConfiguration)
    if let known = connections[host], known.target == target { return known }
    let connection = SSHConnection(
      target: target, settings: settings, directory: try madeDirectory(), number: made,
      children: children, pausing: pausing, turns: turns)
    made += 1
    if let former = connections.updateValue(connection, forKey: host) { replaced.append(former) }
    return connection
  }

  /// Ends every master and removes the sockets' directory.
  package func closeAll() async {
    let all = connections.values + replaced
    connections = [:]
    replaced = []
    await withTaskGroup(of: Void.self) { group in
      for connection in all { group.addTask { await connection.close() } }
    }
    if let directory { try? Files.removeTree(directory) }
    directory = nil
  }

  // MARK: The run's directory

  private static let prefix = "cmcplan"

  private func madeDirectory() throws(GatewayError) -> String {
    if let directory { return directory }
    try settings.checkNamedConfiguration()
    let user = ProcessSetup.effectiveUserID
    sweep(user)
    let random = SystemRandom().bytes(8).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    let path = "\(settings.runtimeDirectory)/\(ownPrefix(user))\(ProcessSetup.processID)-\(random)"
    do throws(SystemError) {
      guard !Files.exists(path) else { throw SystemError("make \(path)", because: "something has that name") }
      try Files.makeDirectories(path, mode: 0o700)
      try Files.replace("\(path)/config", with: Array(settings.configuration.utf8), mode: 0o600)
    } catch {
      throw GatewayError(
        code: SSHFault.noRuntimeDirectory, message: "no directory for SSH's sockets: \(error)",
        advice: "make \(settings.runtimeDirectory) writable, or free space there", disposition: .needsOperator)
    }
    directory = path
    return path
  }

  /// Process ids mean something only within their name space; containers may share the directory.
  private func ownPrefix(_ user: UInt32) -> String {
    let space = ((try? Files.linkTarget("/proc/self/ns/pid")) ?? "").filter(\.isNumber)
    return "\(Self.prefix)-\(user)-\(space)-"
  }

  /// Removes what runs that were killed left: their masters ended with them.
  private func sweep(_ user: UInt32) {
    let prefix = ownPrefix(user)
    for name in (try? Files.list(settings.runtimeDirectory)) ?? [] where name.hasPrefix(prefix) {
      let parts = name.dropFirst(prefix.count).split(separator: "-")
      guard parts.count == 2, let processID = Int32(parts[0]), ProcessTable.startTime(of: processID) == nil else {
        continue
      }
      try? Files.removeTree("\(settings.runtimeDirectory)/\(name)")
    }
  }
}

/// A host reached through the system's OpenSSH client.
struct SSHTransport: HostTransport {
  /// Where the agent is for root, and below the home directory of anybody else.
  static let rootOfRoot = "/var/lib/cmcplan"
  static let rootBelowHome = ".local/share/cmcplan"
  /// `ssh` exits with this where the connection fails; none of our scripts does.
  static let connectionFailed: Int32 = 255

  let connection: SSHConnection
  let root: String
  let supervision: Supervision
  private let usesSudo: Bool

  /// Logs in where need be.
  init(connection: SSHConnection) async throws(GatewayError) {
    self.connection = connection
    let login = try await connection.login()
    usesSudo = connection.target.access.sudo && !login.isRoot
    if usesSudo, login.sudo != .yes { throw SSHFault.sudo(login, target: connection.target) }
    root = usesSudo || login.isRoot ? Self.rootOfRoot : "\(login.home)/\(Self.rootBelowHome)"
    supervision = usesSudo || login.isRoot ? .serviceOrSupervisor : .supervisor
  }

  func devicePath(ofLUN lun: Int) async throws(GatewayError) -> String {
    let result = try await run(HostScripts.devicePath, arguments: [String(lun)], input: [], timeoutSeconds: 20)
    return String(decoding: result.output, as: UTF8.self).trimmed
  }

  func run(
    _ script: String, arguments: [String], input: [UInt8], timeoutSeconds: Double
  ) async throws(GatewayError) -> ChildResult {
    _ = try await connection.login()
    let command = ChildCommand(
      executable: connection.settings.program,
      arguments: connection.clientArguments(["-o", "ControlMaster=no"], RemoteScript.command(withSudo: usesSudo)),
      environment: connection.settings.environment,
      input: RemoteScript.header(script, [root] + arguments) + input, timeoutSeconds: timeoutSeconds)
    var result: ChildResult
    // Not in the pool that others use: a host that stopped answering holds its thread until the time limit.
    let ran = await onOwnThread("ssh-run") { [children = connection.children] in
      Result { () throws(ChildError) in try children.run(command) }
    }
    do throws(ChildError) {
      result = try ran.get()
    } catch {
      throw GatewayError(
        code: SSHFault.noClient, message: "host \(connection.target.host): ssh can't be run: \(error)",
        advice: "lower --parallelism, then apply again", disposition: .retry(afterSeconds: 2))
    }
    let said = String(decoding: result.errorOutput, as: UTF8.self)
    if result.ending == .exited(Self.connectionFailed) { throw await connection.fault(said) }
    guard let output = RemoteScript.output(of: result.output) else {
      if result.ending == .timedOut {
        throw SSHFault.error(said, target: connection.target, timedOut: true)
      }
      throw GatewayError(
        code: SSHFault.noShell,
        message:
          "host \(connection.target.host): no command runs there: \(said.isEmpty ? "no reason given" : said.trimmed)",
        advice: "the account needs a shell and /bin/sh; a forced command or a restricted shell can't be used",
        disposition: .needsOperator)
    }
    result.output = output
    return result
  }

  func openControl() async throws(GatewayError) -> RunningChild {
    _ = try await connection.login()
    var options = RunningChild.Options()
    options.input = .pipe
    options.output = .pipe
    options.diesWithParent = true
    let arguments = connection.clientArguments(
      ["-o", "ControlMaster=no"], RemoteScript.command(withSudo: usesSudo))
    let header = RemoteScript.header(HostScripts.rpc, [root])
    let settings = connection.settings
    do {
      return try await onBlockingThread { [options] in
        let child = try RunningChild.start(
          executable: settings.program, arguments: arguments, environment: settings.environment, options)
        try header.withUnsafeBytes { try child.channel?.write($0) }
        return child
      }
    } catch {
      throw GatewayError(
        code: "CMC3202", message: "host \(connection.target.host): cmcagent rpc can't be started: \(error)",
        advice: "apply again continues", disposition: .retry(afterSeconds: 2))
    }
  }
}
