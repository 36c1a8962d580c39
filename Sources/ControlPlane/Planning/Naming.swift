package import BlockModel
package import MigrationModel

/// Tags by which a later run finds what an earlier one made.
package enum DiskTag {
  package static let plan = "cmcplan-id"
  package static let migration = "cmcplan-migration"
  package static let volume = "cmcplan-volume"
  /// How far the migration is: `prepared`, `finalized` or `retired`. The last two are tombstones. Or `orphaned`.
  package static let state = "cmcplan-state"
  /// The state of a disk that another one took the place of; `stateAt` says since when.
  package static let orphaned = "orphaned"
  /// Since when it is `finalized` or `retired`, as in 2026-11-23T04:30:00Z; disks of older versions lack it.
  package static let stateAt = "cmcplan-state-at"
}

/// The disk's name for a volume: always the same for the same plan, migration and volume, and a valid name in Azure
/// (at most 80 letters, digits, `_`, `.` and `-`, first a letter or digit, last a letter, digit or `_`).
package func diskName(plan: PlanID, migration: MigrationName, volume: VolumeName) -> String {
  let readableLimit = 24
  func readable(_ text: String) -> String {
    String(text.map { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") ? $0 : "-" }.prefix(readableLimit))
  }
  // The readable parts are cut and cleaned, so the hash is what tells two volumes apart (FNV-1a, 64 bits; whose the
  // disk is, is told by its tags).
  var hash: UInt64 = 0xcbf2_9ce4_8422_2325
  let text = "\(plan)\n\(migration.text.utf8.count)\n\(migration)\n\(volume)"
  for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
  let digits = String(hash, radix: 16)
  let padded = String(repeating: "0", count: 16 - digits.count) + digits
  return "cmc-\(readable(migration.text))-\(readable(volume.text))-\(padded)"
}

/// The name of the disk that takes the place of others: the same where they are the same, so that a run which died
/// before it noted a disk finds it again. `taken`: the names of the volume's orphaned disks, in small letters.
package func replacementName(_ base: String, taken: Set<String>) -> String {
  var name = base
  var number = 1
  while taken.contains(name.lowercased()) {
    number += 1
    name = "\(base)-\(number)"
  }
  return name
}

/// Whether a disk may have got its name from `base`, in place of however many others.
package func isReplacementName(_ name: String, of base: String) -> Bool {
  let (name, base) = (name.lowercased(), base.lowercased())
  guard name != base else { return true }
  guard name.hasPrefix(base + "-") else { return false }
  let number = name.utf8.dropFirst(base.utf8.count + 1)
  return !number.isEmpty && number.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
}

/// Tags that the volume's disk must carry: the integration's, the disk's own, and ours, which win.
package func diskTags(
  for volume: Volume, in migration: Migration, of plan: MigrationPlan, state: Phase
) -> [String: String] {
  var tags = migration.integration(in: plan)?.tags ?? [:]
  if case .disk(let disk) = volume.destination { tags.merge(disk.tags) { _, new in new } }
  tags[DiskTag.plan] = plan.metadata.id.text
  tags[DiskTag.migration] = migration.name.text
  tags[DiskTag.volume] = volume.name.text
  tags[DiskTag.state] = state.rawValue
  return tags
}

/// What to create for a volume whose source has `sourceBytes`. Nil where the destination isn't a disk that we make,
/// or the integration is missing.
package func diskRequest(
  for volume: Volume, in migration: Migration, of plan: MigrationPlan, sourceBytes: UInt64
) -> DiskRequest? {
  guard case .disk(let disk) = volume.destination, let integration = migration.integration(in: plan) else { return nil }
  let wanted: UInt64
  switch disk.size {
  case .auto: wanted = sourceBytes
  case .bytes(let bytes): wanted = bytes
  }
  return DiskRequest(
    name: disk.name ?? diskName(plan: plan.metadata.id, migration: migration.name, volume: volume.name),
    resourceGroup: disk.resourceGroup ?? integration.resourceGroup, location: integration.location,
    sku: disk.sku.rawValue, sizeGiB: max(disk.sku.sizesGiB.lowerBound, gibibytes(holding: wanted)), zone: disk.zone,
    iops: disk.iops,
    megabytesPerSecond: disk.throughputBytesPerSecond.map { Int(clamping: $0 / 1_000_000) },
    encryptionSet: disk.encryptionSet, networkAccess: disk.networkAccess,
    tags: diskTags(for: volume, in: migration, of: plan, state: .prepared))
}

/// Resource id of the disk that a volume names or would get; `former`: would have got under a name that it had.
package func expectedDiskID(
  for volume: Volume, in migration: Migration, of plan: MigrationPlan, former: Move.Name? = nil
) -> String? {
  guard case .disk(let disk) = volume.destination, let integration = migration.integration(in: plan) else { return nil }
  if let existing = disk.existingID { return existing }
  let name =
    disk.name
    ?? diskName(
      plan: plan.metadata.id, migration: former?.migration ?? migration.name, volume: former?.volume ?? volume.name)
  return
    "/subscriptions/\(integration.subscriptionID)/resourceGroups/\(disk.resourceGroup ?? integration.resourceGroup)"
    + "/providers/Microsoft.Compute/disks/\(name)"
}

extension CloudDisk {
  /// As its tags have it; nil where they don't say.
  var taggedName: Move.Name? {
    guard let migration = tags[DiskTag.migration], let volume = tags[DiskTag.volume] else { return nil }
    return Move.Name(migration: MigrationName(migration), volume: VolumeName(volume))
  }

  /// The volume of the plan, or one that was in it, whose disk this is, after all renames; nil where its tags don't say.
  package func volume(in plan: MigrationPlan) -> VolumeKey? { isOrphaned ? nil : taggedVolume(in: plan) }

  /// Kept after `--replace`, and nobody's: `taggedVolume` is whose it was.
  package var isOrphaned: Bool { tags[DiskTag.state] == DiskTag.orphaned }

  package func taggedVolume(in plan: MigrationPlan) -> VolumeKey? {
    guard let tagged = taggedName else { return nil }
    let name = plan.renames.name(of: tagged)
    return name.volume.map { VolumeKey(name.migration, $0) }
  }

  /// Whether its tags still have a former name.
  package func isRenamed(in plan: MigrationPlan) -> Bool { taggedName.map { plan.renames.name(of: $0) != $0 } ?? false }

  /// Of a resource id `/subscriptions/…/resourceGroups/NAME/…`.
  package var resourceGroup: String? {
    let parts = resourceID.split(separator: "/").map(String.init)
    guard let place = parts.firstIndex(where: { $0.lowercased() == "resourcegroups" }), place + 1 < parts.count else {
      return nil
    }
    return parts[place + 1]
  }
}

func gibibytes(holding bytes: UInt64) -> Int { Int(clamping: bytes / (1 << 30) + (bytes % (1 << 30) == 0 ? 0 : 1)) }

extension Migration {
  /// The integration it names, or the plan's only one.
  package func integration(in plan: MigrationPlan) -> AzureIntegration? {
    if let integration { return plan.integrations[integration] }
    return plan.integrations.count == 1 ? plan.integrations.values.first : nil
  }

  package func host(_ role: Role) -> HostName { role == .source ? source : destination }

  /// To another disk of the same host: one agent has both halves, and nothing crosses a network.
  package var isWithinHost: Bool { source == destination }

  /// Volumes whose destination is a managed disk.
  package var diskVolumes: [Volume] {
    volumes.filter { if case .disk = $0.destination { true } else { false } }
  }

  package func volume(_ name: VolumeName) -> Volume? { volumes.first { $0.name == name } }
}
