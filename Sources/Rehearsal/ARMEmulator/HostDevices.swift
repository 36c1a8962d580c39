import Foundation
import LinuxPlatform

/// Makes on this machine what the emulated service does to disks and to the hosts of machines. Blocks.
struct HostDevices: Sendable {
  let stateDirectory: String

  func perform(_ effect: DeviceEffect) throws(SystemError) {
    switch effect {
    case .makeContent(let file, let sizeBytes): try makeContent(path(file), sizeBytes)
    case .removeContent(let file): try Files.remove(path(file))
    case .link(let root, let lun, let file): try link(linkPath(root, lun), to: path(file))
    case .unlink(let root, let lun): try Files.remove(linkPath(root, lun))
    }
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

  private func link(_ link: String, to target: String) throws(SystemError) {
    try Files.makeDirectories(Files.parent(of: link))
    if let there = try? Files.linkTarget(link) {
      if there == target { return }
      try Files.remove(link)
    }
    try Files.makeSymbolicLink(link, to: target)
  }
}
