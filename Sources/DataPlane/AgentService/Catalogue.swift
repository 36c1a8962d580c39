package import AgentProtocol
package import BlockModel
internal import FoundationEssentials
package import Seams

/// What an agent remembers of one session beside the state machine's own records.
package struct SessionEntry: Codable, Sendable, Equatable {
  package var configuration: SessionConfiguration
  package var hold: Hold?
  /// Which hold of the machine's was last taken over, so that a restart does not bring a cleared one back.
  package var machineHold: String?
  package var approvals: [Approval]
  package var connectionProof: ConnectionProof?
  /// Whether the tap is to be served, so that a restarted agent serves it before anything else.
  package var tapIsOpen: Bool
  package var receipt: ReceiptSummary?
  /// Grows each time the session's devices are opened; tells the peer that an unflushed write may be lost.
  package var openEpoch: UInt64
  /// What told each volume's block device from others when this agent first opened it; of a device that tells nothing,
  /// and in entries of earlier agents, nothing.
  package var identities: [String: String]?
  /// Of the host's kernel when the session's devices were last opened.
  package var bootID: String?
  /// Why writes may have gone past the tap and not every mark that says so is certainly durable: the next start marks
  /// all of every volume.
  package var untracked: String?

  package init(configuration: SessionConfiguration) {
    self.configuration = configuration
    approvals = []
    tapIsOpen = false
    openEpoch = 0
  }
}

/// A lease and the highest fencing number ever seen for its session, which outlives it.
package struct LeaseEntry: Codable, Sendable, Equatable {
  package var session: SessionID
  package var highestFencingNumber: UInt64
  package var lease: Lease?
}

/// How a hook's run stands: what a repeated `runID` is answered with.
package struct HookEntry: Codable, Sendable, Equatable {
  package var runID: String
  package var point: String
  package var startedAt: WallTime
  package var outcome: HookOutcome?
  package init(runID: String, point: String, startedAt: WallTime, outcome: HookOutcome?) {
    self.runID = runID
    self.point = point
    self.startedAt = startedAt
    self.outcome = outcome
  }
}

