package import BlockModel

/// The versions of the control protocol that this build speaks (README: the ladder). Both ends pick the highest they
/// share.
package enum AgentProtocolVersion {
  package static let oldest = 1
  package static let newest = 2
  /// The first with `PrepareKeyCall`, `UseKeyCall`, `ProvePeerCall` and `SessionConfiguration.nextPeerFingerprint`.
  package static let rotatesKeys = 2
  /// Longest message in either direction, in bytes, its newline included.
  package static let messageLimitBytes = 4 << 20
}

/// A call to an agent: JSON-RPC 2.0, one message a line. `method` names it on the wire.
/// Every call may be repeated at any time; it answers soon, and what takes long is seen in `observe`.
package protocol AgentCall: Codable, Sendable {
  associatedtype Answer: Codable & Sendable
  static var method: String { get }
}

/// A call about one session.
package protocol SessionCall: AgentCall {
  var session: SessionID { get set }
}

/// The answer of a call that has nothing to say.
package struct Done: Codable, Sendable, Equatable {
  package init() {}
}

package struct HelloCall: AgentCall {
  package typealias Answer = AgentHello
  package static let method = "hello"
  package var oldestVersion: Int
  package var newestVersion: Int
  package init(
    oldestVersion: Int = AgentProtocolVersion.oldest, newestVersion: Int = AgentProtocolVersion.newest
  ) {
    self.oldestVersion = oldestVersion
    self.newestVersion = newestVersion
  }
}

/// Everything the agent knows: sessions, holds, approvals, tombstones, leases.
package struct ObserveCall: AgentCall {
  package typealias Answer = AgentObservation
  package static let method = "observe"
  package init() {}
}

package struct InspectDevicesCall: AgentCall {
  package typealias Answer = [DeviceReport]
  package static let method = "inspectDevices"
  package var paths: [String]
  package init(paths: [String]) { self.paths = paths }
}

/// Takes or renews the lease of a migration. A running lease of another holder is refused unless `steal`.
package struct AcquireLeaseCall: SessionCall {
  package typealias Answer = Lease
  package static let method = "acquireLease"
  package var session: SessionID
  package var holder: String
  /// Proposed by the orchestrator: one more than the highest that both agents showed.
  package var fencingNumber: UInt64
  package var timeToLiveSeconds: Double
  package var steal: Bool
  package init(session: SessionID, holder: String, fencingNumber: UInt64, timeToLiveSeconds: Double, steal: Bool) {
    self.session = session
    self.holder = holder
    self.fencingNumber = fencingNumber
    self.timeToLiveSeconds = timeToLiveSeconds
    self.steal = steal
  }
}

package struct ReleaseLeaseCall: SessionCall {
  package typealias Answer = Done
  package static let method = "releaseLease"
  package var session: SessionID
  package var fencingNumber: UInt64
  package init(session: SessionID, fencingNumber: UInt64) {
    self.session = session
    self.fencingNumber = fencingNumber
  }
}

/// Creates the session's half on this agent, or changes what may change of it. The same configuration again: no effect.
package struct ConfigureSessionCall: AgentCall {
  package typealias Answer = SessionObservation
  package static let method = "configureSession"
  package var fencingNumber: UInt64
  package var configuration: SessionConfiguration
  package init(fencingNumber: UInt64, configuration: SessionConfiguration) {
    self.fencingNumber = fencingNumber
    self.configuration = configuration
  }
}

/// What a session is asked to do. The source's agent coordinates, so all go to it but those marked (destination).
package enum SessionCommand: String, Codable, Sendable, CaseIterable {
  /// Proves the link with a real, small transfer each way; the result is in `connectionProof`.
  case proveConnection
  /// Starts initial synchronization and goes on tracking. Moves data.
  case synchronize
  /// Stops replication; the destination keeps what it has, labelled incomplete.
  case stopSynchronizing
  /// Puts the tap in the I/O path (serves its NBD socket, and the device where one was asked for).
  case openTap
  /// Resynchronizes now instead of at the next interval.
  case resync
  /// Compares all extents anew, throttled like copying and with the application running; one that differs is reported and
  /// copied again from the side with authority. Seen in the volumes' `verifiedBytes` and `mismatchedExtents`.
  case verify
  /// cMotion: drains what differs, then moves authority behind a barrier. Ends in stand-in.
  case swing
  /// Revert cMotion: authority back to the source. Sets no hold by itself.
  case revert
  /// Marks the current swing as confirmed (`confirmWithin`).
  case confirmSwing
  /// Refuses new opens of the tap; fails, naming who, while it is in use.
  case closeTap
  /// Compares both copies (what wasn't compared since its last write) and makes the receipt. Needs a closed tap.
  case prove
  /// The one-way step: writes the fence and commits the generation that makes the destination the only copy.
  case fence
  /// (destination) Writes the withheld first and last MiB and gives the device to its host. Needs the fence.
  case release
  /// (both) Deletes the session, leaving the tombstone (and, on the source, the fence).
  case retire
  /// (both) Gives up before finalize: revert, tap removed, destination labelled incomplete, session deleted.
  case cancel
}

extension SessionCommand {
  /// Whether an agent carries it out while its session is held: only what gives authority back, or moves nothing.
  package var mayCrossHold: Bool {
    switch self {
    case .proveConnection, .openTap, .stopSynchronizing, .revert, .cancel: true
    case .synchronize, .resync, .verify, .swing, .confirmSwing, .closeTap, .prove, .fence, .release, .retire: false
    }
  }
}

