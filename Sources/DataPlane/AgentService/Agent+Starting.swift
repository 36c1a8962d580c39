internal import AgentProtocol
internal import BlockModel
internal import LinuxPlatform

/// From an agent's start to all that it can bring back: at a start of the host disks come when they come, and often after
/// the agent. A session whose device isn't there is tried again until it is.
extension Agent {
  /// How often a session is tried again whose device isn't there, in seconds: at first, for file systems may wait for its
  /// tap; and later, when a person plugs the disk in.
  private static let soonSeconds = 0.2
  private static let laterSeconds = 5.0
  /// How long whoever started the agent waits for its devices and taps, in seconds. A disk that takes longer is no reason
  /// to keep a host from coming up: its session is tried on all the same.
  static let patienceSeconds = 30.0

  /// Waits until every session that can start has, and has its tap back, or until `deadline`. Answers whether they have.
  func awaitStart(until deadline: MonotonicTime) -> Bool {
    while !isParked {
      if isComplete { return true }
      if MonotonicTime.now >= deadline { return false }
      pauseThread(milliseconds: 20)
    }
    return false
  }

  /// Tries sessions again whose devices weren't there, until all have started or the agent is parked. Blocks.
  func startLateSessions() {
    let begun = MonotonicTime.now
    while !isParked, !lateSessions.isEmpty {
      for session in lateSessions { startLate(session) }
      let isSoon = MonotonicTime.now.seconds(since: begun) < Self.patienceSeconds
      if waitForParking(seconds: isSoon ? Self.soonSeconds : Self.laterSeconds) { return }
    }
  }

  private var isComplete: Bool {
    lateSessions.isEmpty && !runningSessions.contains { $0.isBringingTapBack }
  }
}
