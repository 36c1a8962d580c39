import AgentClient
import AgentProtocol
import ARMClient
import BlockModel
import COpenSSL
import Foundation
import LinuxPlatform
import MigrationModel
import Planning
import Reconciling
import Rendering
import SSHDeploy
import Seams
import Synchronization

/// What a run acts on and with: gateways made of the plan, clocks, and where its journal goes.
struct World {
  let gateways: Gateways
  /// The ways to Azure with what only `destroy` asks of them; empty where clouds aren't reached.
  let azure: [String: AzureGateway]
  /// How each integration signs in; empty where clouds aren't reached.
  let credentials: [String: @Sendable () async -> CredentialReport]
  /// The gateway to hosts, with what only some commands ask of it.
  let deployer: HostDeployer
  let services: RunServices
  let who: String
  private let archived: ArchivedJournal?
  /// Tells the plan's `notifications`; nil where nothing is recorded, or nobody is to be told.
  let notifier: Notifier?

  /// `withClouds` false: only hosts are reached. `journal` nil: nothing is recorded.
  static func make(
    _ document: PlanDocument, withClouds: Bool, journal: RunJournal?, console: Console,
    report: @escaping @Sendable (ProgressEvent) -> Void
  ) throws(GatewayError) -> World {
    let environment = ProcessInfo.processInfo.environment
    let time = SystemTime()
    let pausing = TaskPause()
    var azure: [String: AzureGateway] = [:]
    var credentials: [String: @Sendable () async -> CredentialReport] = [:]
    if withClouds {
      for (name, integration) in document.plan.integrations {
        let gateway = try AzureGateway(
          integration: integration, time: time, random: SystemRandom(), environment: environment,
          children: PosixChildProcesses(), onWait: { report(.note("\($0)")) })
        azure[name] = gateway
        credentials[name] = { await gateway.credentialReport() }
      }
    }
    let hosts = deployer(environment)
    let archive = try archive(of: document, environment) { report(.note("\($0)")) }
    var sink: any JournalSink = journal ?? NoJournal()
    var archived: ArchivedJournal?
    if let archive, let journal {
      let copied = ArchivedJournal(journal, archive) { report(.note($0)) }
      archived = copied
      sink = copied
    }
    if journal?.isQuiet == true { sink = QuietJournal(sink) }
    let notifier = journal.flatMap {
      Notifier(document, journal: $0, sink: sink, archive: archive, environment: environment, time: time) {
        report(.note($0))
      }
    }
    let services = RunServices(
      time: time, pause: { seconds in try? await pausing.pause(seconds: seconds) },
      journal: sink, digest: sha256,
      report: { event in
        notifier?.see(event)
        report(event)
      })
    return World(
      gateways: Gateways(clouds: azure, hosts: hosts, archive: archive), azure: azure, credentials: credentials,
      deployer: hosts,
      services: services, who: caller(environment), archived: archived, notifier: notifier)
  }

  /// Nil where the plan names none.
  private static func archive(
    of document: PlanDocument, _ environment: [String: String], onWait: @escaping @Sendable (AzureWait) -> Void
  ) throws(GatewayError) -> (any PlanArchive)? {
    guard let archive = document.plan.archive else { return nil }
    let runs = RunJournal.directory(beside: document)
    switch archive.place {
    case .directory(let path): return DirectoryArchive(path: path, plan: document.plan.metadata.id, runs: runs)
    case .blob(let url, let access):
      guard let address = BlobAddress(url) else { return nil }
      var integration: AzureIntegration?
      var sas: SecretReference?
      switch access {
      case .integration(let name): integration = document.plan.integrations[name]
      case .signature(let secret): sas = secret
      }
      let store = try BlobStore.open(
        address, integration: integration, sas: sas, time: SystemTime(), random: SystemRandom(),
        environment: environment, children: PosixChildProcesses(), onWait: onWait)
      return BlobArchive(store, plan: document.plan.metadata.id, runs: runs)
    }
  }

