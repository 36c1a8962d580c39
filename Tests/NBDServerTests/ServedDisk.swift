import BlockModel
import Glibc
import LinuxPlatform
import NBDServer
import Seams
import VolumeTap

/// A file served on a Unix socket, in a directory of its own, with threads of this process.
final class ServedDisk: Sendable {
  let directory: String
  let file: String
  let socket: String
  let server: NBDServer
  private let listener: TapListener

  init(sizeBytes: UInt64, isReadOnly: Bool = false, minimumBlockBytes: UInt32 = 1, threads: Int? = nil) throws {
    directory = try TemporaryDirectory.make()
    file = directory + "/disk.img"
    socket = directory + "/nbd.sock"
    do { _ = try FileBlockDevice.create(path: file, sizeBytes: sizeBytes) }
    let device = try FileBlockDevice(path: file, FileBlockDevice.Options(isReadOnly: isReadOnly))
    var execution = DeviceExport.Execution.inline
    if let threads {
      let pool = ThreadPool(name: "disk", threadLimit: threads, idleSeconds: 1)
      execution = .handedTo { work in
        do { try pool.submit(work) } catch { preconditionFailure("\(error)") }
      }
    }
    server = NBDServer()
    server.add(
      DeviceExport(
        name: "disk", device: device, isReadOnly: isReadOnly,
        blockSizes: NBDBlockSizes(minimum: minimumBlockBytes), execution: execution))
    listener = try TapListener(path: socket, server: server)
  }

  var uri: String { "nbd+unix:///disk?socket=\(socket)" }

  func stop() {
    listener.stop()
    try? Files.removeTree(directory)
  }
}

enum TemporaryDirectory {
  static func make() throws -> String {
    let path = "/tmp/cmc-nbd-\(SystemRandom().uuid().prefix(13))"
    try Files.makeDirectories(path, mode: 0o700)
    return path
  }
}

/// Programs of others that these tests need. A test that misses one is reported as skipped.
enum Program: String, CaseIterable {
  case nbdinfo = "/usr/bin/nbdinfo"
  case nbdcopy = "/usr/bin/nbdcopy"
  case nbdkit = "/usr/bin/nbdkit"
  case qemuIO = "/usr/bin/qemu-io"
  case qemuImage = "/usr/bin/qemu-img"
  case python = "/usr/bin/python3"
  case fio = "/usr/bin/fio"

  static func are(_ programs: Program...) -> Bool { programs.allSatisfy { Files.exists($0.rawValue) } }

  /// Debian's libnbd binding of the system's Python.
  static let hasLibnbdForPython: Bool =
    are(.python) && (try? Program.python.run("-c", "import nbd"))?.ending == .exited(0)

  @discardableResult
  func run(_ arguments: String..., input: String = "", timeoutSeconds: Double = 60) throws -> ChildResult {
    try PosixChildProcesses().run(
      ChildCommand(
        executable: rawValue, arguments: arguments, environment: ["PATH": "/usr/bin:/bin", "HOME": "/tmp"],
        input: Array(input.utf8), timeoutSeconds: timeoutSeconds))
  }
}

extension ChildResult {
  var text: String { String(decoding: output, as: UTF8.self) }
  var errorText: String { String(decoding: errorOutput, as: UTF8.self) }
}
