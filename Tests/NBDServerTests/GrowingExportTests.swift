import BlockModel
import LinuxPlatform
import NBDServer
import Seams
import Synchronization
import TestSupport
import Testing
import VolumeTap

/// Twice as large from the first write at its beginning on.
private final class GrowingExport: NBDExport {
  static let smallBytes: UInt64 = 1 << 20
  let name = "disk"
  private let disk = DeviceExport(name: "disk", device: MemoryBlockDevice(sizeBytes: smallBytes * 2))
  private let hasGrown = Atomic<Bool>(false)

  var sizeBytes: UInt64 { hasGrown.load(ordering: .acquiring) ? disk.sizeBytes : Self.smallBytes }
  var blockSizes: NBDBlockSizes { disk.blockSizes }
  var isReadOnly: Bool { disk.isReadOnly }
  var hasDirtyMap: Bool { disk.hasDirtyMap }

  func submit(_ request: NBDRequest, payload: PayloadBuffer, completion: @escaping NBDCompletion) {
    if request.kind == .write && request.range.offset == 0 { hasGrown.store(true, ordering: .releasing) }
    disk.submit(request, payload: payload, completion: completion)
  }

  func blockStatus(of range: ByteRange, context: NBDMetaContext, limit: Int) throws(NBDErrorCode) -> [NBDExtent] {
    try disk.blockStatus(of: range, context: context, limit: limit)
  }

  func connectionOpened() -> Bool { disk.connectionOpened() }
  func connectionClosed() { disk.connectionClosed() }
}

@Suite("An export that grows", .timeLimit(.minutes(1))) struct GrowingExportTests {
  /// libnbd's own checks are off: it goes by the size that it was told when it connected.
  private static let script = """
    import errno, nbd, sys

    SMALL = 1 << 20

    def connect():
        handle = nbd.NBD()
        handle.set_strict_mode(0)
        handle.add_meta_context("base:allocation")
        handle.connect_uri(sys.argv[1])
        return handle

    def answer(action):
        try:
            action()
            return "ok"
        except nbd.Error as error:
            return errno.errorcode[error.errnum]

    def ends(handle):
        return [answer(lambda: handle.pwrite(b"x" * 4096, SMALL)), answer(lambda: handle.pwrite(b"x" * 4096, 2 * SMALL))]

    handle = connect()
    print(handle.get_size(), *ends(handle))
    handle.pwrite(b"grow", 0)
    print(handle.get_size(), *ends(handle), handle.pread(4096, SMALL) == b"x" * 4096)
    extents = []
    handle.block_status(2 * SMALL, 0, lambda context, offset, entries, error: extents.extend(entries[0::2]) or 0)
    print(sum(extents))
    print(connect().get_size())
    """

  @Test(
    "a client that stays is served the new part, and one that connects anew is told of it",
    .enabled(if: Program.hasLibnbdForPython && Program.are(.nbdinfo)))
  func grows() async throws {
    try await onBlockingThread {
      let directory = try TemporaryDirectory.make()
      let server = NBDServer()
      server.add(GrowingExport())
      let listener = try TapListener(path: directory + "/nbd.sock", server: server)
      defer {
        listener.stop()
        try? Files.removeTree(directory)
      }
      let uri = "nbd+unix:///disk?socket=\(directory)/nbd.sock"
      #expect(try Program.nbdinfo.run("--size", uri).text == "1048576\n")
      let told = try Program.python.run("-c", Self.script, uri)
      #expect(told.errorText.isEmpty)
      #expect(
        told.text.split(separator: "\n") == ["1048576 ENOSPC ENOSPC", "1048576 ok ENOSPC True", "2097152", "2097152"])
      #expect(try Program.nbdinfo.run("--size", uri).text == "2097152\n")
    }
  }
}
