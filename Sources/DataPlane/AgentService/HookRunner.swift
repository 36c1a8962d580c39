package import AgentProtocol
package import BlockModel
package import Seams

/// Runs a hook once: what a first run answered is answered again for the same `runID`, across restarts of the agent.
/// Blocks the calling thread until the hook ended.
package struct HookRunner: Sendable {
  private let children: any ChildProcesses
  private let time: any TimeSource
  private let catalogue: Catalogue
  private let path: String
  private let home: String
  /// Output is read and dropped past this; the answer has its last `RunHookCall.outputLimitBytes`.
  private static let readLimitBytes = 4 << 20
  package static let longestTimeoutSeconds = 24.0 * 3600

  package init(
    children: any ChildProcesses, time: any TimeSource, catalogue: Catalogue, path: String, home: String
  ) {
    self.children = children
    self.time = time
    self.catalogue = catalogue
    self.path = path
    self.home = home
  }

  /// What a run of this id left; nil where it never began. A run that the agent did not live to see the end of is
  /// answered as killed: whether it did its work can't be known, and it is not run twice.
  package func recorded(_ runID: String, of session: SessionID) throws(AgentFault) -> HookOutcome? {
    guard let entry = try catalogue.hook(runID, of: session) else { return nil }
    return entry.outcome
      ?? HookOutcome(
        exitCode: nil, timedOut: false,
        output: "the agent ended while this hook ran, so how it ended is not known; check the host, then run it anew",
        seconds: time.wallNow().secondsSince1970 - entry.startedAt.secondsSince1970)
  }

  package func run(_ call: RunHookCall, migration: MigrationName) throws(AgentFault) -> HookOutcome {
    guard call.timeoutSeconds > 0, call.timeoutSeconds <= Self.longestTimeoutSeconds else {
      throw AgentFault(.badRequest, "the timeout of a hook is above 0 and at most \(Int(Self.longestTimeoutSeconds)) s")
    }
    var entry = HookEntry(runID: call.runID, point: call.point, startedAt: time.wallNow(), outcome: nil)
    try catalogue.save(entry, of: call.session)
    let start = time.monotonicNow()
    let command = ChildCommand(
      executable: "/bin/sh", arguments: ["-c", "exec 2>&1\n" + call.command],
      environment: [
        "PATH": path, "HOME": home, "LANG": "C.UTF-8", "CMC_SESSION": call.session.text,
        "CMC_MIGRATION": migration.text,
      ], workingDirectory: "/", timeoutSeconds: call.timeoutSeconds, outputLimitBytes: Self.readLimitBytes)
    let outcome: HookOutcome
    do {
      let result = try children.run(command)
      let exitCode: Int32? = if case .exited(let code) = result.ending { code } else { nil }
      outcome = HookOutcome(
        exitCode: exitCode, timedOut: result.ending == .timedOut,
        output: String(decoding: result.output.suffix(RunHookCall.outputLimitBytes), as: UTF8.self),
        seconds: time.monotonicNow().seconds(since: start))
    } catch {
      outcome = HookOutcome(
        exitCode: nil, timedOut: false, output: "the hook can't be started: \(error)",
        seconds: time.monotonicNow().seconds(since: start))
    }
    entry.outcome = outcome
    try catalogue.save(entry, of: call.session)
    return outcome
  }
}