/// The agent's durable memory: sessions, leases, hook runs and tombstones, each a small JSON file that is replaced
/// atomically and carries a checksum. Methods block on the disk; one caller at a time (the agent's lock sees to it).
package struct Catalogue: Sendable {
  package let state: any StateStore
  package let tombstoneFiles: any StateStore
  /// Most tombstones and sessions that are read back; more is a sign of another program in our directory.
  package static let entryLimit = 10_000

  package init(state: any StateStore, tombstones: any StateStore) {
    self.state = state
    tombstoneFiles = tombstones
  }

  /// A name for a file or directory that no other text shares: all but letters, digits, `.`, `_` and `-` are `%XX`.
  package static func fileName(_ text: String) -> String {
    var name = ""
    for (index, byte) in text.utf8.enumerated() {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
        name.unicodeScalars.append(Unicode.Scalar(byte))
      case UInt8(ascii: ".") where index > 0: name.append(".")
      default:
        let digits = Array("0123456789ABCDEF")
        name.append("%")
        name.append(digits[Int(byte >> 4)])
        name.append(digits[Int(byte & 15)])
      }
    }
    return name
  }

  /// By the half's own name; of a session of which this agent has one half that is the session's.
  package static func directory(of session: SessionID) -> String { "sessions/\(fileName(session.text))" }

  // MARK: Sessions

  /// All sessions that can be read, and what is wrong with those that can't: one damaged file stops no other session.
  package func sessions() -> (entries: [SessionEntry], faults: [String]) {
    var entries: [SessionEntry] = []
    var faults: [String] = []
    let names: [String]
    do {
      names = try state.list("sessions")
    } catch {
      return ([], ["the list of sessions can't be read: \(error)"])
    }
    for name in names.prefix(Self.entryLimit) {
      do {
        let entry: SessionEntry? = try load("sessions/\(name)/session.json", from: state)
        if let entry { entries.append(entry) }
      } catch {
        faults.append(error.message)
      }
    }
    return (entries, faults)
  }

  package func save(_ entry: SessionEntry) throws(AgentFault) {
    try store(entry, at: Self.directory(of: entry.configuration.half) + "/session.json", in: state)
  }

  /// The receipt outlives its session, beside the tombstone.
  package func keepReceipt(of session: SessionID) throws(AgentFault) {
    do throws(StateStoreError) {
      guard let receipt = try state.read(SourceFiles.receipt(session)) else { return }
      try tombstoneFiles.replace(Self.keptReceipt(session), with: receipt)
    } catch {
      throw AgentFault(storeError: error)
    }
  }

  package func removeSession(_ session: SessionID) throws(AgentFault) {
    do {
      // The entry goes first: a crash half way leaves a directory that no longer counts as a session.
      try state.remove(Self.directory(of: session) + "/session.json")
      try state.remove(Self.directory(of: session))
    } catch {
      throw AgentFault(storeError: error)
    }
  }

  // MARK: Leases

  package func leases() throws(AgentFault) -> [LeaseEntry] {
    try load("leases.json", from: state) ?? []
  }

  package func save(_ leases: [LeaseEntry]) throws(AgentFault) {
    try store(leases.sorted { $0.session < $1.session }, at: "leases.json", in: state)
  }

  // MARK: Hook runs

  package func hook(_ runID: String, of session: SessionID) throws(AgentFault) -> HookEntry? {
    try load(hookPath(runID, session), from: state)
  }

  package func save(_ entry: HookEntry, of session: SessionID) throws(AgentFault) {
    try store(entry, at: hookPath(entry.runID, session), in: state)
  }

  /// How the session's hooks ended. One that an agent before `agentStart` did not live to see the end of counts as
  /// failed; one that runs now is left out. Entries that can't be read are left out: calling them tells.
  package func hookRuns(of session: SessionID, agentStart: WallTime) -> [HookRun] {
    let directory = "\(Self.directory(of: session))/hooks"
    guard let names = try? state.list(directory) else { return [] }
    return names.prefix(Self.entryLimit).compactMap { name in
      guard let entry: HookEntry = try? load("\(directory)/\(name)", from: state) else { return nil }
      guard let outcome = entry.outcome else {
        return entry.startedAt < agentStart ? HookRun(runID: entry.runID, succeeded: false) : nil
      }
      return HookRun(runID: entry.runID, succeeded: outcome.succeeded)
    }
  }

  private func hookPath(_ runID: String, _ session: SessionID) -> String {
    "\(Self.directory(of: session))/hooks/\(Self.fileName(runID)).json"
  }

  // MARK: Tombstones

  package func tombstones() -> (entries: [Tombstone], faults: [String]) {
    var entries: [Tombstone] = []
    var faults: [String] = []
    do {
      for name in try tombstoneFiles.list("").prefix(Self.entryLimit) where name.hasSuffix(".json") {
        let entry: Tombstone? = try load(name, from: tombstoneFiles)
        if let entry { entries.append(entry) }
      }
    } catch {
      faults.append("a tombstone can't be read: \(error)")
    }
    return (entries, faults)
  }

  package func tombstone(of session: SessionID, role: Role) throws(AgentFault) -> Tombstone? {
    try load(tombstonePath(session, role), from: tombstoneFiles)
  }

  package func save(_ tombstone: Tombstone) throws(AgentFault) {
    try store(tombstone, at: tombstonePath(tombstone.session, tombstone.role), in: tombstoneFiles)
  }

  /// What is left of a session that was fenced or released goes by the plan's name of it too.
  func rename(_ configuration: SessionConfiguration) throws(AgentFault) {
    guard var stone = try tombstone(of: configuration.session, role: configuration.role),
      stone.plannedAs != configuration.plannedAs
    else { return }
    stone.plannedAs = configuration.plannedAs
    try save(stone)
  }

  private func tombstonePath(_ session: SessionID, _ role: Role) -> String {
    "\(Self.fileName(session.text)).\(role.rawValue).json"
  }

  // MARK: Files

  private func load<Value: Decodable>(_ path: String, from store: any StateStore) throws(AgentFault) -> Value? {
    let bytes: [UInt8]?
    do {
      bytes = try store.read(path)
    } catch {
      throw AgentFault(storeError: error)
    }
    guard let bytes else { return nil }
    do {
      guard let json = CheckedText.opened(bytes) else { throw AgentFault(.failed, "its checksum is another") }
      return try JSONDecoder().decode(Value.self, from: Data(json))
    } catch {
      throw AgentFault(
        .failed, "the agent's file \(path) can't be understood; restore it, or move it away to give up what it holds")
    }
  }

  private func store(_ value: some Encodable, at path: String, in store: any StateStore) throws(AgentFault) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    let bytes: [UInt8]
    do {
      bytes = CheckedText.sealed([UInt8](try encoder.encode(value)) + [10])
    } catch {
      throw AgentFault(.failed, "\(path) can't be written as JSON")
    }
    do {
      try store.replace(path, with: bytes)
    } catch {
      throw AgentFault(storeError: error)
    }
  }
}

extension AgentFault {
  /// What a failed durable write means to a caller.
  package init(storeError error: StateStoreError) {
    self.init(
      error.code == .noSpace ? .noSpace : .failed,
      error.code == .noSpace
        ? "\(error.message); free space where the agent keeps its state, then call again"
        : "the agent's state can't be read or written: \(error.message)")
  }
}
