import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning

/// Monday, 2026-11-23 04:00:00Z.
let now = WallTime(secondsSince1970: 1_795_406_400)

@Sendable func fakeDigest(_ text: String) -> String {
  var hash: UInt64 = 0xcbf2_9ce4_8422_2325
  for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
  return "FAKE:" + String(hash, radix: 16)
}

func samplePlan(_ phase: Phase) -> MigrationPlan {
  let azure = AzureIntegration(
    name: "azure", cloud: .public, tenantID: "t", subscriptionID: "sub", resourceGroup: "rg", location: "westeurope",
    credential: .ambient, tags: [:], position: nil)
  let access = SSHAccess(user: nil, port: nil, identityFile: nil, jump: nil, sudo: true)
  let source = Host(
    name: HostName("db"), address: "192.0.2.1", reach: .ssh(access), azureVirtualMachine: nil, position: nil)
  let destination = Host(
    name: HostName("db-azure"), address: "192.0.2.2", reach: .ssh(access), azureVirtualMachine: "vm", position: nil)
  let volume = Volume(
    name: VolumeName("data"), device: "/dev/vg/data", tracking: .tap,
    destination: .disk(ManagedDisk(sku: .premium, size: .auto)), position: nil)
  let migration = Migration(
    name: MigrationName("erp"), description: nil, source: source.name, destination: destination.name, integration: nil,
    connection: Connection(listener: .destination, port: 4996, lanes: 2, address: nil), volumes: [volume],
    iqos: IQoS(level: .moderate), linkLossTimeoutSeconds: 5, resyncIntervalSeconds: 900,
    cutover: Cutover(phase: Positioned(phase, at: SourcePosition(file: "plan.yaml", line: 40, column: 14))),
    position: nil)
  return MigrationPlan(
    metadata: Metadata(id: PlanID("6f1c0c9e"), name: "sample"), integrations: ["azure": azure],
    attestations: Attestations(operatingSystemLicensed: true, applicationLicensed: true),
    hosts: [source.name: source, destination.name: destination], migrations: [migration.name: migration])
}

extension MigrationPlan {
  var erp: Migration {
    get { migrations[MigrationName("erp")] ?? sampleMigration }
    set { migrations[MigrationName("erp")] = newValue }
  }
  private var sampleMigration: Migration { samplePlan(.prepared).erp }
  var diskNameOfData: String {
    diskName(plan: metadata.id, migration: erp.name, volume: VolumeName("data"))
  }
}

/// The world in front of which nothing was done yet.
func bareObservation(_ plan: MigrationPlan) -> Observation {
  let machine = CloudMachine(
    resourceID: "/vm", name: "vm", location: "westeurope", size: "Standard_D4s_v5", zone: nil, attachments: [])
  let bare = HostObservation(state: HostState(agentDigest: nil, agentRunning: false, tombstones: []))
  return Observation(
    plan: plan.metadata.id, observedAt: now, shippedAgentDigest: "SHA256:a",
    clouds: ["azure": CloudObservation(machines: ["vm": machine])],
    hosts: [HostName("db"): bare, HostName("db-azure"): bare])
}

func ourDisk(_ plan: MigrationPlan, state: Phase = .prepared) -> CloudDisk {
  let name = plan.diskNameOfData
  return CloudDisk(
    resourceID: "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.Compute/disks/\(name)", name: name,
    sku: "Premium_LRS", sizeBytes: 10 << 30, zone: nil, iops: nil, megabytesPerSecond: nil, state: .attached,
    attachedTo: "/vm", tags: diskTags(for: plan.erp.volumes[0], in: plan.erp, of: plan, state: state),
    provisioningState: "Succeeded")
}

