import AgentProtocol
import AgentService
import BlockModel
import LinuxPlatform
import Replication
import Seams
import TestSupport
import Testing

@Suite("Leases and fencing numbers")
struct LeaseBookTests {
  @Test("where two ends don't meet, the port to open and the host to open it on are named") func firewallHint() {
    let opener = LinkConfiguration(listens: false, address: "192.0.2.7", port: 5001, lanes: 2).firewallHint
    #expect(opener.contains("the other host (192.0.2.7)") && opener.contains("--add-port=5001/tcp"))
    let listener = LinkConfiguration(listens: true, address: "0.0.0.0", port: 5001, lanes: 2).firewallHint
    #expect(listener.contains("the listener is this host") && listener.contains("ufw allow 5001/tcp"))
  }

  @Test("a port scan fills no log: so many lines a minute, then their number") func scansAreCounted() {
    var dropped = DroppedConnections()
    func at(_ seconds: Double) -> MonotonicTime { MonotonicTime(nanoseconds: 0).adding(seconds: seconds) }
    let told = (0..<500).flatMap { dropped.lines(for: "\($0)", at: at(Double($0) / 100)) }
    #expect(told == (0..<DroppedConnections.linesPerMinute).map(String.init))
    let later = dropped.lines(for: "later", at: at(61))
    #expect(
      later == [
        "\(500 - DroppedConnections.linesPerMinute) more connections were dropped in the minute before", "later",
      ])
    #expect(dropped.lines(for: "again", at: at(62)) == ["again"])
  }

  private let now = WallTime(secondsSince1970: 1000)
  private func call(_ holder: String, _ number: UInt64, steal: Bool = false) -> AcquireLeaseCall {
    AcquireLeaseCall(
      session: SessionID("s"), holder: holder, fencingNumber: number, timeToLiveSeconds: 30, steal: steal)
  }

  @Test("A running lease keeps others out, names its holder, and can be renewed, stolen and outlived")
  func lease() throws {
    var book = LeaseBook(entries: [])
    _ = try book.acquire(call("a", 1), now: now)
    let refusal = #expect(throws: AgentFault.self) { try book.acquire(call("b", 2), now: now) }
    #expect(refusal?.code == .fenced && refusal?.message.contains("a has the lease") == true)
    let renewed = try book.acquire(call("a", 1), now: now.adding(seconds: 10))
    #expect(renewed.acquiredAt == now && renewed.expiresAt == now.adding(seconds: 40))
    _ = try book.acquire(call("b", 2, steal: true), now: now)
    #expect(throws: AgentFault.self, "the old holder's number is spent") {
      try book.admit(fencingNumber: 1, for: SessionID("s"))
    }
    _ = try book.acquire(call("c", 3), now: now.adding(seconds: 31))
  }

  @Test("The highest number is remembered after the lease was given back")
  func highest() throws {
    var book = LeaseBook(entries: [])
    _ = try book.acquire(call("a", 7), now: now)
    book.release(ReleaseLeaseCall(session: SessionID("s"), fencingNumber: 7))
    book.release(ReleaseLeaseCall(session: SessionID("s"), fencingNumber: 7))
    #expect(throws: AgentFault.self) { try book.acquire(call("b", 7), now: now) }
    #expect(try book.admit(fencingNumber: 7, for: SessionID("s")) == false)
    #expect(try book.admit(fencingNumber: 9, for: SessionID("s")) == true)
    #expect(throws: AgentFault.self) { try book.admit(fencingNumber: 8, for: SessionID("s")) }
  }
}

@Suite("The program's arguments")
struct AgentArgumentsTests {
  @Test("Commands are read with either form of a value")
  func commands() throws {
    #expect(try AgentCommand.parse(["run", "--root", "/r", "--foreground"]) == .run(root: "/r", foreground: true))
    #expect(try AgentCommand.parse(["run", "--root=/r"]) == .run(root: "/r", foreground: false))
    #expect(try AgentCommand.parse(["inspect", "/dev/sdb", "--json"]) == .inspect(device: "/dev/sdb", json: true))
    #expect(try AgentCommand.parse(["holder", "--anything", "x"]) == .holder(arguments: ["--anything", "x"]))
  }

  @Test(
    "Mistakes are named",
    arguments: [[], ["fly"], ["run"], ["run", "--root"], ["run", "--root", "/r", "extra"], ["rpc", "--speed", "1"]])
  func mistakes(arguments: [String]) {
    #expect(throws: UsageError.self) { try AgentCommand.parse(arguments) }
  }
}

@Suite("What a configuration must keep to")
struct ConfigurationRulesTests {
  private let good = PairSettings(port: 4996).half(.source, peer: KeyFingerprint("SHA256:00"))

  @Test("A good one passes; names that would leave the directory, odd sizes and lanes are refused with their names")
  func rules() throws {
    try ConfigurationRules.check(good)
    var bad = good
    bad.volumes[0].name = VolumeName("..")
    #expect(throws: AgentFault.self) { try ConfigurationRules.check(bad) }
    bad = good
    bad.volumes[0].sizeBytes = 1001
    #expect((#expect(throws: AgentFault.self) { try ConfigurationRules.check(bad) })?.message.contains("data") == true)
    bad = good
    bad.link.lanes = 0
    #expect(throws: AgentFault.self) { try ConfigurationRules.check(bad) }
    bad = good
    bad.verify = "maybe"
    #expect(throws: AgentFault.self) { try ConfigurationRules.check(bad) }
  }

