import AgentProtocol
import BlockModel
import MigrationModel
import Planning
import Seams

// MARK: The archive

extension ActionPerformer {
  /// Copies what would be lost with each half's session. A half whose agent is gone has nothing left to lose.
  func archive(_ migration: Migration) async throws(GatewayError) {
    let archive = try openArchive()
    for role in [Role.source, .destination] {
      guard let agent = try await agentIfAny(on: migration.host(role)) else { continue }
      let id = session(migration)
      if let half = agent.sessions.first(where: { $0.session == id && $0.role == role }) {
        try await keep(half, in: archive)
      } else if let tombstone = agent.tombstones.first(where: { $0.session == id && $0.role == role }) {
        try await keepRest(of: tombstone, migration, in: archive)
      }
    }
    try await archive.keepRuns()
  }

  /// Looked at again right before the deletion: the archive's place may be another now, or have been emptied.
  func requireArchived(_ half: SessionObservation) async throws(GatewayError) {
    guard plan.archive != nil else { return }
    let archive = try openArchive()
    let directory = ArchiveManifest.directory(of: half.migration, half.role)
    func missing(_ what: String) -> GatewayError {
      GatewayError(
        code: ApplyCode.archiveDiffers, message: "the session of \(half.migration) is not deleted: \(what)",
        advice: "look at the archive, then apply again: it is filled anew first", disposition: .needsOperator)
    }
    guard let manifest = try await manifest(in: directory, archive), manifest.session == half.heldSession,
      manifest.stage != nil, manifest.receiptDigest == half.receipt?.digest
    else { throw missing("the archive has no \(directory)/\(ArchiveManifest.fileName) of it") }
    for (name, file) in manifest.files.sorted(by: { $0.key < $1.key }) {
      guard try await archive.kept(at: "\(directory)/\(name)")?.digest == file.sha256 else {
        throw missing("\(directory)/\(name) in the archive is not what was kept there")
      }
    }
  }

  // MARK: Parts

  private func openArchive() throws(GatewayError) -> any ArchiveGateway {
    guard let archive = gateways.archive else {
      throw GatewayError(
        code: ApplyCode.archiveFailed, message: "no way to the plan's archive was set up",
        advice: "name a directory under archive:; nothing was deleted", disposition: .needsOperator)
    }
    return archive
  }

  /// Nil where the host has no agent that runs, and says so.
  private func agentIfAny(on name: HostName) async throws(GatewayError) -> AgentObservation? {
    guard try await gateways.hosts.state(of: try host(name)).agentRunning else { return nil }
    return try await pool.observation(of: name)
  }

  private func manifest(
    in directory: String, _ archive: any ArchiveGateway
  ) async throws(GatewayError) -> ArchiveManifest? {
    try await archive.kept(at: "\(directory)/\(ArchiveManifest.fileName)").flatMap { ArchiveManifest($0.bytes) }
  }

  private func keep(_ half: SessionObservation, in archive: any ArchiveGateway) async throws(GatewayError) {
    var files: [String: [UInt8]] = [:]
    for evidence in Evidence.allCases {
      // A receipt that a later write made void proves nothing.
      if evidence == .receipt, half.receipt == nil { continue }
      files[evidence.fileName] = try await read(evidence, of: half.session, half.role, on: hostName(of: half))
    }
    files["approvals.json"] = ArchiveManifest.json(half.approvals)
    var manifest = ArchiveManifest(
      plan: plan.metadata.id, migration: half.migration, session: half.heldSession, role: half.role, stage: half.stage,
      generation: half.generation, receiptDigest: half.receipt?.digest, archivedAt: services.time.wallNow(),
      archivedBy: options.holder, files: [:])
    try await write(files, &manifest, to: archive)
  }

