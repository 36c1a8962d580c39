package import BlockModel

/// All that one agent needs to know of its half of a migration. The orchestrator sends each half to its agent.
package struct SessionConfiguration: Codable, Sendable, Equatable {
  package var session: SessionID
  package var plan: PlanID
  package var migration: MigrationName
  package var role: Role
  /// Digest of what an approval is bound to; changes whenever the migration changes.
  package var configurationDigest: String
  package var peerFingerprint: KeyFingerprint
  /// The key that the peer will show, or shows already, while its key is being replaced: both are let in. Agents that
  /// speak version 2 of the control protocol keep it.
  package var nextPeerFingerprint: KeyFingerprint?
  package var link: LinkConfiguration
  package var volumes: [VolumeConfiguration]
  package var limits: RateLimits
  package var linkLossTimeoutSeconds: Double
  package var resyncIntervalSeconds: Double
  package var confirmWithinSeconds: Double?
  /// "full", "changed" or "none".
  package var verify: String
  /// What the plan calls the session by now; nil: as above. Agents with the capability `rename` keep it.
  package var plannedAs: PlannedNames?
  package init(
    session: SessionID, plan: PlanID, migration: MigrationName, role: Role, configurationDigest: String,
    peerFingerprint: KeyFingerprint, link: LinkConfiguration, volumes: [VolumeConfiguration], limits: RateLimits,
    linkLossTimeoutSeconds: Double, resyncIntervalSeconds: Double, confirmWithinSeconds: Double?, verify: String
  ) {
    self.session = session
    self.plan = plan
    self.migration = migration
    self.role = role
    self.configurationDigest = configurationDigest
    self.peerFingerprint = peerFingerprint
    self.link = link
    self.volumes = volumes
    self.limits = limits
    self.linkLossTimeoutSeconds = linkLossTimeoutSeconds
    self.resyncIntervalSeconds = resyncIntervalSeconds
    self.confirmWithinSeconds = confirmWithinSeconds
    self.verify = verify
  }
}

extension SessionConfiguration {
  /// Whom the link lets in.
  package var peerKeys: Set<KeyFingerprint> {
    var keys: Set<KeyFingerprint> = [peerFingerprint]
    if let nextPeerFingerprint { keys.insert(nextPeerFingerprint) }
    return keys
  }
}

extension SessionConfiguration {
  /// Stands for the peer's key where both halves are one agent's.
  package static let ownAgent = KeyFingerprint("own-agent")
  /// Whether both halves are one agent's: source and destination are one host.
  package var isWithinAgent: Bool { link.withinAgent ?? false }
  /// What this half goes by within its agent, where no other half has its name.
  package var half: SessionID { isWithinAgent && role == .destination ? session.innerDestination : session }
}

extension SessionID {
  /// The name of the destination's half where the source's is the same agent's. No session has it: names have no spaces.
  package var innerDestination: SessionID { SessionID(text + " destination") }
}

/// What a plan calls a session by now. The session's own names stay what they were: labels, files, taps and keys of
/// records carry them.
package struct PlannedNames: Codable, Sendable, Equatable {
  package var migration: MigrationName
  /// Those that are called otherwise, by the session's own name.
  package var volumes: [String: VolumeName]
  package init(migration: MigrationName, volumes: [String: VolumeName]) {
    self.migration = migration
    self.volumes = volumes
  }
}

package struct LinkConfiguration: Codable, Sendable, Equatable {
  /// Whether this agent waits for the other, or opens the connection itself.
  package var listens: Bool
  /// Numeric address: to bind (listener; "0.0.0.0", "::" or one address) or to connect to (opener).
  package var address: String
  package var port: Int
  /// Bulk lanes beside the control lane.
  package var lanes: Int
  /// Both halves are one agent's: no network, and neither address nor port means anything. Agents with the capability
  /// `within-agent` know it; nil is no.
  package var withinAgent: Bool?
  package init(listens: Bool, address: String, port: Int, lanes: Int) {
    self.listens = listens
    self.address = address
    self.port = port
    self.lanes = lanes
  }
}

package struct VolumeConfiguration: Codable, Sendable, Equatable {
  package var name: VolumeName
  /// This host's device or file. Relative paths are below the agent's root (local hosts).
  package var devicePath: String
  /// Size of the source in bytes: what is replicated. The destination's device may be larger.
  package var sizeBytes: UInt64
  /// "tap" or "checksum", decided by the plan.
  package var tracking: String
  /// Allows initial synchronization onto a destination that is neither blank nor ours.
  package var overwrite: Bool
  /// Asks the source for a block device (FUSE and loop, where nothing better exists) beside the tap's socket.
  package var attachDevice: Bool
  /// What told this block device from others when the session was made; nil: not known, or not told by an older caller.
  package var deviceIdentity: String?
  package init(
    name: VolumeName, devicePath: String, sizeBytes: UInt64, tracking: String, overwrite: Bool, attachDevice: Bool
  ) {
    self.name = name
    self.devicePath = devicePath
    self.sizeBytes = sizeBytes
    self.tracking = tracking
    self.overwrite = overwrite
    self.attachDevice = attachDevice
  }
}

package struct RateLimits: Codable, Sendable, Equatable {
  /// Share of the available bandwidth for migration; nil: no throttle (relentless).
  package var share: Double?
  package var networkLimitBytesPerSecond: UInt64?
  /// How much slower the application's requests may get before migration yields: 0.2 is a fifth. Nil: it doesn't. For
  /// agents with the capability `latency-bound`.
  package var latencyBound: Double?
  package init(share: Double?, networkLimitBytesPerSecond: UInt64?) {
    self.share = share
    self.networkLimitBytesPerSecond = networkLimitBytesPerSecond
  }
  /// Of what doesn't cross the network.
  package var withoutNetwork: RateLimits { RateLimits(share: share, networkLimitBytesPerSecond: nil) }
}
