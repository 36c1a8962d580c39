import BlockModel
import MigrationModel
import Planning
import Reconciling
import Rendering
import SSHDeploy

/// What of a host matters before a migration: its facts held against what is needed. Pure.
enum HostChecks {
  /// A clock that is further off than this makes windows and approvals mean different times; in seconds.
  static let clockWarningSeconds = 5.0
  static let clockFailureSeconds = HostState.clockToleranceSeconds
  /// The agent twice (an upgrade keeps the former one), a copy on its way, and what sessions write.
  static let neededBytes: UInt64 = 128 << 20

  /// What makes a device of the tap by itself; beneath a volume of device-mapper it is the kernel's NBD client too.
  private static let deviceMethods: Set = [AgentCapability.kernelNBD, AgentCapability.fuseLoop]

  static func reached(_ host: Host, _ error: GatewayError) -> [Check] {
    [Check("host \(host.name)", "reached", .failed, "\(error.code): \(error.message)", advice: error.advice)]
  }

  /// `machine` is what the shipped agent runs on; `isSource` hosts need a tap's device.
  static func checks(_ host: Host, _ facts: HostFacts, machine: String?, isSource: Bool) -> [Check] {
    let subject = "host \(host.name)"
    var checks = [Check(subject, "reached", .ok, way(to: host) + (facts.isPrivileged ? ", as root" : ""))]
    checks.append(system(subject, facts, machine))
    checks.append(clock(subject, facts))
    if let free = facts.freeBytes {
      checks.append(
        Check(
          subject, "space", free >= neededBytes ? .ok : .failed, "\(free >> 20) MiB free for \(facts.root)",
          advice: free >= neededBytes ? "" : "free \(neededBytes >> 20) MiB there"))
    }
    if isSource {
      let hasDevice = facts.isPrivileged && facts.taps.contains { deviceMethods.contains($0) }
      checks.append(
        Check(
          subject, "tap", hasDevice ? .ok : .warning,
          hasDevice
            ? "can be made a device (\(facts.taps.joined(separator: ", ")))"
            : "an NBD socket only" + (facts.isPrivileged ? "" : ": the agent is not root there"),
          advice: hasDevice
            ? ""
            : "for a device: root or sudo, and modprobe nbd, or fuse and loop; or tracking: checksum, which needs no tap"
        ))
    }
    if host.azureVirtualMachine != nil, let named = facts.namesLUNs {
      checks.append(
        Check(
          subject, "luns", named ? .ok : .failed,
          named
            ? "Azure's disks have names by their LUN"
            : "udev there names no Azure disks by their LUN (/dev/disk/azure)",
          advice: named
            ? "" : "install azure-vm-utils, or the Azure Linux agent (walinuxagent); then run udevadm trigger"))
    }
    let restarts =
      facts.isPrivileged && facts.hasSystemd ? "systemd starts it at boot" : "apply starts it after a reboot"
    let agent =
      facts.agentDigest.map { "\($0.prefix(12)) \(facts.agentRuns ? "runs" : "is installed and does not run")" }
      ?? "none yet; apply installs it"
    let isDead = facts.agentDigest != nil && !facts.agentRuns
    checks.append(
      Check(
        subject, "agent", isDead ? .warning : .ok, "\(agent); \(restarts)",
        advice: isDead ? "cmcplan agent upgrade \(host.name) starts it" : ""))
    return checks
  }

  private static func way(to host: Host) -> String {
    guard case .ssh(let access) = host.reach else { return "on this machine" }
    let user = access.user.map { "\($0)@" } ?? ""
    return "\(user)\(host.address ?? host.name.text)" + (access.port.map { ":\($0)" } ?? "")
      + (access.jump.map { " by way of \($0)" } ?? "") + (access.sudo ? ", sudo" : "")
  }

  private static func system(_ subject: String, _ facts: HostFacts, _ machine: String?) -> Check {
    let isRight = machine == nil || facts.machine == machine
    let words = [facts.machine, facts.kernel.map { "Linux \($0)" }, facts.distribution].compactMap { $0 }
    return Check(
      subject, "system", isRight ? .ok : .failed,
      words.joined(separator: ", ") + (facts.enforcesSELinux ? ", SELinux enforced" : ""),
      advice: isRight ? "" : "the agent is for \(machine ?? ""); name one for this machine in CMCPLAN_AGENT")
  }

  private static func clock(_ subject: String, _ facts: HostFacts) -> Check {
    guard let ahead = facts.clockAheadSeconds else {
      return Check(subject, "clock", .unknown, "the host did not tell its time")
    }
    let off = ahead.magnitude
    let detail =
      off < clockWarningSeconds
      ? "as here" : "\(Int(saturating: off)) s \(ahead > 0 ? "ahead of" : "behind") this machine's"
    return Check(
      subject, "clock", off < clockWarningSeconds ? .ok : off < clockFailureSeconds ? .warning : .failed, detail,
      advice: off < clockWarningSeconds
        ? "" : "set it by NTP (chrony, systemd-timesyncd): leases, approvals and windows go by it")
  }
}
