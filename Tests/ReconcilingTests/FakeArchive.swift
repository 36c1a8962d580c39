import AgentProtocol
import BlockModel
import Foundation
import MigrationModel
import Reconciling
import Seams
import TestSupport

/// What is wrong with the archive for a while.
enum ArchiveFault: Sendable, Equatable, CaseIterable {
  case none
  case full
  case denied
  /// Every write is torn: half of it is there, and nothing was said.
  case torn
  /// Every write is gone a moment later.
  case forgetful
}

/// The production's archive over files in the world's memory, with a call's faults around it.
struct FakeArchive: ArchiveGateway {
  let world: FakeWorld
  let run: RunIdentity

  func digest(of bytes: [UInt8]) -> String { archiveDigest(bytes) }

  func keep(_ bytes: [UInt8], at path: String) async throws(GatewayError) -> String {
    try await change { files throws(GatewayError) in try files.keep(bytes, at: path) }
  }
  func kept(at path: String) async throws(GatewayError) -> ArchivedFile? {
    try await change { files throws(GatewayError) in try files.kept(at: path) }
  }
  func keepRuns() async throws(GatewayError) {
    let runs = MemoryStateStore()
    try? runs.append("run-1/journal.jsonl", Array("{}\n".utf8))
    try await change { files throws(GatewayError) in try files.keepRuns(from: runs) }
  }

  private func change<Value: Sendable>(
    _ body: @Sendable (ArchiveFiles) throws(GatewayError) -> Value
  ) async throws(GatewayError) -> Value {
    try await world.call(run) { (state, _) throws(GatewayError) in
      let store = FaultyStore(files: state.archived, fault: state.archiveFault)
      let files = ArchiveFiles(store: store, place: "/archive", digest: archiveDigest)
      let result = Result { () throws(GatewayError) in try body(files) }
      if state.archiveFault != .forgetful { state.archived = store.files }
      return try result.get()
    }
  }
}

@Sendable func archiveDigest(_ bytes: [UInt8]) -> String { fakeDigest(String(decoding: bytes, as: UTF8.self)) }

/// Used by one call at a time, under the world's lock.
private final class FaultyStore: StateStore {
  private let store: MemoryStateStore
  private let fault: ArchiveFault

  init(files: [String: [UInt8]], fault: ArchiveFault) {
    store = MemoryStateStore()
    self.fault = fault
    for (path, bytes) in files { try? store.append(path, bytes) }
  }

  var files: [String: [UInt8]] {
    var found: [String: [UInt8]] = [:]
    for path in store.paths { found[path] = try? store.read(path) }
    return found
  }

  func read(_ path: String) throws(StateStoreError) -> [UInt8]? { try store.read(path) }
  func replace(_ path: String, with bytes: [UInt8]) throws(StateStoreError) {
    switch fault {
    case .none, .forgetful: try store.replace(path, with: bytes)
    case .full: throw StateStoreError(.noSpace, "no space left on device")
    case .denied: throw StateStoreError(.denied, "permission denied")
    case .torn: try store.replace(path, with: Array(bytes.prefix(bytes.count / 2)))
    }
  }
  func append(_ path: String, _ bytes: [UInt8]) throws(StateStoreError) { try store.append(path, bytes) }
  func remove(_ path: String) throws(StateStoreError) { try store.remove(path) }
  func list(_ path: String) throws(StateStoreError) -> [String] { try store.list(path) }
}

extension FakeAgent {
  func evidence(_ call: ReadEvidenceCall) -> EvidencePart {
    let isThere = sessions[Key(session: call.session, role: call.role)] != nil
    let outlives =
      call.evidence == .receipt && call.role == .source && tombstones.contains { $0.session == call.session }
    guard isThere || outlives, call.evidence != .olderJournal, call.evidence != .receipt || call.role == .source else {
      return EvidencePart([], ofSizeBytes: nil)
    }
    let text =
      switch call.evidence {
      case .receipt: "receipt of \(call.session)"
      case .journal, .olderJournal: "{\"event\":\"stage\"}\n{\"event\":\"half a li"
      }
    // Small parts, so that several calls are needed.
    let bytes = Array(text.utf8)
    return EvidencePart(
      Array(bytes.dropFirst(Int(call.offset)).prefix(24)), ofSizeBytes: UInt64(bytes.count))
  }
}

extension WorldState {
  /// What a deletion needs: both what it wants kept, and the record that says so.
  mutating func expectArchived(_ seen: SessionObservation) {
    guard plan.archive != nil else { return }
    let directory = "migrations/\(plannedName(seen))/\(seen.role.rawValue)"
    guard let manifest = archived["\(directory)/manifest.json"] else {
      return violate("the session of \(seen.migration) on its \(seen.role) was deleted before it was archived")
    }
    if !String(decoding: manifest, as: UTF8.self).contains("\"\(seen.session)\"") {
      violate("the archive's record of \(seen.migration) is of another session")
    }
    var wanted = ["journal.jsonl", "approvals.json"]
    if seen.role == .source { wanted.append("receipt") }
    for name in wanted where archived["\(directory)/\(name)"] == nil {
      violate("the session of \(seen.migration) on its \(seen.role) was deleted without \(name) in the archive")
    }
    if seen.role == .source, archived["\(directory)/receipt"] != Array("receipt of \(seen.session)".utf8) {
      violate("the receipt of \(seen.migration) in the archive is not the one")
    }
  }
}
