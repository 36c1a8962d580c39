import LinuxPlatform

/// What makes a block device of a volume's tap. The raw values are the words of `AgentHello.capabilities`.
package enum TapMethod: String, Sendable, CaseIterable {
  /// The tap takes the place beneath a device-mapper device in use: nothing above notices.
  case insertion = "device-mapper"
  /// The kernel's NBD client: a device of its own, to be used in the original's place.
  case kernelNBD = "kernel-nbd"
  /// FUSE and a loop device, by the holder process.
  case fuseLoop = "fuse-loop"
  /// No device: NBD clients on the tap's socket.
  case socket = "nbd-socket"
}

/// A method, and why this and nothing better.
package struct TapChoice: Sendable, Equatable {
  package var method: TapMethod
  /// Parts of a sentence, for people.
  package var reason: String
  package init(_ method: TapMethod, _ reason: String) {
    self.method = method
    self.reason = reason
  }
}

/// What a host offers to a tap. Pure but for `current`.
package struct TapOffer: Sendable, Equatable {
  package var isRoot: Bool
  package var hasDeviceMapper: Bool
  package var hasKernelNBD: Bool
  /// The kernel shows whose an NBD device is (Linux 5.14), so that a restarted agent finds its own.
  package var namesBackends: Bool
  package var hasFuseLoop: Bool
  package init(isRoot: Bool, hasDeviceMapper: Bool, hasKernelNBD: Bool, namesBackends: Bool, hasFuseLoop: Bool) {
    self.isRoot = isRoot
    self.hasDeviceMapper = hasDeviceMapper
    self.hasKernelNBD = hasKernelNBD
    self.namesBackends = namesBackends
    self.hasFuseLoop = hasFuseLoop
  }

  package static func current() -> TapOffer {
    let isRoot = ProcessSetup.effectiveUserID == 0
    let release = (try? Files.readText("/proc/sys/kernel/osrelease")) ?? ""
    return TapOffer(
      isRoot: isRoot, hasDeviceMapper: Files.exists(DeviceMapper.controlPath), hasKernelNBD: KernelNBD.isAvailable,
      namesBackends: isAtLeast(5, 14, release: release),
      hasFuseLoop: Files.exists("/dev/fuse") && Files.exists("/dev/loop-control"))
  }

  /// A process that can't start itself again can't start a holder.
  package func without(fuseLoop isWithout: Bool) -> TapOffer {
    var less = self
    if isWithout { less.hasFuseLoop = false }
    return less
  }

  static func isAtLeast(_ major: Int, _ minor: Int, release: String) -> Bool {
    let parts = release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
    guard parts.count == 2 else { return false }
    return (parts[0], parts[1]) >= (major, minor)
  }

  /// For all devices of the host; what a single one can have, `choice` says.
  package var methods: [TapMethod] {
    guard isRoot else { return [.socket] }
    var found: [TapMethod] = [.socket]
    if hasFuseLoop { found.append(.fuseLoop) }
    if hasKernelNBD && namesBackends { found.append(.kernelNBD) }
    if hasKernelNBD && hasDeviceMapper { found.append(.insertion) }
    return found
  }

  /// `insertionRefusal`: why the tap can't take the place beneath the device; nil where it can.
  package func choice(insertionRefusal: String?) -> TapChoice {
    guard isRoot else { return TapChoice(.socket, "only root can make block devices, and the agent isn't root") }
    if hasKernelNBD, hasDeviceMapper, insertionRefusal == nil {
      return TapChoice(.insertion, "its table is swapped while it is in use, so nothing is stopped or unmounted")
    }
    let notInserted =
      insertionRefusal ?? (hasKernelNBD ? "the kernel has no device-mapper" : "the kernel has no NBD client (nbd.ko)")
    if hasKernelNBD, namesBackends {
      return TapChoice(.kernelNBD, "\(notInserted); the application has to be pointed to the tap's device")
    }
    let notKernel =
      hasKernelNBD ? "its NBD client doesn't tell its devices apart (Linux 5.14)" : "no NBD client (nbd.ko)"
    if hasFuseLoop {
      return TapChoice(
        .fuseLoop,
        "\(notInserted), and the kernel has \(notKernel); the application has to be pointed to the tap's device"
      )
    }
    return TapChoice(.socket, "\(notInserted), and the kernel has neither \(notKernel) nor FUSE and loop devices")
  }
}
