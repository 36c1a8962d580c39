import AgentProtocol
package import BlockModel
import Diagnostics
package import MigrationModel

/// Order between migrations. Until every migration of each earlier wave is in its phase, in order, and has been so for
/// the wave's bake time, a later wave's migrations don't swing, and what follows a swing waits with it; the health check
/// of the wave right before it is a step of its own before theirs. Pure.
///
/// A later wave may be prepared and synchronized at any time: nobody notices, and data takes days. What has begun (a
/// swing under way, an application that is stopped), what is past the fence, and a way back are never held.
struct WaveDiff {
  private let plan: MigrationPlan
  private let observation: Observation
  private let options: PlanningOptions
  /// Of those that the change set is about; the others' are gathered where they are needed.
  private let facts: [MigrationName: MigrationFacts]
  private let own: OwnDisks

  init(
    _ plan: MigrationPlan, _ observation: Observation, _ options: PlanningOptions,
    _ facts: [MigrationName: MigrationFacts], _ own: OwnDisks
  ) {
    self.plan = plan
    self.observation = observation
    self.options = options
    self.facts = facts
    self.own = own
  }

  func hold(_ entries: inout [MigrationChanges]) {
    guard plan.waves.count > 1 else { return }
    let waves = plan.waveIndices
    var position: [MigrationName: Int] = [:]
    for (index, entry) in entries.enumerated() { position[entry.migration] = index }
    let seen = entries
    let gated = entries.indices.compactMap { index -> (index: Int, wave: Int, first: Int)? in
      guard let wave = waves[entries[index].migration], wave > 0 else { return nil }
      return firstGated(entries[index]).map { (index, wave, $0) }
    }
    guard let last = gated.map(\.wave).max() else { return }
    let undone = firstUndone(before: last) { name in position[name].map { seen[$0] } }
    for (index, wave, first) in gated {
      Self.cutRound(&entries[index], before: first)
      addCheck(of: plan.waves[wave - 1], to: &entries[index], before: first)
      guard let undone, undone.wave < wave else { continue }
      Self.hold(&entries[index], from: first, waiting(wave, for: undone))
    }
  }

  /// What keeps this migration's wave closed; nil where it may swing.
  func closing(_ migration: MigrationName) -> Waiting? {
    guard let wave = plan.waveIndices[migration], wave > 0 else { return nil }
    return firstUndone(before: wave) { _ in nil }.map { waiting(wave, for: $0) }
  }

  // MARK: What waits

  /// Index of the first step that notices a swing or is one; nil where there is none, or it has begun, or lies behind.
  private func firstGated(_ entry: MigrationChanges) -> Int? {
    switch entry.reached {
    case .nothing, .reached(.prepared), .reached(.synchronized), .reached(.cmotion): break
    case .reached, .tombstoned, .pastFence, .unknown: return nil
    }
    guard let facts = facts[entry.migration], !facts.hasFinalizeBegun(digest: options.digest) else { return nil }
    return entry.changes.firstIndex { change in
      switch change.action {
      case .swing: facts.sourceStage != .swinging
      case .runHook, .closeTap, .prove, .fence: true
      default: false
      }
    }
  }

  /// Days may lie between the beginning of a synchronization and its end: the waves before are looked at again then.
  private static func cutRound(_ entry: inout MigrationChanges, before first: Int) {
    let synchronizes = entry.changes[..<first].contains { if case .synchronize = $0.action { true } else { false } }
    guard synchronizes else { return }
    entry.lookAgainAfter = min(entry.lookAgainAfter ?? first, first)
  }

  private func addCheck(of wave: Wave, to entry: inout MigrationChanges, before first: Int) {
    guard let check = wave.healthCheck else { return }
    let change = Change(
      action: .checkWave(wave.name, check.host), towards: entry.changes[first].towards,
      summary: "check wave \(wave.name) on \(check.host)", why: check.run,
      precondition: "wave \(wave.name) is in its phase and has baked",
      price: Price(note: "at most \(Int(check.timeoutSeconds)) s"), waitsFor: entry.changes[first].waitsFor)
    entry.changes.insert(change, at: first)
  }

