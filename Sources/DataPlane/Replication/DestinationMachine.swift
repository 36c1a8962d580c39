package import BlockModel
package import H2HProtocol

package struct DestinationConfiguration: Sendable, Equatable {
  package struct Volume: Sendable, Equatable {
    package var name: VolumeName
    /// The source's length; the device has at least this.
    package var sizeBytes: UInt64
    /// The device (and what is withheld) reads as zero all over. Only believed while nothing was written.
    package var isKnownZero: Bool
    package init(name: VolumeName, sizeBytes: UInt64, isKnownZero: Bool = false) {
      self.name = name
      self.sizeBytes = sizeBytes
      self.isKnownZero = isKnownZero
    }
  }
  package var session: SessionID
  package var volumes: [Volume]
  package var bootID: String
  package var openEpoch: UInt64
  /// The source agent's key; the channel has checked it, the label says it.
  package var peer: KeyFingerprint
  /// Random and not 0: the name of the copy if there is no record yet.
  package var newCopyID: UInt64

  package init(
    session: SessionID, volumes: [Volume], bootID: String, openEpoch: UInt64, peer: KeyFingerprint, newCopyID: UInt64
  ) {
    self.session = session
    self.volumes = volumes
    self.bootID = bootID
    self.openEpoch = openEpoch
    self.peer = peer
    self.newCopyID = newCopyID
  }
}

package struct DestinationObservation: Sendable, Equatable {
  package var stage: DestinationStage
  package var authority: CopyAuthority
  package var generation: Generation
  package var isConnected: Bool
  package var inconsistentSince: WallTime?
  package var copyID: UInt64
  /// By volume: what the link read and wrote. Reads are the application's, in stand-in.
  package var volumes: [DestinationVolumeObservation]
  package var lastError: String?
}

package struct DestinationVolumeObservation: Sendable, Equatable {
  package var reads: UInt64 = 0
  package var readBytes: UInt64 = 0
  package var mirroredWrites: UInt64 = 0
  package var mirroredBytes: UInt64 = 0
  package var copiedBytes: UInt64 = 0
  package var flushes: UInt64 = 0
  package init() {}
}

/// The destination's half of a session: decides, and does no I/O. One lock around `handle` serializes its events.
package struct DestinationMachine: Sendable {
  package let configuration: DestinationConfiguration
  package private(set) var stage: DestinationStage = .prepared

  package init(configuration: DestinationConfiguration, record: SessionRecord?) { self.configuration = configuration }

  package mutating func handle(
    _ event: DestinationEvent, at now: MonotonicTime, into effects: inout [DestinationEffect]
  ) {}

  /// Whether this host may open the device: only after the release.
  package var mayOpenLocally: Bool { stage == .released }
}
