package import BlockModel
internal import FoundationEssentials

/// A file of a session that says what happened, for an archive. None of them holds a secret.
package enum Evidence: String, Codable, Sendable, CaseIterable {
  /// The proof that both copies were identical; at the source, also after its session was deleted.
  case receipt
  /// The session's journal, JSON lines.
  case journal
  /// What the journal held before it began anew at its size limit.
  case olderJournal
}

/// Reads a part of a session's file. Changes nothing, so it needs no lease and may be repeated at any time.
package struct ReadEvidenceCall: SessionCall {
  package typealias Answer = EvidencePart
  package static let method = "readEvidence"
  /// Bytes in one answer at most; in base64 it fits a message.
  package static let partLimitBytes = 2 << 20
  package var session: SessionID
  package var role: Role
  package var evidence: Evidence
  package var offset: UInt64
  package init(session: SessionID, role: Role, evidence: Evidence, offset: UInt64) {
    self.session = session
    self.role = role
    self.evidence = evidence
    self.offset = offset
  }
}

package struct EvidencePart: Codable, Sendable, Equatable {
  /// Of the whole file; nil where there is none.
  package var sizeBytes: UInt64?
  private var base64: String

  package init(_ bytes: [UInt8], ofSizeBytes sizeBytes: UInt64?) {
    self.sizeBytes = sizeBytes
    base64 = Data(bytes).base64EncodedString()
  }

  /// From the offset that was asked for; nil where the answer is garbled.
  package var bytes: [UInt8]? { Data(base64Encoded: base64).map { [UInt8]($0) } }
}
