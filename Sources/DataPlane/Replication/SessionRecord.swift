package import BlockModel
package import H2HProtocol

/// Where the source's half of a session is. Names match AgentProtocol's `SessionStage`.
package enum SourceStage: String, Sendable {
  case prepared
  case synchronizing
  case tracking
  case swinging
  case standIn
  case tapClosed
  case proving
  case proven
  case fenced
  case cancelled
}

/// Where the destination's half is.
package enum DestinationStage: String, Sendable {
  case prepared
  case receiving
  case standIn
  /// The source is fenced; not released yet.
  case fenced
  case releasing
  case released
  case cancelled
}

/// The durable heart of a session's half: what a restart begins with. One record for all volumes (DESIGN §8.4).
package struct SessionRecord: Sendable, Equatable {
  package var session: SessionID
  package var role: Role
  package var generation: Generation
  package var authority: CopyAuthority
  /// (destination)
  package var prepared: Generation?
  package var preparedAuthority: CopyAuthority?
  /// (destination) Name of its copy. (source) The copy whose differences the intent map describes; 0: none yet.
  package var copyID: UInt64
  /// `SourceStage` or `DestinationStage` by its raw value; only lasting ones are restored.
  package var stage: String
  /// (source)
  package var initialSynchronizationAt: WallTime?
  package var swings: Int
  /// (source) Since when authority is the stand-in's; nil where it isn't, and in records of agents that didn't note it.
  package var standInSince: WallTime?
  package var receiptDigest: String?
  package var holdCause: HoldCause?
  package var holdWhy: String?
  /// (destination) Nil: consistent. Otherwise since when it is not.
  package var inconsistentSince: WallTime?
  /// Lines of a later version, kept as they are.
  package var unknown: [String]

  package init(session: SessionID, role: Role, generation: Generation, authority: CopyAuthority, stage: String) {
    self.session = session
    self.role = role
    self.generation = generation
    self.authority = authority
    self.stage = stage
    copyID = 0
    swings = 0
    unknown = []
  }
}

/// What a proof found, without its digests of digests: the driver has SHA-256. See `Receipt` for the file.
package struct ReceiptDraft: Sendable, Equatable {
  package struct Volume: Sendable, Equatable {
    package var name: VolumeName
    package var sizeBytes: UInt64
    package var extentBytes: UInt64
    package var comparedBytes: UInt64
    /// By extent; nil where it was not compared.
    package var digests: [ExtentDigest?]
    package init(
      name: VolumeName, sizeBytes: UInt64, extentBytes: UInt64, comparedBytes: UInt64, digests: [ExtentDigest?]
    ) {
      self.name = name
      self.sizeBytes = sizeBytes
      self.extentBytes = extentBytes
      self.comparedBytes = comparedBytes
      self.digests = digests
    }
  }
  package var session: SessionID
  package var generation: Generation
  package var verify: VerifyMode
  package var at: WallTime
  package var volumes: [Volume]
  package init(
    session: SessionID, generation: Generation, verify: VerifyMode, at: WallTime, volumes: [Volume]
  ) {
    self.session = session
    self.generation = generation
    self.verify = verify
    self.at = at
    self.volumes = volumes
  }
}

/// Says on the withheld first block of a destination device whose it is (DESIGN §8.9).
package struct DeviceLabel: Sendable, Equatable {
  package var session: SessionID
  package var volume: VolumeName
  package var sizeBytes: UInt64
  package var generation: Generation
  package var authority: CopyAuthority
  package var peer: KeyFingerprint
  package var copyID: UInt64
  /// Nil: consistent.
  package var inconsistentSince: WallTime?
  package var isCancelled: Bool

  package init(
    session: SessionID, volume: VolumeName, sizeBytes: UInt64, generation: Generation, authority: CopyAuthority,
    peer: KeyFingerprint, copyID: UInt64, inconsistentSince: WallTime?, isCancelled: Bool
  ) {
    self.session = session
    self.volume = volume
    self.sizeBytes = sizeBytes
    self.generation = generation
    self.authority = authority
    self.peer = peer
    self.copyID = copyID
    self.inconsistentSince = inconsistentSince
    self.isCancelled = isCancelled
  }

  /// The same label for another of the session's volumes.
  package func forVolume(_ name: VolumeName, sizeBytes: UInt64) -> DeviceLabel {
    var label = self
    label.volume = name
    label.sizeBytes = sizeBytes
    return label
  }
}
