/// The agent's side of a holder. Calls block for at most `patienceSeconds` each and may be repeated at any time.
///
/// Never call it on a thread that serves the volume's NBD export: `attach` waits for the holder, which waits for the
/// export.
package struct HolderControl: Sendable {
  /// The program that has the `holder` subcommand: the agent's own path.
  package let executable: String
  /// What comes before the holder's own arguments.
  package let leadingArguments: [String]
  package static let patienceSeconds = 20.0

  package init(executable: String, leadingArguments: [String] = ["holder"]) {
    self.executable = executable
    self.leadingArguments = leadingArguments
  }

  /// Makes the export a loop device and answers when it is ready for use. A holder that lives already, with the same
  /// settings, is found and left alone. Remains of a dead one (its mount, the loop device bound to its file) are cleaned
  /// first. Errors: `.notPermitted`, `.serverUnreachable`, `.systemFailed`, `.holderFailed`, `.invalid`.
  package func attach(_ settings: HolderSettings) throws(TapError) -> HolderStatus {
    throw TapError(.holderFailed, "attaching \(settings.exportName) is not built into this agent")
  }

  /// The holder of `directory`, or nil where none lives.
  package func status(directory: String) throws(TapError) -> HolderStatus? { nil }

  /// Takes the device away: loop device, mount, files, process. Nothing happens where there is none; remains of a dead
  /// holder are cleaned. Errors: `.inUse` says who uses it, and then nothing was changed.
  package func detach(directory: String) throws(TapError) {}
}
