import LinuxPlatform
import Seams

/// Short-lived children of the holder that touch the loop device and the mount. The holder must not do so itself: a
/// thread of it that waits for I/O that only another thread of it can carry out could not be killed, and would keep
/// /dev/fuse open for ever.
enum HolderHelper {
  static let timeoutSeconds = 15.0
  static let inUseExitCode: Int32 = 3
  /// Others (udev, blkid) open a device for a moment; looked at again this often, a tenth of a second apart.
  static let openerLooks = 10

  /// What a helper printed; throws what it failed with.
  static func run(_ arguments: [String]) throws(TapError) -> String {
    let result: ChildResult
    do throws(ChildError) {
      // The link, not its target: the program's file may have been replaced since.
      result = try PosixChildProcesses().run(
        ChildCommand(
          executable: "/proc/self/exe", arguments: ["holder"] + arguments, environment: [:],
          timeoutSeconds: timeoutSeconds))
    } catch {
      throw TapError(.systemFailed, error.description)
    }
    let text = String(decoding: result.output, as: UTF8.self).split(separator: "\n").joined(separator: " ")
    switch result.ending {
    case .exited(0): return text
    case .exited(inUseExitCode): throw TapError(.inUse, text)
    default: throw TapError(.systemFailed, text.isEmpty ? "the holder's helper ended: \(result.ending)" : text)
    }
  }

  // MARK: in the child

  static func attachLoop(file: String, blockBytes: String) -> Int32 {
    guard let bytes = UInt32(blockBytes) else { return 2 }
    do throws(SystemError) {
      print(try LoopDevice.attach(backing: file, blockBytes: bytes).path)
      return 0
    } catch {
      print(error)
      return 1
    }
  }

  static func release(directory: String, device: String) -> Int32 {
    guard let directory = HolderDirectory(existing: directory) else { return 2 }
    do throws(SystemError) {
      let loop = LoopDevice(path: device)
      if loop.backingPath() == directory.filePath {
        if let users = try users(of: device) {
          print(users)
          return inUseExitCode
        }
        try loop.detach()
        var looks = openerLooks
        while loop.backingPath() == directory.filePath, looks > 0 {
          pauseThread(milliseconds: 100)
          looks -= 1
        }
        guard loop.backingPath() != directory.filePath else {
          print("\(device) was opened by somebody just now; it goes away with the last close; detach again then")
          return inUseExitCode
        }
      }
      while try directory.isMounted() { try Mounting.unmount(directory.mountPoint, lazily: true) }
      return 0
    } catch {
      print(error)
      return 1
    }
  }

  /// Who uses the device, as a sentence; nil where nobody does.
  static func users(of device: String) throws(SystemError) -> String? {
    let number = try Files.facts(device).device
    var users: [String] = []
    for mount in try MountTable.mounts(on: number) { users.append("mounted at \(mount.mountPoint)") }
    for swap in try MountTable.swaps() where swap.path == device { users.append("swapped on") }
    let holders = (try? Files.list("/sys/dev/block/\(number)/holders")) ?? []
    if !holders.isEmpty { users.append("held by \(holders.joined(separator: ", "))") }
    if users.isEmpty {
      var looks = openerLooks
      var openers = try DeviceUse.openers(of: device)
      while !openers.isEmpty, looks > 0 {
        pauseThread(milliseconds: 100)
        openers = try DeviceUse.openers(of: device)
        looks -= 1
      }
      if !openers.isEmpty { users.append("open in \(openers.joined(separator: ", "))") }
    }
    if users.isEmpty, try DeviceUse.isClaimed(device) {
      users.append("claimed exclusively, perhaps mounted in another namespace or a container")
    }
    guard !users.isEmpty else { return nil }
    return "\(device) is in use: \(users.joined(separator: "; ")); unmount or stop that first"
  }
}
