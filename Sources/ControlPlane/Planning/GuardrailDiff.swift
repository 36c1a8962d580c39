import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel

/// What guardrails say of a change set: those of the plan itself, and those of a file that a platform team owns; each is
/// held by itself, so the stricter wins. What they allow a run as a whole is held by `RunLimits`. Pure.
///
/// They are about what is made and moved on. They keep back no way back, no finalize that has begun and nothing past the
/// fence (`MigrationChanges.unstoppable`): only what would come after.
struct GuardrailDiff {
  let plan: MigrationPlan
  let limits: GuardrailLimits
  let options: PlanningOptions
  let observation: Observation

  func hold(_ entries: inout [MigrationChanges]) {
    for index in entries.indices where entries[index].isGuarded {
      guard let migration = plan.migrations[entries[index].migration] else { continue }
      let found =
        ownerFaults(migration) + levelFaults(migration) + diskFaults(migration, &entries[index])
      for diagnostic in found { entries[index].deny(diagnostic) }
      holdOneWay(&entries[index], migration)
    }
  }

  private func diagnostic(
    _ effect: GuardrailEffect, _ code: String, at position: SourcePosition?, _ message: String, _ advice: String
  ) -> Diagnostic {
    Diagnostic(effect == .deny ? .error : .warning, code: code, at: position, message, advice: advice)
  }

  private func ownerFaults(_ migration: Migration) -> [Diagnostic] {
    guard let rule = limits.owner, rule.value, (plan.metadata.owner ?? "").isEmpty else { return [] }
    return [
      diagnostic(
        rule.effect, PlanningCode.guardrailOwner, at: migration.position,
        "\(migration.name): guardrails want an owner, and the plan names none", "add owner: to metadata")
    ]
  }

  private func levelFaults(_ migration: Migration) -> [Diagnostic] {
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
  private func diskFaults(_ migration: Migration, _ entry: inout MigrationChanges) -> [Diagnostic] {
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
      guard let rule = limits.diskSizeBytes else { continue }
      guard let bytes = diskBytes(of: volume, wanted, migration.source) else {
        if rule.effect == .deny { entry.lookAgainOnceAgentsAnswer() }
        continue
      }
      if bytes > rule.value {
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
      let first = entry.changes.firstIndex(where: { $0.action.isOneWayByChoice })
    else { return }
    if rule.effect == .warn || options.origin == .planned {
      entry.diagnostics.append(
        Diagnostic(
          .warning, code: PlanningCode.guardrailOneWay, at: migration.cutover.phase.position,
          "\(migration.name): guardrails want one-way steps from a saved change set",
          advice: "cmcplan plan --out FILE, then cmcplan apply FILE"))
      return
    }
    // With the application stopped and the source not fenced nothing would be won: not even the first step of it. Nor
    // with a disk orphaned and its session left.
    let start = entry.changes[..<first].firstIndex { $0.towards == .finalized } ?? first
    entry.hold(
      from: start,
      Waiting(
        reason: .saved, message: "guardrails want one-way steps from a saved change set",
        advice: "cmcplan plan --out FILE, then cmcplan apply FILE"))
  }
}

extension MigrationChanges {
  /// Whether anything is made or moved on that guardrails may keep back. What is left once the source is fenced for good
  /// is tidying up.
  fileprivate var isGuarded: Bool {
    if let phase = reached.phase, phase >= .finalized { return false }
    return changes.dropFirst(unstoppable).contains { change in
      switch change.action {
      case .deployAgent, .acquireLease, .releaseLease, .removeAgent: false
      default: true
      }
    }
  }

  /// A deny stops the migration; where it has steps that must not be stopped, what comes after them.
  mutating func deny(_ diagnostic: Diagnostic) {
    guard diagnostic.severity == .error, unstoppable > 0 else {
      diagnostics.append(diagnostic)
      return
    }
    hold(
      from: unstoppable,
      Waiting(reason: .guardrail, message: "\(diagnostic.code): \(diagnostic.message)", advice: diagnostic.advice))
  }

  /// A rule needs a size that only an agent can tell: nothing is made before it did.
  mutating func lookAgainOnceAgentsAnswer() {
    let deployments = changes.prefix { if case .deployAgent = $0.action { true } else { false } }.count
    guard deployments > 0 else { return }
    lookAgainAfter = min(lookAgainAfter ?? deployments, deployments)
  }
}

extension IQoSLevel {
  fileprivate var rank: Int { IQoSLevel.allCases.firstIndex(of: self) ?? 0 }
}

extension Action {
  /// Can't be taken back, and somebody decides that it is done: what only follows from such a step isn't among these.
  fileprivate var isOneWayByChoice: Bool {
    switch self {
    case .fence, .orphanDisk, .giveUpSession: true
    default: false
    }
  }
}
