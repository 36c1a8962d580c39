import Foundation
import LinuxPlatform
import Planning
import Reconciling
import Seams
import Synchronization

/// The append-only record of one run, beside the plan: `.cmcplan/runs/RUN/journal.jsonl`.
final class RunJournal: JournalSink {
  let runID: String
  /// It leaves nothing where the run did nothing: see `QuietJournal`.
  let isQuiet: Bool
  private let place: String
  private let store: Mutex<DirectoryStateStore?>

  /// Where journals of runs are, each in a directory of its own.
  static func directory(beside document: PlanDocument) -> String { "\(document.directory)/.cmcplan/runs" }

  init(beside document: PlanDocument, isQuiet: Bool = false) throws {
    let stamp = Date.now.formatted(
      Date.ISO8601FormatStyle(dateTimeSeparator: .standard, timeSeparator: .omitted).year().month().day()
        .time(includingFractionalSeconds: false))
    runID = "\(stamp)-\(SystemRandom().uuid().prefix(8))"
    self.isQuiet = isQuiet
    place = "\(Self.directory(beside: document))/\(runID)"
    guard !isQuiet else {
      store = Mutex(nil)
      return
    }
    do {
      store = Mutex(try DirectoryStateStore(path: place))
    } catch {
      throw CommandFailure(
        "the run's journal can't be made in \(document.directory)/.cmcplan: \(error)",
        advice: "make the plan's directory writable, or free space there")
    }
  }

  /// What the run decided on, with the observation that it rests on: `replay` decides it again. A record, so that one that
  /// can't be kept stops nothing.
  func keep(_ decided: SavedChangeSet) throws {
    try FileManager.default.createDirectory(
      atPath: place, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    let path = "\(place)/\(Self.decidedFile)"
    _ = try SavedFile.write(decided, to: path, limitBytes: Self.decidedLimitBytes)
    try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
  }

  static let decidedFile = "decided.cmc"
  /// Of every run beside the plan and in the archive, which takes no larger files and must not be stopped by one.
  static let decidedLimitBytes = 32 << 20

  func append(_ line: String) async throws(StateStoreError) {
    do {
      try await onBlockingThread { [self] in
        let opened = try store.withLock { store in
          let opened = try store ?? DirectoryStateStore(path: place)
          store = opened
          return opened
        }
        try opened.append("journal.jsonl", Array((line + "\n").utf8))
      }
    } catch let error as StateStoreError {
      throw error
    } catch {
      throw StateStoreError(.failed, "\(error)")
    }
  }
}

/// Keeps a run's first line back until something follows it but its end: of a run that did nothing nothing is left.
actor QuietJournal: JournalSink {
  private let sink: any JournalSink
  private var first: String?
  private var isLoud = false

  init(_ sink: any JournalSink) { self.sink = sink }

  func append(_ line: String) async throws(StateStoreError) {
    if !isLoud {
      switch (try? JSONDecoder().decode(JournalEntry.self, from: Data(line.utf8)))?.kind {
      case .runStarted where first == nil:
        first = line
        return
      case .runEnded: return
      default: break
      }
      isLoud = true
      if let first { try await sink.append(first) }
    }
    try await sink.append(line)
  }
}
