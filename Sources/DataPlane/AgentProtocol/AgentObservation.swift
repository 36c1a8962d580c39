package import BlockModel

package struct AgentHello: Codable, Sendable, Equatable {
  /// The capability to keep what the plan calls a session (`SessionConfiguration.plannedAs`).
  package static let renames = "rename"
  /// It keeps to `RateLimits.latencyBound`.
  package static let latencyBounds = "latency-bound"
  /// It takes larger sizes for volumes of a session that lives.
  package static let grows = "grow"
  /// Whether the agent can have both halves of a session.
  package static let withinAgent = "within-agent"
  package var agentVersion: String
  package var protocolVersion: Int
  package var fingerprint: KeyFingerprint
  /// Of the key that will take the place of the agent's own; nil where none is being replaced.
  package var nextFingerprint: KeyFingerprint?
  package var bootID: String
  package var processID: Int32
  package var startedAt: WallTime
  /// What the tap could use here: "nbd-socket", "fuse-loop", "kernel-nbd", "device-mapper"; and `renames`, `latencyBounds`,
  /// `grows`, `withinAgent`.
  package var capabilities: [String]
  package init(
    agentVersion: String, protocolVersion: Int, fingerprint: KeyFingerprint, bootID: String, processID: Int32,
    startedAt: WallTime, capabilities: [String]
  ) {
    self.agentVersion = agentVersion
    self.protocolVersion = protocolVersion
    self.fingerprint = fingerprint
    self.bootID = bootID
    self.processID = processID
    self.startedAt = startedAt
    self.capabilities = capabilities
  }
}

package struct AgentObservation: Codable, Sendable, Equatable {
  package var hello: AgentHello
  package var observedAt: WallTime
  package var sessions: [SessionObservation]
  package var tombstones: [Tombstone]
  package var leases: [Lease]
  /// Sessions whose records can't be read, a line each: the agent knows no more of them than that they are there. Nil
  /// from agents that don't tell it.
  package var unreadable: [String]?
  package init(
    hello: AgentHello, observedAt: WallTime, sessions: [SessionObservation], tombstones: [Tombstone], leases: [Lease]
  ) {
    self.hello = hello
    self.observedAt = observedAt
    self.sessions = sessions
    self.tombstones = tombstones
    self.leases = leases
  }
}

package struct Lease: Codable, Sendable, Equatable {
  package var session: SessionID
  package var holder: String
  package var fencingNumber: UInt64
  package var acquiredAt: WallTime
  package var expiresAt: WallTime
  package init(
    session: SessionID, holder: String, fencingNumber: UInt64, acquiredAt: WallTime, expiresAt: WallTime
  ) {
    self.session = session
    self.holder = holder
    self.fencingNumber = fencingNumber
    self.acquiredAt = acquiredAt
    self.expiresAt = expiresAt
  }
}

/// A mark that apply never crosses.
package struct Hold: Codable, Sendable, Equatable {
  package enum Cause: String, Codable, Sendable {
    case paused
    case reverted
    /// The agents reverted by themselves: link or device lost, or not confirmed in time.
    case failure
  }
  package var cause: Cause
  package var who: String
  package var why: String
  package var at: WallTime
  package init(cause: Cause, who: String, why: String, at: WallTime) {
    self.cause = cause
    self.who = who
    self.why = why
    self.at = at
  }
}

package struct Approval: Codable, Sendable, Equatable {
  package var phase: Phase
  package var who: String
  package var at: WallTime
  package var expiresAt: WallTime?
  package var configurationDigest: String
  package init(phase: Phase, who: String, at: WallTime, expiresAt: WallTime?, configurationDigest: String) {
    self.phase = phase
    self.who = who
    self.at = at
    self.expiresAt = expiresAt
    self.configurationDigest = configurationDigest
  }
}