  /// Of a session that is gone: its receipt outlived it. What the archive has of the session itself stays.
  private func keepRest(
    of tombstone: Tombstone, _ migration: Migration, in archive: any ArchiveGateway
  ) async throws(GatewayError) {
    let directory = ArchiveManifest.directory(of: migration.name, tombstone.role)
    if try await manifest(in: directory, archive)?.session == tombstone.heldSession { return }
    services.report(
      .note("\(migration.name): its session on \(migration.host(tombstone.role)) was deleted before it was archived"))
    var files: [String: [UInt8]] = [:]
    files[Evidence.receipt.fileName] = try await read(
      .receipt, of: tombstone.session, tombstone.role, on: migration.host(tombstone.role))
    var manifest = ArchiveManifest(
      plan: plan.metadata.id, migration: migration.name, session: tombstone.heldSession, role: tombstone.role,
      stage: nil,
      generation: tombstone.generation, receiptDigest: tombstone.receiptDigest, archivedAt: services.time.wallNow(),
      archivedBy: options.holder, files: [:])
    try await write(files, &manifest, to: archive)
  }

  /// The manifest last: where it is, all that it names is.
  private func write(
    _ files: [String: [UInt8]], _ manifest: inout ArchiveManifest, to archive: any ArchiveGateway
  ) async throws(GatewayError) {
    let directory = ArchiveManifest.directory(of: manifest.migration, manifest.role)
    if let wanted = manifest.receiptDigest {
      guard let receipt = files[Evidence.receipt.fileName] else {
        throw unreadable(.receipt, manifest.session, "its agent has no such file any more")
      }
      let digest = archive.digest(of: receipt)
      guard digest == wanted else {
        throw unreadable(.receipt, manifest.session, "its digest is \(digest), and the session says \(wanted)")
      }
    }
    for (name, bytes) in files.sorted(by: { $0.key < $1.key }) {
      let digest = try await archive.keep(bytes, at: "\(directory)/\(name)")
      manifest.files[name] = ArchiveManifest.File(bytes: bytes.count, sha256: digest)
    }
    guard let json = ArchiveManifest.json(manifest) else {
      throw unreadable(.journal, manifest.session, "it can't be written as JSON")
    }
    _ = try await archive.keep(json, at: "\(directory)/\(ArchiveManifest.fileName)")
  }

  private func hostName(of half: SessionObservation) throws(GatewayError) -> HostName {
    try migration(half.migration).host(half.role)
  }

  private func unreadable(_ evidence: Evidence, _ session: SessionID, _ why: String) -> GatewayError {
    GatewayError(
      code: ApplyCode.evidenceUnreadable, message: "the \(evidence.words) of \(session) can't be archived: \(why)",
      advice: "look at the agent's state directory on the host, then apply again; nothing was deleted",
      disposition: .needsOperator)
  }

  /// Nil where the agent has no such file.
  private func read(
    _ evidence: Evidence, of session: SessionID, _ role: Role, on host: HostName
  ) async throws(GatewayError) -> [UInt8]? {
    var bytes: [UInt8] = []
    while true {
      let part = try await pool.call(
        ReadEvidenceCall(session: session, role: role, evidence: evidence, offset: UInt64(bytes.count)), on: host)
      guard let size = part.sizeBytes else { return nil }
      guard size <= limits.evidenceBytes else {
        throw unreadable(evidence, session, "it has \(size) bytes, and at most \(limits.evidenceBytes) are read")
      }
      guard let more = part.bytes else { throw unreadable(evidence, session, "the agent's answer is garbled") }
      bytes += more
      if UInt64(bytes.count) >= size { break }
      // It became shorter meanwhile: a journal that began anew.
      if more.isEmpty {
        var error = unreadable(evidence, session, "it became shorter while it was read")
        error.disposition = .retry(afterSeconds: 1)
        throw error
      }
    }
    if evidence == .receipt { return bytes }
    // Half a line at its end is one that is being written.
    return Array(bytes[..<(bytes.lastIndex(of: 10).map { $0 + 1 } ?? 0)])
  }
}

extension Evidence {
  fileprivate var fileName: String {
    switch self {
    case .receipt: "receipt"
    case .journal: "journal.jsonl"
    case .olderJournal: "journal.older.jsonl"
    }
  }

  fileprivate var words: String {
    switch self {
    case .receipt: "receipt"
    case .journal, .olderJournal: "journal"
    }
  }
}