  @Test("No two sessions have one device; with data neither device nor peer changes, limits always may")
  func change() throws {
    var other = good
    other.session = SessionID("plan/other")
    other.migration = MigrationName("other")
    let clash = #expect(throws: AgentFault.self) { try ConfigurationRules.checkTogether(other, with: [good]) }
    #expect(clash?.code == .inUse)
    var next = good
    next.limits.share = 0.25
    try ConfigurationRules.checkChange(from: good, to: next, hasData: true)
    next.volumes[0].devicePath = "another"
    try ConfigurationRules.checkChange(from: good, to: next, hasData: false)
    #expect(throws: AgentFault.self) { try ConfigurationRules.checkChange(from: good, to: next, hasData: true) }
  }
}

@Suite("What an agent remembers")
struct CatalogueTests {
  private let call = RunHookCall(
    fencingNumber: 1, session: SessionID("plan/erp"), runID: "run/1", point: "stopApplication",
    command: "echo out; echo err >&2; echo $CMC_MIGRATION; exit 3", timeoutSeconds: 20)

  private func runner(_ store: MemoryStateStore) -> HookRunner {
    HookRunner(
      children: PosixChildProcesses(), time: SystemTime(), catalogue: Catalogue(state: store, tombstones: store),
      path: "/usr/bin:/bin", home: "/")
  }

  @Test("A hook runs once: the same run again is answered with the first one's outcome")
  func hook() throws {
    let store = MemoryStateStore()
    #expect(try runner(store).recorded(call.runID, of: call.session) == nil)
    let outcome = try runner(store).run(call, migration: MigrationName("erp"))
    #expect(outcome.exitCode == 3 && outcome.output == "out\nerr\nerp\n" && !outcome.succeeded)
    #expect(try runner(store).recorded(call.runID, of: call.session) == outcome)
  }

  @Test("A hook that hangs is killed at its timeout; one that the agent did not survive is not run again")
  func hangingHook() throws {
    let store = MemoryStateStore()
    var hanging = call
    hanging.command = "sleep 60"
    hanging.timeoutSeconds = 0.2
    #expect(try runner(store).run(hanging, migration: MigrationName("erp")).timedOut)
    let catalogue = Catalogue(state: store, tombstones: store)
    let interrupted = HookEntry(
      runID: "run/2", point: "mount", startedAt: SystemTime().wallNow(), outcome: nil)
    try catalogue.save(interrupted, of: call.session)
    let outcome = try #require(try runner(store).recorded("run/2", of: call.session))
    #expect(!outcome.succeeded && outcome.output.contains("not known"))
  }

  @Test("A damaged session is reported and hides no other; names can't collide or leave the directory")
  func damaged() throws {
    let store = MemoryStateStore()
    let catalogue = Catalogue(state: store, tombstones: MemoryStateStore())
    let good = SessionEntry(configuration: PairSettings(port: 1).half(.source, peer: KeyFingerprint("x")))
    try catalogue.save(good)
    try store.replace("sessions/broken/session.json", with: Array("{".utf8))
    let (entries, faults) = catalogue.sessions()
    #expect(entries == [good] && faults.count == 1)
    let names = ["a/b", "a%2Fb", "..", ".", "a b", "ä", "a.b"].map(Catalogue.fileName)
    #expect(Set(names).count == names.count)
    #expect(names.allSatisfy { !$0.contains("/") && !$0.hasPrefix(".") })
  }
}

@Suite("What an archive reads from an agent")
struct EvidenceTests {
  private let session = SessionID("plan/erp")
  private let state = MemoryStateStore()
  private let tombstones = MemoryStateStore()
  private var catalogue: Catalogue { Catalogue(state: state, tombstones: tombstones) }

  private func read(_ evidence: Evidence, _ role: Role = .source, from offset: UInt64 = 0) throws -> EvidencePart {
    try catalogue.evidence(
      ReadEvidenceCall(session: session, role: role, evidence: evidence, offset: offset), of: session)
  }

  @Test("Journals and receipt come in parts; what is not there is said to be not there")
  func parts() throws {
    #expect(try read(.journal).sizeBytes == nil)
    try state.append(Journal.path(of: session), [1, 2, 3])
    try state.append(Journal.olderPath(of: session), [4])
    #expect(try read(.journal).bytes == [1, 2, 3])
    #expect(try read(.journal, from: 2).bytes == [3])
    #expect(try read(.journal, from: 2).sizeBytes == 3)
    #expect(try read(.olderJournal, .destination).bytes == [4])
    #expect(try read(.receipt).sizeBytes == nil)
    let large = [UInt8](repeating: 7, count: ReadEvidenceCall.partLimitBytes + 1)
    try state.replace("\(Catalogue.directory(of: session))/receipt", with: large)
    #expect(try read(.receipt).bytes?.count == ReadEvidenceCall.partLimitBytes)
    #expect(try read(.receipt, from: UInt64(ReadEvidenceCall.partLimitBytes)).bytes == [7])
  }

  @Test("The receipt of a session that was deleted is still read, at the source only")
  func afterwards() throws {
    try state.replace("\(Catalogue.directory(of: session))/receipt", with: [9])
    try catalogue.keepReceipt(of: session)
    try catalogue.removeSession(session)
    #expect(try read(.receipt).bytes == [9])
    #expect(try read(.receipt, .destination).sizeBytes == nil)
    #expect(try read(.journal).sizeBytes == nil)
  }

  @Test("A disk that can't be read is an error, not an empty journal")
  func unreadable() throws {
    state.fail(pathsWithPrefix: "sessions", StateStoreError(.failed, "I/O error"))
    #expect(throws: AgentFault.self) { try read(.journal) }
  }
}
