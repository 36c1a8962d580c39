package import AgentProtocol
package import BlockModel

/// One session as the agent sees it, whichever role it has. Calls block, from any thread.
package protocol AgentSession: AnyObject, Sendable {
  var session: SessionID { get }
  /// What it goes by in its agent: see `SessionConfiguration.half`.
  var half: SessionID { get }
  /// Brings up what the catalogue says should be up: the tap first, so that holders reconnect, then the link.
  func start()
  /// Whether `start` has not yet put a tap back that should be in its place: until then writes may go past it.
  var isBringingTapBack: Bool { get }
  func observation() -> SessionObservation
  /// Carries a command out, or starts it where it takes long. The same again finds its work done.
  /// `confirmWithinSeconds`: of a swing that others make too.
  func perform(_ command: SessionCommand, confirmWithinSeconds: Double?) throws(AgentFault)
  /// Begins to compare both copies; only the source's half can.
  func verify(_ scope: VerificationScope, repairs: Bool) throws(AgentFault)
  /// How much of a volume differs now, cell by cell; only the source's half knows.
  func map(_ call: MapCall) throws(AgentFault) -> ChangedDataMap
  /// Whether nothing of the session exists but its configuration, and this one needs other devices: then it is made
  /// anew. Throws `.refused` for what may not change.
  func mustBeRemade(for configuration: SessionConfiguration) throws(AgentFault) -> Bool
  /// Takes over what may change of a configuration; throws `.wrongStage` or `.refused` for what may not.
  func reconfigure(_ configuration: SessionConfiguration) throws(AgentFault)
  /// Takes larger volumes over in place, with the application running. False where the half has to be made anew for that,
  /// with what `SessionFactory.grow` leaves. Throws where they can't grow now; then nothing was changed.
  func grow(to grown: SessionConfiguration) throws(AgentFault) -> Bool
  /// See `ProvePeerCall`. Throws `.badRequest` where the other end opens the link.
  func prove(peer: KeyFingerprint) throws(AgentFault)
  /// `clearing`: see `SetHoldCall`.
  func setHold(_ hold: Hold?, clearing: Hold?) throws(AgentFault)
  func store(_ approval: Approval) throws(AgentFault)
  /// What is to remain when the session is deleted; nil where nothing was ever finished or moved.
  func tombstone(at time: WallTime) -> Tombstone?
  /// Before the session's files go: takes away what it made on the host beside them. What stays is in the journal.
  func clearHost()
  /// Before the agent ends for good because its host goes down: gives back devices that would otherwise wait for an agent,
  /// and keep the host from going down. A start of the agent brings them back, in this boot or the next.
  func leaveHost()
  /// Ends threads, links and listeners, leaving records, holders and taps' sockets for the next start.
  func park()
}

/// Makes the half of a session that a configuration asks for.
package protocol SessionFactory: Sendable {
  /// Checks devices and takes the session's files. Throws what the orchestrator should tell its user.
  func make(_ entry: SessionEntry, isNew: Bool) throws(AgentFault) -> any AgentSession
  /// Throws where a volume's device is not as large as `grown` has it. Looks only.
  func checkRoom(for grown: SessionConfiguration) throws(AgentFault)
  /// Prepares and notes durably that a parked session's volumes are larger. A crash leaves it as it was, or grown.
  func grow(_ entry: SessionEntry, to grown: SessionConfiguration) throws(AgentFault) -> SessionEntry
}
