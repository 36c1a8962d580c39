package import BlockModel
import H2HProtocol

/// What a person asks to be compared, with the application running.
package struct VerificationRequest: Sendable, Equatable {
  package enum Scope: String, Sendable {
    case all
    /// What was written since the initial synchronization.
    case changed
  }
  package var scope: Scope
  /// Whether what differs is copied again, from the side with authority. Otherwise it is only told.
  package var repairs: Bool
  package init(scope: Scope, repairs: Bool) {
    self.scope = scope
    self.repairs = repairs
  }
}

/// An extent that differs though no mark says that it may: something rotted, or somebody's hands were on a disk.
package struct FoundDifference: Sendable, Equatable {
  package enum Outcome: String, Sendable {
    /// Told and left as it is, as asked.
    case found
    /// Being copied again.
    case repairing
    /// Copied again, and found equal.
    case repaired
    /// In stand-in the application reads the destination: it is copied again once authority is back at the source.
    case waitsForRevert
    /// Differs again after it was copied so often as helps.
    case persistent
    /// One of the two disks could not read it.
    case unreadable
  }
  package var volume: VolumeName
  package var range: ByteRange
  package var outcome: Outcome
  package init(volume: VolumeName, range: ByteRange, outcome: Outcome) {
    self.volume = volume
    self.range = range
    self.outcome = outcome
  }
}

/// How far the last verification is.
package struct VerificationObservation: Sendable, Equatable {
  package var request: VerificationRequest
  package var startedAt: WallTime
  /// Nil while it runs.
  package var endedAt: WallTime?
  /// Why it ended before everything was compared; nil where it didn't.
  package var givenUp: String?
  package var totalBytes: UInt64
  package var remainingBytes: UInt64
  /// The first so many; `differenceCount` counts all that were found, `openCount` those that still differ, for all that is
  /// known, or can't be read.
  package var differences: [FoundDifference]
  package var differenceCount: Int
  package var openCount: Int
  /// Whether its receipt is durable.
  package var hasReceipt: Bool
}

/// A verification that runs, or the last one that did.
struct Verification: Sendable {
  /// Differences that are named; the others are counted.
  static let namedLimit = 64

  let request: VerificationRequest
  let startedAt: WallTime
  var endedAt: WallTime?
  var givenUp: String?
  let totalBytes: UInt64
  /// By volume: extents about which nothing is known yet.
  var pending: [BitSet]
  /// By volume: extents that were found different, and not equal since.
  var differing: [BitSet]
  var named: [(volume: Int, extent: Int, difference: FoundDifference)] = []
  var found = 0
  var unreadable = 0
  /// All is compared, and the receipt is being stored.
  var isStoring = false
  var hasReceipt = false

  var isRunning: Bool { endedAt == nil && !isStoring }

  mutating func name(_ volume: Int, _ extent: Int, _ difference: FoundDifference) {
    if let index = named.firstIndex(where: { $0.volume == volume && $0.extent == extent }) {
      named[index].difference = difference
    } else if named.count < Self.namedLimit {
      named.append((volume, extent, difference))
    }
  }
}

extension SourceMachine {
  // MARK: the command

  /// All extents (or those that changed) anew: what was found equal once may have rotted since.
  mutating func verify(_ request: VerificationRequest, into effects: inout [SourceEffect]) -> CommandAnswer {
    guard initialSynchronizationAt != nil, stage == .tracking || stage == .standIn else {
      return .refused(why: "volumes are compared once they are synchronized; the session is at \(stage.rawValue)")
    }
    var pending: [BitSet] = []
    var total: UInt64 = 0
    for index in volumes.indices {
      let count = volumes[index].extentCount
      let targets = request.scope == .all ? BitSet(count: count, all: true) : volumes[index].changed
      var extent = 0
      while let run = targets.nextRun(from: extent, limit: count) {
        volumes[index].verified.remove(run)
        total += volumes[index].bytes(ofExtents: run).length
        extent = run.upperBound
      }
      pending.append(targets)
    }
    for index in comparisons.indices { comparisons[index].isSpoiled = true }
    verification = Verification(
      request: request, startedAt: wall, totalBytes: total, pending: pending,
      differing: volumes.map { BitSet(count: $0.extentCount) })
    repairs = [:]
    verifyCursor = (0, 0)
    isVerificationIdle = false
    verificationRetryAt = nil
    pump(into: &effects)
    return .accepted
  }

  // MARK: what goes on

  /// The next extent at or after the cursor that the verification wants, once around.
  func nextPending() -> (volume: Int, extent: Int)? {
    guard let verification else { return nil }
    for step in 0...volumes.count {
      let volume = (verifyCursor.volume + step) % volumes.count
      if let extent = verification.pending[volume].next(from: step == 0 ? verifyCursor.extent : 0) {
        return (volume, extent)
      }
    }
    return nil
  }

  /// Ends a verification that has nothing left to compare, or that the session went on without.
  mutating func advanceVerification(into effects: inout [SourceEffect]) {
    guard let isDone = verification.map({ $0.isRunning && $0.pending.allSatisfy { $0.setCount == 0 } }) else { return }
    if isDone {
      verification?.isStoring = true
      let mode: VerifyMode = verification?.request.scope == .changed ? .changed : .full
      effects.append(.keepVerification(receiptDraft(mode)))
    } else if verification?.isRunning == true, ![.tracking, .swinging, .standIn].contains(stage) {
      giveUpVerification("the session went on to \(stage.rawValue)", into: &effects)
    }
  }

