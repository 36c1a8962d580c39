import AgentProtocol
import AgentService
import BlockModel
import LinuxPlatform
import TestSupport
import Testing

/// What a crash, at whatever moment, leaves of the catalogue: the old entry or the new one, whole.
@Suite("The catalogue outlives every crash")
struct CatalogueCrashTests {
  private let root: TemporaryRoot
  private let store: DirectoryStateStore
  private let old: SessionEntry
  private let new: SessionEntry
  private let path: String
  private let oldBytes: [UInt8]
  private let newBytes: [UInt8]
  private static let sectorBytes = 512

  init() throws {
    root = try TemporaryRoot()
    store = try DirectoryStateStore(path: "\(root.path)/state")
    let catalogue = Catalogue(state: store, tombstones: MemoryStateStore())
    var entry = SessionEntry(configuration: PairSettings(port: 1).half(.source, peer: KeyFingerprint("x")))
    path = "\(Catalogue.directory(of: entry.configuration.session))/session.json"
    try catalogue.save(entry)
    old = entry
    oldBytes = try #require(try store.read(path))
    entry.openEpoch = 7
    entry.hold = Hold(
      cause: .paused, who: "ann", why: String(repeating: "freeze ", count: 60), at: WallTime(secondsSince1970: 1))
    try catalogue.save(entry)
    new = entry
    newBytes = try #require(try store.read(path))
    try store.replace(path, with: oldBytes)
  }

  /// Of a session whose write was cut: `.session.json.new` is what was written of it.
  private func temporary(_ bytes: [UInt8]) throws {
    let path = "\(root.path)/state/\(Catalogue.directory(of: old.configuration.session))/.session.json.new"
    if Files.exists(path) { try Files.remove(path) }
    try Files.append(path, bytes)
  }

  /// A restart.
  private func found() throws -> (entries: [SessionEntry], faults: [String]) {
    Catalogue(state: try DirectoryStateStore(path: "\(root.path)/state"), tombstones: MemoryStateStore()).sessions()
  }

  @Test("A write that is cut at any byte leaves the old entry")
  func cutAtEveryByte() throws {
    #expect(newBytes.count > 2 * Self.sectorBytes, "there is more than one sector to tear")
    for count in 0...newBytes.count {
      try temporary(Array(newBytes.prefix(count)))
      let (entries, faults) = try found()
      #expect(entries == [old] && faults.isEmpty, "cut at \(count)")
    }
    // And the next write is not hindered by what is left.
    try Catalogue(state: store, tombstones: MemoryStateStore()).save(new)
    #expect(try found().entries == [new])
  }

  @Test("Torn sectors of what was not flushed leave the old entry")
  func tornSectors() throws {
    let random = SeededRandom(seed: 4)
    for _ in 0..<200 {
      var bytes = newBytes
      for start in stride(from: 0, to: bytes.count, by: Self.sectorBytes) where random.chance(0.5) {
        let end = min(start + Self.sectorBytes, bytes.count)
        bytes.replaceSubrange(
          start..<end, with: random.chance(0.5) ? random.bytes(end - start) : Array(repeating: 0, count: end - start))
      }
      try temporary(bytes)
      let (entries, faults) = try found()
      #expect(entries == [old] && faults.isEmpty)
    }
  }

  @Test("A disk that lies about its flush: what is torn in place is a fault, never another entry")
  func tornInPlace() throws {
    let memory = MemoryStateStore()
    func check(_ bytes: [UInt8], _ what: String) throws {
      try memory.replace(path, with: bytes)
      let (entries, faults) = Catalogue(state: memory, tombstones: memory).sessions()
      #expect(entries.isEmpty ? faults.count == 1 : entries == [new], "\(what)")
    }
    for count in 0..<newBytes.count { try check(Array(newBytes.prefix(count)), "cut at \(count)") }
    for place in newBytes.indices {
      var bytes = newBytes
      bytes[place] ^= 1 << UInt8(place % 8)
      try check(bytes, "a bit of byte \(place)")
    }
    let random = SeededRandom(seed: 5)
    for round in 0..<200 {
      var bytes = newBytes
      for start in stride(from: 0, to: bytes.count, by: Self.sectorBytes) where random.chance(0.5) {
        let end = min(start + Self.sectorBytes, bytes.count)
        let stale = start < oldBytes.count ? Array(oldBytes[start..<min(end, oldBytes.count)]) : []
        bytes.replaceSubrange(start..<end, with: (stale + Array(repeating: 0, count: end - start)).prefix(end - start))
      }
      try check(bytes, "torn \(round)")
    }
  }

  @Test("An agent that is killed in a store keeps the old entry or the new one, whichever became durable")
  func killed() throws {
    for how in [MemoryStateStore.Crash.before, .during, .after] {
      let store = MemoryStateStore()
      let catalogue = Catalogue(state: store, tombstones: store)
      try catalogue.save(old)
      store.crash(atOperation: 1, how)
      #expect(throws: AgentFault.self) { try catalogue.save(new) }
      store.recover()
      #expect(catalogue.sessions().entries == [how == .after ? new : old])
      #expect(catalogue.sessions().faults.isEmpty)
    }
  }

  @Test("Files of the agent before this one are read, and it reads ours")
  func formerVersion() throws {
    let json = try #require(CheckedText.opened(newBytes))
    #expect(json.count == newBytes.count - 33, "a checksum stands behind it")
    try store.replace(path, with: json)
    #expect(try found().entries == [new])
    #expect(newBytes.starts(with: json) && newBytes.dropFirst(json.count).allSatisfy { " \t\n".utf8.contains($0) })
  }
}
