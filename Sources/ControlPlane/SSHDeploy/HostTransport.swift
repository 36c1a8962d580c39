import BlockModel
import LinuxPlatform
import Reconciling
import Seams

/// A way to run something on one host: here, or through the system's OpenSSH client.
///
/// Everything that deploying does on a host goes through `run` as a POSIX shell script with arguments, so that what is
/// tested on local hosts is what an SSH host is asked to do. Arguments are data: they are never part of the script.
protocol HostTransport: Sendable {
  /// Where the agent's files are on the host, an absolute path.
  var root: String { get }
  var supervision: Supervision { get }
  /// Path of a disk at a LUN on the host.
  func devicePath(ofLUN lun: Int) async throws(GatewayError) -> String
  /// Runs `script` with `arguments` as $1, $2…, and `input` as its standard input.
  func run(
    _ script: String, arguments: [String], input: [UInt8], timeoutSeconds: Double
  ) async throws(GatewayError) -> ChildResult
  /// Starts `cmcagent rpc` on the host, its standard streams in our hands.
  func openControl() async throws(GatewayError) -> RunningChild
}

/// Who starts an agent again that died.
enum Supervision: Sendable, Equatable {
  /// Nobody but the next apply: local hosts, which are demos and tests.
  case none
  /// A small shell loop that was started with it.
  case supervisor
  /// systemd where it runs, the loop elsewhere.
  case serviceOrSupervisor
}

/// A host that is a directory of this machine: `local: {root: DIR}`.
struct LocalTransport: HostTransport {
  let host: HostName
  let root: String
  let children: any ChildProcesses
  let supervision = Supervision.none

  func devicePath(ofLUN lun: Int) -> String { "\(root)/dev/disk/azure/scsi1/lun\(lun)" }

  func run(
    _ script: String, arguments: [String], input: [UInt8], timeoutSeconds: Double
  ) async throws(GatewayError) -> ChildResult {
    let command = ChildCommand(
      executable: "/bin/sh", arguments: ["-c", script, "cmcplan-deploy", root] + arguments,
      environment: Self.environment, input: input, timeoutSeconds: timeoutSeconds)
    do {
      return try await onBlockingThread { [children] in try children.run(command) }
    } catch {
      throw GatewayError(
        code: "CMC3201", message: "host \(host): a command can't be run on it: \(error)",
        advice: "check that /bin/sh works on the host, and run apply again", disposition: .retry(afterSeconds: 2))
    }
  }

  func openControl() async throws(GatewayError) -> RunningChild {
    do {
      var options = RunningChild.Options()
      options.input = .pipe
      options.output = .pipe
      options.diesWithParent = true
      return try RunningChild.start(
        executable: "\(root)/bin/cmcagent", arguments: ["rpc", "--root", root], environment: Self.environment,
        options)
    } catch {
      throw GatewayError(
        code: "CMC3202", message: "host \(host): cmcagent rpc can't be started: \(error)",
        advice: "run apply again: it installs the agent where it is missing", disposition: .retry(afterSeconds: 2))
    }
  }

  /// Nothing of the orchestrator's own environment reaches an agent: secrets may be in it.
  static let environment = [
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
  ]
}