/// What remains of a finished migration, so that it is never started again.
package struct Tombstone: Codable, Sendable, Equatable {
  package var session: SessionID
  package var role: Role
  package var phase: Phase
  package var generation: Generation
  package var receiptDigest: String?
  package var at: WallTime
  /// What a person did to the device with `cmcagent rescue`, after which no agent touches it.
  package var rescued: String?
  /// What the plan called the session last, where that isn't the session's own name.
  package var plannedAs: PlannedNames?
  /// Set by cmcplan where `session` is the one that the plan speaks of and the agent has another.
  package var heldAs: SessionID?
  package init(
    session: SessionID, role: Role, phase: Phase, generation: Generation, receiptDigest: String?, at: WallTime
  ) {
    self.session = session
    self.role = role
    self.phase = phase
    self.generation = generation
    self.receiptDigest = receiptDigest
    self.at = at
  }
}

/// Which copy answers, and who may write it.
package enum Authority: String, Codable, Sendable {
  case source
  /// cMotion: reads from the destination, writes to both.
  case standIn
  /// The source's copy is lost; the destination's is the only one.
  case destinationOnly
  /// Fenced: the destination for good.
  case destination
}

/// Where the session's own state machine is.
package enum SessionStage: String, Codable, Sendable {
  /// Configured; no data moves.
  case prepared
  case synchronizing
  case tracking
  /// Swing asked for: draining, or in the barrier.
  case swinging
  case standIn
  /// The tap refuses opens; proof not begun.
  case tapClosed
  case proving
  /// A receipt exists, the source isn't fenced.
  case proven
  case fenced
  case released
  case cancelled
}

/// The axis beside the phase: how replication does.
package enum ReplicationHealth: Codable, Sendable, Equatable {
  case idle
  case initializing
  /// `percent` 0 to 100; no ETA at a rate of zero.
  case synchronizing(percent: Double, bytesPerSecond: Double, etaSeconds: Double?)
  case tracking(lagBytes: UInt64, lagSeconds: Double)
  case stalled(why: String)
  case disconnected(since: WallTime)
  case degraded(copy: Role, why: String)
}

/// What keeps copying from going faster.
package enum HoldBack: String, Codable, Sendable, CaseIterable {
  case sourceDisk
  case destinationDisk
  case network
  /// The share that iQoS leaves to migration.
  case iqos
  /// The limit that the plan sets on the network.
  case networkLimit
  /// Migration yields to an application that it would slow down.
  case latencyBound
  case compression
}

/// What packing does on the link.
package struct CompressionReport: Codable, Sendable, Equatable {
  package enum State: String, Codable, Sendable {
    /// Not enough was sent yet to tell.
    case measuring
    case on
    /// Off: the data hardly shrinks.
    case incompressible
    /// Off: packing takes longer than what it saves.
    case tooSlow
    /// The other agent is too old for it.
    case unsupported
  }
  package var state: State
  /// Since the agent started: what went packed, and what of the link it took.
  package var packedBytes: UInt64
  package var wireBytes: UInt64
  package init(state: State, packedBytes: UInt64, wireBytes: UInt64) {
    self.state = state
    self.packedBytes = packedBytes
    self.wireBytes = wireBytes
  }
  /// Nil where nothing went packed.
  package var ratio: Double? { wireBytes > 0 ? Double(packedBytes) / Double(wireBytes) : nil }
}

package struct ConnectionProof: Codable, Sendable, Equatable {
  package var provenAt: WallTime
  package var roundTripSeconds: Double
  package var bytesPerSecond: Double
  package init(provenAt: WallTime, roundTripSeconds: Double, bytesPerSecond: Double) {
    self.provenAt = provenAt
    self.roundTripSeconds = roundTripSeconds
    self.bytesPerSecond = bytesPerSecond
  }
}

/// Operations and bytes since the agent started; like a line of iostat.
package struct IOCounters: Codable, Sendable, Equatable {
  package var reads: UInt64 = 0
  package var readBytes: UInt64 = 0
  package var writes: UInt64 = 0
  package var writeBytes: UInt64 = 0
  package var flushes: UInt64 = 0
  package init() {}
}

