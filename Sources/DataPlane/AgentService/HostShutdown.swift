internal import LinuxPlatform
internal import Seams

/// Whether an agent that was told to end is ended with its whole host. Only systemd can say so. Where it can't be asked,
/// the agent counts as restarted: taps stay in place, and their requests wait for the next one.
enum HostShutdown {
  private static let manager = "/run/systemd/system"
  private static let askSeconds = 15.0

  static func isUnderWay(_ children: any ChildProcesses, _ log: (String) -> Void) -> Bool {
    guard Files.exists(manager) else { return false }
    do throws(ChildError) {
      let result = try children.run(
        ChildCommand(
          executable: "/bin/sh", arguments: ["-c", "exec systemctl show -p Job -p ActiveState shutdown.target"],
          environment: ["PATH": "/usr/sbin:/sbin:/usr/bin:/bin"], timeoutSeconds: askSeconds))
      if result.succeeded { return isUnderWay(String(decoding: result.output, as: UTF8.self)) }
      let said = String(decoding: result.errorOutput.prefix(500), as: UTF8.self).trimmedLine
      log("note: whether the host goes down can't be told: systemctl: \(said)")
    } catch {
      log("note: whether the host goes down can't be told: \(error)")
    }
    return false
  }

  /// By what systemd shows of the target that every end of a host leads through, queued or reached. The manager's own
  /// state won't do: a host that is taken down before it was all up is "starting".
  static func isUnderWay(_ shown: String) -> Bool {
    shown.split(whereSeparator: \.isNewline).contains { line in
      let isQueued = line.hasPrefix("Job=") && !["Job=", "Job=0"].contains(line)
      return isQueued || line == "ActiveState=active"
    }
  }
}
