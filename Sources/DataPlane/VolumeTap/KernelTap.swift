import LinuxPlatform

/// An export of this host's agent as a device of the kernel's NBD client (DESIGN section 8, "Tap", case b). The device
/// outlives the agent: its requests wait, and the next agent's `attach` gives it a new connection, on which the kernel
/// sends again what was not answered.
package final class KernelTap: Sendable {
  /// How long I/O waits for an agent before it fails, in seconds: longer than any repair by people.
  package static let deadConnectionSeconds: UInt64 = 7 * 24 * 3600
  /// The kernel notices the end of a connection a moment after we do.
  private static let reconnectTries = 100

  package let index: Int
  package var path: String { KernelNBD.path(index) }
  private let socket: String
  private let exportName: String
  /// Held to notice its end; only the kernel reads and writes it.
  private let channel: Monitor<LocalChannel>

  private init(index: Int, socket: String, exportName: String, channel: LocalChannel) {
    self.index = index
    self.socket = socket
    self.exportName = exportName
    self.channel = Monitor(channel)
  }

  /// Makes the device, or takes over the one that an agent before this one made (`known`, where the kernel doesn't tell
  /// whose a device is). Never call it on a thread that serves the export.
  package static func attach(
    socket: String, exportName: String, blockBytes: UInt32, known: Int? = nil
  ) throws(TapError) -> KernelTap {
    let connected = try NBDClient.connect(socket: socket, exportName: exportName)
    do throws(SystemError) {
      if let index = known ?? KernelNBD.devices(backend: socket).first {
        try reconnect(index, connected.channel, socket)
        // It may have grown while no agent was there to say so.
        try KernelNBD.resize(index, sizeBytes: connected.sizeBytes, backend: socket)
        return KernelTap(index: index, socket: socket, exportName: exportName, channel: connected.channel)
      }
      let index = try KernelNBD.connect(
        connected.channel.descriptor,
        KernelNBD.Settings(
          sizeBytes: connected.sizeBytes, blockBytes: max(blockBytes, connected.minimumBlockBytes, 512),
          serverFlags: connected.transmissionFlags, deadConnectionSeconds: deadConnectionSeconds, backend: socket))
      return KernelTap(index: index, socket: socket, exportName: exportName, channel: connected.channel)
    } catch {
      connected.channel.shutDown()
      throw TapError(.systemFailed, error.description)
    }
  }

  private static func reconnect(_ index: Int, _ channel: LocalChannel, _ socket: String) throws(SystemError) {
    for attempt in 1...reconnectTries {
      do throws(SystemError) {
        return try KernelNBD.reconnect(index, channel.descriptor, backend: socket)
      } catch {
        guard error.errorNumber == Errno.noSpace, attempt < reconnectTries else { throw error }
        pauseThread(milliseconds: 50)
      }
    }
  }

  /// Connects again where the connection ended. True if it did.
  package func mend() throws(TapError) -> Bool {
    guard channel.withLock({ $0.isHungUp }) else { return false }
    let connected = try NBDClient.connect(socket: socket, exportName: exportName)
    do throws(SystemError) {
      try Self.reconnect(index, connected.channel, socket)
    } catch {
      connected.channel.shutDown()
      throw TapError(.systemFailed, error.description)
    }
    channel.withLock { $0 = connected.channel }
    return true
  }

  /// The device is as large as its export from here on; one that is as large already stays as it is.
  package func grow(to sizeBytes: UInt64) throws(TapError) {
    do throws(SystemError) { try KernelNBD.resize(index, sizeBytes: sizeBytes, backend: socket) } catch {
      throw TapError(.systemFailed, error.description)
    }
  }

  /// Takes the device away. What still waits for the agent fails: see that nobody uses it.
  package func detach() throws(TapError) {
    do throws(SystemError) { try KernelNBD.disconnect(index) } catch {
      throw TapError(.systemFailed, error.description)
    }
  }
}