package struct VolumeObservation: Codable, Sendable, Equatable {
  package var name: VolumeName
  package var devicePath: String
  package var sizeBytes: UInt64
  package var blockBytes: UInt32
  /// Differs, or may differ, between source and destination now (source role only).
  package var dirtyBytes: UInt64
  /// Sent since the session began, before and after finding zeroes.
  package var copiedBytes: UInt64
  package var wireBytes: UInt64
  /// The tap's NBD socket and, where one was asked for, its block device.
  package var tapSocket: String?
  package var tapDevice: String?
  package var tapOpenCount: Int
  /// Application I/O that this host's copy served. In stand-in reads show at the destination.
  package var applicationIO: IOCounters
  package var longestPauseSeconds: Double
  /// (source) Found equal on both sides since it was last written; nil where it is unknown.
  package var verifiedBytes: UInt64?
  /// (source) Extents that were found different though nothing said that they may be, since the agent started.
  package var mismatchedExtents: Int?
  package init(
    name: VolumeName, devicePath: String, sizeBytes: UInt64, blockBytes: UInt32, dirtyBytes: UInt64,
    copiedBytes: UInt64, wireBytes: UInt64, tapSocket: String?, tapDevice: String?, tapOpenCount: Int,
    applicationIO: IOCounters, longestPauseSeconds: Double
  ) {
    self.name = name
    self.devicePath = devicePath
    self.sizeBytes = sizeBytes
    self.blockBytes = blockBytes
    self.dirtyBytes = dirtyBytes
    self.copiedBytes = copiedBytes
    self.wireBytes = wireBytes
    self.tapSocket = tapSocket
    self.tapDevice = tapDevice
    self.tapOpenCount = tapOpenCount
    self.applicationIO = applicationIO
    self.longestPauseSeconds = longestPauseSeconds
  }
}

package struct SessionObservation: Codable, Sendable, Equatable {
  package var session: SessionID
  package var plan: PlanID
  package var migration: MigrationName
  package var role: Role
  package var configurationDigest: String
  package var configuration: SessionConfiguration
  package var stage: SessionStage
  package var authority: Authority
  package var generation: Generation
  package var health: ReplicationHealth
  package var connected: Bool
  package var connectionProof: ConnectionProof?
  package var volumes: [VolumeObservation]
  package var hold: Hold?
  package var approvals: [Approval]
  /// Set while a swing waits for `confirmSwing`, or is under way with others of its group.
  package var confirmBy: WallTime?
  package var swingConfirmed: Bool
  package var swings: Int
  /// Why the last swing was given up; nil once another begins.
  package var swingGivenUp: String?
  package var lastSwingPauseSeconds: Double?
  /// (source) Since when cMotion is active without a break; nil where it isn't, and from agents that don't tell it.
  package var standInSince: WallTime?
  package var initialSynchronizationAt: WallTime?
  package var receipt: ReceiptSummary?
  /// (source) Nil where none was asked for since the agent started, and from agents that don't tell it.
  package var verification: VerificationReport?
  /// (source) In the last seconds; nil where nothing was copied, and from agents that don't tell it.
  package var heldBackBy: HoldBack?
  /// (source) Nil without a connection, and from agents that don't tell it.
  package var compression: CompressionReport?
  /// The last failure that the session could not mend by itself; nil once it could.
  package var lastError: AgentFault?
  /// The agent could not bring the session up (`lastError` says why), and does nothing for it. Nil where it could.
  package var couldNotStart: Bool?
  /// Hooks that this agent ran for the session, by run id. The orchestrator tells from them what is still to do.
  package var hookRuns: [HookRun]
  /// Set by cmcplan where the names here are the plan's and the agent has others.
  package var heldAs: HeldNames?
  package init(
    configuration: SessionConfiguration, stage: SessionStage, authority: Authority, generation: Generation,
    health: ReplicationHealth, connected: Bool
  ) {
    session = configuration.session
    plan = configuration.plan
    migration = configuration.migration
    role = configuration.role
    configurationDigest = configuration.configurationDigest
    self.configuration = configuration
    self.stage = stage
    self.authority = authority
    self.generation = generation
    self.health = health
    self.connected = connected
    volumes = []
    approvals = []
    swingConfirmed = false
    swings = 0
    hookRuns = []
  }
}

/// A session's own names, which its agents keep for good, where the plan has others by now.
package struct HeldNames: Codable, Sendable, Equatable {
  package var session: SessionID
  package var migration: MigrationName
  /// In the agents' order.
  package var volumes: [HeldVolume]
  package init(session: SessionID, migration: MigrationName, volumes: [HeldVolume]) {
    self.session = session
    self.migration = migration
    self.volumes = volumes
  }
}

