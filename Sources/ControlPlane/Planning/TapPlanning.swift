import AgentProtocol
import BlockModel
import MigrationModel

/// How the tap will become a device of one volume, as its source's agent says, and what that costs.
struct TapForecast: Sendable, Equatable {
  var volume: VolumeName
  /// A word of `AgentCapability`; nil while the agent hasn't told.
  var method: String?
  var reason: String?
  /// Where the source is mounted now; empty where it isn't.
  var mountedAt: [String]
  /// Why its file is read through the page cache; nil where it isn't, or nobody told.
  var cacheReason: String?

  /// The application has to be stopped and started on the tap's device.
  var needsRemount: Bool { !mountedAt.isEmpty && method != nil && method != AgentCapability.deviceMapper }

  var sentence: String? {
    guard let method else { return cacheReason.map { "\(volume) through the page cache: \($0)" } }
    let how: String
    switch method {
    case AgentCapability.deviceMapper: how = "beneath its device (device-mapper)"
    case AgentCapability.kernelNBD: how = "as a device of the kernel's NBD client"
    case AgentCapability.fuseLoop: how = "as a loop device over FUSE"
    default: how = "as an NBD socket only"
    }
    return "\(volume) \(how)" + (reason.map { ": \($0)" } ?? "")
  }
}

extension MigrationFacts {
  func tapForecast(of volume: Volume) -> TapForecast {
    let report = source?.device(volume.device)
    return TapForecast(
      volume: volume.name, method: report?.tapMethod, reason: report?.tapReason, mountedAt: report?.mountedAt ?? [],
      cacheReason: report?.fileAccessReason)
  }
}

extension MigrationDiff {
  mutating func openTap() {
    let forecasts = migration.volumes.filter { facts.tracking(of: $0) != .checksum }.map(facts.tapForecast(of:))
    let how = forecasts.compactMap(\.sentence).joined(separator: "; ")
    let remounts = forecasts.filter(\.needsRemount)
    let places = remounts.flatMap(\.mountedAt).joined(separator: ", ")
    let isInserted = forecasts.contains { $0.method == AgentCapability.deviceMapper }
    add(
      .openTap(migration.name), towards: .synchronized, "put the tap into the I/O path on \(migration.source)",
      why: "changes are seen only through it" + (how.isEmpty ? "" : "; \(how)"),
      precondition: remounts.isEmpty
        ? "" : "\(places) is unmounted first, and the tap's device is mounted there afterwards",
      price: remounts.isEmpty
        ? isInserted
          ? Price(pauseSeconds: Self.assumedInsertionSeconds, cost: .pause, note: "I/O waits while tables are swapped")
          : Price()
        : Price(cost: .pause, note: "the application is stopped while its file system is mounted anew"), .reversible)
  }

  /// One swap of tables waits for the I/O in flight.
  static let assumedInsertionSeconds = 0.1
}
