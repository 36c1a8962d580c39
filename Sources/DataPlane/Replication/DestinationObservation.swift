package import BlockModel
package import H2HProtocol

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
