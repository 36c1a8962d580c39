// Processes that tests need beside their own: a server that can be killed, and the holder.
import BlockModel
import Glibc
import LinuxPlatform
import NBDServer
import Seams
import VolumeTap

func value(of name: String, in arguments: [String]) -> String? {
  guard let index = arguments.firstIndex(of: name), index + 1 < arguments.count else { return nil }
  return arguments[index + 1]
}

/// serve FILE SOCKET [--name NAME] [--threads N] [--minimum-block N] [--read-only]
func serve(_ arguments: [String]) throws {
  let file = arguments[0]
  let socket = arguments[1]
  let isReadOnly = arguments.contains("--read-only")
  let device = try FileBlockDevice(path: file, FileBlockDevice.Options(isReadOnly: isReadOnly))
  let minimum = UInt32(value(of: "--minimum-block", in: arguments) ?? "1") ?? 1
  var execution = DeviceExport.Execution.inline
  if let threads = value(of: "--threads", in: arguments).flatMap(Int.init) {
    let pool = ThreadPool(name: "disk", threadLimit: threads)
    execution = .handedTo { work in
      do { try pool.submit(work) } catch { preconditionFailure("\(error)") }
    }
  }
  let server = NBDServer()
  server.add(
    DeviceExport(
      name: value(of: "--name", in: arguments) ?? "disk", device: device, isReadOnly: isReadOnly,
      blockSizes: NBDBlockSizes(minimum: minimum), execution: execution))
  let listener = try TapListener(path: socket, server: server)
  print("ready")
  fflush(nil)
  // Ends when its standard input does: a test that dies takes it along.
  var byte: UInt8 = 0
  while Glibc.read(0, &byte, 1) > 0 {}
  listener.stop()
}

/// attach DIR SOCKET EXPORT | status DIR | detach DIR
func control(_ arguments: [String]) throws {
  let holder = HolderControl(executable: try ProcessSetup.executablePath())
  switch arguments[0] {
  case "attach" where arguments.count == 4:
    print(
      try holder.attach(
        HolderSettings(directory: arguments[1], agentSocket: arguments[2], exportName: arguments[3])))
  case "status": print(try holder.status(directory: arguments[1]).map { "\($0)" } ?? "none")
  default: try holder.detach(directory: arguments[1])
  }
}

let arguments = Array(CommandLine.arguments.dropFirst())
switch arguments.first {
case "holder": exit(HolderProcess.run(arguments: Array(arguments.dropFirst())))
case "serve" where arguments.count >= 3:
  do {
    try serve(Array(arguments.dropFirst()))
  } catch {
    print(error)
    exit(1)
  }
case "attach", "status", "detach":
  do {
    try control(arguments)
  } catch {
    print(error)
    exit(1)
  }
default:
  print("usage: TapHarness serve FILE SOCKET | holder ...")
  exit(2)
}
