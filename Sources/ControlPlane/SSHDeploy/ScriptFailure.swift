import BlockModel
import MigrationModel
import Reconciling
import Seams

/// Codes of deploying that others here go by. A code is never reused.
enum DeployCode {
  /// The agent was started and the host answers, but the agent doesn't.
  static let unanswered = "CMC3203"
  /// A script ran on the host and failed.
  static let scriptFailed = "CMC3204"
  /// An upgrade failed, and what became of the former agent.
  static let upgradeFailed = "CMC3207"
  /// The agent stays, because somebody needs it.
  static let stays = "CMC3209"
  /// This run stops.
  static let stopping = "CMC3212"
  /// A script did not end in its time; what it did isn't known.
  static let scriptLate = "CMC3217"
  /// An upgrade was begun, and its end isn't known.
  static let upgradeUnknown = "CMC3218"

  /// Whether the host itself said that something failed: not the way to it, and not our own end of it.
  static func isVerdict(_ error: GatewayError) -> Bool { error.code == unanswered || error.code == scriptFailed }
}

/// A script that failed on a host, told in plain words with the next step. Pure.
struct ScriptFailure {
  private let result: ChildResult
  private let what: String
  private let limitSeconds: Double
  private let advice: String?
  private let said: String

  init(_ result: ChildResult, what: String, limitSeconds: Double, advice: String?) {
    self.result = result
    self.what = what
    self.limitSeconds = limitSeconds
    self.advice = advice
    said = String(decoding: result.errorOutput.suffix(1000), as: UTF8.self).trimmed
  }

  func error(_ host: Host, root: String) -> GatewayError {
    let ending =
      switch result.ending {
      case .exited(let code): "exit \(code)"
      case .signalled(let signal): "signal \(signal)"
      case .timedOut: "no end within \(Int(limitSeconds)) s"
      }
    let why = said.isEmpty ? ending : result.ending == .timedOut ? "\(ending): \(said)" : said
    let start = "host \(host.name): can't \(what)"
    switch result.ending {
    case .exited(HostScripts.hasSessions):
      return GatewayError(
        code: DeployCode.stays, message: "\(start) in \(root): \(said)",
        advice:
          "retire its migration, with cmcplan agent upgrade \(host.name) first where the agent doesn't run; or give"
          + " its sessions up: cmcplan agent remove \(host.name) --force", disposition: .needsOperator)
    case .exited(HostScripts.hasTap):
      return GatewayError(
        code: DeployCode.stays, message: "\(start) in \(root): \(said)",
        advice:
          "it serves somebody's disk, so nothing forces it: stop and unmount what uses the tap, start the agent where"
          + " it doesn't run (cmcplan agent upgrade \(host.name)), and retire or cancel its migration",
        disposition: .needsOperator)
    case .timedOut:
      return GatewayError(
        code: DeployCode.scriptLate, message: "\(start) in \(root): \(why)",
        advice: "the host is slow, or a disk of it hangs: look at its load and its kernel's log, then run again",
        disposition: .retry(afterSeconds: 5))
    case .exited, .signalled:
      let (advice, disposition) = next()
      return GatewayError(
        code: DeployCode.scriptFailed, message: "\(start) in \(root): \(why)", advice: advice, disposition: disposition)
    }
  }

  private func next() -> (String, Disposition) {
    func has(_ texts: String...) -> Bool { texts.contains { said.contains($0) } }
    if has("No space left on device", "Disk quota exceeded") {
      return ("free space there, then apply again", .needsOperator)
    }
    if let denial = SELinuxDenial(in: said) { return (denial.advice, .needsOperator) }
    if has("may not be run") {
      return (
        "mount its file system with exec; where SELinux is enforced, `ausearch -m avc -ts recent` says what it denied",
        .needsOperator
      )
    }
    if has("Permission denied", "Read-only file system", "Operation not permitted", "Not a directory") {
      return ("check the directory and its rights, then apply again", .needsOperator)
    }
    if has("another copy is under way") {
      return ("another cmcplan installs this agent now: apply again once that has ended", .retry(afterSeconds: 2))
    }
    if has("bytes arrived", "the copy has digest") {
      return ("the connection cut the copy off or damaged it: apply again continues", .retry(afterSeconds: 2))
    }
    if has("Input/output error") {
      return ("a disk of the host fails: look at its kernel's log, then apply again", .needsOperator)
    }
    return (advice ?? "mend what it names on the host, then apply again", .retry(afterSeconds: 2))
  }
}
