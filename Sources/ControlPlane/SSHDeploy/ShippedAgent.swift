import FoundationEssentials
import LinuxPlatform
import Reconciling
import Seams

/// The agent binary that belongs to this cmcplan.
actor ShippedAgent {
  /// What goes over the wire, and how it is told from another.
  struct Parcel: Sendable {
    var bytes: [UInt8]
    var digest: String
    /// "gzip" or "plain".
    var encoding: String
  }

  private let path: String
  private let children: any ChildProcesses
  private var known: String?
  private var parcels: [Bool: Task<Result<Parcel, GatewayError>, Never>] = [:]
  private static let limitBytes = 256 << 20

  init(path: String, children: any ChildProcesses) {
    self.path = path
    self.children = children
  }

  /// SHA-256 in lower-case hexadecimal, computed once a run.
  func digest() async throws(GatewayError) -> String {
    if let known { return known }
    let output = String(decoding: try await output(of: HostScripts.digest, path), as: UTF8.self).trimmed
    guard output.count == 64, output.allSatisfy(\.isHexDigit) else { throw missing("there is no such file") }
    known = output
    return output
  }

  /// `uname -m` of the machines that it runs on; nil where the file is no ELF program that we ship for.
  func machine() async throws(GatewayError) -> String? {
    let bytes = try await parcel(compressed: false).bytes
    guard bytes.count > 20, bytes.starts(with: [0x7f, 0x45, 0x4c, 0x46]) else { return nil }
    // e_machine of the ELF header (elf(5)), little-endian.
    switch UInt16(bytes[18]) | UInt16(bytes[19]) << 8 {
    case 62: return "x86_64"
    case 183: return "aarch64"
    default: return nil
    }
  }

  /// Read, and compressed, once a run, however many hosts ask at once.
  func parcel(compressed: Bool) async throws(GatewayError) -> Parcel {
    let task =
      parcels[compressed]
      ?? Task { () -> Result<Parcel, GatewayError> in
        do throws(GatewayError) {
          return .success(try await (compressed ? self.compress() : self.read()))
        } catch {
          return .failure(error)
        }
      }
    parcels[compressed] = task
    return try await task.value.get()
  }

  private func read() async throws(GatewayError) -> Parcel {
    let bytes: [UInt8]
    do {
      bytes = [UInt8](try await onBlockingThread { [path] in try Data(contentsOf: URL(filePath: path)) })
    } catch {
      throw missing("\(error)")
    }
    return Parcel(bytes: bytes, digest: try await digest(), encoding: "plain")
  }

  private func compress() async throws(GatewayError) -> Parcel {
    let bytes = try await output(of: HostScripts.compress, path)
    guard bytes.count > 20 else { throw missing("gzip can't compress it") }
    // gzip's own trailer holds the CRC and length of what it compressed; with its length that names this stream.
    let trailer = bytes.suffix(8).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    return Parcel(bytes: bytes, digest: "\(try await digest()).\(trailer).\(bytes.count)", encoding: "gzip")
  }

  private func output(of script: String, _ argument: String) async throws(GatewayError) -> [UInt8] {
    let command = ChildCommand(
      executable: "/bin/sh", arguments: ["-c", script, "cmcplan-deploy", "", argument],
      environment: LocalTransport.environment, timeoutSeconds: 60, outputLimitBytes: Self.limitBytes)
    do {
      return try await onBlockingThread { [children] in try children.run(command) }.output
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
