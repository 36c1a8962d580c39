package import AgentProtocol
package import BlockModel
package import MigrationModel

/// What only the world can tell of the two halves of a session.
package struct SessionInputs: Sendable, Equatable {
  package struct VolumeInput: Sendable, Equatable {
    package var sourceBytes: UInt64
    package var destinationPath: String
    package var tracking: Tracking
    /// Of the block devices at the source's path, and at a destination's that the plan names as a device.
    package var sourceIdentity: String?
    package var destinationIdentity: String?
    package init(
      sourceBytes: UInt64, destinationPath: String, tracking: Tracking, sourceIdentity: String? = nil,
      destinationIdentity: String? = nil
    ) {
      self.sourceBytes = sourceBytes
      self.destinationPath = destinationPath
      self.tracking = tracking
      self.sourceIdentity = sourceIdentity
      self.destinationIdentity = destinationIdentity
    }
  }
  package var sourceFingerprint: KeyFingerprint
  package var destinationFingerprint: KeyFingerprint
  package var sourceCapabilities: [String]
  /// Numeric address of the listener as its opener sees it.
  package var listenerAddress: String
  package var volumes: [VolumeName: VolumeInput]
  package init(
    sourceFingerprint: KeyFingerprint, destinationFingerprint: KeyFingerprint, sourceCapabilities: [String],
    listenerAddress: String, volumes: [VolumeName: VolumeInput]
  ) {
    self.sourceFingerprint = sourceFingerprint
    self.destinationFingerprint = destinationFingerprint
    self.sourceCapabilities = sourceCapabilities
    self.listenerAddress = listenerAddress
    self.volumes = volumes
  }
}

/// The name that the opener connects to: the connection's own, or the listener host's address; loopback where both
/// agents are children of this machine. Within one host nobody connects.
package func listenerName(of migration: Migration, in plan: MigrationPlan) -> String? {
  if migration.isWithinHost { return "127.0.0.1" }
  if let address = migration.connection.address { return address }
  let host = plan.hosts[migration.host(migration.connection.listener)]
  if let address = host?.address { return address }
  if case .local = host?.reach { return "127.0.0.1" }
  return nil
}

/// Whether the text is a numeric address already, so that nobody needs to resolve it.
package func isNumericAddress(_ text: String) -> Bool {
  if text.contains(":") { return text.allSatisfy { $0.isHexDigit || $0 == ":" || $0 == "." || $0 == "%" } }
  let parts = text.split(separator: ".", omittingEmptySubsequences: false)
  return parts.count == 4 && parts.allSatisfy { UInt8($0) != nil }
}

/// Both halves of the migration's session. Nil where a volume is missing from the inputs. Pure.
package func sessionConfigurations(
  for migration: Migration, in plan: MigrationPlan, inputs: SessionInputs, overwrite: Set<VolumeKey>, at now: WallTime,
  digest: DigestFunction
) -> (source: SessionConfiguration, destination: SessionConfiguration)? {
  guard migration.volumes.allSatisfy({ inputs.volumes[$0.name] != nil }) else { return nil }
  let configured = configurationDigest(of: migration, in: plan, digest: digest)
  func half(_ role: Role) -> SessionConfiguration {
    let listens = migration.connection.listener == role
    let isLoopback = inputs.listenerAddress.hasPrefix("127.") || inputs.listenerAddress == "::1"
    // A listener that only its own machine should reach binds to nothing else.
    let bind = isLoopback ? inputs.listenerAddress : inputs.listenerAddress.contains(":") ? "::" : "0.0.0.0"
    let volumes = migration.volumes.compactMap { volume -> VolumeConfiguration? in
      guard let input = inputs.volumes[volume.name] else { return nil }
      var configuration = VolumeConfiguration(
        name: volume.name, devicePath: role == .source ? volume.device : input.destinationPath,
        sizeBytes: input.sourceBytes, tracking: input.tracking.rawValue,
        overwrite: overwrite.contains(VolumeKey(migration.name, volume.name)),
        attachDevice: role == .source && input.tracking == .tap
          && inputs.sourceCapabilities.contains(where: AgentCapability.makesDevices.contains))
      configuration.deviceIdentity = role == .source ? input.sourceIdentity : input.destinationIdentity
      return configuration
    }
    var limits = RateLimits(
      share: migration.iqos.level(at: now).share,
      networkLimitBytesPerSecond: migration.iqos.networkLimitBytesPerSecond)
    // The source's agent alone sees the application; an older one would not keep the word, and be told it for ever.
    if role == .source, inputs.sourceCapabilities.contains(AgentCapability.latencyBound) {
      limits.latencyBound = migration.iqos.latencyBound
    }
    var link = LinkConfiguration(
      listens: listens, address: listens ? bind : inputs.listenerAddress, port: migration.connection.port,
      lanes: migration.connection.lanes)
    if migration.isWithinHost { link.withinAgent = true }
    let peer = role == .source ? inputs.destinationFingerprint : inputs.sourceFingerprint
    return SessionConfiguration(
      session: SessionID(plan: plan.metadata.id, migration: migration.name), plan: plan.metadata.id,
      migration: migration.name, role: role, configurationDigest: configured,
      peerFingerprint: migration.isWithinHost ? SessionConfiguration.ownAgent : peer, link: link, volumes: volumes,
      limits: limits, linkLossTimeoutSeconds: migration.linkLossTimeoutSeconds,
      resyncIntervalSeconds: migration.resyncIntervalSeconds,
      confirmWithinSeconds: migration.cutover.confirmWithinSeconds, verify: migration.cutover.verify.rawValue)
  }
  return (half(.source), half(.destination))
}

extension MigrationFacts {
  /// Nil while something isn't known yet.
  package func sessionInputs() -> SessionInputs? {
    guard let ownHello = source?.agent?.hello, let peerHello = destination?.agent?.hello,
      let name = listenerName(of: migration, in: plan)
    else { return nil }
    let opener = migration.connection.listener == .source ? destination : source
    guard let address = isNumericAddress(name) ? name : opener?.resolved[name] else { return nil }
    var volumes: [VolumeName: SessionInputs.VolumeInput] = [:]
    for volume in migration.volumes {
      guard let bytes = sourceBytes(of: volume), let path = destinationPath(of: volume),
        let tracking = tracking(of: volume)
      else { return nil }
      var input = SessionInputs.VolumeInput(sourceBytes: bytes, destinationPath: path, tracking: tracking)
      input.sourceIdentity = identity(of: volume, source?.device(volume.device), in: sourceSession)
      if case .device = volume.destination {
        input.destinationIdentity = identity(of: volume, destination?.device(path), in: destinationSession)
      }
      volumes[volume.name] = input
    }
    return SessionInputs(
      sourceFingerprint: ownHello.fingerprint, destinationFingerprint: peerHello.fingerprint,
      sourceCapabilities: ownHello.capabilities, listenerAddress: address, volumes: volumes)
  }

  /// What is known stays known while nobody can look.
  private func identity(of volume: Volume, _ report: DeviceReport?, in session: SessionObservation?) -> String? {
    if let report, report.kind == .block, let identity = report.identity { return identity }
    return session?.configuration.volumes.first { $0.name == volume.name }?.deviceIdentity
  }
}
