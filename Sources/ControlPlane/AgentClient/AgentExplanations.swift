package import Diagnostics

/// What the codes of the connection to agents mean, and of what these answer. In the order of the codes.
package enum AgentExplanations {
  package static let all: [CodeExplanation] = connection + answers

  private static let connection: [CodeExplanation] = [
    .init(
      "CMC3210", "the connection to an agent lasts", "It ended; the message says why. Replication goes on without it.",
      "cmcplan apply   # opens another"),
    .init(
      "CMC3211", "an agent answers in its time", "Its host may be overloaded, or the agent hangs.",
      "agent.log on the host"),
    .init(
      "CMC3212", "a call was given up because the run stops", "The agent may have carried it out; that does no harm.",
      "cmcplan apply   # goes on from what it finds"),
    .init(
      "CMC3213", "the connection stays open until a call is answered", "What was asked may have been done.",
      "cmcplan apply   # goes on from what it finds"),
    .init(
      "CMC3214", "agent and cmcplan share a version of the control protocol", "One is much older than the other.",
      "cmcplan agent upgrade erp-db"),
    .init(
      "CMC3215", "only so many calls to one agent are on their way", "More would only wait there.",
      "cmcplan apply --parallelism 4"),
    .init(
      "CMC3216", "a message to an agent has a limit", "So much can't be asked at once.", "cmcplan apply --parallelism 4"
    ),
  ]

  private static let answers: [CodeExplanation] = [
    .init(
      "CMC3220", "agent and cmcplan share a version of the control protocol", "One is much older than the other.",
      "cmcplan agent upgrade erp-db"),
    .init(
      "CMC3221", "an agent understands what it is asked", "The message says what it doesn't take.",
      "cmcplan agent list   # shows its version"),
    .init(
      "CMC3222", "an agent has the session that it is asked about", "It was never made there, or is retired.",
      "cmcplan plan   # shows what is there"),
    .init(
      "CMC3223", "only the newest lease counts", "Another run took the migration over.",
      "cmcplan apply   # once the other one is through"),
    .init(
      "CMC3224", "a session is where a command can be carried out", "It moved on meanwhile, or is not there yet.",
      "cmcplan apply   # goes on from where it is"),
    .init(
      "CMC3225", "a device or tap that has to be free is free", "The message names who uses it.",
      "umount /mnt   # or stop who uses it; then cmcplan apply"),
    .init(
      "CMC3226", "a destination is blank or ours", "Somebody's data may be on it.",
      "cmcplan apply --overwrite erp-db/data   # if it may be lost"),
    .init(
      "CMC3227", "a device can be read and written", "The kernel reports an error.", "dmesg   # on the host"),
    .init(
      "CMC3228", "what an agent is asked for is there", "A device or file is missing on the host.",
      "cmcplan doctor"),
    .init(
      "CMC3229", "an agent has room for its records", "Without them no write could be tracked.",
      "df   # of the agent's state directory on the host"),
    .init(
      "CMC3230", "an agent does only what it may",
      "A hold, a tombstone or a rule is in the way; the message says which.",
      "cmcplan status"),
    .init(
      "CMC3231", "an agent carries out what it is asked", "It failed; the message has its own words.",
      "agent.log on the host; cmcplan apply tries again"),
  ]
}
