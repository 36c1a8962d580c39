import AgentProtocol
import BlockModel
import MigrationModel
import Planning
import Seams

// MARK: `--replace`: another disk and another session; `--prune`: none any more

extension ActionPerformer {
  /// Looks again first: hours may lie between the plan and the step, and a swing that began meanwhile ends it.
  func giveUp(_ migration: Migration) async throws(GatewayError) {
    let pair = try await mayReplace(migration)
    if pair.source != nil { try await command(.cancel, .source, migration) }
    if pair.destination != nil { try await command(.cancel, .destination, migration) }
  }

  /// Only a disk that still has to go: asked again, the one that took its place stays.
  func orphanDisk(_ key: VolumeKey) async throws(GatewayError) {
    let migration = try migration(key.migration)
    try await mayReplace(migration)
    let facts = await facts(migration)
    if let fault = facts.cloudFaults.first {
      throw GatewayError(
        code: fault.code, message: "\(fault.part): \(fault.message)", advice: fault.advice,
        disposition: .retry(afterSeconds: 2))
    }
    guard let volume = migration.volume(key.volume), let disk = facts.disks[key.volume],
      facts.replacementReason(of: volume) != nil
    else { return }
    let state = [DiskTag.state: DiskTag.orphaned, DiskTag.stateAt: stamped(services.time.wallNow())]
    let kept = try await cloud(of: migration).setTags(
      disk.tags.merging(state) { _, new in new }, ofDisk: disk.resourceID)
    await knownDisks.orphaned(kept, of: key)
    await services.record(
      JournalEntry(.stepOutput, .orphanDisk(key), message: "\(disk.name) is kept, tagged orphaned"))
  }

  @discardableResult
  private func mayReplace(_ migration: Migration) async throws(GatewayError) -> SessionPair {
    let pair = try await sessions(of: migration)
    if let hold = pair.hold { throw heldError(migration, hold) }
    guard [pair.source, pair.destination].compactMap({ $0 }).allSatisfy(\.mayBeGivenUp) else {
      let option = migration.hasLeft ? "--prune" : "--replace"
      throw GatewayError(
        code: ApplyCode.replaceClosed,
        message: "\(migration.name): a swing began meanwhile, and \(option) would give up a copy that I/O lives on",
        advice: (migration.hasLeft ? "put it back into the document, and " : "")
          + "cmcplan revert \(migration.name) first", disposition: .needsOperator)
    }
    return pair
  }
}