package struct HeldVolume: Codable, Sendable, Equatable {
  package var name: VolumeName
  /// The plan's name of it.
  package var planned: VolumeName
  package init(name: VolumeName, planned: VolumeName) {
    self.name = name
    self.planned = planned
  }
}

extension SessionObservation {
  /// As the agent calls it.
  package var heldSession: SessionID { heldAs?.session ?? session }
}

extension Tombstone {
  /// As the agent called it.
  package var heldSession: SessionID { heldAs ?? session }
}

extension SessionObservation {
  /// All that a tombstone still says of its session: where it ended. The rest is gone, and empty here.
  package init(retired stone: Tombstone) {
    // A session's identifier is that of its plan and its migration's name, which holds no slash.
    let parts = stone.session.text.split(separator: "/", maxSplits: 1).map(String.init)
    self.init(
      configuration: SessionConfiguration(
        session: stone.session, plan: PlanID(parts.first ?? ""), migration: MigrationName(parts.last ?? ""),
        role: stone.role, configurationDigest: "", peerFingerprint: KeyFingerprint(""),
        link: LinkConfiguration(listens: false, address: "", port: 0, lanes: 0), volumes: [],
        limits: RateLimits(share: nil, networkLimitBytesPerSecond: nil), linkLossTimeoutSeconds: 0,
        resyncIntervalSeconds: 0, confirmWithinSeconds: nil, verify: ""),
      stage: stone.role == .source ? .fenced : .released, authority: .destination, generation: stone.generation,
      health: .idle, connected: false)
  }
}

package struct ReceiptSummary: Codable, Sendable, Equatable {
  package var digest: String
  package var verify: String
  package var comparedBytes: UInt64
  package var at: WallTime
  /// Where on the agent's host the receipt file is.
  package var path: String
  package init(digest: String, verify: String, comparedBytes: UInt64, at: WallTime, path: String) {
    self.digest = digest
    self.verify = verify
    self.comparedBytes = comparedBytes
    self.at = at
    self.path = path
  }
}

package struct DeviceReport: Codable, Sendable, Equatable {
  package enum Kind: String, Codable, Sendable {
    case missing
    case file
    case block
    case other
  }
  package var path: String
  package var kind: Kind
  package var sizeBytes: UInt64
  package var logicalBlockBytes: UInt32
  /// Serial, WWN, dm uuid or file id: what tells this device from another under the same name.
  package var identity: String?
  package var mountedAt: [String]
  /// Holds the root file system, swap or the agent's own files.
  package var isSystemDevice: Bool
  /// Whether all that was sampled reads as zero, and whether it carries our label and whose.
  package var looksBlank: Bool
  package var labelledSession: SessionID?
  /// How the tap would become a device here, a word of `AgentHello.capabilities`, and why; of block devices only, and
  /// not from agents that don't tell it.
  package var tapMethod: String?
  package var tapReason: String?
  /// How a file is read as a source: "direct" or "page cache", and why the latter; not from agents that don't tell it.
  package var fileAccess: String?
  package var fileAccessReason: String?
  package var error: String?
  package init(path: String, kind: Kind) {
    self.path = path
    self.kind = kind
    sizeBytes = 0
    logicalBlockBytes = 512
    mountedAt = []
    isSystemDevice = false
    looksBlank = false
  }
}

/// A hook that ended. One whose agent did not live to see its end has failed; one that runs now has no entry.
package struct HookRun: Codable, Sendable, Equatable {
  package var runID: String
  package var succeeded: Bool
  package init(runID: String, succeeded: Bool) {
    self.runID = runID
    self.succeeded = succeeded
  }
}

package struct HookOutcome: Codable, Sendable, Equatable {
  /// Nil where the hook was killed at its timeout or by a signal.
  package var exitCode: Int32?
  package var timedOut: Bool
  /// Standard output and error together, its last 64 KiB.
  package var output: String
  package var seconds: Double
  package init(exitCode: Int32?, timedOut: Bool, output: String, seconds: Double) {
    self.exitCode = exitCode
    self.timedOut = timedOut
    self.output = output
    self.seconds = seconds
  }
  package var succeeded: Bool { exitCode == 0 && !timedOut }
}
