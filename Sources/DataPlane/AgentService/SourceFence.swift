package import AgentProtocol
package import BlockModel
internal import LinuxPlatform
package import Seams

/// What keeps a host from using the source for good (DESIGN section 8.10). Idempotent; blocks on the disk.
package protocol SourceFence: Sendable {
  /// Whether this kind of device can be fenced at all; asked before a swing gets far. Throws what to do instead.
  func check(_ path: String) throws(AgentFault)
  func raise(_ path: String, session: SessionID) throws(AgentFault)
}

/// The fence of whatever the source is.
package struct HostFence: SourceFence {
  private let files: FileFence
  private let devices: DeviceFence
  private let host: any HostView

  package init(catalogue: Catalogue, host: any HostView, children: any ChildProcesses) {
    files = FileFence(catalogue: catalogue)
    devices = DeviceFence(host: host, children: children)
    self.host = host
  }

  package func check(_ path: String) throws(AgentFault) {
    if let status = host.status(path), status.kind == .block { return try devices.check(path, status) }
    try files.check(path)
  }

  package func raise(_ path: String, session: SessionID) throws(AgentFault) {
    let status = host.status(path)
    // After a new start of its host a fenced logical volume is not there.
    if status?.kind == .block || status == nil && path.hasPrefix("/dev/") {
      return try devices.raise(path, status, session: session)
    }
    try files.raise(path, session: session)
  }
}

/// The fence of a file: nobody may open it for writing any more (root may still, so the session's record and tombstone
/// go first; they are what the agent and cmcplan obey). The rights it had are kept beside the tombstones, for `rescue`.
package struct FileFence: SourceFence {
  package static let fencedMode: UInt32 = 0o400
  private let catalogue: Catalogue
  package init(catalogue: Catalogue) { self.catalogue = catalogue }

  package func check(_ path: String) throws(AgentFault) {
    let facts = try Self.facts(path)
    guard facts.kind == .regular else {
      throw AgentFault(
        .refused,
        "\(path) is no regular file, so a file's fence would not keep this host from using it"
      )
    }
  }

  package func raise(_ path: String, session: SessionID) throws(AgentFault) {
    try check(path)
    let facts = try Self.facts(path)
    guard facts.mode & 0o777 != Self.fencedMode else { return }
    let name = "fences/\(Catalogue.fileName(session.text)).\(Catalogue.fileName(path)).mode"
    let octal = String(facts.mode & 0o7777, radix: 8)
    do {
      try catalogue.tombstoneFiles.replace(name, with: Array("\(octal) \(path)\n".utf8))
      try Files.setMode(path, Self.fencedMode)
      try Files.flushDirectory(Files.parent(of: path))
    } catch {
      throw AgentFault(.failed, "\(path) can't be fenced: \(error)")
    }
  }

  private static func facts(_ path: String) throws(AgentFault) -> FileFacts {
    do throws(SystemError) {
      return try Files.facts(path)
    } catch {
      throw AgentFault(error.isNotFound ? .notFound : .deviceFailed, error.description)
    }
  }
}
