package import AgentProtocol
package import BlockModel
internal import Foundation
package import Seams

/// Where records go for good. Every call may be repeated; paths are relative, with `/`.
package protocol ArchiveGateway: Sendable {
  /// SHA-256, 64 lower-case hexadecimal digits: as receipts are known by.
  func digest(of bytes: [UInt8]) -> String
  /// Keeps the bytes at the path and answers their digest once they are durable there and were read back alike.
  func keep(_ bytes: [UInt8], at path: String) async throws(GatewayError) -> String
  /// Digest and bytes of what is kept there; nil where nothing is.
  func kept(at path: String) async throws(GatewayError) -> ArchivedFile?
  /// Keeps the journals of all runs that left one beside the plan.
  func keepRuns() async throws(GatewayError)
}

package struct ArchivedFile: Sendable, Equatable {
  package var bytes: [UInt8]
  package var digest: String
  package init(bytes: [UInt8], digest: String) {
    self.bytes = bytes
    self.digest = digest
  }
}

/// What an archive holds of one half of a session, written last: `PLAN/migrations/MIGRATION/ROLE/manifest.json`.
package struct ArchiveManifest: Codable, Sendable, Equatable {
  package struct File: Codable, Sendable, Equatable {
    package var bytes: Int
    package var sha256: String
  }
  package static let version = 1
  package var formatVersion = ArchiveManifest.version
  package var plan: PlanID
  package var migration: MigrationName
  package var session: SessionID
  package var role: Role
  /// Nil where the session was deleted before it could be archived: then only what outlived it is here.
  package var stage: SessionStage?
  package var generation: Generation
  package var receiptDigest: String?
  package var archivedAt: WallTime
  package var archivedBy: String
  /// By name, beside this one.
  package var files: [String: File]

  static let fileName = "manifest.json"
  static func directory(of migration: MigrationName, _ role: Role) -> String {
    "migrations/\(migration)/\(role.rawValue)"
  }
}

/// An archive as files of a durable store: what the steps of writing and checking are. Calls block.
package struct ArchiveFiles: Sendable {
  /// How often a file is written until it reads back alike: another run may write the same one.
  package static let writeAttempts = 3
  /// What is kept of a run: its journal, and what it decided with what it saw, which `replay` decides again.
  package static let runFiles = ["journal.jsonl", "decided.cmc"]
  /// The most journals of runs that are kept in one go, the newest first.
  package static let runLimit = 10_000

  private let store: any StateStore
  private let digest: @Sendable ([UInt8]) -> String
  private let place: String

  /// `digest`: SHA-256 in hexadecimal digits. `place` is what errors call it: its directory.
  package init(store: any StateStore, place: String, digest: @escaping @Sendable ([UInt8]) -> String) {
    self.store = store
    self.place = place
    self.digest = digest
  }

  package func kept(at path: String) throws(GatewayError) -> ArchivedFile? {
    do throws(StateStoreError) {
      return try store.read(path).map { ArchivedFile(bytes: $0, digest: digest($0)) }
    } catch {
      throw Self.error(error, place: place)
    }
  }

  package func keep(_ bytes: [UInt8], at path: String) throws(GatewayError) -> String {
    let wanted = digest(bytes)
    for attempt in 0...Self.writeAttempts {
      if let seen = try kept(at: path), seen.digest == wanted, seen.bytes.count == bytes.count { return wanted }
      guard attempt < Self.writeAttempts else { break }
      do throws(StateStoreError) {
        try store.replace(path, with: bytes)
      } catch {
        throw Self.error(error, place: place)
      }
    }
    throw GatewayError(
      code: ApplyCode.archiveDiffers, message: "\(place)/\(path) does not read back as it was written",
      advice: "look at the disk or share beneath the archive, then apply again; nothing was deleted",
      disposition: .needsOperator)
  }

  /// Copies of each run the files that the archive does not have as long already: they only grow, and a run that goes on
  /// elsewhere copies its own.
  package func keepRuns(from runs: any StateStore) throws(GatewayError) {
    let names: [String]
    do throws(StateStoreError) {
      names = try runs.list("")
    } catch {
      throw Self.unreadable("the journals of runs", error)
    }
    for run in names.suffix(Self.runLimit) { try keepRun(run, from: runs) }
  }

  package func keepRun(_ run: String, from runs: any StateStore) throws(GatewayError) {
    for file in Self.runFiles { try keepFile("\(run)/\(file)", from: runs) }
  }

  private func keepFile(_ file: String, from runs: any StateStore) throws(GatewayError) {
    let kept = try sizeBytes(at: "runs/\(file)")
    let bytes: [UInt8]?
    do throws(StateStoreError) {
      let here = try runs.readPart(file, from: 0, limitBytes: 0)?.sizeBytes ?? 0
      guard here > kept else { return }
      bytes = try runs.read(file)
    } catch {
      throw Self.unreadable("the record \(file) of a run", error)
    }
    if let bytes { _ = try keep(bytes, at: "runs/\(file)") }
  }

  /// 0 where nothing is kept.
  private func sizeBytes(at path: String) throws(GatewayError) -> UInt64 {
    do throws(StateStoreError) {
      return try store.readPart(path, from: 0, limitBytes: 0)?.sizeBytes ?? 0
    } catch {
      throw Self.error(error, place: place)
    }
  }

  private static func unreadable(_ what: String, _ error: StateStoreError) -> GatewayError {
    GatewayError(
      code: ApplyCode.archiveFailed, message: "\(what) can't be read: \(error.message)",
      advice: "mend .cmcplan/runs beside the plan, then apply again; nothing was deleted", disposition: .needsOperator)
  }

  /// What a failed read or write of the archive means, and what to do.
  package static func error(_ error: StateStoreError, place: String) -> GatewayError {
    let (code, advice) =
      switch error.code {
      case .noSpace: (ApplyCode.archiveFull, "free space there, or name another directory under archive:")
      case .denied: (ApplyCode.archiveDenied, "let this user write there, or name another directory under archive:")
      case .notFound, .failed: (ApplyCode.archiveFailed, "mend it, or name another directory under archive:")
      }
    return GatewayError(
      code: code, message: "the archive \(place) can't be used: \(error.message)",
      advice: "\(advice); then apply again. Nothing was deleted", disposition: .needsOperator)
  }
}

extension ArchiveManifest {
  /// Nil where it is of no version that is known here, or torn.
  init?(_ bytes: [UInt8]) {
    guard let manifest = try? JSONDecoder().decode(ArchiveManifest.self, from: Data(bytes)),
      manifest.formatVersion == Self.version
    else { return nil }
    self = manifest
  }

  static func json(_ value: some Encodable) -> [UInt8]? {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    return (try? encoder.encode(value)).map { [UInt8]($0) + [10] }
  }
}
