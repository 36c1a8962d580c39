import FoundationEssentials
import LinuxPlatform
import Reconciling
import Seams

/// The agent binary that belongs to this cmcplan.
actor ShippedAgent {
  private let path: String
  private let children: any ChildProcesses
  private var known: String?

  init(path: String, children: any ChildProcesses) {
    self.path = path
    self.children = children
  }

  /// SHA-256 in lower-case hexadecimal, computed once a run.
  func digest() async throws(GatewayError) -> String {
    if let known { return known }
    let command = ChildCommand(
      executable: "/bin/sh", arguments: ["-c", HostScripts.digest, "cmcplan-deploy", "", path],
      environment: LocalTransport.environment, timeoutSeconds: 60)
    let output: String
    do {
      let result = try await onBlockingThread { [children] in try children.run(command) }
      output = String(decoding: result.output, as: UTF8.self).trimmed
    } catch {
      throw missing("\(error)")
    }
    guard output.count == 64, output.allSatisfy(\.isHexDigit) else { throw missing("there is no such file") }
    known = output
    return output
  }

  func bytes() async throws(GatewayError) -> [UInt8] {
    do {
      let data = try await onBlockingThread { [path] in try Data(contentsOf: URL(filePath: path)) }
      return [UInt8](data)
    } catch {
      throw missing("\(error)")
    }
  }

  private func missing(_ why: String) -> GatewayError {
    GatewayError(
      code: "CMC3206", message: "the agent to install can't be read at \(path): \(why)",
      advice: "build it with `make static`, or name it in CMCPLAN_AGENT", disposition: .needsOperator)
  }
}
