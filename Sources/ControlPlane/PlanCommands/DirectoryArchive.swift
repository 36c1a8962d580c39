import BlockModel
import COpenSSL
import LinuxPlatform
import MigrationModel
import Reconciling
import Seams
import Synchronization

/// A plan's archive, also for the journal of a run that goes on.
protocol PlanArchive: ArchiveGateway {
  /// Between two copies of a journal that grows, in seconds.
  var copyPauseSeconds: Double { get }
  func keepRun(_ run: String) async throws(GatewayError)
}

/// A plan's archive in a directory: `DIRECTORY/PLAN/…`, files 0600, directories 0700. It is made and opened when it is
/// first used, so that a plan whose archive can't be reached is stopped by nothing but the step that needs it.
final class DirectoryArchive: PlanArchive {
  let copyPauseSeconds = 1.0
  private let place: String
  private let runs: String
  private let files = Mutex<ArchiveFiles?>(nil)

  /// `path`: absolute. `runs`: the directory of the journals beside the plan.
  init(path: String, plan: PlanID, runs: String) {
    place = "\(path)/\(plan)"
    self.runs = runs
  }

  func digest(of bytes: [UInt8]) -> String { sha256Hex(bytes) }

  func keep(_ bytes: [UInt8], at path: String) async throws(GatewayError) -> String {
    try await blocking { files throws(GatewayError) in try files.keep(bytes, at: path) }
  }

  func kept(at path: String) async throws(GatewayError) -> ArchivedFile? {
    try await blocking { files throws(GatewayError) in try files.kept(at: path) }
  }

  func keepRuns() async throws(GatewayError) {
    try await blocking { [runs] files throws(GatewayError) in
      try files.keepRuns(from: try Self.store(runs))
    }
  }

  func keepRun(_ run: String) async throws(GatewayError) {
    try await blocking { [runs] files throws(GatewayError) in
      try files.keepRun(run, from: try Self.store(runs))
    }
  }

  private static func store(_ path: String) throws(GatewayError) -> DirectoryStateStore {
    do throws(SystemError) {
      return try DirectoryStateStore(path: path)
    } catch {
      throw ArchiveFiles.error(StateStoreError(error), place: path)
    }
  }

  /// Blocks.
  private func opened() throws(GatewayError) -> ArchiveFiles {
    let result: Result<ArchiveFiles, GatewayError> = files.withLock { files in
      if let files { return .success(files) }
      do throws(GatewayError) {
        let made = ArchiveFiles(store: try Self.store(place), place: place, digest: sha256Hex)
        files = made
        return .success(made)
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }

  /// On a thread that may block; a share that hangs holds up this call and nothing else.
  private func blocking<Value: Sendable>(
    _ body: @escaping @Sendable (ArchiveFiles) throws(GatewayError) -> Value
  ) async throws(GatewayError) -> Value {
    do {
      return try await onBlockingThread { [self] in try body(try opened()) }
    } catch let error as GatewayError {
      throw error
    } catch {
      throw ArchiveFiles.error(StateStoreError(.failed, "\(error)"), place: place)
    }
  }
}

/// SHA-256 as 64 lower-case hexadecimal digits.
@Sendable func sha256Hex(_ bytes: [UInt8]) -> String {
  var digest = [UInt8](repeating: 0, count: Int(SHA256_DIGEST_LENGTH))
  _ = SHA256(bytes, bytes.count, &digest)
  return digest.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
}

/// A run's journal, and behind it a copy in the archive that follows within seconds, for the machine that the run
/// is on may not outlive it. The archive never holds a line of the run up, or fails it: what it can't take is said once,
/// and the next apply beside the same journals copies them.
final class ArchivedJournal: JournalSink {
  /// How long the end of a run waits for the last copy, in seconds.
  private static let lastCopySeconds = 20.0

  private let journal: RunJournal
  private let archive: any PlanArchive
  private let report: @Sendable (String) -> Void
  private let changes: AsyncStream<Void>.Continuation
  private let copying: Task<Void, Never>

  init(_ journal: RunJournal, _ archive: any PlanArchive, report: @escaping @Sendable (String) -> Void) {
    self.journal = journal
    self.archive = archive
    self.report = report
    let (stream, changes) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
    self.changes = changes
    let run = journal.runID
    copying = Task {
      for await _ in stream {
        do throws(GatewayError) {
          try await archive.keepRun(run)
        } catch {
          // Said at the end, where the last copy fails too.
          return
        }
        try? await TaskPause().pause(seconds: archive.copyPauseSeconds)
      }
    }
  }

  func append(_ line: String) async throws(StateStoreError) {
    try await journal.append(line)
    changes.yield()
  }

  /// The last copy. Returns in `lastCopySeconds` at most, whatever the archive does.
  func finish() async {
    changes.finish()
    copying.cancel()
    let answer = await withTimeLimit(seconds: Self.lastCopySeconds) { [archive, copying] () -> GatewayError? in
      // Two at once could leave the older text.
      await copying.value
      do throws(GatewayError) {
        // Also those of earlier runs that died.
        try await archive.keepRuns()
        return nil
      } catch {
        return error
      }
    }
    switch answer {
    case .some(nil): return
    case .some(let error?):
      report("this run's journal is not in the archive (\(error.code)): \(error.message); the next apply tries again")
    case nil:
      report(
        "the archive did not take this run's journal in \(Int(Self.lastCopySeconds)) s (\(ApplyCode.archiveFailed)); "
          + "the next apply tries again")
    }
  }
}
