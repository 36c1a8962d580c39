import AgentProtocol
import BlockModel
import MigrationModel
import Planning

/// What breaks under a run and comes back by itself, how often what happened, and how long anybody was without an answer.
struct Breakdowns: Sendable {
  enum Kind: String, CaseIterable {
    case agentKilled = "agent killed"
    case hostRebooted = "host rebooted"
    case linkLost = "link lost in stand-in"
    case azureAway = "Azure away"
    case hookFails = "hook fails"
  }
  /// Systemd starts an agent again; a host takes longer than all attempts at one step.
  static let agentSeconds = 8.0
  static let hostSeconds = 70.0

  var awayUntil: [HostName: Double] = [:]
  private(set) var counts: [String: Int] = [:]
  private(set) var calls = 0
  private(set) var longestSilence = 0.0
  private var silentSince: [HostName: Double] = [:]

  mutating func note(_ kind: String, _ party: HostName?, at now: Double) {
    counts[kind, default: 0] += 1
    calls += 1
    if let party, silentSince[party] == nil { silentSince[party] = now }
  }

  mutating func answered(_ party: HostName?, isRepeated: Bool, at now: Double) {
    calls += 1
    if isRepeated { counts["call repeated", default: 0] += 1 }
    guard !silentSince.isEmpty, let party, let since = silentSince.removeValue(forKey: party) else { return }
    longestSilence = max(longestSilence, now - since)
  }
}

extension WorldState {
  func isAway(_ host: HostName, at now: Double) -> Bool {
    unreachable.contains(host) || (breakdowns.awayUntil[host].map { now < $0 } ?? false)
  }

  /// Something breaks on the host that is asked, or in Azure.
  mutating func suffer(_ kind: Breakdowns.Kind, _ host: HostName?, at now: Double) {
    guard let host else {
      azureAway = Self.azureAwayCalls
      return breakdowns.note(Breakdowns.Kind.azureAway.rawValue, nil, at: now)
    }
    switch kind {
    case .azureAway: return
    case .agentKilled: breakdowns.awayUntil[host] = now + Breakdowns.agentSeconds
    case .hostRebooted:
      agents[host]?.bootCount += 1
      breakdowns.awayUntil[host] = now + Breakdowns.hostSeconds
    case .linkLost:
      let swung = agents[host]?.sessions.values.first { $0.seen.role == .source && $0.seen.stage == .standIn }
      guard let swung else { return }
      fallBack(plannedName(swung.seen), at: now)
    case .hookFails: failingHooks[HookPoint.stopApplication.rawValue, default: 0] += 1
    }
    breakdowns.note(kind.rawValue, kind == .linkLost || kind == .hookFails ? nil : host, at: now)
  }
}
