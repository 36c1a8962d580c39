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

  /// `holder`: the process that asked. The kernel may keep this helper waiting for long; a device that is ready after
  /// its holder was killed, and its remains were cleaned, would be nobody's, so it goes away again. A holder that dies
  /// after the look had its device by then: whoever cleans finds it.
  static func attachLoop(file: String, blockBytes: String, holder: String) -> Int32 {
    guard let bytes = UInt32(blockBytes), let holder = Int32(holder) else { return 2 }
    do throws(SystemError) {
      let loop = try LoopDevice.attach(backing: file, blockBytes: bytes)
      guard ProcessSetup.parentProcessID == holder else {
        try loop.detach()
        print("process \(holder), which wanted \(loop.path), is gone; it is detached again")
        return 1
      }
      print(loop.path)
      return 0
    } catch {
      print(error)
      return 1
    }
  }

  /// Has the kernel ask for the file's size again, which it otherwise knows for an hour, and the loop device take it over.
  static func grow(file: String, device: String) -> Int32 {
    do throws(SystemError) {
      _ = try Files.refreshSize(of: file)
      try LoopDevice(path: device).refreshSize()
      return 0
    } catch {
      print(error)
      return 1
    }
  }

  static func release(directory: String, device: String) -> Int32 {
    guard let directory = HolderDirectory(existing: directory) else { return 2 }
    do throws(SystemError) {
      let devices = try directory.loopDevices(recorded: device)
      for loop in devices {
        if let users = try users(of: loop.path) {
          print(users)
          return inUseExitCode
        }
      }
      for loop in devices { try loop.detach() }
      var looks = openerLooks
      while try !directory.loopDevices(recorded: device).isEmpty, looks > 0 {
        pauseThread(milliseconds: 100)
        looks -= 1
      }
      // The file system under a device that stays is not taken away: it would be the last that says whose it is.
      let left = try directory.loopDevices(recorded: device)
      guard left.isEmpty else {
        let names = left.map(\.path).joined(separator: ", ")
        print("\(names) was opened by somebody just now; it goes away with the last close; detach again then")
        return inUseExitCode
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
