package import BlockModel
package import H2HProtocol
internal import LinuxPlatform
package import Seams
package import VolumeTap

/// What every session is made from: the agent's seams and what its sessions share.
package struct SessionResources: Sendable {
  /// The agent's directory, absolute.
  package var root: AgentRoot
  package var catalogue: Catalogue
  package var time: any TimeSource
  package var random: any RandomSource
  package var host: any HostView
  package var ports: LinkPorts
  package var transport: any LinkTransport
  /// Of the link protocol.
  package var versions: H2HVersions
  package var bootID: String
  /// The program that has the `holder` subcommand; nil where this process can't start holders (tests).
  package var executable: String?
  /// What this host offers to make devices of taps.
  package var tapOffer: TapOffer
  package var tapKernel: any TapKernel
  /// Opens a volume's device or file. Tests put faults beneath.
  package var openDevice: DeviceOpener
  package var log: @Sendable (String) -> Void
  /// Of all sessions of the agent.
  package let paces = PaceBook()

  package init(
    root: AgentRoot, catalogue: Catalogue, time: any TimeSource, random: any RandomSource, host: any HostView,
    ports: LinkPorts, transport: any LinkTransport, versions: H2HVersions = .own, bootID: String, executable: String?,
    tapOffer: TapOffer, tapKernel: any TapKernel, openDevice: @escaping DeviceOpener,
    log: @escaping @Sendable (String) -> Void
  ) {
    self.root = root
    self.catalogue = catalogue
    self.time = time
    self.random = random
    self.host = host
    self.ports = ports
    self.transport = transport
    self.versions = versions
    self.bootID = bootID
    self.executable = executable
    self.tapOffer = tapOffer
    self.tapKernel = tapKernel
    self.openDevice = openDevice
    self.log = log
  }

  /// What makes a device of the tap of this one.
  func tapChoice(_ path: String) -> TapChoice { tapOffer.choice(insertionRefusal: tapKernel.refusal(of: path)) }
}

/// A volume's device or file, open for reading and writing.
package struct OpenedDevice: Sendable {
  package var device: any BlockDevice
  /// Page cache beneath, so that reads and writes seldom wait.
  package var isCached: Bool
  /// Looks how large it is now, for one that grew.
  package var refreshSize: @Sendable () -> Result<UInt64, BlockDeviceError>
  /// Lets go of it, locks included, while others may still hold the object.
  package var close: @Sendable () -> Void
  /// `refreshSize` nil: it never grows.
  package init(
    device: any BlockDevice, isCached: Bool, refreshSize: (@Sendable () -> Result<UInt64, BlockDeviceError>)? = nil,
    close: @escaping @Sendable () -> Void
  ) {
    self.device = device
    self.isCached = isCached
    self.refreshSize = refreshSize ?? { .success(device.sizeBytes) }
    self.close = close
  }

  private init(_ device: FileBlockDevice) {
    self.init(
      device: device, isCached: !device.isBlockDevice && device.access == .buffered,
      refreshSize: {
        do throws(SystemError) { return .success(try device.refreshSize()) } catch {
          return .failure(BlockDeviceError(.readFailed, error.description, errorNumber: error.errorNumber))
        }
      }
    ) { device.close() }
  }

  /// A source's block device past the page cache: what its own cache held would not see what the application writes
  /// through another device on the same blocks.
  static func openSource(_ path: String) throws(BlockDeviceError) -> OpenedDevice {
    do throws(SystemError) {
      let device = try FileBlockDevice(path: path, .init(access: .direct))
      return OpenedDevice(device)
    } catch {
      throw BlockDeviceError(.gone, error.description, errorNumber: error.errorNumber)
    }
  }

  /// `isExclusive`: a destination's, through the page cache; no second agent, mount or swap may have it. Otherwise a
  /// source's file, past the page cache where that is any use (`FileAccess`).
  package static let openPlainly: DeviceOpener = { path, isExclusive throws(BlockDeviceError) in
    do throws(SystemError) {
      let access: FileBlockDevice.Access = !isExclusive && FileAccess.of(path).isDirect ? .direct : .buffered
      let device = try FileBlockDevice(path: path, .init(access: access, isExclusive: isExclusive))
      return OpenedDevice(device)
    } catch {
      throw BlockDeviceError(.gone, error.description, errorNumber: error.errorNumber)
    }
  }
}

package typealias DeviceOpener =
  @Sendable (_ path: String, _ isExclusive: Bool) throws(BlockDeviceError) -> OpenedDevice

/// Where everything of one agent lies.
package struct AgentRoot: Sendable, Equatable {
  /// Absolute, with no slash at its end.
  package let path: String
  package init(path: String) { self.path = path }
  package var state: String { "\(path)/state" }
  package var tombstones: String { "\(path)/tombstones" }
  package var taps: String { "\(path)/tap" }
  package var socket: String { "\(path)/agent.sock" }
  package var lock: String { "\(path)/agent.lock" }
  package var log: String { "\(path)/agent.log" }
  package var key: String { "\(path)/state/agent.key" }

  /// A volume's device path as the configuration has it: relative ones are below the root.
  package func device(_ devicePath: String) -> String {
    devicePath.hasPrefix("/") ? devicePath : "\(path)/\(devicePath)"
  }

  package func tapDirectory(_ migration: MigrationName) -> String { "\(taps)/\(Catalogue.fileName(migration.text))" }
  package func tapSocket(_ migration: MigrationName, _ volume: VolumeName) -> String {
    "\(tapDirectory(migration))/\(Catalogue.fileName(volume.text)).sock"
  }
  package func tapDevice(_ migration: MigrationName, _ volume: VolumeName) -> String {
    "\(tapDirectory(migration))/\(Catalogue.fileName(volume.text))"
  }
  package func holderDirectory(_ migration: MigrationName, _ volume: VolumeName) -> String {
    "\(tapDirectory(migration))/\(Catalogue.fileName(volume.text)).holder"
  }
}

/// Whether every byte is zero: eight at a time, and an early way out every 4 KiB.
func isAllZero(_ bytes: UnsafeRawBufferPointer) -> Bool {
  let step = 4096
  var offset = 0
  while offset < bytes.count {
    let end = min(offset + step, bytes.count)
    var seen: UInt64 = 0
    var position = offset
    while position + 8 <= end {
      seen |= bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self)
      position += 8
    }
    while position < end {
      seen |= UInt64(bytes[position])
      position += 1
    }
    if seen != 0 { return false }
    offset = end
  }
  return true
}