  /// What a run leaves behind it is brought to its end; at most some seconds.
  func finish() async {
    await notifier?.finish()
    await archived?.finish()
  }

  /// The way to hosts; its connections are closed at the end of the command.
  static func deployer(
    _ environment: [String: String] = ProcessInfo.processInfo.environment
  ) -> HostDeployer {
    let pausing = TaskPause()
    let ssh = SSHConnections(
      settings: SSHSettings(environment: environment), children: PosixChildProcesses(), pausing: pausing)
    OpenConnections.shared.add { await ssh.closeAll() }
    return HostDeployer(
      shippedAgentPath: shippedAgentPath(environment), children: PosixChildProcesses(), time: SystemTime(),
      pausing: pausing, ssh: ssh,
      connect: { host, child async throws(GatewayError) in try await connect(host, child, pausing) })
  }

  /// The control connection over the standard streams of a started `cmcagent rpc`.
  private static func connect(
    _ host: HostName, _ child: RunningChild, _ pausing: any Pausing
  ) async throws(GatewayError) -> (gateway: any AgentGateway, hello: AgentHello) {
    guard let channel = child.channel else {
      throw GatewayError(
        code: "CMC3202", message: "host \(host): cmcagent rpc has no standard streams", advice: "",
        disposition: .retry(afterSeconds: 2))
    }
    let connection = try await RPCAgentGateway.open(
      host: host, channel: channel, pausing: pausing,
      farewell: {
        // It ends by itself once its input has ended; the limit is for one that does not.
        switch child.terminate(limitSeconds: 2) {
        case .exited(0)?, .signalled(SignalWatcher.terminate)?, nil: nil
        case .exited(255)?: "the SSH connection to the host ended"
        case .exited(4)?: "no agent is installed there"
        case .exited(let code)?: "cmcagent rpc ended with exit \(code): no agent serves there"
        case .signalled(let signal)?: "cmcagent rpc was killed by signal \(signal)"
        case .timedOut?: nil
        }
      })
    return (connection.gateway, connection.hello)
  }

  /// `$CMCPLAN_AGENT`, or the `cmcagent` beside this program.
  private static func shippedAgentPath(_ environment: [String: String]) -> String {
    if let named = environment["CMCPLAN_AGENT"], !named.isEmpty { return named }
    let program = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? "cmcplan"
    return URL(fileURLWithPath: program).deletingLastPathComponent().appendingPathComponent("cmcagent").path
  }

  /// "user@host": what approvals, holds and leases are signed with.
  private static func caller(_ environment: [String: String]) -> String {
    let host = (try? String(contentsOfFile: "/proc/sys/kernel/hostname", encoding: .utf8)) ?? "unknown"
    return "\(NSUserName())@\(host.trimmingCharacters(in: .whitespacesAndNewlines))"
  }
}

/// What a command has to end before its process does: SSH connections and the directory of their sockets.
final class OpenConnections: Sendable {
  static let shared = OpenConnections()
  private let closings = Mutex<[@Sendable () async -> Void]>([])

  func add(_ closing: @escaping @Sendable () async -> Void) { closings.withLock { $0.append(closing) } }

  func closeAll() async {
    let all = closings.withLock { closings in
      defer { closings = [] }
      return closings
    }
    for closing in all { await closing() }
  }
}

/// "SHA256:" and 64 lower-case hexadecimal digits, of the text's UTF-8.
@Sendable func sha256(_ text: String) -> String {
  var digest = [UInt8](repeating: 0, count: Int(SHA256_DIGEST_LENGTH))
  let bytes = Array(text.utf8)
  _ = SHA256(bytes, bytes.count, &digest)
  return "SHA256:" + digest.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
}

/// The journal of commands that change nothing.
private struct NoJournal: JournalSink {
  func append(_ line: String) async throws(StateStoreError) {}
}