package struct SessionCommandCall: SessionCall {
  package typealias Answer = SessionObservation
  package static let method = "command"
  package var fencingNumber: UInt64
  package var session: SessionID
  package var role: Role
  package var command: SessionCommand
  /// (swing) In how many seconds at most, from now and however long the drain takes, cMotion ends where nobody confirms it:
  /// migrations of a group have one deadline. Never later than the configuration says; nil: as that says, from the swing
  /// on, and so do agents that don't know this.
  package var confirmWithinSeconds: Double?
  package init(
    fencingNumber: UInt64, session: SessionID, role: Role, command: SessionCommand, confirmWithinSeconds: Double? = nil
  ) {
    self.fencingNumber = fencingNumber
    self.session = session
    self.role = role
    self.command = command
    self.confirmWithinSeconds = confirmWithinSeconds
  }
}

/// Sets (`hold` not nil) or clears a hold.
package struct SetHoldCall: SessionCall {
  package typealias Answer = Done
  package static let method = "setHold"
  package var session: SessionID
  package var hold: Hold?
  /// What the caller saw, and clears: another that came meanwhile stays, and is refused. Nil: whatever is there.
  package var clearing: Hold?
  /// Which half, where the agent has both; nil: whatever it has.
  package var role: Role?
  package init(session: SessionID, hold: Hold?, clearing: Hold? = nil, role: Role? = nil) {
    self.session = session
    self.hold = hold
    self.clearing = clearing
    self.role = role
  }
}

package struct StoreApprovalCall: SessionCall {
  package typealias Answer = Done
  package static let method = "storeApproval"
  package var session: SessionID
  package var approval: Approval
  package init(session: SessionID, approval: Approval) {
    self.session = session
    self.approval = approval
  }
}

/// Runs a hook's command with `/bin/sh -c` in its own process group, killed at its timeout. Blocks until it ended.
/// The agent journals it by `runID`: the same `runID` again answers the first run's outcome and runs nothing.
package struct RunHookCall: SessionCall {
  package typealias Answer = HookOutcome
  package static let method = "runHook"
  package static let outputLimitBytes = 64 << 10
  package var fencingNumber: UInt64
  package var session: SessionID
  package var runID: String
  package var point: String
  package var command: String
  package var timeoutSeconds: Double
  package init(
    fencingNumber: UInt64, session: SessionID, runID: String, point: String, command: String, timeoutSeconds: Double
  ) {
    self.fencingNumber = fencingNumber
    self.session = session
    self.runID = runID
    self.point = point
    self.command = command
    self.timeoutSeconds = timeoutSeconds
  }
}

/// Makes the key that will take the place of the agent's own, on its host; one that is there already is kept.
package struct PrepareKeyCall: AgentCall {
  package typealias Answer = AgentKeys
  package static let method = "prepareKey"
  package init() {}
}

/// Makes the key to come, by its fingerprint, the agent's own. Links that stand go on; new ones show it.
package struct UseKeyCall: AgentCall {
  package typealias Answer = AgentKeys
  package static let method = "useKey"
  package var fingerprint: KeyFingerprint
  package init(fingerprint: KeyFingerprint) { self.fingerprint = fingerprint }
}

/// An agent's keys, by their fingerprints.
package struct AgentKeys: Codable, Sendable, Equatable {
  package var current: KeyFingerprint
  /// Made, and not shown to anybody yet.
  package var next: KeyFingerprint?
  package init(current: KeyFingerprint, next: KeyFingerprint?) {
    self.current = current
    self.next = next
  }
}

/// Opens a connection of its own to the session's peer and lets both ends prove their keys, beside the link that stands.
/// For the end that opens the session's link.
package struct ProvePeerCall: SessionCall {
  package typealias Answer = PeerProof
  package static let method = "provePeer"
  package var session: SessionID
  /// The only key that the peer may show.
  package var peer: KeyFingerprint
  package init(session: SessionID, peer: KeyFingerprint) {
    self.session = session
    self.peer = peer
  }
}

package struct PeerProof: Codable, Sendable, Equatable {
  /// The key that this agent showed, and that the peer accepted.
  package var own: KeyFingerprint
  package var seconds: Double
  package init(own: KeyFingerprint, seconds: Double) {
    self.own = own
    self.seconds = seconds
  }
}

/// Ends the agent in order: parks sessions, leaves taps to their holders, removes its socket.
package struct ShutdownCall: AgentCall {
  package typealias Answer = Done
  package static let method = "shutdown"
  package init() {}
}

/// How an agent refuses or fails a call. Codes are stable; `message` says what to do next.
package struct AgentFault: Error, Codable, Sendable, Equatable, CustomStringConvertible {
  package enum Code: String, Codable, Sendable {
    case protocolMismatch
    case badRequest
    case unknownSession
    /// Another holder has the lease, or the fencing number is older than one already seen.
    case fenced
    /// The session isn't where this command can be carried out.
    case wrongStage
    /// The tap or device is in use; `message` names by whom.
    case inUse
    /// The destination holds something that isn't ours and isn't blank.
    case notBlank
    case deviceFailed
    case notFound
    case noSpace
    case refused
    case failed
  }
  package var code: Code
  package var message: String
  package init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }
  package var description: String { message }
}
