import Foundation
import LinuxPlatform
import Seams

/// Makes on this machine what the emulated service does to disks and to the hosts of machines. Blocks.
struct HostDevices: Sendable {
  let stateDirectory: String

  static let copySeconds = 600.0

  @discardableResult
  func perform(_ effect: DeviceEffect) throws(SystemError) -> DeviceProgress {
    switch effect {
    case .makeContent(let file, let sizeBytes): try makeContent(path(file), sizeBytes)
    case .copyContent(let source, let target): try copyContent(path(source), path(target))
    case .removeContent(let file): try Files.remove(path(file))
    case .link(let root, let lun, let file, .file): try link(linkPath(root, lun), to: path(file))
    case .link(let root, let lun, let file, .loop): try loop(linkPath(root, lun), over: path(file))
    case .unlink(let root, let lun): try unlink(linkPath(root, lun))
    case .plug(let socket, let lun, let file): try MachineMonitor.plug(socket, lun: lun, file: path(file))
    case .unplug(let socket, let lun): return try MachineMonitor.unplug(socket, lun: lun)
    case .growLink(let root, let lun): try loopDevice(behind: linkPath(root, lun))?.refreshSize()
    case .growPlugged(let socket, let lun, let size):
      try MachineMonitor.resize(socket, lun: lun, sizeBytes: size)
    }
    return .done
  }

  private func path(_ file: String) -> String { "\(stateDirectory)/\(file)" }
  private func linkPath(_ root: String, _ lun: Int) -> String { "\(root)/dev/disk/azure/scsi1/lun\(lun)" }

  /// A sparse file of that length; what it holds already stays.
  private func makeContent(_ path: String, _ sizeBytes: UInt64) throws(SystemError) {
    try Files.makeDirectories(Files.parent(of: path), mode: 0o700)
    if !Files.exists(path) { try Files.replace(path, with: []) }
    guard try Files.facts(path).sizeBytes < sizeBytes else { return }
    guard let file = FileHandle(forUpdatingAtPath: path) else {
      throw SystemError("open the disk \(path)", errorNumber: Errno.inputOutput)
    }
    defer { try? file.close() }
    do {
      try file.truncate(atOffset: sizeBytes)
      try file.synchronize()
    } catch {
      throw SystemError("make the disk \(path) \(sizeBytes) bytes long", errorNumber: Errno.noSpace, detail: "\(error)")
    }
  }

  private func copyContent(_ source: String, _ target: String) throws(SystemError) {
    if Files.exists(target) { return }
    // Disks are mostly holes: copied as bytes, an empty one of 1 TiB would fill the machine.
    let command = ChildCommand(
      executable: "/bin/cp", arguments: ["--sparse=always", "--", source, target],
      environment: ["PATH": "/usr/bin:/bin"], timeoutSeconds: Self.copySeconds)
    let result: ChildResult
    do {
      result = try PosixChildProcesses().run(command)
    } catch {
      throw SystemError("copy the disk \(source)", errorNumber: Errno.inputOutput, detail: "\(error)")
    }
    guard result.succeeded else {
      throw SystemError(
        "copy the disk \(source)", errorNumber: Errno.inputOutput,
        detail: String(decoding: result.errorOutput.suffix(300), as: UTF8.self))
    }
  }

  private func link(_ link: String, to target: String) throws(SystemError) {
    try Files.makeDirectories(Files.parent(of: link))
    if let there = try? Files.linkTarget(link) {
      if there == target { return }
      try Files.remove(link)
    }
    try Files.makeSymbolicLink(link, to: target)
  }

  /// A loop device over the disk's file, and the link to it. One that is there already stays.
  private func loop(_ link: String, over file: String) throws(SystemError) {
    if let device = loopDevice(behind: link) {
      if device.backingPath() == file { return }
      throw SystemError("use \(device.path) for \(file): it is over another file", errorNumber: Errno.inputOutput)
    }
    let device = try LoopDevice.attach(backing: file, usesDirectIO: false)
    do throws(SystemError) {
      try self.link(link, to: device.path)
    } catch {
      try device.detach()
      throw error
    }
  }

  private func loopDevice(behind link: String) -> LoopDevice? {
    guard let target = try? Files.linkTarget(link), target.hasPrefix("/dev/loop") else { return nil }
    let device = LoopDevice(path: target)
    // After a restart of this machine the number may be free, or somebody else's.
    guard let backing = device.backingPath(), backing.hasPrefix(stateDirectory + "/") else { return nil }
    return device
  }

  private func unlink(_ link: String) throws(SystemError) {
    if let device = loopDevice(behind: link) { try device.detach() }
    try Files.remove(link)
  }
}
