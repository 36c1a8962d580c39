package import ArgumentParser
import BlockModel
import Foundation
import MigrationModel
import Planning
import Reconciling
import Rendering
import Seams

package struct PruneCommand: AsyncParsableCommand {
  package static let configuration = CommandConfiguration(
    commandName: "prune",
    abstract: "Show what a plan left behind: replaced disks, disks of removed migrations, old records; clear it up.",
    discussion: """
      Nothing is changed without --yes (records beside the plan) or --delete-disks (disks: shown first, and after the \
      plan's name was typed, by the rules of destroy). Archived records are never touched.
      """)
  @OptionGroup var plan: PlanFileOptions
  @Option(help: ArgumentHelp("Records older than this are old.", valueName: "duration"))
  var keep = "90d"
  @Flag(help: "Delete old records: journals of runs, and notes of applied change sets.")
  var yes = false
  @Flag(help: "Delete disks that were replaced or left the document. There is no way back.")
  var deleteDisks = false
  @Flag(help: "Also disks that a virtual machine still has and no session uses: they are detached first.")
  var detach = false
  @Option(help: ArgumentHelp("The plan's name, typed: for scripts, which can't be asked.", valueName: "name"))
  var confirm: String?
  package init() {}

  package func run() async throws {
    try await reportingFailures { console in
      guard let seconds = durationSeconds(keep), seconds > 0 else {
        throw CommandFailure("--keep \(keep) is no duration", advice: "write 90d or 12h")
      }
      let opened = try OpenedPlan.open(plan, console)
      let observation = try await DiskDeleting.observe(opened, console)
      let deleting = DiskDeleting(opened: opened, console: console, typed: confirm)
      let found = diskDeletions(opened.plan, observation, detaches: detach).filter { $0.isLeftOver(of: opened.plan) }
      let doomed = deleting.show(found)
      let sessions = diff(opened.plan, observation, options: opened.planning()).unmanaged.filter { $0.kind == .session }
      for session in sessions {
        console.say("keep    session \(session.name), \(session.detail): cmcplan agent remove HOST --force gives it up")
      }
      let limit = opened.world.services.time.wallNow().adding(seconds: -seconds)
      let records = OldRecords(beside: opened.document).olderThan(limit)
      for record in records { console.say("delete  record \(record.name)") }
      if found.isEmpty, sessions.isEmpty, records.isEmpty {
        console.say("Nothing is left over.")
        return
      }
      if yes { try remove(records, console) }
      if deleteDisks, !doomed.isEmpty {
        try deleting.askForName(doomed.count)
        try await deleting.delete(doomed)
      }
      let left = [
        yes || records.isEmpty ? nil : "--yes deletes \(counted(records.count, "record"))",
        deleteDisks || doomed.isEmpty ? nil : "--delete-disks deletes \(counted(doomed.count, "disk"))",
      ].compactMap { $0 }
      if !left.isEmpty { console.say("Left as it is: \(left.joined(separator: ", ")).") }
    }
  }

  private func remove(_ records: [OldRecords.Record], _ console: Console) throws {
    var failed = false
    for record in records {
      do {
        try FileManager.default.removeItem(atPath: record.path)
        console.say("deleted record \(record.name)")
      } catch {
        failed = true
        console.complain("error: \(record.path) can't be deleted: \(error.localizedDescription)\n")
      }
    }
    if failed { throw ExitCode(1) }
  }
}

/// What runs wrote beside the plan and nobody needs: a record, never a source.
struct OldRecords {
  struct Record: Equatable {
    var name: String
    var path: String
  }
  private let directory: String

  init(beside document: PlanDocument) { directory = "\(document.directory)/.cmcplan" }
  init(directory: String) { self.directory = directory }

  /// The oldest names first. A run that is at work writes to its journal: it is as young as its last line.
  func olderThan(_ limit: WallTime) -> [Record] {
    let files = FileManager.default
    var found: [Record] = []
    for (kind, inner) in [("runs", "journal.jsonl"), ("applied", nil as String?)] {
      for name in ((try? files.contentsOfDirectory(atPath: "\(directory)/\(kind)")) ?? []).sorted() {
        let path = "\(directory)/\(kind)/\(name)"
        let dated = inner.map { "\(path)/\($0)" } ?? path
        guard
          let attributes = (try? files.attributesOfItem(atPath: dated)) ?? (try? files.attributesOfItem(atPath: path)),
          let date = attributes[.modificationDate] as? Date, date.timeIntervalSince1970 < limit.secondsSince1970
        else { continue }
        found.append(Record(name: "\(kind)/\(name)", path: path))
      }
    }
    return found
  }
}
