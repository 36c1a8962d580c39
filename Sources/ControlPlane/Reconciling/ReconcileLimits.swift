/// Every limit and pace of a run, by name. Seconds and counts.
package struct ReconcileLimits: Sendable, Equatable {
  /// How often one step is tried while its error says that it may be.
  package var stepAttempts = 6
  /// First wait before another attempt; doubles each time.
  package var firstBackoffSeconds = 1.0
  package var backoffCapSeconds = 60.0
  /// Between two polls of a migration while it replicates.
  package var pollSeconds = 1.0
  /// The same while its application is stopped, or a swing is under way: every poll too late is a longer pause.
  package var urgentPollSeconds = 0.2
  /// Polls in a row that may fail before the step that waits does.
  package var pollFailures = 10
  /// How long a run without `--wait` stays for the initial synchronization.
  package var graceSeconds = 5.0
  /// How long an agent's own error may stand before the step that waits for it fails.
  package var errorPatienceSeconds = 30.0
  /// A swing drains first, so its limit is that of a long drain.
  package var swingSeconds = 4.0 * 3600
  /// How often a swing that the agent gave up (the link was lost, the application would have waited) is asked for in one
  /// run: each may cost the application a pause.
  package var swingAttempts = 3
  /// The same within a group, where those that have swung wait at the destination for the others.
  package var groupSwingSeconds = 900.0
  package var proofSeconds = 48.0 * 3600
  /// Every other milestone.
  package var milestoneSeconds = 300.0
  package var leaseSeconds = 120.0
  package var leaseRenewalSeconds = 40.0
  /// How many renewals in a row may fail before the lease counts as lost.
  package var leaseRenewalFailures = 2
  /// Rounds of observe, diff, act in one run.
  package var rounds = 12
  /// Hosts and integrations observed at once.
  package var observeParallelism = 64
  /// Machines and disks that one integration is asked for at once: it hands out so many answers a minute anyway.
  package var cloudParallelism = 16
  /// The largest file of a session that is archived, in bytes: receipts of very large volumes come near.
  package var evidenceBytes: UInt64 = 512 << 20
  /// How old a look at the earlier waves may be when a step of a later one starts.
  package var waveLookSeconds = 60.0
  package init() {}
}

/// Codes of apply's own errors. A code is never reused.
package enum ApplyCode {
  package static let leaseHeld = "CMC6001"
  package static let leaseLost = "CMC6002"
  package static let held = "CMC6010"
  package static let notApproved = "CMC6011"
  package static let windowClosed = "CMC6012"
  package static let notConfirmed = "CMC6013"
  package static let waveClosed = "CMC6014"
  package static let groupClosed = "CMC6015"
  package static let replaceClosed = "CMC6016"
  package static let preflightFailed = "CMC6020"
  package static let diskTooSmall = "CMC6021"
  package static let diskMissing = "CMC6022"
  package static let sessionMissing = "CMC6023"
  package static let stillUsed = "CMC6024"
  package static let notInPlan = "CMC6025"
  package static let sourceSilent = "CMC6026"
  package static let groupParted = "CMC6027"
  package static let hookFailed = "CMC6030"
  package static let hookPlaceholder = "CMC6031"
  package static let waveCheckFailed = "CMC6032"
  package static let timedOut = "CMC6040"
  package static let verificationLost = "CMC6042"
  package static let agentReports = "CMC6041"
  package static let journalFailed = "CMC6050"
  package static let archiveFailed = "CMC6060"
  package static let archiveFull = "CMC6061"
  package static let archiveDenied = "CMC6062"
  package static let archiveDiffers = "CMC6063"
  package static let evidenceUnreadable = "CMC6064"
  package static let notificationFailed = "CMC6070"
  package static let notificationNotNoted = "CMC6071"

  /// A gate closed between plan and step: not a failure, the next change set shows what it waits for.
  package static let gates: Set<String> = [held, windowClosed, notConfirmed, waveClosed, groupClosed]
}