  /// A wave that isn't open goes before a window, a confirmation or an approval, which mean nothing before it; these are
  /// still listed, for whoever wants to see to them meanwhile. A hold goes before everything.
  private static func hold(_ entry: inout MigrationChanges, from first: Int, _ waiting: Waiting) {
    let isHeld: Bool
    if let gate = entry.changes[first].waitsFor, case .hold = entry.waiting[gate].reason {
      isHeld = true
    } else {
      isHeld = false
    }
    guard !isHeld else {
      entry.waiting.append(waiting)
      return
    }
    entry.waiting.insert(waiting, at: 0)
    for index in entry.changes.indices { entry.changes[index].waitsFor = entry.changes[index].waitsFor.map { $0 + 1 } }
    let gate = entry.changes[first].waitsFor
    for index in first..<entry.changes.count
    where entry.changes[index].waitsFor == nil || entry.changes[index].waitsFor == gate {
      entry.changes[index].waitsFor = 0
    }
  }

  // MARK: What is waited for

  /// What is missing in a wave.
  private struct Missing {
    /// "erp-db is synchronized, wants cmotion".
    var what: [String] = []
    var advice = ""
    var until: WallTime?
  }

  private typealias Undone = (wave: Int, missing: Missing)

  /// The first wave that isn't done, of those before `last`.
  private func firstUndone(before last: Int, _ entry: (MigrationName) -> MigrationChanges?) -> Undone? {
    for index in 0..<last {
      if let missing = missing(plan.waves[index], entry) { return (index, missing) }
    }
    return nil
  }

  private func waiting(_ wave: Int, for undone: Undone) -> Waiting {
    let shownLimit = 3
    let what = undone.missing.what
    var text = what.prefix(shownLimit).joined(separator: "; ")
    if what.count > shownLimit { text += "; and \(what.count - shownLimit) more" }
    let earlier = plan.waves[undone.wave].name
    return Waiting(
      reason: .wave(earlier, until: undone.missing.until),
      message: "wave '\(plan.waves[wave].name)' waits for '\(earlier)': \(text)", advice: undone.missing.advice)
  }

  private func missing(_ wave: Wave, _ entry: (MigrationName) -> MigrationChanges?) -> Missing? {
    var missing = Missing()
    var latest: (name: MigrationName, since: WallTime)?
    for name in wave.migrations {
      guard let migration = plan.migrations[name] else { continue }
      let facts = facts[name] ?? MigrationFacts(migration, in: plan, observation, own)
      let entry = entry(name) ?? planned(facts)
      if let fault = Self.fault(entry, facts) {
        missing.what.append(fault.what)
        if missing.advice.isEmpty { missing.advice = fault.advice }
        continue
      }
      guard wave.bakeSeconds > 0 else { continue }
      guard let since = facts.since(entry.target) else {
        missing.what.append("nobody can tell since when \(name) is \(entry.reached.word)")
        if missing.advice.isEmpty { missing.advice = facts.adviceOnSince(entry.target, wave) }
        continue
      }
      if latest.map({ $0.since < since }) ?? true { latest = (name, since) }
    }
    if !missing.what.isEmpty { return missing }
    guard let latest else { return nil }
    let end = latest.since.adding(seconds: wave.bakeSeconds)
    guard options.now < end else { return nil }
    missing.what = ["it bakes; \(latest.name) is where it should be since \(rendered(latest.since))"]
    missing.advice = "run apply again then"
    missing.until = end
    return missing
  }

  /// Of a migration that the change set isn't about.
  private func planned(_ facts: MigrationFacts) -> MigrationChanges {
    var builder = MigrationDiff(facts, shippedAgentDigest: observation.shippedAgentDigest, options: options)
    return builder.build()
  }

  /// Why a migration isn't well and in its phase.
  private static func fault(_ entry: MigrationChanges, _ facts: MigrationFacts) -> (what: String, advice: String)? {
    let name = entry.migration
    if let error = entry.diagnostics.first(where: { $0.severity == .error }) {
      let message = error.message.hasPrefix("\(name)") ? error.message : "\(name): \(error.message)"
      return ("\(message) (\(error.code))", error.advice)
    }
    if let hold = facts.sourceSession?.hold ?? facts.destinationSession?.hold {
      return (
        "\(name) is held (\(hold.cause.rawValue)) by \(hold.who): \(hold.why)",
        "cmcplan resume \(name), once the reason is gone"
      )
    }
    let isPast = entry.reached.phase.map { $0 > entry.target && $0 >= .finalized } ?? false
    guard entry.reached.phase == entry.target || isPast, entry.reached != .pastFence else {
      return (
        "\(name) is \(entry.reached.word), wants \(entry.target.rawValue)", "see what keeps it: cmcplan ready \(name)"
      )
    }
    guard let source = facts.sourceSession, entry.target < .finalized else { return nil }
    if let trouble = trouble(source, facts.destinationSession) {
      return ("\(name) is \(entry.reached.word), but \(trouble)", "see cmcplan status; mend it first")
    }
    if entry.target == .cmotion, facts.migration.cutover.confirmWithinSeconds != nil, !source.swingConfirmed {
      return (
        "the swing of \(name) is not confirmed", "cmcplan confirm \(name), once the application is healthy"
      )
    }
    return nil
  }

