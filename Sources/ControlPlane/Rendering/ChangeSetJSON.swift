import AgentProtocol
import BlockModel
import Diagnostics
import Foundation
package import Planning

/// One versioned JSON object on one line. Readers ignore fields that they don't know, and refuse a `formatVersion`
/// that they don't know.
package func renderJSON(_ changes: ChangeSet) -> String { encoded(ChangeSetDocument(changes)) + "\n" }

/// Sorted keys, so that equal change sets are equal texts.
func encoded(_ value: some Encodable) -> String {
  let encoder = JSONEncoder()
  encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
  encoder.nonConformingFloatEncodingStrategy = .convertToString(
    positiveInfinity: "unknown", negativeInfinity: "unknown", nan: "unknown")
  guard let data = try? encoder.encode(value) else { return "{}" }
  return String(decoding: data, as: UTF8.self)
}

struct ChangeSetDocument: Encodable {
  struct Step: Encodable {
    var step: String
    var subject: String
    var towards: String
    var summary: String
    var why: String
    var precondition: String
    var reversibility: String
    var cost: String
    var bytesToMove: UInt64?
    var estimatedSeconds: Double?
    var bandwidthMeasured: Bool
    var pauseSeconds: Double?
    var note: String
    var waitsFor: Int?
    init(_ change: Change) {
      step = change.action.kind
      subject = change.action.subject
      towards = change.towards.rawValue
      summary = change.summary
      why = change.why
      precondition = change.precondition
      reversibility = change.reversibility.rawValue
      cost = change.price.cost.rawValue
      bytesToMove = change.price.bytesToMove
      estimatedSeconds = change.price.estimatedSeconds
      bandwidthMeasured = change.price.bandwidthMeasured
      pauseSeconds = change.price.pauseSeconds
      note = change.price.note
      waitsFor = change.waitsFor
    }
  }
  struct Wait: Encodable {
    var reason: String
    var opensAt: Double?
    var message: String
    var advice: String
    init(_ waiting: Waiting) {
      switch waiting.reason {
      case .window(let at):
        reason = "window"
        opensAt = at?.secondsSince1970
      case .approval: reason = "approval"
      case .hold: reason = "hold"
      case .moves: reason = "moves"
      case .saved: reason = "saved"
      case .guardrail: reason = "guardrail"
      case .unreviewed: reason = "unreviewed"
      case .confirmation(let by):
        reason = "confirmation"
        opensAt = by?.secondsSince1970
      case .wave(_, let until):
        reason = "wave"
        opensAt = until?.secondsSince1970
      case .group: reason = "group"
      }
      message = waiting.message
      advice = waiting.advice
    }
  }
  struct Note: Encodable {
    var severity: String
    var code: String
    var position: String?
    var message: String
    var advice: String
    init(_ diagnostic: Diagnostic) {
      severity = diagnostic.severity.rawValue
      code = diagnostic.code
      position = diagnostic.position?.description
      message = diagnostic.message
      advice = diagnostic.advice
    }
  }
  struct Entry: Encodable {
    var migration: String
    var reached: String
    var tombstone: Bool
    var target: String
    /// Only of one that left the document and is ended.
    var pruned: Bool?
    var configurationDigest: String
    var noChanges: Bool
    var health: ReplicationHealth?
    var changes: [Step]
    var waiting: [Wait]
    var diagnostics: [Note]
    init(_ entry: MigrationChanges) {
      migration = entry.migration.text
      switch entry.reached {
      case .nothing: reached = "nothing"
      case .pastFence: reached = "pastFence"
      case .unknown: reached = "unknown"
      case .reached(let phase), .tombstoned(let phase): reached = phase.rawValue
      }
      tombstone = if case .tombstoned = entry.reached { true } else { false }
      target = entry.target.rawValue
      pruned = entry.isPruned
      configurationDigest = entry.configurationDigest
      noChanges = entry.isNoOp
      health = entry.health
      changes = entry.changes.map(Step.init)
      waiting = entry.waiting.map(Wait.init)
      diagnostics = entry.diagnostics.map(Note.init)
    }
  }
  struct Unmanaged: Encodable {
    var kind: String
    var name: String
    var migration: String?
    var detail: String
  }
  var kind = "ChangeSet"
  var formatVersion = ChangeSet.formatVersion
  var plan: String
  var planName: String
  var observedAt: Double
  var noChanges: Bool
  var hasErrors: Bool
  var migrations: [Entry]
  var unmanaged: [Unmanaged]
  var diagnostics: [Note]

  init(_ changes: ChangeSet) {
    plan = changes.plan.text
    planName = changes.planName
    observedAt = changes.observedAt.secondsSince1970
    noChanges = changes.isNoOp
    hasErrors = changes.hasErrors
    migrations = changes.migrations.map(Entry.init)
    unmanaged = changes.unmanaged.map {
      Unmanaged(kind: $0.kind.rawValue, name: $0.name, migration: $0.migration?.text, detail: $0.detail)
    }
    diagnostics = changes.diagnostics.map(Note.init)
  }
}
