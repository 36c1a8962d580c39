internal import FoundationEssentials
package import BlockModel
package import Seams
internal import LinuxPlatform
internal import Synchronization

/// The append-only record of a session's events: JSON lines, kept in two files of bounded size. Never read back to
/// decide anything. A line that can't be written is dropped: the journal must not stop what it describes.
package final class Journal: Sendable {
  package static let fileLimitBytes = 1 << 20
  private let store: any StateStore
  private let time: any TimeSource
  private let path: String
  /// Bytes in the current file; nil once closed.
  private let size: Mutex<Int?>
  /// One thread, so that lines keep their order and nobody waits for the disk.
  private let writing = ThreadPool(name: "journal", threadLimit: 1, waitingLimit: 1024)

  /// One journal a path; `append` may be called from any thread and waits for nothing. Lines past what waits are dropped.
  package init(store: any StateStore, path: String, time: any TimeSource) {
    self.store = store
    self.path = path
    self.time = time
    size = Mutex(((try? store.read(path)) ?? [])?.count ?? 0)
  }

  package static func path(of session: SessionID) -> String { "\(Catalogue.directory(of: session))/journal.jsonl" }
  /// What was written before the journal began anew.
  package static func olderPath(of session: SessionID) -> String { "\(path(of: session)).1" }

  private struct Line: Encodable {
    var at: Double
    var event: String
    var detail: String
  }

  package func append(_ event: String, _ detail: String = "") {
    let line = Line(at: time.wallNow().secondsSince1970, event: event, detail: String(detail.prefix(4096)))
    guard let bytes = try? JSONEncoder().encode(line) else { return }
    try? writing.trySubmit { [self] in write([UInt8](bytes)) }
  }

  private func write(_ bytes: [UInt8]) {
    size.withLock { size in
      guard let before = size else { return }
      if before + bytes.count + 1 > Self.fileLimitBytes {
        if let old = try? store.read(path) { try? store.replace("\(path).1", with: old) }
        try? store.remove(path)
        size = 0
      }
      try? store.append(path, bytes + [10])
      size = (size ?? 0) + bytes.count + 1
    }
  }

  /// Nothing is written any more: a session that was deleted must not come back as a directory with a journal in it.
  package func close() {
    writing.shutDown()
    size.withLock { $0 = nil }
  }
}
