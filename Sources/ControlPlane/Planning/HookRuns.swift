package import AgentProtocol
package import BlockModel
package import MigrationModel

/// Where a hook of this authority stands, told from what its agent says that it ran.
package enum HookProgress: Sendable, Equatable {
  case succeeded
  /// To be run under this id: never run, or only failed under earlier ones.
  case toRun(runID: String, attempt: Int)
  /// Failed as often as it may.
  case exhausted
}

/// How often a failing hook may be run again, each time by a person's `resume`, while authority stays where it is.
package let hookAttemptLimit = 32

/// Attempts are told apart by their run id: the agent runs an id once and answers the same id with the same outcome,
/// so a repeated apply doesn't repeat a finished hook. The generation is part of it: after authority moved, all run anew.
package func hookProgress(
  _ point: HookPoint, session: SessionID, generation: Generation, runs: [HookRun], digest: DigestFunction
) -> HookProgress {
  for attempt in 1...hookAttemptLimit {
    let runID = digest("hook\n\(session)\n\(generation)\n\(point.rawValue)\n\(attempt)\n")
    guard let run = runs.first(where: { $0.runID == runID }) else { return .toRun(runID: runID, attempt: attempt) }
    if run.succeeded { return .succeeded }
  }
  return .exhausted
}

extension Migration {
  /// The host on which a hook runs.
  package func host(ofHook point: HookPoint) -> HostName {
    cutover.hooks[point]?.host ?? host(point.defaultRole)
  }

  /// The role whose session a hook belongs to: that of its host.
  package func role(ofHook point: HookPoint) -> Role {
    guard let host = cutover.hooks[point]?.host, source != destination else { return point.defaultRole }
    return host == source ? .source : .destination
  }
}
