package import AgentProtocol
internal import BlockModel

/// What a session's configuration must keep to, by itself, beside the others, and when it changes. Pure.
package enum ConfigurationRules {
  package static let volumeLimit = 64
  package static let laneLimit = 15
  /// Longest name of a migration or volume, in bytes of UTF-8: both become names of files.
  package static let nameLimitBytes = 128

  /// Throws `.badRequest` and names what is wrong.
  package static func check(_ configuration: SessionConfiguration) throws(AgentFault) {
    func refuse(_ message: String) -> AgentFault { AgentFault(.badRequest, "\(configuration.session): \(message)") }
    guard !configuration.session.text.isEmpty, configuration.session.text.utf8.count <= 2 * nameLimitBytes else {
      throw AgentFault(.badRequest, "a session id has 1 to \(2 * nameLimitBytes) bytes")
    }
    try checkName(configuration.migration.text, what: "migration")
    guard (1...volumeLimit).contains(configuration.volumes.count) else {
      throw refuse("a session has 1 to \(volumeLimit) volumes")
    }
    for volume in configuration.volumes {
      try checkName(volume.name.text, what: "volume")
      guard !volume.devicePath.isEmpty else { throw refuse("volume \(volume.name) names no device") }
      guard volume.sizeBytes > 0, volume.sizeBytes % 512 == 0, volume.sizeBytes <= 1 << 62 else {
        throw refuse("the size of volume \(volume.name), \(volume.sizeBytes), is not a multiple of 512 above 0")
      }
      guard volume.tracking == "tap" else {
        throw AgentFault(
          .refused, "volume \(volume.name): this agent can't track by \(volume.tracking); set tracking: tap")
      }
    }
    if let names = configuration.plannedAs {
      try checkName(names.migration.text, what: "migration")
      for name in names.volumes.values { try checkName(name.text, what: "volume") }
      guard names.volumes.keys.allSatisfy({ own in configuration.volumes.contains { $0.name.text == own } }) else {
        throw refuse("a volume that it doesn't have is called otherwise")
      }
    }
    guard Set(configuration.volumes.map(\.name)).count == configuration.volumes.count else {
      throw refuse("two volumes have the same name")
    }
    guard Set(configuration.volumes.map(\.devicePath)).count == configuration.volumes.count else {
      throw refuse("two volumes have the same device")
    }
    guard (1...65_535).contains(configuration.link.port), (1...laneLimit).contains(configuration.link.lanes) else {
      throw refuse("the link needs a port from 1 to 65535 and 1 to \(laneLimit) lanes")
    }
    guard configuration.linkLossTimeoutSeconds >= 1, configuration.linkLossTimeoutSeconds <= 3600 else {
      throw refuse("linkLossTimeout is 1 to 3600 seconds")
    }
    if let share = configuration.limits.share, !(share > 0 && share <= 1) {
      throw refuse("the share of the bandwidth is above 0 and at most 1")
    }
    if let bound = configuration.limits.latencyBound, !(bound > 0 && bound <= 100) {
      throw refuse("the latency bound is above 0 and at most 100, 1 being as much again")
    }
    guard ["full", "changed", "none"].contains(configuration.verify) else {
      throw refuse("verify is full, changed or none, not \(configuration.verify)")
    }
  }

  private static func checkName(_ name: String, what: String) throws(AgentFault) {
    let allowed = name.utf8.allSatisfy { byte in
      byte > 32 && byte < 127 && byte != UInt8(ascii: "/")
    }
    guard allowed, !name.isEmpty, name.utf8.count <= nameLimitBytes, name != ".", name != ".." else {
      throw AgentFault(
        .badRequest,
        "a \(what)'s name has 1 to \(nameLimitBytes) printable ASCII characters, no space and no slash: \"\(name)\"")
    }
  }

  /// Beside the agent's other sessions: nobody's device twice, and no two taps at one path.
  package static func checkTogether(
    _ configuration: SessionConfiguration, with others: [SessionConfiguration]
  ) throws(AgentFault) {
    for other in others {
      let shared = Set(other.volumes.map(\.devicePath)).intersection(configuration.volumes.map(\.devicePath))
      if let path = shared.min() {
        throw AgentFault(.inUse, "\(path) belongs to session \(other.session) already; retire or cancel that first")
      }
      let isOtherHalf =
        other.session == configuration.session && other.role != configuration.role && other.isWithinAgent
        && configuration.isWithinAgent
      if other.migration == configuration.migration, !isOtherHalf {
        throw AgentFault(
          .inUse,
          "session \(other.session) of another plan has the migration name \(other.migration) on this host; rename one")
      }
      if other.link.listens, configuration.link.listens, !other.isWithinAgent, !configuration.isWithinAgent,
        other.link.port == configuration.link.port, other.link.address != configuration.link.address
      {
        throw AgentFault(
          .inUse,
          "session \(other.session) listens on port \(other.link.port) at \(other.link.address); use that address or another port"
        )
      }
    }
  }

  /// The configuration to take over. One that says nothing of a key to come leaves a hand-over of the peer's key as it is:
  /// it ends when the new key is the only one, and an apply in between must not lock the peer out.
  package static func keepingHandOver(
    _ new: SessionConfiguration, after old: SessionConfiguration
  ) -> SessionConfiguration {
    guard new.nextPeerFingerprint == nil, new.peerFingerprint == old.peerFingerprint else { return new }
    var kept = new
    kept.nextPeerFingerprint = old.nextPeerFingerprint
    return kept
  }

  /// What a running session may not become; `hasData` is whether the destination holds anything of it.
  package static func checkChange(
    from old: SessionConfiguration, to new: SessionConfiguration, hasData: Bool
  ) throws(AgentFault) {
    func refuse(_ what: String) -> AgentFault {
      AgentFault(.refused, "\(old.session): \(what) can't change while the session exists; cancel it first")
    }
    guard new.role == old.role else { throw refuse("its role") }
    guard new.plan == old.plan, new.migration == old.migration else { throw refuse("its plan or migration") }
    let comparable = { (volume: VolumeConfiguration) in
      (volume.name.text, volume.devicePath, volume.tracking)
    }
    let sameVolumes =
      old.volumes.count == new.volumes.count
      && zip(old.volumes, new.volumes).allSatisfy { comparable($0) == comparable($1) }
    guard sameVolumes || !hasData else { throw refuse("a volume's device or tracking") }
    if hasData, let shrunk = zip(old.volumes, new.volumes).first(where: { $0.sizeBytes > $1.sizeBytes })?.0 {
      throw AgentFault(
        .refused,
        "\(old.session): volume \(shrunk.name) has \(shrunk.sizeBytes) bytes and can't shrink: give \(shrunk.devicePath) its size again, or cancel the session first"
      )
    }
    guard old.peerKeys.contains(new.peerFingerprint) || !hasData else { throw refuse("its peer's key") }
    guard old.isWithinAgent == new.isWithinAgent else { throw refuse("whether both halves are this agent's") }
  }
}

extension ConfigurationRules {
  /// The configuration as it is but for larger volumes, which is a step of its own; nil where none grows.
  static func growth(from old: SessionConfiguration, to new: SessionConfiguration) -> SessionConfiguration? {
    guard old.volumes.count == new.volumes.count,
      zip(old.volumes, new.volumes).contains(where: { $0.sizeBytes < $1.sizeBytes })
    else { return nil }
    var grown = old
    for (index, volume) in new.volumes.enumerated() { grown.volumes[index].sizeBytes = volume.sizeBytes }
    return grown
  }

  /// Whether the session's devices or their order change, so that its half has to be made anew.
  static func needsRemake(from old: SessionConfiguration, to new: SessionConfiguration) -> Bool {
    !old.peerKeys.contains(new.peerFingerprint) || old.volumes.count != new.volumes.count
      || !zip(old.volumes, new.volumes).allSatisfy { old, new in
        old.name == new.name && old.devicePath == new.devicePath && old.sizeBytes == new.sizeBytes
          && old.tracking == new.tracking && old.attachDevice == new.attachDevice
      }
  }
}
