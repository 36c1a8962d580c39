package import AgentProtocol
internal import BlockModel
internal import LinuxPlatform
internal import Replication
internal import Seams
package import VolumeTap

/// The host's real /proc and /sys.
package struct SystemHost: HostView {
  package init() {}

  package func text(_ path: String, limitBytes: Int) -> String? { try? Files.readText(path, limitBytes: limitBytes) }
  package func names(in path: String) -> [String] { (try? Files.list(path)) ?? [] }
  package func status(_ path: String) -> PathStatus? {
    guard let facts = try? Files.facts(path) else { return nil }
    switch facts.kind {
    case .blockDevice:
      return PathStatus(kind: .block, device: facts.device.description, inode: facts.inode, sizeBytes: 0)
    case .regular:
      return PathStatus(
        kind: .file, device: facts.onDevice.description, inode: facts.inode, sizeBytes: facts.sizeBytes)
    case .directory, .symbolicLink, .socket, .other:
      return PathStatus(kind: .other, device: facts.onDevice.description, inode: facts.inode, sizeBytes: 0)
    }
  }
}

/// What there is to know of devices before anything is decided about them. Opens read-only, changes nothing.
package struct DeviceInspector: Sendable {
  private let host: any HostView
  private let root: AgentRoot
  private let offer: TapOffer

  package init(host: any HostView, root: AgentRoot, offer: TapOffer) {
    self.host = host
    self.root = root
    self.offer = offer
  }

  package func reports(on paths: [String]) -> [DeviceReport] {
    let topology = DeviceTopology(host: host, agentRoot: root.path)
    return paths.map { report(on: $0, topology) }
  }

  /// The whole label, for people; nil where there is none that can be read.
  static func label(of path: String) -> DeviceLabel? {
    guard let device = try? FileBlockDevice(path: path, .init(isReadOnly: true)),
      device.sizeBytes >= WithheldLayout.smallestVolumeBytes
    else { return nil }
    return (try? DestinationContent.look(at: device, sizeBytes: device.sizeBytes))?.label
  }

  private func report(on path: String, _ topology: DeviceTopology) -> DeviceReport {
    let full = root.device(path)
    guard let status = host.status(full) else {
      var report = DeviceReport(path: path, kind: .missing)
      report.error = "there is no \(full)"
      return report
    }
    var report = DeviceReport(
      path: path, kind: status.kind == .file ? .file : status.kind == .block ? .block : .other)
    guard status.kind != .other else {
      report.error = "\(full) is neither a block device nor a regular file"
      return report
    }
    report.identity = topology.identity(of: status, path: full)
    report.mountedAt = topology.users(of: status, path: full)
    report.isSystemDevice = topology.isSystem(status, path: full)
    report.logicalBlockBytes = status.kind == .block ? topology.logicalBlockBytes(of: status) : 512
    report.sizeBytes = status.sizeBytes
    if status.kind == .file {
      let access = FileAccess.of(full)
      report.fileAccess = access.word
      report.fileAccessReason = access.reason
    }
    if status.kind == .block {
      let choice = offer.choice(insertionRefusal: MapperInsertion.refusal(of: full))
      report.tapMethod = choice.method.rawValue
      report.tapReason = choice.reason
    }
    do {
      // A device with our tap beneath it is looked at where its data lies: an agent that reads through its own tap
      // could never be killed while it waits.
      let below = try MapperInsertion.origin(beneath: full)
      let device = try FileBlockDevice(path: below ?? full, .init(isReadOnly: true))
      report.sizeBytes = device.sizeBytes
      guard device.sizeBytes >= WithheldLayout.smallestVolumeBytes else { return report }
      let content = try DestinationContent.look(at: device, sizeBytes: device.sizeBytes)
      report.looksBlank = content.isBlank
      report.labelledSession = content.label?.session
    } catch {
      report.error = "\(error)"
    }
    return report
  }
}
