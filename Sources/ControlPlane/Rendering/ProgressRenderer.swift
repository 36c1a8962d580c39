import AgentProtocol
package import BlockModel
import Diagnostics
import MigrationModel
import Planning
package import Reconciling

/// Turns progress events into what is written to the terminal, or to a log. Pure: answers the text to write.
///
/// On a terminal the lines of what runs now stand at the bottom and are drawn over; what is done scrolls away above
/// them. Elsewhere there are plain lines, and of a long synchronization one from time to time.
package struct ProgressRenderer: Sendable {
  package enum Format: Sendable {
    case text
    case json
  }

  private struct Bar: Sendable {
    var percent = 0.0
    var grewDirty = false
    var line = ""
  }

  /// Lines that are drawn over; more are counted only.
  private static let mostLiveLines = 16
  /// Lines of the terminal that are left to what scrolls: what left the screen can't be drawn over.
  private static let scrollingRows = 2
  /// Between two plain lines about the same migration.
  private static let plainIntervalSeconds = 10.0
  private static let barColumns = 24

  private let format: Format
  private var style: TextStyle
  private var liveLineLimit = ProgressRenderer.mostLiveLines
  private var running: [Action: MonotonicTime] = [:]
  private var bars: [MigrationName: Bar] = [:]
  private var lastPlain: [MigrationName: (at: MonotonicTime, line: String)] = [:]
  private var liveLines = 0

  package init(format: Format, style: TextStyle) {
    self.format = format
    self.style = style
  }

  package mutating func render(_ event: ProgressEvent, at now: MonotonicTime) -> String {
    if format == .json { return ProgressDocument(event).map { encoded($0) + "\n" } ?? "" }
    let lines = take(event, at: now)
    guard style.live else { return lines.joined() }
    return draw(under: lines, at: now)
  }

  /// The size of the terminal's window, which may change at any time.
  package mutating func fit(columns: Int, rows: Int) {
    style.width = min(max(columns, 20), 200)
    liveLineLimit = min(Self.mostLiveLines, max(1, rows - Self.scrollingRows))
  }

  /// The same lines again with the time that went by; empty where nothing is drawn over.
  package mutating func redraw(at now: MonotonicTime) -> String {
    guard format == .text, style.live, liveLines > 0 else { return "" }
    return draw(under: [], at: now)
  }

  /// Takes away the lines that are drawn over.
  package mutating func clear() -> String {
    running = [:]
    bars = [:]
    return format == .text && style.live ? draw(under: [], at: MonotonicTime(nanoseconds: 0)) : ""
  }

  private mutating func draw(under lines: [String], at now: MonotonicTime) -> String {
    let erase = liveLines == 0 ? "" : "\u{1b}[\(liveLines)A\u{1b}[J"
    let block = liveBlock(at: now)
    liveLines = block.count
    return erase + lines.joined() + block.map { $0 + "\n" }.joined()
  }

  /// Notes the event; answers the lines that stay.
  private mutating func take(_ event: ProgressEvent, at now: MonotonicTime) -> [String] {
    switch event {
    case .observing(let round): return round == 1 ? ["Looking at hosts, agents and Azure …\n"] : []
    case .planned: return []
    case .stepStarted(let action, let attempt):
      running[action] = now
      guard !style.live, attempt == 1 else { return [] }
      return ["\(title(action)) …\n"]
    case .stepFinished(let action, let seconds):
      running[action] = nil
      if let migration = action.migration { bars[migration] = nil }
      return [style.paint("done", .good) + "  \(title(action)) (\(Quantity.duration(seconds)))\n"]
    case .stepFailed(let action, let error):
      running[action] = nil
      if let migration = action.migration { bars[migration] = nil }
      return [
        style.folded(
          style.paint("failed", .bad) + " ", leadWidth: 7, "\(title(action)): \(safe(error.message))", indent: 4)
      ]
    case .stepRetrying(let action, let error, let afterSeconds):
      return [
        style.folded(
          style.paint("again", .change) + " ", leadWidth: 6,
          "\(title(action)) in \(Quantity.duration(afterSeconds)): \(safe(error.message))", indent: 4)
      ]
    case .replication(let migration, let source, let destination):
      return replication(migration, source ?? destination, at: now)
    case .note(let text): return [style.folded("note: ", leadWidth: 6, safe(text), indent: 4)]
    case .interrupted:
      return [
        style.folded(
          "", leadWidth: 0, "Interrupted: finishing what runs and giving leases back; once more stops at once.",
          indent: 0, ink: .change)
      ]
    case .finished:
      running = [:]
      bars = [:]
      return []
    }
  }

  private mutating func replication(
    _ migration: MigrationName, _ session: SessionObservation?, at now: MonotonicTime
  ) -> [String] {
    guard let session else { return [] }
    var bar = bars[migration] ?? Bar()
    if case .synchronizing(let percent, _, _) = session.health {
      // It never runs backwards without saying so.
      bar.grewDirty = percent < bar.percent - 0.5
      bar.percent = percent
    }
    bar.line = line(migration, session, bar)
    bars[migration] = bar
    guard !style.live else { return [] }
    if let last = lastPlain[migration],
      now.seconds(since: last.at) < Self.plainIntervalSeconds || last.line == bar.line
    {
      return []
    }
    lastPlain[migration] = (now, bar.line)
    return [bar.line + "\n"]
  }

  private func line(_ migration: MigrationName, _ session: SessionObservation, _ bar: Bar) -> String {
    var text = "\(migration)  "
    if case .synchronizing(let percent, let rate, let eta) = session.health {
      text += drawn(percent) + "\(percentText(percent))  \(Quantity.rate(rate))"
      // A rate of zero has no ETA.
      if let eta, rate > 0 { text += "  \(Quantity.duration(eta)) left" }
      let dirty = session.volumes.reduce(UInt64(0)) { $0 + $1.dirtyBytes }
      if dirty > 0 { text += "  \(Quantity.bytes(dirty)) differ" }
      if bar.grewDirty { text += "  (the source grew dirty)" }
      return text
    }
    if let verification = session.verification, verification.endedAt == nil,
      session.stage == .tracking || session.stage == .standIn
    {
      let left = Double(verification.remainingBytes) / Double(max(1, verification.totalBytes))
      text += drawn(100 * (1 - left)) + "\(percentText(100 * (1 - left))) compared"
      if verification.differenceCount > 0 {
        text += "  \(Quantity.count(verification.differenceCount, "extent")) differed"
      }
      if case .tracking = session.health { return text }
      text += "  "
    }
    return text + "\(session.stage.rawValue), \(safe(healthText(session.health)))"
  }

  private func drawn(_ percent: Double) -> String {
    guard style.live else { return "" }
    let filled = min(Self.barColumns, max(0, Int(saturating: Double(Self.barColumns) * percent / 100)))
    return "[" + String(repeating: "#", count: filled) + String(repeating: "-", count: Self.barColumns - filled) + "] "
  }

  private func liveBlock(at now: MonotonicTime) -> [String] {
    var lines = bars.sorted { $0.key < $1.key }.map(\.value.line)
    let busy = running.filter { action, _ in action.migration.map { bars[$0] == nil } ?? true }
    lines += busy.map { action, since in "\(title(action)) … \(Quantity.duration(now.seconds(since: since).rounded()))"
    }
    .sorted()
    if lines.count > liveLineLimit {
      let shown = liveLineLimit - 1
      lines = lines.prefix(shown) + ["… and \(lines.count - shown) more"]
    }
    return lines.map { String($0.prefix(style.width - 1)) }
  }

  private func title(_ action: Action) -> String { "\(words(action)): \(safe(action.subject))" }

  private func words(_ action: Action) -> String {
    switch action {
    case .deployAgent: "deploy agent"
    case .acquireLease: "take lease"
    case .checkDevices: "check devices"
    case .giveUpSession: "give the session up"
    case .orphanDisk: "keep the old disk, orphaned"
    case .ensureDisk: "disk"
    case .attachDisks(_, _, let volumes): "attach \(Quantity.count(volumes.count, "disk"))"
    case .configureSession: "configure session"
    case .growVolumes: "grow volumes"
    case .proveConnection: "prove connection"
    case .checkWave, .checkGroup: "check"
    case .openTap: "open tap"
    case .synchronize: "synchronize"
    case .stopSynchronizing: "stop replication"
    case .swing: "cMotion"
    case .revert: "revert cMotion"
    case .runHook(_, let point): "hook \(point.rawValue)"
    case .closeTap: "close tap"
    case .prove: "prove copies identical"
    case .fence: "fence source"
    case .release: "release destination"
    case .tagDisks(_, let phase): "tag disks \(phase.rawValue)"
    case .archive: "archive records"
    case .rename: "take over the new names"
    case .retire(_, let role): "retire \(role.rawValue)"
    case .releaseLease: "give lease back"
    case .removeAgent: "remove agent"
    case .abandonFinalize: "take finalize back"
    case .revertWithGroup: "revert cMotion with its group"
    case .holdAfterFence: "hold"
    }
  }
}

