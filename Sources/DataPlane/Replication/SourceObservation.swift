package import BlockModel
package import H2HProtocol

/// What a session's source half is made with.
package struct SourceConfiguration: Sendable, Equatable {
  package struct Volume: Sendable, Equatable {
    package var name: VolumeName
    package var sizeBytes: UInt64
    package init(name: VolumeName, sizeBytes: UInt64) {
      self.name = name
      self.sizeBytes = sizeBytes
    }
  }
  package var session: SessionID
  /// In the order in which the link counts them; 1 to `H2HLimits.volumes`, each at least 4 MiB (`WithheldLayout`).
  package var volumes: [Volume]
  package var bootID: String
  package var openEpoch: UInt64
  /// These four may change while the machine runs (`reconfigure`).
  package var verify: VerifyMode
  package var linkLossTimeoutSeconds: Double
  package var resyncIntervalSeconds: Double
  package var confirmWithinSeconds: Double?
  package var limits: ReplicationLimits

  package init(
    session: SessionID, volumes: [Volume], bootID: String, openEpoch: UInt64, verify: VerifyMode = .full,
    linkLossTimeoutSeconds: Double = 5, resyncIntervalSeconds: Double = 900, confirmWithinSeconds: Double? = nil,
    limits: ReplicationLimits = ReplicationLimits()
  ) {
    self.session = session
    self.volumes = volumes
    self.bootID = bootID
    self.openEpoch = openEpoch
    self.verify = verify
    self.linkLossTimeoutSeconds = linkLossTimeoutSeconds
    self.resyncIntervalSeconds = resyncIntervalSeconds
    self.confirmWithinSeconds = confirmWithinSeconds
    self.limits = limits
  }
}

/// The axis beside the phase (DESIGN §2).
package enum SourceHealth: Sendable, Equatable {
  case idle
  case initializing
  case synchronizing(percent: Double, bytesPerSecond: Double, etaSeconds: Double?)
  case tracking(lagBytes: UInt64, lagSeconds: Double)
  case stalled(why: String)
  case disconnected(since: WallTime)
  case degraded(copy: Role, why: String)
}

package struct SourceVolumeObservation: Sendable, Equatable {
  package var dirtyBytes: UInt64 = 0
  /// Read and sent by the copier since the machine started, and how much crossed the wire for it, packed as it was.
  package var copiedBytes: UInt64 = 0
  package var wireBytes: UInt64 = 0
  /// Read on both sides to be compared, since the machine started.
  package var comparedBytes: UInt64 = 0
  /// Found equal since it was last written.
  package var equalBytes: UInt64 = 0
  /// Extents that a comparison found different, since the machine started. They were copied again.
  package var mismatchedExtents = 0
  package init() {}
}

package struct SourceObservation: Sendable, Equatable {
  package var stage: SourceStage
  package var authority: CopyAuthority
  package var generation: Generation
  package var health: SourceHealth
  package var isConnected: Bool
  package var volumes: [SourceVolumeObservation]
  package var swings: Int
  package var lastSwingPauseSeconds: Double?
  /// Since when authority is the stand-in's; nil where it isn't, or nobody noted it.
  package var standInSince: WallTime?
  package var longestPauseSeconds: Double
  package var confirmBy: WallTime?
  package var isSwingConfirmed: Bool
  package var initialSynchronizationAt: WallTime?
  package var receiptDigest: String?
  package var comparedBytes: UInt64
  /// Application requests accepted and not completed.
  package var requestsInFlight: Int
  /// Why writes may go past the tap now; nil while all of them are seen.
  package var trackLost: String?
  /// The last failure that the session could not mend by itself.
  package var lastError: String?
  /// Why the last swing was given up; nil once another begins. Copying, which goes on at once, doesn't make it untrue.
  package var swingGivenUp: String?
  /// The verification that runs, or the last one since the machine started.
  package var verification: VerificationObservation?
  package var copyPace: PaceObservation
  package var comparisonPace: PaceObservation
  /// Up to now.
  package var copyStages: CopyStages
  /// Of the link's protocol; nil without a link.
  package var linkVersion: UInt16?
}
