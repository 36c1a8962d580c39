import AgentProtocol
import BlockModel
package import Reconciling

/// What a verification found, a block a migration. A difference is told as what it is: nobody wrote there.
package func renderVerification(_ results: [VerificationResult], style: TextStyle) -> String {
  var text = ""
  for result in results {
    if let why = result.skipped {
      text += style.folded("", leadWidth: 0, "\(result.migration): not compared: \(safe(why))", indent: 2)
    } else if let report = result.report {
      text += block(report, of: result, style)
    }
  }
  return text
}

private func block(_ report: VerificationReport, of result: VerificationResult, _ style: TextStyle) -> String {
  var text = style.folded(
    "", leadWidth: 0, "\(result.migration): \(verdict(report))", indent: 2, ink: report.isClean ? .good : .bad)
  for difference in report.differences {
    text += style.folded(
      "  ", leadWidth: 2,
      safe(
        "volume \(difference.volume): the copies differ at [\(difference.offset), +\(difference.length)) though "
          + "nothing was written there: \(words(difference.outcome))"), indent: 4)
  }
  let unnamed = report.differenceCount - report.differences.count { $0.outcome != .unreadable }
  if unnamed > 0 { text += "  and \(Quantity.count(unnamed, "extent")) more\n" }
  if !report.repairs, report.differences.contains(where: { $0.outcome == .found }) {
    text += style.folded(
      "  = ", leadWidth: 4,
      "cmcplan verify \(result.migration) --repair copies them again from the side with authority; so do cMotion and "
        + "finalize", indent: 4)
  }
  for volume in report.volumes {
    text += style.folded(
      "  ", leadWidth: 2,
      safe("volume \(volume.name): \(Quantity.bytes(volume.comparedBytes)) equal, root \(volume.root)"), indent: 4)
  }
  if let receipt = report.receipt {
    text += style.folded(
      "  ", leadWidth: 2, safe("receipt on \(result.source): \(receipt.path) (SHA-256 \(receipt.digest))"), indent: 4)
  } else if report.givenUp == nil {
    text += style.folded(
      "  ", leadWidth: 2, "no receipt: it could not be stored on \(result.source); free space in its state directory",
      indent: 4)
  }
  return text
}

private func verdict(_ report: VerificationReport) -> String {
  let scope = report.scope == .all ? "" : " that was written since the initial synchronization"
  let compared = "\(Quantity.bytes(report.totalBytes - min(report.totalBytes, report.remainingBytes)))\(scope) compared"
  let seconds =
    report.endedAt.map { " in " + Quantity.duration($0.secondsSince1970 - report.startedAt.secondsSince1970) } ?? ""
  if let why = report.givenUp { return "\(compared)\(seconds), then given up: \(safe(why))" }
  if report.differenceCount == 0, report.openCount == 0 { return "\(compared)\(seconds): all equal" }
  let found = "\(compared)\(seconds): \(Quantity.count(report.differenceCount, "extent")) differed"
  return report.openCount == 0
    ? found + ", copied again and equal now" : found + ", \(report.openCount) still differ or can't be read"
}

private func words(_ outcome: ExtentDifference.Outcome) -> String {
  switch outcome {
  case .found: "left as it is"
  case .repairing: "being copied again from the side with authority"
  case .repaired: "copied again from the side with authority, and equal now"
  case .waitsForRevert: "the application reads the destination now; it is copied again after cMotion is reverted"
  case .persistent: "differs again after it was copied several times; look at both disks"
  case .unreadable: "one of the disks can't read it; see the kernel logs of both hosts"
  }
}

/// One object for all of them.
package func renderVerificationJSON(_ results: [VerificationResult]) -> String {
  encoded(VerificationDocument(results)) + "\n"
}

private struct VerificationDocument: Encodable {
  struct Difference: Encodable {
    var volume: String
    var offset: UInt64
    var length: UInt64
    var outcome: String
  }
  struct Volume: Encodable {
    var volume: String
    var equalBytes: UInt64
    var root: String
  }
  struct Entry: Encodable {
    var migration: String
    var source: String
    /// equal, repaired, differs, incomplete, skipped or failed.
    var result: String
    var scope: String?
    var repair: Bool?
    var startedAt: Double?
    var endedAt: Double?
    var totalBytes: UInt64?
    var remainingBytes: UInt64?
    var differences: [Difference]?
    var differenceCount: Int?
    var openCount: Int?
    var volumes: [Volume]?
    var receipt: String?
    var receiptDigest: String?
    var message: String?
    var code: String?
  }
  var kind = "Verification"
  var formatVersion = 1
  var migrations: [Entry]

  init(_ results: [VerificationResult]) {
    migrations = results.map { result in
      var entry = Entry(migration: result.migration.text, source: result.source.text, result: "failed")
      if let why = result.skipped {
        entry.result = "skipped"
        entry.message = why
      }
      entry.code = result.error?.code
      if let error = result.error { entry.message = error.message }
      guard let report = result.report else { return entry }
      entry.result = Self.word(report)
      entry.message = report.givenUp
      entry.scope = report.scope.rawValue
      entry.repair = report.repairs
      entry.startedAt = report.startedAt.secondsSince1970
      entry.endedAt = report.endedAt?.secondsSince1970
      entry.totalBytes = report.totalBytes
      entry.remainingBytes = report.remainingBytes
      entry.differences = report.differences.map {
        Difference(volume: $0.volume.text, offset: $0.offset, length: $0.length, outcome: $0.outcome.rawValue)
      }
      entry.differenceCount = report.differenceCount
      entry.openCount = report.openCount
      entry.volumes = report.volumes.map {
        Volume(volume: $0.name.text, equalBytes: $0.comparedBytes, root: $0.root)
      }
      entry.receipt = report.receipt?.path
      entry.receiptDigest = report.receipt?.digest
      return entry
    }
  }

  private static func word(_ report: VerificationReport) -> String {
    if report.givenUp != nil { return "incomplete" }
    if report.openCount > 0 { return "differs" }
    return report.differenceCount > 0 ? "repaired" : "equal"
  }
}
