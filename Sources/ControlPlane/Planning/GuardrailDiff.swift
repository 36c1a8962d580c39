import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel

/// What guardrails say of a change set: those of the plan itself, and those of a file that a platform team owns; each is
/// held by itself, so the stricter wins. Pure.
///
/// They are about what is made and moved. A way back (revert, stop) and a live edit other than of iQoS pass.
struct GuardrailDiff {
  let plan: MigrationPlan
  let limits: GuardrailLimits
  let options: PlanningOptions
  let observation: Observation

  func hold(_ entries: inout [MigrationChanges]) {
    for index in entries.indices where !entries[index].changes.isEmpty {
      guard let migration = plan.migrations[entries[index].migration] else { continue }
      var found = ownerFaults(migration, entries[index]) + levelFaults(migration, entries[index])
      found += diskFaults(migration, entries[index])
      entries[index].diagnostics += found
      holdOneWay(&entries[index], migration)
    }
    holdMoves(&entries)
    holdBytes(&entries)
  }

  private func diagnostic(
    _ effect: GuardrailEffect, _ code: String, at position: SourcePosition?, _ message: String, _ advice: String
  ) -> Diagnostic {
    Diagnostic(effect == .deny ? .error : .warning, code: code, at: position, message, advice: advice)
  }

  private func ownerFaults(_ migration: Migration, _ entry: MigrationChanges) -> [Diagnostic] {
    guard let rule = limits.owner, rule.value, entry.goesForward, (plan.metadata.owner ?? "").isEmpty else { return [] }
    return [
      diagnostic(
        rule.effect, PlanningCode.guardrailOwner, at: migration.position,
        "\(migration.name): guardrails want an owner, and the plan names none", "add owner: to metadata")
    ]
  }

  private func levelFaults(_ migration: Migration, _ entry: MigrationChanges) -> [Diagnostic] {
    guard entry.goesForward else { return [] }
    let level = migration.iqos.level(at: options.now)
    return limits.iqos.compactMap { rule in
      guard WindowOpening.isOpen([rule.value.window], at: options.now), level.rank > rule.value.atMost.rank else {
        return nil
      }
      return diagnostic(
        rule.effect, PlanningCode.guardrailLevel, at: migration.position,
        "\(migration.name): its iQoS level is \(level.rawValue) now; guardrails allow at most \(rule.value.atMost.rawValue) at this hour",
        "lower it, or give it a schedule")
    }
  }

  /// Only of disks that this change set makes: one that is there is nobody's doing now.
  private func diskFaults(_ migration: Migration, _ entry: MigrationChanges) -> [Diagnostic] {
    guard let integration = migration.integration(in: plan) else { return [] }
    var found: [Diagnostic] = []
    for change in entry.changes {
      guard case .ensureDisk(let key) = change.action, let volume = migration.volume(key.volume),
        case .disk(let wanted) = volume.destination, wanted.existingID == nil
      else { continue }
      if let rule = limits.locations, !rule.value.contains(integration.location) {
        found.append(
          diagnostic(
            rule.effect, PlanningCode.guardrailLocation, at: volume.position,
            "\(key): its disk would be in \(integration.location); guardrails allow \(rule.value.joined(separator: ", "))",
            "choose an integration of an allowed location"))
      }
      if let rule = limits.skus, !rule.value.contains(wanted.sku) {
        found.append(
          diagnostic(
            rule.effect, PlanningCode.guardrailSKU, at: volume.position,
            "\(key): its disk would be \(wanted.sku.rawValue); guardrails allow \(rule.value.map(\.rawValue).joined(separator: ", "))",
            "write one of these"))
      }
      if let rule = limits.diskSizeBytes, let bytes = diskBytes(of: volume, wanted, migration.source),
        bytes > rule.value
      {
        found.append(
          diagnostic(
            rule.effect, PlanningCode.guardrailSize, at: volume.position,
            "\(key): its disk would have \(gibibytes(holding: bytes)) GiB; guardrails allow \(gibibytes(holding: rule.value))",
            "split the volume, or ask whoever owns the guardrails"))
      }
    }
    return found
  }

  /// Nil where the source's size decides and isn't known yet: looked at again once it is.
  private func diskBytes(of volume: Volume, _ disk: ManagedDisk, _ host: HostName) -> UInt64? {
    if case .bytes(let bytes) = disk.size { return bytes }
    return observation.hosts[host]?.device(volume.device)?.sizeBytes
  }

  /// Wanted only from a saved change set: the rest of the way is taken, these steps wait.
  private func holdOneWay(_ entry: inout MigrationChanges, _ migration: Migration) {
    guard let rule = limits.oneWayFromSavedOnly, rule.value, options.origin != .saved,
      let first = entry.changes.firstIndex(where: { if case .fence = $0.action { true } else { false } })
    else { return }
    if rule.effect == .warn || options.origin == .planned {
      entry.diagnostics.append(
        Diagnostic(
          .warning, code: PlanningCode.guardrailOneWay, at: migration.cutover.phase.position,
          "\(migration.name): guardrails want one-way steps from a saved change set",
          advice: "cmcplan plan --out FILE, then cmcplan apply FILE"))
      return
    }
    entry.waiting.append(
      Waiting(
        reason: .saved, message: "guardrails want one-way steps from a saved change set",
        advice: "cmcplan plan --out FILE, then cmcplan apply FILE"))
    // With the application stopped and the source not fenced nothing would be won: not even the first step of it.
    let start = entry.changes[..<first].firstIndex { $0.towards == .finalized } ?? first
    for index in start..<entry.changes.count where entry.changes[index].waitsFor == nil {
      entry.changes[index].waitsFor = entry.waiting.count - 1
    }
  }

  private func holdMoves(_ entries: inout [MigrationChanges]) {
    guard let rule = limits.moves else { return }
    let moving = entries.indices.filter { entries[$0].isMove && entries[$0].goesForward }
    // A run's later rounds go on with what its first began.
    guard options.movers == nil, moving.count > rule.value else { return }
    for index in moving {
      entries[index].diagnostics.append(
        diagnostic(
          rule.effect, PlanningCode.guardrailMoves, at: rule.position,
          "\(entries[index].migration): one of \(moving.count) migrations that would move; guardrails allow \(rule.value) a run",
          "apply with --max-moves \(rule.value), or with --only"))
    }
  }

  private func holdBytes(_ entries: inout [MigrationChanges]) {
    guard let rule = limits.bytes, options.movers == nil else { return }
    var total: UInt64 = 0
    for index in entries.indices {
      let own = entries[index].actionable.compactMap(\.price.bytesToMove).reduce(0, +)
      guard own > 0, entries[index].reached.phase ?? .prepared < .synchronized else { continue }
      total += own
      guard total > rule.value else { continue }
      entries[index].diagnostics.append(
        diagnostic(
          rule.effect, PlanningCode.guardrailBytes, at: rule.position,
          "\(entries[index].migration): with it \(gibibytes(holding: total)) GiB would be moved; guardrails allow \(gibibytes(holding: rule.value)) a run",
          "apply fewer with --only or --max-moves"))
    }
  }
}

extension MigrationChanges {
  /// Whether anything is made or moved on: a way that only leads back is nobody's to forbid.
  fileprivate var goesForward: Bool {
    changes.contains { change in
      switch change.action {
      case .revert, .stopSynchronizing, .deployAgent, .acquireLease, .releaseLease, .removeAgent: false
      default: true
      }
    }
  }
}

extension IQoSLevel {
  fileprivate var rank: Int { IQoSLevel.allCases.firstIndex(of: self) ?? 0 }
}
