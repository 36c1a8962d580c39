import ARMClient
import BlockModel
import Foundation
import LinuxPlatform
import MigrationModel
import Reconciling
import Seams

/// A plan's archive in Azure Blob Storage: block blobs at `CONTAINER/PREFIX/PLAN/…`. Nothing is sent before something is
/// to be kept or read.
struct BlobArchive: PlanArchive {
  /// Each copy is a few requests.
  let copyPauseSeconds = 10.0
  private let store: BlobStore
  private let base: String
  private let runs: String

  /// `runs`: the directory of the journals beside the plan.
  init(_ store: BlobStore, plan: PlanID, runs: String) {
    self.store = store
    base = plan.text
    self.runs = runs
  }

  func digest(of bytes: [UInt8]) -> String { sha256Hex(bytes) }

  /// Where it is there alike already nothing is sent; what was sent is read back.
  func keep(_ bytes: [UInt8], at path: String) async throws(GatewayError) -> String {
    let wanted = sha256Hex(bytes)
    for attempt in 0...ArchiveFiles.writeAttempts {
      if let seen = try await kept(at: path), seen.digest == wanted, seen.bytes.count == bytes.count { return wanted }
      guard attempt < ArchiveFiles.writeAttempts else { break }
      try await store.put(bytes, at: "\(base)/\(path)")
    }
    throw GatewayError(
      code: ApplyCode.archiveDiffers,
      message: "\(store.address.text)/\(base)/\(path) does not read back as it was sent",
      advice: "see who else writes there, then apply again; nothing was deleted", disposition: .needsOperator)
  }

  func kept(at path: String) async throws(GatewayError) -> ArchivedFile? {
    try await store.get("\(base)/\(path)").map { ArchivedFile(bytes: $0, digest: sha256Hex($0)) }
  }

  func keepRuns() async throws(GatewayError) { try await keepRuns(nil) }
  func keepRun(_ run: String) async throws(GatewayError) { try await keepRuns(run) }

  /// Copies of each run the files that the archive does not have as long already: they only grow.
  private func keepRuns(_ only: String?) async throws(GatewayError) {
    let here = try await files(only)
    guard !here.isEmpty else { return }
    let prefix = "\(base)/runs/"
    var kept: [String: Int] = [:]
    for item in try await store.list(only.map { "\(prefix)\($0)/" } ?? prefix) { kept[item.name] = item.sizeBytes }
    for (file, sizeBytes) in here where sizeBytes > kept["\(prefix)\(file)"] ?? 0 {
      let runs = runs
      let bytes = try await blocking { () throws(StateStoreError) in try Self.open(runs).read(file) }
      if let bytes { _ = try await keep(bytes, at: "runs/\(file)") }
    }
  }

  /// Names and sizes, the newest last.
  private func files(_ only: String?) async throws(GatewayError) -> [(file: String, sizeBytes: UInt64)] {
    let runs = runs
    return try await blocking { () throws(StateStoreError) in
      let store = try Self.open(runs)
      var found: [(file: String, sizeBytes: UInt64)] = []
      let names: [String]
      if let only { names = [only] } else { names = try store.list("") }
      for run in names.suffix(ArchiveFiles.runLimit) {
        for name in ArchiveFiles.runFiles {
          let part = try store.readPart("\(run)/\(name)", from: 0, limitBytes: 0)
          if let size = part?.sizeBytes, size > 0 { found.append(("\(run)/\(name)", size)) }
        }
      }
      return found
    }
  }

  private static func open(_ path: String) throws(StateStoreError) -> DirectoryStateStore {
    do throws(SystemError) {
      return try DirectoryStateStore(path: path)
    } catch {
      throw StateStoreError(error)
    }
  }

  private func blocking<Value: Sendable>(
    _ body: @escaping @Sendable () throws(StateStoreError) -> Value
  ) async throws(GatewayError) -> Value {
    do {
      return try await onBlockingThread { try body() }
    } catch {
      throw GatewayError(
        code: ApplyCode.archiveFailed, message: "the journals of runs can't be read: \(error)",
        advice: "mend .cmcplan/runs beside the plan, then apply again; nothing was deleted", disposition: .needsOperator
      )
    }
  }
}
