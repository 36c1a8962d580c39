package import AgentProtocol
package import BlockModel
package import MigrationModel
package import Planning

/// A failure as the summary lists it.
package struct StepFailure: Sendable, Equatable {
  package var step: String
  package var subject: String
  package var migrations: [MigrationName]
  package var error: GatewayError
  package init(step: String, subject: String, migrations: [MigrationName], error: GatewayError) {
    self.step = step
    self.subject = subject
    self.migrations = migrations
    self.error = error
  }
}

/// How a run ended for the whole plan. The raw value is the exit status; the worst wins: 1, 4, 3, 0.
package enum ApplyResult: Int32, Sendable, Comparable {
  /// Every migration is where the plan wants it.
  case reached = 0
  /// Nothing failed; replication still runs. Run again, or wait.
  case converging = 3
  /// A window, an approval or a hold is in the way.
  case waiting = 4
  case failed = 1

  private var severity: Int {
    switch self {
    case .reached: 0
    case .converging: 1
    case .waiting: 2
    case .failed: 3
    }
  }
  /// The larger is the worse.
  package static func < (left: ApplyResult, right: ApplyResult) -> Bool { left.severity < right.severity }
}

/// How a run ended for one migration.
package struct MigrationResult: Sendable, Equatable {
  package var migration: MigrationName
  package var result: ApplyResult
  package var reached: PhaseReached
  package var target: Phase
  /// The target in a word: "gone" of one that left the document.
  package var targetWord: String
  package var waiting: [Waiting]
  /// One line on why it isn't at its target; empty where it is.
  package var note: String
  package init(
    migration: MigrationName, result: ApplyResult, reached: PhaseReached, target: Phase, targetWord: String? = nil,
    waiting: [Waiting], note: String
  ) {
    self.migration = migration
    self.result = result
    self.reached = reached
    self.target = target
    self.targetWord = targetWord ?? target.rawValue
    self.waiting = waiting
    self.note = note
  }
}

package struct ApplySummary: Sendable, Equatable {
  package var result: ApplyResult
  package var migrations: [MigrationResult]
  package var failures: [StepFailure]
  /// The change set that remained at the end.
  package var remaining: ChangeSet
  package var interrupted: Bool
  package var stepsDone: Int
  package var seconds: Double
  package init(
    result: ApplyResult, migrations: [MigrationResult], failures: [StepFailure], remaining: ChangeSet,
    interrupted: Bool, stepsDone: Int, seconds: Double
  ) {
    self.result = result
    self.migrations = migrations
    self.failures = failures
    self.remaining = remaining
    self.interrupted = interrupted
    self.stepsDone = stepsDone
    self.seconds = seconds
  }
  package var exitCode: Int32 { result.rawValue }
}

/// What a run tells while it goes on. Renderers turn it into bars, lines or JSON.
package enum ProgressEvent: Sendable, Equatable {
  case observing(round: Int)
  /// Each round's change set; the first is the one that was approved.
  case planned(ChangeSet, round: Int)
  case stepStarted(Action, attempt: Int)
  case stepFinished(Action, seconds: Double)
  case stepFailed(Action, GatewayError)
  /// It will be tried again.
  case stepRetrying(Action, GatewayError, afterSeconds: Double)
  /// A poll of a migration's two halves while something long goes on.
  case replication(MigrationName, source: SessionObservation?, destination: SessionObservation?)
  case note(String)
  case interrupted
  case finished(ApplySummary)
}

/// How long `apply` stays for replication to catch up. Swings, proofs and everything between the first step of
/// finalize and its last are always waited for.
package enum WaitPolicy: Sendable, Equatable {
  /// A short grace only; then exit 3.
  case no
  case upTo(seconds: Double)
  case untilReached
}

package struct ApplyOptions: Sendable {
  /// At most so many steps at once.
  package var parallelism: Int
  package var wait: WaitPolicy
  package var only: Set<MigrationName>?
  package var overwrite: Set<VolumeKey>
  package var replace: Set<VolumeKey>
  package var stealLease: Bool
  /// Whether the holder of a lease, as it described itself, is certainly gone: its lease is taken over at once.
  package var isGone: @Sendable (String) -> Bool
  /// At most so many migrations are moved by this run; nil: all.
  package var maxMoves: Int?
  /// Of a guardrails file.
  package var guardrails: GuardrailLimits?
  /// The steps that a saved change set lists: nothing new is done. Nil: whatever the plan needs.
  package var reviewed: ReviewedSteps?
  /// Who runs this: "user@host, run ID". Shown to whoever meets the lease.
  package var holder: String
  package init(
    parallelism: Int = 10, wait: WaitPolicy = .no, only: Set<MigrationName>? = nil, overwrite: Set<VolumeKey> = [],
    replace: Set<VolumeKey> = [], stealLease: Bool = false,
    isGone: @escaping @Sendable (String) -> Bool = { _ in false }, maxMoves: Int? = nil,
    guardrails: GuardrailLimits? = nil, reviewed: ReviewedSteps? = nil, holder: String
  ) {
    self.parallelism = max(1, parallelism)
    self.wait = wait
    self.only = only
    self.overwrite = overwrite
    self.replace = replace
    self.stealLease = stealLease
    self.isGone = isGone
    self.maxMoves = maxMoves
    self.guardrails = guardrails
    self.reviewed = reviewed
    self.holder = holder
  }
}