  private static func trouble(_ source: SessionObservation, _ destination: SessionObservation?) -> String? {
    if let trouble = source.trouble { return trouble }
    return (source.lastError ?? destination?.lastError).map { "an agent reports: \($0.message)" }
  }
}

extension MigrationFacts {
  /// Whether finalize has stopped the application, or closed the tap: to hold it there would be an outage.
  package func hasFinalizeBegun(digest: DigestFunction) -> Bool {
    switch sourceStage {
    case .tapClosed, .proving, .proven: true
    default:
      migration.cutover.hooks[.stopApplication] != nil
        && hookProgress(.stopApplication, digest: digest) == .succeeded
    }
  }

  /// Since when the migration is in this phase, as the world tells it; nil where nobody can tell.
  package func since(_ phase: Phase) -> WallTime? {
    switch phase {
    case .prepared: sourceSession?.connectionProof?.provenAt
    case .synchronized: sourceSession?.initialSynchronizationAt
    case .cmotion: sourceSession?.standInSince
    // Without disks it is the fence's time that is known, not that of the last hook: the tombstone is written then.
    case .finalized, .retired: taggedSince(phase) ?? tombstonedSince(phase)
    }
  }

  /// When the last of its disks was tagged with this phase, or one behind it; nil where one wasn't or doesn't say when,
  /// or it has none.
  private func taggedSince(_ phase: Phase) -> WallTime? {
    guard let taggedPhase, taggedPhase >= phase else { return nil }
    let volumes = migration.diskVolumes
    let times = volumes.compactMap { disks[$0.name]?.tags[DiskTag.stateAt].flatMap(wallTime(stamped:)) }
    return times.count == volumes.count ? times.max() : nil
  }

  private func tombstonedSince(_ phase: Phase) -> WallTime? {
    Role.allCases.compactMap { tombstone(of: $0) }
      .filter { $0.phase >= phase }.map(\.at).max()
  }

  fileprivate func adviceOnSince(_ phase: Phase, _ wave: Wave) -> String {
    let untilThen = "take 'bake' out of wave '\(wave.name)' once it has been long enough"
    guard phase >= .finalized, !migration.diskVolumes.isEmpty else {
      return "its agent didn't note it (it is older, or was when it happened): \(untilThen)"
    }
    return "tag its disks \(DiskTag.stateAt)=2026-11-23T04:30:00Z, with the time that is right, or \(untilThen)"
  }
}

extension MigrationPlan {
  /// Index of each migration's wave; one that is in none waits for nobody.
  package var waveIndices: [MigrationName: Int] {
    var found: [MigrationName: Int] = [:]
    for (index, wave) in waves.enumerated() { for name in wave.migrations { found[name] = index } }
    return found
  }
}

/// Of `ready`: whether the waves before let the migration swing.
func waveChecks(_ entry: MigrationChanges, in plan: MigrationPlan) -> [ReadinessCheck] {
  guard let wave = plan.waveIndices[entry.migration], wave > 0 else { return [] }
  let before = plan.waves[wave - 1]
  for waiting in entry.waiting {
    guard case .wave(_, let until) = waiting.reason else { continue }
    return [
      ReadinessCheck(
        "wave", false, waiting.message + (until.map { ", until \(rendered($0))" } ?? ""), advice: waiting.advice)
    ]
  }
  let check = before.healthCheck.map { "; \($0.host) is asked right before: \($0.run)" } ?? ""
  return [ReadinessCheck("wave", true, "wave '\(before.name)' doesn't keep it back\(check)")]
}

/// What keeps the migration's wave closed, for whoever looks again right before a step; nil where it may swing. Pure.
package func closedWave(
  before migration: MigrationName, in plan: MigrationPlan, _ observation: Observation, options: PlanningOptions
) -> Waiting? {
  WaveDiff(plan, observation, options, [:], OwnDisks(plan, observation)).closing(migration)
}
