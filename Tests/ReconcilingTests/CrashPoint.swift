import AgentProtocol
import BlockModel
import Foundation
import MigrationModel
import Planning
import Reconciling
import Replication
import Simulation
import Synchronization
import TestSupport

/// One kill: of a part, at one kind of step, before it, in it or after it.
struct CrashPoint: Sendable {
  enum Part: String, CaseIterable {
    case cmcplan
    case sourceAgent = "source agent"
    case sourceHost = "source host"
    case destinationAgent = "destination agent"
    case destinationHost = "destination host"
    case link
    case azure = "ARM"
  }
  enum Moment: String, CaseIterable {
    /// The step stands in the journal, and nothing of it is done.
    case before
    /// Its first call was carried out, and nobody heard the answer.
    case firstCall
    /// As many calls later, in a step that makes so many; else whatever runs beside it or next.
    case thirdCall
    /// The journal says that it succeeded.
    case after
  }
  let kind: String
  let part: Part
  let moment: Moment
}

/// Watches one run, and kills where its point says, once.
final class Striker: Sendable {
  private struct State {
    var hasBegun = false
    var calls = 0
    var hasStruck = false
    var hasHit = false

    mutating func strikeOnce() -> Bool {
      defer { hasStruck = true }
      return !hasStruck
    }
  }
  let point: CrashPoint
  private let state = Mutex(State())

  init(_ point: CrashPoint) { self.point = point }

  /// Whether there was something to kill: an agent that runs, a link, a run under way.
  var hasHit: Bool { state.withLock(\.hasHit) }
  func hit() { state.withLock { $0.hasHit = true } }

  /// Whether to strike with this line of the journal.
  func strikes(_ entry: JournalEntry) -> Bool {
    guard entry.step == point.kind else { return false }
    return state.withLock { state in
      if entry.kind == .stepStarted { state.hasBegun = true }
      let isIt =
        switch point.moment {
        case .before: entry.kind == .stepStarted
        case .after: entry.kind == .stepSucceeded
        case .firstCall, .thirdCall: false
        }
      return isIt && state.strikeOnce()
    }
  }

  /// Whether to strike with this call.
  func strikesInCall() -> Bool {
    state.withLock { state in
      guard state.hasBegun else { return false }
      state.calls += 1
      let isIt =
        switch point.moment {
        case .firstCall: state.calls == 1
        case .thirdCall: state.calls == 3
        case .before, .after: false
        }
      return isIt && state.strikeOnce()
    }
  }
}

/// A journal whose lines kill.
struct StrikingJournal: JournalSink {
  let inner: RecordedJournal
  let world: FakeWorld
  let run: RunIdentity

  func append(_ line: String) async {
    await inner.append(line)
    guard let striker = run.faults.striker,
      let entry = try? JSONDecoder().decode(JournalEntry.self, from: Data(line.utf8)), striker.strikes(entry)
    else { return }
    world.strike(run)
  }
}

extension FakeWorld {
  /// Kills what the run's striker is there to kill.
  func strike(_ run: RunIdentity) {
    guard let striker = run.faults.striker else { return }
    if striker.point.part == .cmcplan {
      run.die()
      return striker.hit()
    }
    let now = loop.wallNow().secondsSince1970
    if state.withLock({ $0.suffer(striker.point.part, at: now) }) { striker.hit() }
  }
}

extension WorldState {
  /// So many calls does Azure not answer after it went away.
  static let azureAwayCalls = 6

  /// False where there is nothing to kill.
  mutating func suffer(_ part: CrashPoint.Part, at now: Double) -> Bool {
    switch part {
    case .cmcplan: return false
    case .azure:
      azureAway = Self.azureAwayCalls
      return true
    case .sourceAgent: return kill(.source, isPowerCut: false)
    case .sourceHost: return kill(.source, isPowerCut: true)
    case .destinationAgent: return kill(.destination, isPowerCut: false)
    case .destinationHost: return kill(.destination, isPowerCut: true)
    case .link:
      guard joint == nil else {
        guard joint?.rehearsal.source?.isConnected == true else { return false }
        joint?.suffer(.linkLoss)
        return true
      }
      guard let name = plan.sortedMigrations.last?.name else { return false }
      let before = plan.migrations[name].flatMap { agents[$0.source]?.sessions[sourceKey(name)]?.seen.stage }
      fallBack(name, at: now)
      return before == .standIn
    }
  }

  /// A killed agent has to be started by the next deployment; one of a host that comes back is started by the host.
  private mutating func kill(_ role: Role, isPowerCut: Bool) -> Bool {
    let host = role == .source ? plan.sortedMigrations.last?.source : plan.sortedMigrations.last?.destination
    guard let host, agents[host]?.isRunning == true else { return false }
    if let role = joint?.hosts[role] == host ? role : nil {
      joint?.suffer(isPowerCut ? .powerCut(role) : .processKill(role))
    }
    if isPowerCut {
      agents[host]?.bootCount += 1
    } else {
      agents[host]?.isRunning = false
    }
    return true
  }
}
