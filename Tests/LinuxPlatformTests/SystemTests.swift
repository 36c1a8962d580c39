import BlockModel
import LinuxPlatform
import Seams
import Testing

@Suite struct SystemTests {
  @Test func clocksGoForward() {
    let time = SystemTime()
    let before = time.monotonicNow()
    #expect(time.monotonicNow() >= before)
    #expect(time.wallNow().secondsSince1970 > 1_700_000_000)
  }

  @Test func randomBytesDiffer() {
    let random = SystemRandom()
    #expect(random.bytes(0).isEmpty && random.bytes(1000).count == 1000)
    #expect(random.bytes(32) != random.bytes(32))
    #expect(random.uuid().count == 36)
  }

  @Test func aLockHasOneHolder() throws {
    let scratch = try Scratch()
    let lock = try #require(try FileLock.take(scratch("lock")))
    #expect(try FileLock.take(scratch("lock")) == nil)
    lock.release()
    #expect(try FileLock.take(scratch("lock")) != nil)
  }

  @Test func thisProcessIsKnown() throws {
    let start = try #require(ProcessTable.startTime(of: ProcessSetup.processID))
    #expect(ProcessTable.isRunning(processID: ProcessSetup.processID, startTime: start))
    #expect(try ProcessSetup.bootID().count == 36)
    #expect(try !ProcessSetup.hostName().isEmpty)
    #expect(Files.exists(try ProcessSetup.executablePath()))
  }

  @Test func aProcessNameWithParenthesesIsParsed() {
    let line = "12 (a) b) (c) S 1 12 12 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"
    #expect(ProcessTable.parseStartTime(line) == 4711)
    #expect(ProcessTable.parseStartTime(line.replacing(") S ", with: ") Z ")) == nil)
    #expect(ProcessTable.parseStartTime("") == nil)
  }

  @Test func mountsAndSwapsAreParsed() throws {
    let mounts = MountTable.parseMounts(
      """
      36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
      40 35 8:17 / /srv/with\\040space ro - xfs /dev/sdb1 rw
      garbage
      """)
    #expect(mounts.count == 2)
    #expect(mounts[1].mountPoint == "/srv/with space" && mounts[1].isReadOnly && mounts[1].fileSystem == "xfs")
    #expect(mounts[1].device == DeviceNumber(major: 8, minor: 17) && mounts[0].root == "/mnt1")
    let swaps = MountTable.parseSwaps(
      "Filename Type Size Used Priority\n/dev/sda2 partition 100 0 -2\n/swap file 1 0 -3\n")
    #expect(swaps == [SwapEntry(path: "/dev/sda2", isFile: false), SwapEntry(path: "/swap", isFile: true)])
    // The root itself is no mount in a change-root environment; /proc is one everywhere.
    #expect(try MountTable.mounts().contains { $0.mountPoint == "/proc" })
    #expect(try MountTable.mount(holding: "/proc/self")?.fileSystem == "proc")
    _ = try MountTable.swaps()
  }

  @Test func smallFilesAreReplacedWhole() throws {
    let scratch = try Scratch()
    try Files.replace(scratch("file"), with: [1, 2], mode: 0o640)
    try Files.replace(scratch("file"), with: [3], mode: 0o640)
    #expect(try Files.read(scratch("file")) == [3])
    #expect(try Files.facts(scratch("file")).mode == 0o640)
    #expect(try Files.list(scratch.path) == ["file"])
    try Files.makeSymbolicLink(scratch("link"), to: "file")
    #expect(try Files.linkTarget(scratch("link")) == "file")
    #expect(try Files.resolve(scratch("link")) == scratch("file"))
    #expect(try Files.facts(scratch("link"), followingLinks: false).kind == .symbolicLink)
    try Files.makeDirectories(scratch("a/b/c"))
    try Files.makeDirectories(scratch("a/b/c"))
    try Files.removeTree(scratch("a"))
    try Files.removeTree(scratch("a"))
    #expect(!Files.exists(scratch("a")))
    #expect { try Files.read("/proc/self/maps", limitBytes: 10) } throws: { "\($0)".contains("more than 10") }
    #expect(try Files.space(at: scratch.path).totalBytes > 0)
    #expect(Files.parent(of: "/a/b/") == "/a" && Files.parent(of: "/a") == "/" && Files.parent(of: "a") == ".")
  }

  @Test func signalsBecomeValues() throws {
    let watcher = try SignalWatcher([SignalWatcher.hangUp])
    #expect(throws: SystemError.self) { try SignalWatcher([SignalWatcher.hangUp]) }
    let start = try #require(ProcessTable.startTime(of: ProcessSetup.processID))
    #expect(
      ProcessTable.signal(SignalWatcher.hangUp, processID: ProcessSetup.processID, startTime: start))
    #expect(try watcher.next(until: soon) == SignalWatcher.hangUp)
    watcher.cancel()
    #expect(try watcher.next() == nil)
  }

  @Test func errorsSayWhatToWhatAndWhatNext() {
    let error = SystemError("open /dev/sdz", errorNumber: Errno.denied)
    #expect("\(error)" == "cannot open /dev/sdz: Permission denied; run as root, or grant this user the right")
  }
}
