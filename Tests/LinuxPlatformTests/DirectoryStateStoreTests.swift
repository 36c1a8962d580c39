import LinuxPlatform
import Seams
import Testing

@Suite struct DirectoryStateStoreTests {
  let scratch: Scratch
  let store: DirectoryStateStore
  init() throws {
    scratch = try Scratch()
    store = try DirectoryStateStore(path: scratch("state"))
  }

  @Test func whatIsReplacedIsRead() throws {
    #expect(try store.read("a/b/record") == nil)
    try store.replace("a/b/record", with: [1, 2, 3])
    try store.replace("a/b/record", with: [4])
    try store.replace("empty", with: [])
    #expect(try store.read("a/b/record") == [4])
    #expect(try store.read("empty") == [])
    #expect(try store.list("") == ["a", "empty"])
    #expect(try store.list("a/b") == ["record"])
    #expect(try store.list("nowhere") == [])
    let again = try DirectoryStateStore(path: scratch("state"))
    #expect(try again.read("a/b/record") == [4])
  }

  @Test func partsAreReadWithTheSizeOfTheWhole() throws {
    try store.replace("receipt", with: [1, 2, 3, 4, 5])
    #expect(try store.readPart("receipt", from: 0, limitBytes: 2) == StateFilePart(bytes: [1, 2], sizeBytes: 5))
    #expect(try store.readPart("receipt", from: 4, limitBytes: 2) == StateFilePart(bytes: [5], sizeBytes: 5))
    #expect(try store.readPart("receipt", from: 5, limitBytes: 2) == StateFilePart(bytes: [], sizeBytes: 5))
    #expect(try store.readPart("receipt", from: .max, limitBytes: 2) == StateFilePart(bytes: [], sizeBytes: 5))
    #expect(try store.readPart("nothing", from: 0, limitBytes: 2) == nil)
  }

  @Test func nobodyElseMayLook() throws {
    try store.replace("keys/agent.key", with: [1])
    try store.append("journal", [1])
    #expect(try Files.facts(scratch("state")).mode == 0o700)
    #expect(try Files.facts(scratch("state/keys")).mode == 0o700)
    #expect(try Files.facts(scratch("state/keys/agent.key")).mode == 0o600)
    #expect(try Files.facts(scratch("state/journal")).mode == 0o600)
  }

  @Test func appendsAddUp() throws {
    for byte in UInt8(0)..<5 { try store.append("log/journal", [byte, byte]) }
    #expect(try store.read("log/journal") == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
  }

  @Test func whatACrashLeftIsNotSeenAndNotInTheWay() throws {
    try store.replace("record", with: [1])
    // A crash between writing and renaming leaves this.
    try Files.replace(scratch("state/.record.new"), with: [9, 9, 9])
    #expect(try store.list("") == ["record"])
    #expect(try store.read("record") == [1])
    try store.replace("record", with: [2])
    #expect(try store.read("record") == [2])
    #expect(try Files.list(scratch("state")) == ["record"])
  }

  @Test func removalTakesTreesAndIsRepeatable() throws {
    try store.replace("session/one/bitmap", with: [1])
    try store.replace("session/two", with: [2])
    try store.remove("session")
    try store.remove("session")
    try store.remove("not/there")
    #expect(try store.list("") == [])
    #expect(try Files.list(scratch("state")).isEmpty)
  }

  @Test func aRemovalThatACrashCutShortIsFinished() throws {
    try store.replace("session/bitmap", with: [1])
    try Files.rename(scratch("state/session"), to: scratch("state/.session.12.3.removed"))
    #expect(try store.list("") == [])
    try store.remove("session")
    #expect(try Files.list(scratch("state")).isEmpty)
  }

  @Test(arguments: ["../outside", "/etc/passwd", "a/../b", "a//b", "", ".", "..", ".hidden", "a/", "x\0y"])
  func noPathLeadsOut(_ path: String) throws {
    func isDenied(_ error: any Error) -> Bool { (error as? StateStoreError)?.code == .denied }
    #expect { try store.replace(path, with: [1]) } throws: { isDenied($0) }
    #expect { try store.append(path, [1]) } throws: { isDenied($0) }
    #expect { try store.read(path) } throws: { isDenied($0) }
    #expect { try store.remove(path) } throws: { isDenied($0) }
  }

  @Test func symbolicLinksAreNotFollowed() throws {
    try Files.makeDirectories(scratch("outside"))
    try Files.replace(scratch("outside/file"), with: [1])
    try Files.makeSymbolicLink(scratch("state/link"), to: scratch("outside"))
    try Files.makeSymbolicLink(scratch("state/file"), to: scratch("outside/file"))
    #expect(throws: StateStoreError.self) { try store.replace("link/file", with: [2]) }
    #expect(throws: StateStoreError.self) { try store.read("file") }
    try store.replace("file", with: [3])
    #expect(try Files.read(scratch("outside/file")) == [1])
    try store.remove("link")
    #expect(Files.exists(scratch("outside/file")))
  }
}
