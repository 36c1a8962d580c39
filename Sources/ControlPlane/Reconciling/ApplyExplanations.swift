package import Diagnostics

/// What the codes of runs mean. In the order of the codes.
package enum ApplyExplanations {
  package static let all: [CodeExplanation] = gates + looks + hooks + records

  private typealias Code = ApplyCode

  private static let gates: [CodeExplanation] = [
    .init(
      Code.leaseHeld, "one run at a time acts on a migration",
      "Another one has its lease; the message says who, since when and from where.",
      "cmcplan apply --steal-lease   # only where the other one is surely dead"),
    .init(
      Code.leaseLost, "a run that lost its lease stops", "Another one took over; two would undo each other's steps.",
      "cmcplan apply   # once the other one is through"),
    .init(
      Code.held, "nothing crosses a hold", "Somebody, or a failure, stopped the migration; the message says why.",
      "cmcplan resume erp-db   # once the reason is gone"),
    .init(
      Code.notApproved, "a one-way step has an approval that is valid when it starts",
      "It expired, or the migration changed, since the plan was made.", "cmcplan approve erp-db:finalized"),
    .init(
      Code.windowClosed, "a swing and a finalize start in an open window, with room for what differs",
      "The window closed since the plan was made.", "cmcplan ready erp-db   # before the next one opens"),
    .init(
      Code.notConfirmed, "where confirmWithin is set, finalize needs a confirmed swing",
      "Nobody said yet that the application is healthy.", "cmcplan confirm erp-db"),
    .init(
      Code.waveClosed, "a wave swings once those before it are there and have baked",
      "One of them went back, or was not long enough, since the plan was made.", "cmcplan status"),
    .init(
      Code.groupClosed, "a group takes a step together or not at all", "One of it can't now; the message says why.",
      "cmcplan ready erp-db"),
    .init(
      Code.replaceClosed, "nothing is replaced once a swing began", "It began between the plan and the step.",
      "cmcplan revert erp-db && cmcplan resume erp-db   # then --replace again"),
  ]

  private static let looks: [CodeExplanation] = [
    .init(
      Code.preflightFailed, "what a step needs can be seen and measured", "A device or disk may only be late.",
      "cmcplan doctor"),
    .init(
      Code.diskTooSmall, "a disk is at least as large as its source", "The source grew since the disk was made.",
      "disk: {size: auto}"),
    .init(
      Code.diskMissing, "a disk that a step needs is there", "Somebody deleted it, or a list lags.",
      "cmcplan apply   # makes it"),
    .init(
      Code.sessionMissing, "a session that a step needs is there", "Its agent lost it, or was removed.",
      "cmcplan apply   # plans from what is there"),
    .init(
      Code.stillUsed, "an agent with sessions is not removed", "They belong to another plan or migration.",
      "cmcplan agent list"),
    .init(
      Code.notInPlan, "what a step is about is in the plan",
      "The document was edited, or names a way that isn't set up.",
      "cmcplan validate"),
    .init(
      Code.sourceSilent, "only the source's agent can take the I/O back",
      "It does not answer, so nothing was reverted.",
      "cmcplan resume erp-db   # starts an agent that died; then cmcplan revert erp-db"),
    .init(
      Code.groupParted, "a group is confirmed as a whole", "Not all of it has swung, or could be reached.",
      "cmcplan status"),
  ]

  private static let hooks: [CodeExplanation] = [
    .init(
      Code.hookFailed, "a hook ends with exit 0 in its time",
      "Before the fence a failure takes finalize back, after it everything stops; its output is in the journal.",
      "cmcplan history RUN"),
    .init(
      Code.hookPlaceholder, "a hook's placeholders have values when it runs", "A device or LUN isn't known yet.",
      "run: \"mount {device:data} /var/lib/postgresql\""),
    .init(
      Code.waveCheckFailed, "a wave's health check succeeds before the next wave swings",
      "What it said is in the journal.",
      "cmcplan history RUN"),
    .init(
      Code.timedOut, "a step gets where it should in its time", "It may still be going on; nothing is lost.",
      "cmcplan status; cmcplan apply   # goes on from there"),
    .init(
      Code.agentReports, "an agent reports that a step can't go on", "The message has its own words.",
      "agent.log on the host; cmcplan support-bundle"),
    .init(
      Code.verificationLost, "a verification is watched to its end", "The agents go on with it without us.",
      "cmcplan verify erp-db   # the same again finds the one that runs"),
  ]

  private static let records: [CodeExplanation] = [
    .init(
      Code.journalFailed, "a run's journal can be written", "It is a record: the run goes on without.",
      "df .cmcplan"),
    .init(
      Code.archiveFailed, "the archive takes what a session leaves", "Nothing is deleted that isn't archived.",
      "cmcplan doctor"),
    .init(
      Code.archiveFull, "the archive has room", "Nothing is deleted that isn't archived.",
      "df DIRECTORY   # of archive:"),
    .init(
      Code.archiveDenied, "whoever runs cmcplan may write to the archive", "Nothing is deleted that isn't archived.",
      "ls -ld DIRECTORY   # of archive:; or the blob role Storage Blob Data Contributor"),
    .init(
      Code.archiveDiffers, "what was archived reads back as it was written",
      "Something else wrote there, or the medium fails.", "archive: /another/directory"),
    .init(
      Code.evidenceUnreadable, "an agent can hand over what it recorded", "Its file is damaged or gone.",
      "agent.log on the host"),
    .init(
      Code.notificationFailed, "a notification reaches its target", "The run goes on; the next one tells it.",
      "cmcplan doctor   # says where it leads, and sends nothing"),
    .init(
      Code.notificationNotNoted, "what was told is noted", "Otherwise the next run tells it again.", "df .cmcplan"),
  ]
}