/// A line of `--format json`: versioned, one object each.
struct ProgressDocument: Encodable {
  var kind = "Progress"
  var formatVersion = 1
  var event: String
  var step: String?
  var subject: String?
  var attempt: Int?
  var seconds: Double?
  var code: String?
  var message: String?
  var advice: String?
  /// "plan.yaml:12:9": the line of the plan that is to blame, where one is.
  var position: String?
  var migration: String?
  var source: SessionObservation?
  var destination: SessionObservation?
  var changeSet: ChangeSetDocument?
  var result: SummaryDocument?

  /// Nil for what only a terminal wants to know.
  init?(_ progress: ProgressEvent) {
    switch progress {
    case .observing: event = "observing"
    case .planned(let changes, _):
      event = "planned"
      changeSet = ChangeSetDocument(changes)
    case .stepStarted(let action, let number):
      event = "stepStarted"
      describe(action)
      attempt = number
    case .stepFinished(let action, let taken):
      event = "stepFinished"
      describe(action)
      seconds = taken
    case .stepFailed(let action, let error):
      event = "stepFailed"
      describe(action)
      describe(error)
    case .stepRetrying(let action, let error, let wait):
      event = "stepRetrying"
      describe(action)
      describe(error)
      seconds = wait
    case .replication(let name, let own, let peer):
      event = "replication"
      migration = name.text
      source = own
      destination = peer
    case .note(let text):
      event = "note"
      message = text
    case .interrupted: event = "interrupted"
    case .finished(let summary):
      event = "finished"
      result = SummaryDocument(summary)
    }
  }

