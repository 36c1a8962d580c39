internal import AgentProtocol
internal import BlockModel
internal import H2HProtocol
internal import LinuxPlatform
internal import Replication
internal import Seams

extension SourceSession {
  /// What the last verification left: its file, and the roots in it.
  struct KeptVerification: Sendable {
    var receipt: ReceiptSummary
    var volumes: [VerificationReport.Volume]
  }

  func verify(_ scope: VerificationScope, repairs: Bool) throws(AgentFault) {
    try commands.withLock { _ throws(AgentFault) in
      let request = VerificationRequest(scope: scope == .all ? .all : .changed, repairs: repairs)
      let now = resources.time.monotonicNow()
      let last = state.withLock { $0.machine.observation(at: now).verification }
      // A call that is repeated must not begin from the beginning.
      if let last, last.endedAt == nil, last.request == request { return }
      journal.append("verify", scope.rawValue + (repairs ? ", repairing" : ""))
      try ask(.verify(request))
    }
  }

  /// Beside the session's receipt, which is of the cutover alone.
  func keepVerification(_ draft: ReceiptDraft) {
    let bytes = Receipt.text(draft, sha256: DeviceDigest.of)
    let path = SourceFiles.verification(session)
    do throws(StateStoreError) {
      try resources.catalogue.state.replace(path, with: bytes)
    } catch {
      journal.append("verificationNotStored", error.message)
      return post(.verificationKept(isKept: false))
    }
    let kept = KeptVerification(
      receipt: ReceiptSummary(
        digest: DeviceDigest.of(bytes).description, verify: draft.verify.rawValue,
        comparedBytes: draft.volumes.reduce(0) { $0 + $1.comparedBytes }, at: draft.at,
        path: "\(resources.root.state)/\(path)"),
      volumes: draft.volumes.map { volume in
        VerificationReport.Volume(
          name: volume.name, comparedBytes: volume.comparedBytes,
          root: Receipt.root(of: volume.digests, sha256: DeviceDigest.of).description)
      })
    state.withLock { $0.keptVerification = kept }
    post(.verificationKept(isKept: true))
  }
}

extension VerificationReport {
  init(_ seen: VerificationObservation, _ kept: SourceSession.KeptVerification?) {
    self.init(
      scope: seen.request.scope == .all ? .all : .changed, repairs: seen.request.repairs, startedAt: seen.startedAt,
      totalBytes: seen.totalBytes, remainingBytes: seen.remainingBytes)
    endedAt = seen.endedAt
    givenUp = seen.givenUp
    differences = seen.differences.map { difference in
      ExtentDifference(
        volume: difference.volume, offset: difference.range.offset, length: difference.range.length,
        outcome: ExtentDifference.Outcome(difference.outcome))
    }
    differenceCount = seen.differenceCount
    openCount = seen.openCount
    guard seen.hasReceipt, let kept else { return }
    receipt = kept.receipt
    volumes = kept.volumes
  }
}

extension ExtentDifference.Outcome {
  init(_ outcome: FoundDifference.Outcome) {
    self =
      switch outcome {
      case .found: .found
      case .repairing: .repairing
      case .repaired: .repaired
      case .waitsForRevert: .waitsForRevert
      case .persistent: .persistent
      case .unreadable: .unreadable
      }
  }
}