  mutating func giveUpVerification(_ why: String, into effects: inout [SourceEffect]) {
    let at = wall
    verification?.givenUp = why
    verification?.endedAt = at
    effects.append(.journal("verification given up: \(why)"))
  }

  mutating func verificationKept(_ isKept: Bool, into effects: inout [SourceEffect]) {
    guard verification?.isStoring == true else { return }
    let at = wall
    verification?.isStoring = false
    verification?.endedAt = at
    verification?.hasReceipt = isKept
    let count = verification?.found ?? 0
    effects.append(.journal("verification ended: \(count) extents differed"))
  }

  // MARK: what is found

  mutating func noteEqual(_ volume: Int, _ extent: Int) {
    guard verification != nil else { return }
    verification?.pending[volume].remove(extent..<extent + 1)
    guard verification?.differing[volume].contains(extent) == true else { return }
    verification?.differing[volume].remove(extent..<extent + 1)
    name(volume, extent, .repaired)
  }

  mutating func noteUnreadable(_ volume: Int, _ extent: Int) {
    guard verification?.isRunning == true, verification?.pending[volume].contains(extent) == true else { return }
    verification?.pending[volume].remove(extent..<extent + 1)
    verification?.unreadable += 1
    name(volume, extent, .unreadable)
  }

  /// Whether this difference is only told of. What relies on the copy (a swing, a proof) copies it all the same.
  mutating func isOnlyTold(_ volume: Int, _ extent: Int) -> Bool {
    guard stage != .proving, verification?.isRunning == true, verification?.request.repairs == false,
      verification?.pending[volume].contains(extent) == true
    else { return false }
    noteDifferent(volume, extent, .found)
    return true
  }

  /// A difference that is being copied again.
  mutating func noteRepair(_ volume: Int, _ extent: Int, times: Int) {
    guard verification?.isRunning == true, verification?.pending[volume].contains(extent) == true else { return }
    if authority == .standIn {
      noteDifferent(volume, extent, .waitsForRevert)
    } else if times > Self.repairLimit {
      noteDifferent(volume, extent, .persistent)
    } else {
      let isNew = verification?.differing[volume].contains(extent) == false
      if isNew { verification?.found += 1 }
      verification?.differing[volume].insert(extent..<extent + 1)
      name(volume, extent, .repairing)
    }
  }

  /// Nothing more is found out about it in this verification.
  private mutating func noteDifferent(_ volume: Int, _ extent: Int, _ outcome: FoundDifference.Outcome) {
    verification?.pending[volume].remove(extent..<extent + 1)
    if verification?.differing[volume].contains(extent) == false { verification?.found += 1 }
    verification?.differing[volume].insert(extent..<extent + 1)
    name(volume, extent, outcome)
  }

  private mutating func name(_ volume: Int, _ extent: Int, _ outcome: FoundDifference.Outcome) {
    verification?.name(
      volume, extent,
      FoundDifference(
        volume: volumes[volume].name, range: volumes[volume].bytes(ofExtent: extent), outcome: outcome))
  }

  // MARK: what was only told

  /// Whether the extent is known to differ and is left so because nobody asked for more than to be told.
  func isLeftDifferent(_ volume: Int, _ extent: Int) -> Bool {
    guard let verification, !verification.request.repairs else { return false }
    return verification.differing[volume].contains(extent)
  }

  /// Before anything relies on the copy: what is known to differ is copied again like what was written.
  mutating func markLeftDifferent(into effects: inout [SourceEffect]) {
    guard let verification, !verification.request.repairs else { return }
    for volume in volumes.indices {
      var extent = 0
      while let run = verification.differing[volume].nextRun(from: extent, limit: volumes[volume].extentCount) {
        markRotten(volume, run, into: &effects)
        extent = run.upperBound
      }
    }
    for (volume, extent, _) in verification.named where isLeftDifferent(volume, extent) {
      name(volume, extent, .repairing)
    }
    forgetLeftDifferent()
  }

  /// All of it is copied again anyhow.
  mutating func forgetLeftDifferent() {
    guard verification?.request.repairs == false else { return }
    for volume in volumes.indices { verification?.differing[volume].removeAll() }
  }

  /// Copies extents again that differ though nobody wrote them, also after a crash.
  mutating func markRotten(_ volume: Int, _ extents: Range<Int>, into effects: inout [SourceEffect]) {
    volumes[volume].changed.insert(extents)
    _ = volumes[volume].intent.require(extents)
    storeIntents(of: volume, into: &effects)
    let blocks = volumes[volume].blocks(ofExtents: extents)
    // What was zero there may be what rotted: zeroes have to be written again too.
    volumes[volume].knownZero?.remove(blocks)
    markDirty(volume, blocks)
  }

  // MARK: seen

  var verificationObservation: VerificationObservation? {
    verification.map { verification in
      var remaining: UInt64 = 0
      var open = verification.unreadable
      for volume in volumes.indices {
        remaining += UInt64(verification.pending[volume].setCount) * volumes[volume].intent.extentBytes
        open += verification.differing[volume].setCount
      }
      return VerificationObservation(
        request: verification.request, startedAt: verification.startedAt, endedAt: verification.endedAt,
        givenUp: verification.givenUp, totalBytes: verification.totalBytes,
        // The last extent of a volume may be a short one.
        remainingBytes: min(remaining, verification.totalBytes), differences: verification.named.map(\.difference),
        differenceCount: verification.found, openCount: open, hasReceipt: verification.hasReceipt)
    }
  }
}
