package import AgentProtocol
package import BlockModel
package import MigrationModel

/// What is installed on a host now.
package struct HostState: Sendable, Equatable, Codable {
  /// SHA-256 of the installed agent, nil where there is none.
  package var agentDigest: String?
  package var agentRunning: Bool
  /// Of the agent's sessions directory: tombstones read without an agent.
  package var tombstones: [Tombstone]
  /// Whether its udev gives Azure's disks names by their LUN; nil where it needn't, or nobody looked.
  package var namesLUNs: Bool?
  /// How far its clock is from the observer's; nil where that is no more than `clockToleranceSeconds`, or nobody looked.
  package var clockAheadSeconds: Int?
  package static let clockToleranceSeconds = 300.0
  package init(agentDigest: String?, agentRunning: Bool, tombstones: [Tombstone]) {
    self.agentDigest = agentDigest
    self.agentRunning = agentRunning
    self.tombstones = tombstones
  }
}

/// A part of the world that could not be seen, and why. A partial observation is normal.
package struct ObservationFault: Codable, Sendable, Equatable {
  /// What could not be seen: "virtual machine erp-db", "agent", "devices".
  package var part: String
  package var code: String
  package var message: String
  package var advice: String
  /// Whom it concerns; nil: every migration that uses this host or integration.
  package var migrations: [MigrationName]?
  /// The volume of one migration whose disk it is about.
  package var volume: VolumeName?
  /// Which value of the document the service objected to.
  package var field: PlanField?
  package init(
    part: String, code: String, message: String, advice: String, migrations: [MigrationName]? = nil,
    volume: VolumeName? = nil, field: PlanField? = nil
  ) {
    self.part = part
    self.code = code
    self.message = message
    self.advice = advice
    self.migrations = migrations
    self.volume = volume
    self.field = field
  }

  package func concerns(_ migration: MigrationName) -> Bool { migrations?.contains(migration) ?? true }
}

/// One integration: the machines that the plan names, by the reference it uses, and the disks of this plan.
package struct CloudObservation: Codable, Sendable, Equatable {
  package var machines: [String: CloudMachine]
  /// Disks tagged with this plan's id.
  package var disks: [CloudDisk]
  /// Disks that the plan names by resource id, by that id.
  package var namedDisks: [String: CloudDisk]
  /// What showed the machines and the named disks, or that there are none.
  package struct Answers: Codable, Sendable, Equatable {
    package var machines: [String: CloudAnswer] = [:]
    package var disks: [String: CloudAnswer] = [:]
    package init() {}
  }
  /// Nil in observations of before they were kept.
  package var answers: Answers?
  /// What new disks may be; nil where none are needed, or nobody could tell.
  package var limits: CloudLimits?
  /// Why nobody could tell what new disks may be: it concerns only migrations that need one.
  package var limitsFault: ObservationFault?
  package var faults: [ObservationFault]
  package init(
    machines: [String: CloudMachine] = [:], disks: [CloudDisk] = [], namedDisks: [String: CloudDisk] = [:],
    faults: [ObservationFault] = []
  ) {
    self.machines = machines
    self.disks = disks
    self.namedDisks = namedDisks
    self.faults = faults
  }

  /// All that could not be seen, whomever it concerns.
  package var allFaults: [ObservationFault] { faults + [limitsFault].compactMap { $0 } }
}

/// One host as far as it could be seen. All nil with a fault: it could not be reached.
package struct HostObservation: Codable, Sendable, Equatable {
  package var state: HostState?
  package var agent: AgentObservation?
  package var devices: [DeviceReport]
  /// Numeric addresses of the names that this host would connect to, resolved on it.
  package var resolved: [String: String]
  /// Device paths of the LUNs that carry this plan's disks.
  package var devicePaths: [Int: String]
  package var faults: [ObservationFault]
  package init(
    state: HostState? = nil, agent: AgentObservation? = nil, devices: [DeviceReport] = [],
    resolved: [String: String] = [:], devicePaths: [Int: String] = [:], faults: [ObservationFault] = []
  ) {
    self.state = state
    self.agent = agent
    self.devices = devices
    self.resolved = resolved
    self.devicePaths = devicePaths
    self.faults = faults
  }

  package func session(_ id: SessionID, _ role: Role) -> SessionObservation? {
    agent?.sessions.first { $0.session == id && $0.role == role }
  }

  /// From the running agent, or read off the host where none runs. `role`: where the host has both halves.
  package func tombstone(_ id: SessionID, _ role: Role? = nil) -> Tombstone? {
    let all = (agent?.tombstones ?? []) + (state?.tombstones ?? [])
    return all.filter { $0.session == id && (role == nil || $0.role == role) }.max { $0.phase < $1.phase }
  }

  package func device(_ path: String) -> DeviceReport? { devices.first { $0.path == path } }
}

/// An immutable, time-stamped picture of the world, partial where `faults` say so. What `observe --out` saves.
package struct Observation: Codable, Sendable, Equatable {
  package static let currentVersion = 1
  package var version = Observation.currentVersion
  package var plan: PlanID
  package var observedAt: WallTime
  /// Digest of the agent that a deployment would install; nil where it could not be told.
  package var shippedAgentDigest: String?
  /// By integration.
  package var clouds: [String: CloudObservation]
  /// Hosts that were looked at. One that only finished migrations use is left out, and is no fault.
  package var hosts: [HostName: HostObservation]
  package init(
    plan: PlanID, observedAt: WallTime, shippedAgentDigest: String?, clouds: [String: CloudObservation],
    hosts: [HostName: HostObservation]
  ) {
    self.plan = plan
    self.observedAt = observedAt
    self.shippedAgentDigest = shippedAgentDigest
    self.clouds = clouds
    self.hosts = hosts
  }
}

// So that a dictionary by host is an object in JSON, not a list of pairs.
extension HostName: CodingKeyRepresentable {
  package var codingKey: any CodingKey { HostKey(stringValue: text) }
  package init?(codingKey: some CodingKey) { self.init(codingKey.stringValue) }
}

private struct HostKey: CodingKey {
  let stringValue: String
  var intValue: Int? { nil }
  init(stringValue: String) { self.stringValue = stringValue }
  init?(intValue: Int) { nil }
}
