/// The emulator as a running server.
package enum EmulatorServer {
  /// Serves until SIGINT or SIGTERM. `report` gets a line for the operator when it listens and when it stops.
  package static func runUntilSignalled(
    _ configuration: EmulatorConfiguration, readyFile: String?, report: @escaping @Sendable (String) -> Void
  ) async throws {
    throw EmulatorError("the emulator has no server yet")
  }
}