/// Everything is there and the session is where `stage` says.
func liveObservation(
  _ plan: MigrationPlan, _ stage: SessionStage, change: (inout SessionObservation) -> Void = { _ in }
) -> Observation {
  var observation = bareObservation(plan)
  let disk = ourDisk(plan)
  observation.clouds["azure"]?.disks = [disk]
  observation.clouds["azure"]?.machines["vm"]?.attachments = [CloudAttachment(lun: 0, diskID: disk.resourceID)]
  var sourceDevice = DeviceReport(path: "/dev/vg/data", kind: .block)
  sourceDevice.sizeBytes = 10 << 30
  var destinationDevice = DeviceReport(path: "/dev/lun0", kind: .block)
  destinationDevice.sizeBytes = 10 << 30
  func host(_ name: String, _ devices: [DeviceReport], _ paths: [Int: String]) -> HostObservation {
    let hello = AgentHello(
      agentVersion: "1", protocolVersion: 1, fingerprint: KeyFingerprint("SHA256:\(name)"), bootID: "b", processID: 1,
      startedAt: now, capabilities: ["fuse-loop"])
    return HostObservation(
      state: HostState(agentDigest: "SHA256:a", agentRunning: true, tombstones: []),
      agent: AgentObservation(hello: hello, observedAt: now, sessions: [], tombstones: [], leases: []),
      devices: devices, devicePaths: paths)
  }
  observation.hosts = [
    HostName("db"): host("db", [sourceDevice], [:]),
    HostName("db-azure"): host("db-azure", [destinationDevice], [0: "/dev/lun0"]),
  ]
  let inputs = SessionInputs(
    sourceFingerprint: KeyFingerprint("SHA256:db"), destinationFingerprint: KeyFingerprint("SHA256:db-azure"),
    sourceCapabilities: ["fuse-loop"], listenerAddress: "192.0.2.2",
    volumes: [
      VolumeName("data"): SessionInputs.VolumeInput(
        sourceBytes: 10 << 30, destinationPath: "/dev/lun0", tracking: .tap)
    ])
  guard
    let halves = sessionConfigurations(
      for: plan.erp, in: plan, inputs: inputs, overwrite: [], at: now, digest: fakeDigest)
  else { return observation }
  for (name, configuration) in [("db", halves.source), ("db-azure", halves.destination)] {
    let authority: Authority =
      stage == .standIn ? .standIn : [.fenced, .released].contains(stage) ? .destination : .source
    var session = SessionObservation(
      configuration: configuration, stage: stage, authority: authority, generation: .initial,
      health: .tracking(lagBytes: 0, lagSeconds: 0), connected: true)
    session.connectionProof = ConnectionProof(provenAt: now, roundTripSeconds: 0.001, bytesPerSecond: 200e6)
    if stage != .prepared, stage != .synchronizing { session.initialSynchronizationAt = now }
    session.volumes = [
      VolumeObservation(
        name: VolumeName("data"), devicePath: "/dev/vg/data", sizeBytes: 10 << 30, blockBytes: 65_536, dirtyBytes: 0,
        copiedBytes: 0, wireBytes: 0, tapSocket: "tap", tapDevice: nil, tapOpenCount: 0, applicationIO: IOCounters(),
        longestPauseSeconds: 0)
    ]
    change(&session)
    observation.hosts[HostName(name)]?.agent?.sessions = [session]
  }
  return observation
}

extension Observation {
  /// A second migration of the same hosts, synchronized and as planned.
  mutating func addIdle(_ migration: Migration, _ plan: MigrationPlan) {
    var disk = ourDisk(plan)
    disk.name = "idle-disk"
    disk.resourceID = "/disks/idle"
    disk.tags[DiskTag.migration] = migration.name.text
    clouds["azure"]?.disks.append(disk)
    clouds["azure"]?.machines["vm"]?.attachments.append(CloudAttachment(lun: 1, diskID: disk.resourceID))
    for (host, path) in [("db", migration.volumes[0].device), ("db-azure", "/dev/lun1")] {
      var report = DeviceReport(path: path, kind: .block)
      report.sizeBytes = 10 << 30
      hosts[HostName(host)]?.devices.append(report)
    }
    hosts[HostName("db-azure")]?.devicePaths[1] = "/dev/lun1"
    guard let inputs = MigrationFacts(migration, in: plan, self).sessionInputs(),
      let halves = sessionConfigurations(
        for: migration, in: plan, inputs: inputs, overwrite: [], at: now, digest: fakeDigest)
    else { return }
    for (host, configuration) in [("db", halves.source), ("db-azure", halves.destination)] {
      guard var session = hosts[HostName(host)]?.agent?.sessions.first else { continue }
      session.configuration = configuration
      session.configurationDigest = configuration.configurationDigest
      session.session = configuration.session
      session.migration = configuration.migration
      hosts[HostName(host)]?.agent?.sessions.append(session)
    }
  }
}

func changes(_ plan: MigrationPlan, _ observation: Observation, at time: WallTime = now) -> ChangeSet {
  diff(plan, observation, options: PlanningOptions(now: time, digest: fakeDigest))
}

extension ChangeSet {
  var kinds: [String] { migrations.flatMap(\.changes).map(\.action.kind) }
  var codes: [String] { allDiagnostics.map(\.code) }
}