  private mutating func describe(_ action: Action) {
    step = action.kind
    subject = action.subject
    migration = action.migration?.text
  }

  private mutating func describe(_ error: GatewayError) {
    code = error.code
    message = error.message
    advice = error.advice
    position = error.position?.description
  }
}

struct SummaryDocument: Encodable {
  struct Entry: Encodable {
    var migration: String
    var reached: String
    var target: String
    var exitCode: Int32
    var note: String
  }
  struct Failure: Encodable {
    var step: String
    var subject: String
    var migrations: [String]
    var code: String
    var message: String
    var advice: String
    var position: String?
  }
  var exitCode: Int32
  var interrupted: Bool
  var stepsDone: Int
  var seconds: Double
  var migrations: [Entry]
  var failures: [Failure]

  init(_ summary: ApplySummary) {
    exitCode = summary.exitCode
    interrupted = summary.interrupted
    stepsDone = summary.stepsDone
    seconds = summary.seconds
    migrations = summary.migrations.map {
      Entry(
        migration: $0.migration.text, reached: $0.reached.word, target: $0.target.rawValue,
        exitCode: $0.result.rawValue, note: $0.note)
    }
    failures = summary.failures.map {
      Failure(
        step: $0.step, subject: $0.subject, migrations: $0.migrations.map(\.text), code: $0.error.code,
        message: $0.error.message, advice: $0.error.advice, position: $0.error.position?.description)
    }
  }
}
