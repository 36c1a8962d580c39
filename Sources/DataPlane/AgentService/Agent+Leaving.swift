internal import AgentProtocol
internal import BlockModel
internal import LinuxPlatform

/// The end of an agent whose host goes down, as against one that is restarted or upgraded: nothing comes after it in this
/// boot that a tap could wait for.
extension Agent {
  /// How long giving devices back may take, in seconds: the service manager waits a minute for the agent's end.
  private static let leavingSeconds = 40.0

  /// No session starts any more, and every one gives back its taps' devices, each on a thread of its own: one that waits
  /// for the other host keeps no other waiting.
  func leaveHost() {
    let leaving = closeToCalls()
    let left = Monitor(leaving.count)
    for session in leaving {
      do throws(SystemError) {
        try PlatformThread.start(name: "leave") {
          session.leaveHost()
          left.change { $0 -= 1 }
        }
      } catch {
        note("session \(session.session) keeps its tap in place: \(error)")
        left.change { $0 -= 1 }
      }
    }
    guard left.wait(until: .now.adding(seconds: Self.leavingSeconds), { $0 == 0 ? true : nil }) == nil else { return }
    note("not every tap is out after \(Int(Self.leavingSeconds)) s; what scans devices now may hold up the host's end")
  }
}
