import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Reconciling

/// What the world notes of waves, told from nothing that the planner reads.
struct WaveWatch {
  /// By command, when each run of it succeeded.
  var succeeded: [String: [Double]] = [:]
  var runs: [String: Int] = [:]
  /// How many checks still fail.
  var failingChecks = 0
  /// Somebody pauses this migration while a check runs.
  var pausedByCheck: MigrationName?
  /// When each disk's state was last changed.
  var taggedAt: [String: Double] = [:]
}

extension WorldState {
  mutating func runCheck(_ command: String, at now: Double) -> HostCommandOutcome {
    waves.runs[command, default: 0] += 1
    if let name = waves.pausedByCheck, let source = plan.migrations[name]?.source {
      let key = sourceKey(name)
      agents[source]?.sessions[key]?.seen.hold = Hold(
        cause: .paused, who: "bob", why: "wait", at: WallTime(secondsSince1970: now))
    }
    if waves.failingChecks > 0 {
      waves.failingChecks -= 1
      return HostCommandOutcome(exitCode: 3, output: "smoke test: login page answers 500")
    }
    waves.succeeded[command, default: []].append(now)
    return HostCommandOutcome(exitCode: 0, output: "all well")
  }

  /// No swing of a wave before all of the waves before are in their phase, have baked, and the one before was checked.
  mutating func expectOpenWave(_ migration: MigrationName, at now: Double) {
    guard let wave = plan.waves.firstIndex(where: { $0.migrations.contains(migration) }) else { return }
    for index in 0..<wave {
      let earlier = plan.waves[index]
      var last = -Double.infinity
      for name in earlier.migrations {
        guard let since = inPhaseSince(name) else {
          violate("\(migration) swings though \(name) of an earlier wave isn't where it should be")
          continue
        }
        last = max(last, since)
      }
      if last + earlier.bakeSeconds > now { violate("\(migration) swings before wave \(earlier.name) has baked") }
      guard index == wave - 1, let check = earlier.healthCheck else { continue }
      if !(waves.succeeded[check.run] ?? []).contains(where: { $0 >= last }) {
        violate("\(migration) swings before wave \(earlier.name) was checked")
      }
    }
  }

  private func inPhaseSince(_ name: MigrationName) -> Double? {
    guard let migration = plan.migrations[name] else { return nil }
    let target = migration.cutover.phase.value
    let key = sourceKey(name)
    let source = agents[migration.source]?.sessions[key]?.seen
    if source?.hold != nil { return nil }
    if target == .cmotion { return source?.stage == .standIn ? source?.standInSince?.secondsSince1970 : nil }
    let own = disks.values.filter { $0.volume(in: plan)?.migration == name }
    let isThere = own.allSatisfy { disk in
      (disk.tags[DiskTag.state].flatMap(Phase.init(rawValue:)) ?? .prepared) >= target
    }
    let tagged = isThere ? own.compactMap { waves.taggedAt[$0.resourceID] }.max() : nil
    // Retired, and whoever did it died before the tags: the tombstones say so, also once a later run has tagged them.
    let stones = [migration.source, migration.destination].compactMap { host in
      agents[host]?.tombstones.first { $0.session == key.session && $0.phase >= target }
    }
    let buried = stones.count == 2 ? stones.map(\.at.secondsSince1970).max() : nil
    return [tagged, buried].compactMap { $0 }.min()
  }
}
