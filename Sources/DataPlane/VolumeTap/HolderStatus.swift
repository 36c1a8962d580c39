/// What a holder should hold. Paths are absolute.
package struct HolderSettings: Sendable, Equatable {
  /// The holder's own directory, one a volume: state file, control socket, log and mount point live there.
  package var directory: String
  /// The agent's NBD server: a Unix socket.
  package var agentSocket: String
  package var exportName: String
  /// What the loop device shows as its sector, in bytes: 512 to 4096, a power of two. The export's own minimum counts
  /// where that is larger.
  package var logicalBlockBytes: UInt32

  package init(directory: String, agentSocket: String, exportName: String, logicalBlockBytes: UInt32 = 512) {
    self.directory = directory
    self.agentSocket = agentSocket
    self.exportName = exportName
    self.logicalBlockBytes = logicalBlockBytes
  }
}

/// A holder that lives.
package struct HolderStatus: Sendable, Equatable {
  package var processID: Int32
  /// Start time from /proc/PID/stat field 22, in clock ticks since boot: with the id it names the process for good.
  package var processStartTicks: UInt64
  /// For example "/dev/loop3".
  package var device: String
  package var sizeBytes: UInt64
  /// Whether the agent's socket is connected now. False means that the application's I/O waits.
  package var isConnected: Bool
  /// Requests of the kernel that the agent hasn't answered yet.
  package var unansweredRequests: Int
  /// Times that a lost connection was made again.
  package var reconnections: Int
  /// Whether it follows an export that grows; holders of earlier versions take one for another volume.
  package var canGrow: Bool
}
