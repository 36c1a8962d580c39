import BlockModel
package import MigrationModel
package import Reconciling
import Seams

/// What a host is, as far as deploying cares: read in one round trip, with nothing written.
package struct HostFacts: Sendable, Equatable {
  /// `uname -m`, `uname -r` and the distribution's own name.
  package var machine: String?
  package var kernel: String?
  package var distribution: String?
  /// How far the host's clock is ahead of ours, in seconds; to about a second.
  package var clockAheadSeconds: Double?
  /// Where the agent is or would be, and what is free there.
  package var root: String
  package var freeBytes: UInt64?
  package var hasSystemd: Bool
  package var enforcesSELinux: Bool
  /// Whether its udev gives Azure's disks names by their LUN; nil where it needn't.
  package var namesLUNs: Bool?
  /// What a tap could be made with beside its socket: "fuse-loop", "kernel-nbd", "device-mapper".
  package var taps: [String]
  package var agentDigest: String?
  package var agentRuns: Bool
  /// Whether commands run as root there.
  package var isPrivileged: Bool
  package init(root: String) {
    self.root = root
    hasSystemd = false
    enforcesSELinux = false
    taps = []
    agentRuns = false
    isPrivileged = false
  }
}

extension HostDeployer {
  package func facts(of host: Host) async throws(GatewayError) -> HostFacts {
    let transport = try await transport(to: host)
    // The login is done: only the probe lies between the two looks at our clock.
    let before = time.wallNow()
    let found = try await probe(transport, host)
    let now = (before.secondsSince1970 + time.wallNow().secondsSince1970) / 2
    var facts = HostFacts(root: transport.root)
    facts.machine = found.machine
    facts.kernel = found.kernel
    facts.distribution = found.distribution
    facts.clockAheadSeconds = found.clockAhead(of: now)
    facts.freeBytes = found.freeBytes
    facts.hasSystemd = found.hasSystemd
    facts.enforcesSELinux = found.enforcesSELinux
    if case .ssh = host.reach { facts.namesLUNs = found.namesLUNs }
    facts.taps = found.taps
    facts.agentDigest = found.agentDigest
    facts.agentRuns = found.isServed
    facts.isPrivileged = found.userID == 0
    return facts
  }

  /// `uname -m` of the machines that the shipped agent runs on; nil where that can't be told.
  package func shippedAgentMachine() async throws(GatewayError) -> String? { try await shipped.machine() }

  /// Every block device of the host, what is on it and who uses it. Takes as long as its look at the I/O rate.
  package func survey(of host: Host) async throws(GatewayError) -> BlockSurvey {
    let transport = try await transport(to: host)
    let seconds = BlockSurvey.rateSeconds
    return BlockSurvey(
      try await run(
        HostScripts.survey, [String(seconds)], on: transport, host, what: "list block devices",
        limitSeconds: Self.scriptLimitSeconds + Double(seconds)))
  }
}
