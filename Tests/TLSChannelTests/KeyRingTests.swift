import BlockModel
import LinuxPlatform
import Seams
import TLSChannel
import TestSupport
import Testing

/// An agent's key is replaced in steps that may each be the last.
@Suite struct KeyRingTests {
  private static let missing = KeyFingerprint("SHA256:00")

  @Test func theNextKeyIsMadeOnceAndUsedByItsName() throws {
    let ring = try KeyRing(store: MemoryStateStore())
    let first = ring.fingerprint
    #expect(ring.nextFingerprint == nil)
    #expect(try !ring.useNext(Self.missing), "nobody asks an agent into a key that it doesn't have")
    try ring.prepareNext()
    let next = try #require(ring.nextFingerprint)
    try ring.prepareNext()
    #expect(ring.nextFingerprint == next && ring.fingerprint == first && next != first)
    #expect(try ring.useNext(next))
    #expect(try ring.useNext(next), "asked again it is done already")
    #expect(ring.fingerprint == next && ring.nextFingerprint == nil)
    #expect(try !ring.useNext(first), "there is no way back to a key that was replaced")
  }

  @Test(arguments: [MemoryStateStore.Crash.before, .after])
  func whereverItIsCutOffTheKeyIsWholeAndTheSameStepsEndIt(how: MemoryStateStore.Crash) throws {
    var operation = 0
    var isThrough = false
    while !isThrough {
      operation += 1
      let store = MemoryStateStore()
      let first = try KeyRing(store: store).fingerprint
      store.crash(atOperation: operation, how)
      var announced: KeyFingerprint?
      do {
        let ring = try KeyRing(store: store)
        try ring.prepareNext()
        announced = ring.nextFingerprint
        if let announced { _ = try ring.useNext(announced) }
        isThrough = true
      } catch {
        // It died there.
      }
      store.recover()
      let ring = try KeyRing(store: store)
      #expect([first, announced].contains(ring.fingerprint), "cut off at \(operation) \(how)")
      // As whoever leads does: on with the key that was announced, or from the beginning.
      if ring.fingerprint == first { try ring.prepareNext() }
      let target = try #require(ring.nextFingerprint ?? announced)
      #expect(try ring.useNext(target))
      #expect(ring.fingerprint == target && target != first)
      #expect(announced == nil || announced == target, "what peers were told stays what comes")
      let again = try KeyRing(store: store)
      #expect(again.fingerprint == target && again.nextFingerprint == nil)
      #expect(store.paths == ["agent.crt", "agent.key"])
    }
    #expect(operation > 4, "every store of the replacement was cut off once")
  }

  @Test func aNextKeyThatCanNotBeReadStopsNoAgent() throws {
    let store = MemoryStateStore()
    let first = try KeyRing(store: store).fingerprint
    try store.replace(KeyRing.nextKeyPath, with: Array("rubbish".utf8))
    let ring = try KeyRing(store: store)
    #expect(ring.fingerprint == first && ring.nextFingerprint == nil)
    try ring.prepareNext()
    let next = try #require(ring.nextFingerprint)
    #expect(try KeyRing(store: store).nextFingerprint == next)
  }

  @Test func theNextKeysFileIsItsOwnersOnly() throws {
    let path = "/tmp/cmc-ring-\(SystemRandom().uuid().prefix(8))"
    defer { try? Files.removeTree(path) }
    let ring = try KeyRing(store: try DirectoryStateStore(path: path))
    try ring.prepareNext()
    #expect(try Files.facts("\(path)/\(KeyRing.nextKeyPath)").mode == 0o600)
    let next = try #require(ring.nextFingerprint)
    #expect(try ring.useNext(next))
    #expect(try Files.facts("\(path)/agent.key").mode == 0o600)
    #expect(try AgentIdentity.loadOrMake(in: try DirectoryStateStore(path: path)).fingerprint == next)
  }
}
