package import ArgumentParser
import BlockModel
import Foundation
import Planning
import Reconciling
import Rendering

package struct HistoryCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "history", abstract: "Show the runs that left a journal beside the plan, or one of them step by step.",
    discussion: "Journals are a record, never a source: deleting .cmcplan loses only this.")
  @OptionGroup var plan: PlanFileOptions
  @Argument(help: "A run to show step by step, as history without it names them; \"last\" is the newest.")
  var run: String?
  @Option(help: ArgumentHelp("At most so many runs, the newest last.", valueName: "n"))
  var limit = 20
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      let document = try PlanDocument.load(plan, console: console, isEmergency: true)
      let records = RunRecords(beside: document)
      guard let wanted = run else {
        let runs = records.names.suffix(max(0, limit)).map { records.read($0, console) }
        console.write(renderRuns(runs, style: console.style))
        return
      }
      guard let name = wanted == "last" ? records.names.last : records.names.first(where: { $0 == wanted }) else {
        throw CommandFailure("there is no journal of run \(wanted)", advice: "cmcplan history lists those there are")
      }
      console.write(renderRun(records.read(name, console), style: console.style))
    }
  }
}

/// The journals beside a plan.
struct RunRecords {
  /// So much of a journal is read, in bytes: a run that watches for months writes without end.
  private static let journalLimitBytes = 64 << 20

  static let journalFile = "journal.jsonl"

  private let directory: String
  /// The oldest first.
  let names: [String]

  init(beside document: PlanDocument) { self.init(directory: RunJournal.directory(beside: document)) }

  init(directory: String) {
    self.directory = directory
    names = ((try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []).sorted()
  }

  /// The newest runs, the oldest of them first.
  func all(_ console: Console, limit: Int = 1000) -> [RunRecord] { names.suffix(limit).map { read($0, console) } }

  /// What can be read of a journal: a run that was killed may have left half a line at its end.
  func place(of run: String) -> String { "\(directory)/\(run)" }

  func read(_ run: String, as name: String? = nil, _ console: Console) -> RunRecord {
    let decoder = JSONDecoder()
    let entries = Data(bytes(run, console) ?? []).split(separator: UInt8(ascii: "\n")).compactMap {
      try? decoder.decode(JournalEntry.self, from: Data($0))
    }
    return RunRecord(name: name ?? run, entries: entries)
  }

  /// The journal's beginning, up to the limit; nil where it can't be read.
  func bytes(_ run: String, _ console: Console) -> [UInt8]? {
    let path = "\(directory)/\(run)/\(Self.journalFile)"
    guard let journal = FileHandle(forReadingAtPath: path),
      let bytes = try? PlanFiles.read(journal, upTo: Self.journalLimitBytes + 1)
    else { return nil }
    if bytes.count > Self.journalLimitBytes {
      console.complain("note: of \(path) only the first \(Self.journalLimitBytes >> 20) MiB are read\n")
    }
    return Array(bytes.prefix(Self.journalLimitBytes))
  }
}
