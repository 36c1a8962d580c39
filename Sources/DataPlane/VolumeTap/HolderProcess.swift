import CFUSE
import Glibc
import LinuxPlatform
import Seams

/// The holder: what `cmcagent holder` runs.
package enum HolderProcess {
  /// Runs until it is told to detach. Returns the exit code: 0 detached, 1 failed (the log in its directory says why),
  /// 2 bad arguments. `arguments` come after "holder": `--directory DIR --socket PATH --export NAME
  /// [--logical-block BYTES]`; the other forms are the holder's own helpers.
  package static func run(arguments: [String]) -> Int32 {
    switch arguments.first {
    case "--attach-loop" where arguments.count == 4:
      return HolderHelper.attachLoop(file: arguments[1], blockBytes: arguments[2], holder: arguments[3])
    case "--grow" where arguments.count == 3:
      return HolderHelper.grow(file: arguments[1], device: arguments[2])
    case "--release" where arguments.count == 3:
      return HolderHelper.release(directory: arguments[1], device: arguments[2])
    default: break
    }
    let log = HolderLog()
    guard let settings = settings(arguments) else {
      log.say("usage: holder --directory DIR --socket PATH --export NAME [--logical-block 512...4096]")
      return 2
    }
    do throws(TapError) {
      let directory: HolderDirectory
      let lock: FileLock?
      do throws(SystemError) {
        directory = try HolderDirectory(making: settings.directory)
        lock = try FileLock.take(directory.lockPath)
      } catch {
        throw TapError(.systemFailed, error.description)
      }
      guard let lock else { throw TapError(.holderFailed, "another holder has \(directory.path)") }
      defer { lock.release() }
      try hold(settings, directory, log)
      log.say("detached")
      return 0
    } catch {
      log.say("failed: \(error.message)")
      return 1
    }
  }

  static func arguments(for settings: HolderSettings) -> [String] {
    [
      "holder", "--directory", settings.directory, "--socket", settings.agentSocket, "--export", settings.exportName,
      "--logical-block", String(settings.logicalBlockBytes),
    ]
  }

  private static func settings(_ arguments: [String]) -> HolderSettings? {
    var values: [String: String] = [:]
    var index = 0
    while index + 1 < arguments.count {
      values[arguments[index]] = arguments[index + 1]
      index += 2
    }
    guard index == arguments.count, let directory = values["--directory"], let socket = values["--socket"],
      let exportName = values["--export"], directory.hasPrefix("/"), socket.hasPrefix("/"),
      let block = UInt32(values["--logical-block"] ?? "512"), block.nonzeroBitCount == 1, (512...4096).contains(block)
    else { return nil }
    return HolderSettings(
      directory: directory, agentSocket: socket, exportName: exportName, logicalBlockBytes: block)
  }

  /// DESIGN section 8.12: what serves a disk must not wait for memory that can only be freed by writing to that disk.
  /// Where the system denies a part, the log says so, and the holder goes on.
  private static func protect(_ log: HolderLog) {
    ProcessSetup.ignoreBrokenPipes()
    // The application's disk goes away with this process: only `detach` ends it.
    for number in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] { signal(number, SIG_IGN) }
    // One after the other: a part that is denied does not keep the next one from being tried.
    do throws(SystemError) { try ProcessSetup.lockMemory() } catch { log.say("not protected: \(error)") }
    do throws(SystemError) { try ProcessSetup.becomeIOFlusher() } catch { log.say("not protected: \(error)") }
    do throws(SystemError) { try ProcessSetup.setOutOfMemoryScore(-1000) } catch { log.say("not protected: \(error)") }
  }

  private static func hold(
    _ settings: HolderSettings, _ directory: HolderDirectory, _ log: HolderLog
  ) throws(TapError) {
    protect(log)
    let first = try NBDClient.connect(socket: settings.agentSocket, exportName: settings.exportName)
    let blockBytes = max(settings.logicalBlockBytes, first.minimumBlockBytes)
    guard blockBytes <= 4096 else {
      throw TapError(.invalid, "the export takes blocks of \(blockBytes) bytes at least; a device has at most 4096")
    }
    let fuse = try mount(directory)
    let link = HolderLink(
      fuse: fuse, first: first, socket: settings.agentSocket, exportName: settings.exportName, log: log
    ) {
      // Made before its agent was gone for a while; the link is up again, and the device was recorded long ago.
      guard let device = HolderRecord(text: (try? Files.readText(directory.statePath)) ?? "")["device"] else { return }
      do throws(TapError) {
        _ = try HolderHelper.run(["--grow", directory.filePath, device])
        log.say("\(device) has grown with its export")
      } catch {
        log.say("\(device) keeps its former size: \(error.message)")
      }
    }
    do throws(TapError) {
      let listener: SocketListener
      do throws(SystemError) {
        listener = try SocketListener.unix(path: directory.controlPath)
        try link.start { listener.cancel() }
      } catch {
        throw TapError(.systemFailed, error.description)
      }
      let device = try HolderHelper.run([
        "--attach-loop", directory.filePath, "\(blockBytes)", "\(ProcessSetup.processID)",
      ])
      let record = try write(settings, directory, device, first.sizeBytes)
      log.say("\(device) holds export \(settings.exportName) of \(settings.agentSocket), \(first.sizeBytes) bytes")
      try HolderControlSocket(listener: listener, directory: directory, record: record, link: link, log: log).serve()
    } catch {
      link.stop()
      // The failure is what counts; what stays behind is cleaned by the next attach.
      try? directory.cleanRemains()
      throw error
    }
    directory.removeFiles()
  }

  private static func mount(_ directory: HolderDirectory) throws(TapError) -> FileDescriptor {
    do throws(SystemError) {
      try directory.cleanRemains()
      try Files.makeDirectories(directory.mountPoint, mode: 0o700)
      let fuse = try FileDescriptor.open("/dev/fuse", O_RDWR)
      try Mounting.mount(
        source: HolderDirectory.fileSystemSource, at: directory.mountPoint, fileSystem: "fuse",
        data: "fd=\(fuse.number),rootmode=40000,user_id=\(geteuid()),group_id=\(getegid())")
      return fuse
    } catch {
      let isDenied = error.errorNumber == EPERM || error.errorNumber == EACCES || error.isNotFound
      throw TapError(isDenied ? .notPermitted : .systemFailed, error.description)
    }
  }

  private static func write(
    _ settings: HolderSettings, _ directory: HolderDirectory, _ device: String, _ sizeBytes: UInt64
  ) throws(TapError) -> HolderRecord {
    var record = HolderRecord()
    record["pid"] = "\(ProcessSetup.processID)"
    record["start"] = "\(ProcessTable.startTime(of: ProcessSetup.processID) ?? 0)"
    record["device"] = device
    record["size"] = "\(sizeBytes)"
    record["socket"] = settings.agentSocket
    record["export"] = settings.exportName
    record["block"] = "\(settings.logicalBlockBytes)"
    do throws(SystemError) {
      try Files.replace(directory.statePath, with: Array(record.text.utf8))
    } catch {
      throw TapError(.systemFailed, error.description)
    }
    return record
  }
}
