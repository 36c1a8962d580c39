package import AgentProtocol
package import BlockModel
internal import Seams

extension Catalogue {
  /// Of a session that is there, or of one whose directory is gone: then only the receipt is left, beside the tombstone.
  package func evidence(_ call: ReadEvidenceCall, of half: SessionID) throws(AgentFault) -> EvidencePart {
    let path: String
    switch call.evidence {
    case .receipt: path = SourceFiles.receipt(half)
    case .journal: path = Journal.path(of: half)
    case .olderJournal: path = Journal.olderPath(of: half)
    }
    let limit = ReadEvidenceCall.partLimitBytes
    do throws(StateStoreError) {
      if let part = try state.readPart(path, from: call.offset, limitBytes: limit) {
        return EvidencePart(part.bytes, ofSizeBytes: part.sizeBytes)
      }
      let isOfSource = call.evidence == .receipt && call.role == .source
      if isOfSource,
        let part = try tombstoneFiles.readPart(Self.keptReceipt(call.session), from: call.offset, limitBytes: limit)
      {
        return EvidencePart(part.bytes, ofSizeBytes: part.sizeBytes)
      }
    } catch {
      throw AgentFault(storeError: error)
    }
    return EvidencePart([], ofSizeBytes: nil)
  }

  /// Where the receipt of a session that was deleted is, below the tombstones.
  static func keptReceipt(_ session: SessionID) -> String { "receipts/\(fileName(session.text))" }
}
