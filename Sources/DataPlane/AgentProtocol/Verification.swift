package import BlockModel

/// Compares both copies of a session's volumes, with the application running, throttled like copying. To the source's
/// agent; answered as soon as it began, and seen in the session's `verification`.
///
/// No lease is needed: nothing moves but what differs though nobody wrote it, and that from the side with authority. The
/// same call again, while it runs, changes nothing; another one takes its place.
package struct VerifyCall: SessionCall {
  package typealias Answer = SessionObservation
  package static let method = "verify"
  package var session: SessionID
  package var scope: VerificationScope
  /// Whether what differs is copied again; otherwise it is only told.
  package var repairs: Bool
  package init(session: SessionID, scope: VerificationScope, repairs: Bool) {
    self.session = session
    self.scope = scope
    self.repairs = repairs
  }
}

package enum VerificationScope: String, Codable, Sendable {
  case all
  /// What was written since the initial synchronization.
  case changed
}

/// An extent that differs though nothing says that it may: something rotted, or somebody's hands were on a disk.
package struct ExtentDifference: Codable, Sendable, Equatable {
  package enum Outcome: String, Codable, Sendable {
    /// Told and left as it is, as asked.
    case found
    case repairing
    /// Copied again from the side with authority, and found equal.
    case repaired
    /// In stand-in: copied again once authority is back at the source.
    case waitsForRevert
    /// Differs again after it was copied several times.
    case persistent
    /// One of the two disks could not read it.
    case unreadable
  }
  package var volume: VolumeName
  package var offset: UInt64
  package var length: UInt64
  package var outcome: Outcome
  package init(volume: VolumeName, offset: UInt64, length: UInt64, outcome: Outcome) {
    self.volume = volume
    self.offset = offset
    self.length = length
    self.outcome = outcome
  }
}

/// The verification that runs, or the last one since the agent started.
package struct VerificationReport: Codable, Sendable, Equatable {
  package struct Volume: Codable, Sendable, Equatable {
    package var name: VolumeName
    /// Equal on both sides at the end, and not written since it was compared.
    package var comparedBytes: UInt64
    /// SHA-256 over the SHA-256 of every extent, as in a receipt.
    package var root: String
    package init(name: VolumeName, comparedBytes: UInt64, root: String) {
      self.name = name
      self.comparedBytes = comparedBytes
      self.root = root
    }
  }
  package var scope: VerificationScope
  package var repairs: Bool
  package var startedAt: WallTime
  /// Nil while it runs.
  package var endedAt: WallTime?
  /// Why it ended before everything was compared; nil where it didn't.
  package var givenUp: String?
  package var totalBytes: UInt64
  package var remainingBytes: UInt64
  /// The first of them; `differenceCount` counts all.
  package var differences: [ExtentDifference] = []
  package var differenceCount = 0
  /// Extents that still differ, for all that is known, or can't be read.
  package var openCount = 0
  /// Of a verification that ended: the digests of what was equal, in the format of a receipt, and their roots.
  package var receipt: ReceiptSummary?
  package var volumes: [Volume] = []
  package init(
    scope: VerificationScope, repairs: Bool, startedAt: WallTime, totalBytes: UInt64, remainingBytes: UInt64
  ) {
    self.scope = scope
    self.repairs = repairs
    self.startedAt = startedAt
    self.totalBytes = totalBytes
    self.remainingBytes = remainingBytes
  }
  /// Ended, everything was compared, and nothing differs any more.
  package var isClean: Bool { endedAt != nil && givenUp == nil && openCount == 0 }
}
