package import Planning
package import Seams

/// Where the lines of a run's journal go. Each call returns when the line is durable.
package protocol JournalSink: Sendable {
  func append(_ line: String) async throws(StateStoreError)
}

/// What a run needs of the machine it runs on, injected so that a simulation can stand in for it.
package struct RunServices: Sendable {
  package var time: any TimeSource
  /// Ends after so many seconds, or at once when the task is cancelled. Never blocks a thread.
  package var pause: @Sendable (Double) async -> Void
  package var journal: any JournalSink
  package var digest: DigestFunction
  /// Called in order, one call at a time; must not block for long.
  package var report: @Sendable (ProgressEvent) -> Void
  package init(
    time: any TimeSource, pause: @escaping @Sendable (Double) async -> Void, journal: any JournalSink,
    digest: @escaping DigestFunction, report: @escaping @Sendable (ProgressEvent) -> Void
  ) {
    self.time = time
    self.pause = pause
    self.journal = journal
    self.digest = digest
    self.report = report
  }
}

extension RunServices {
  /// Appends the entry to the run's journal, with the time of now. The journal is a record, not a source: a full disk here
  /// is said, and must not stop a cutover half-way.
  func record(_ entry: JournalEntry) async {
    var entry = entry
    entry.at = time.wallNow()
    do throws(StateStoreError) {
      try await journal.append(entry.line())
    } catch {
      report(.note("the journal can't be written (\(ApplyCode.journalFailed)): \(error.message)"))
    }
  }
}
