package import AgentProtocol
package import BlockModel
package import Diagnostics
package import MigrationModel

/// What an observation says about one migration, gathered so that rules can be read as sentences.
package struct MigrationFacts: Sendable {
  package let plan: MigrationPlan
  package let migration: Migration
  package let session: SessionID
  package let source: HostObservation?
  package let destination: HostObservation?
  package internal(set) var sourceSession: SessionObservation?
  package internal(set) var destinationSession: SessionObservation?
  /// Of disks, those of this migration, and perhaps others.
  package internal(set) var cloud: CloudObservation?
  /// Found disks by volume: ours by tag, or the one that the plan names.
  package internal(set) var disks: [VolumeName: CloudDisk]
  /// Where there is one under a former name and one under the volume's own.
  let rivalDisks: [VolumeName: [CloudDisk]]

  /// `own`: of the same plan and observation, for whoever looks at many migrations.
  package init(
    _ migration: Migration, in plan: MigrationPlan, _ observation: Observation, _ own: OwnDisks? = nil
  ) {
    self.plan = plan
    self.migration = migration
    session = SessionID(plan: plan.metadata.id, migration: migration.name)
    source = observation.hosts[migration.source]
    destination = observation.hosts[migration.destination]
    sourceSession = source?.session(session, .source)
    destinationSession = destination?.session(session, .destination)
    let integration = migration.integration(in: plan)
    var cloud = integration.flatMap { observation.clouds[$0.name] }
    if let integration, let own { cloud?.disks = own.disks(of: migration.name, in: integration.name) }
    self.cloud = cloud
    var found: [VolumeName: CloudDisk] = [:]
    var rivals: [VolumeName: [CloudDisk]] = [:]
    for disk in cloud?.disks ?? [] {
      guard let key = disk.volume(in: plan), key.migration == migration.name else { continue }
      // Two disks of one volume can't come from us (names are deterministic); the one of the lower name is taken.
      let volume = key.volume
      if let other = found[volume] {
        if other.taggedName != disk.taggedName { rivals[volume, default: [other]].append(disk) }
        if (other.isRenamed(in: plan) ? 1 : 0, other.name) < (disk.isRenamed(in: plan) ? 1 : 0, disk.name) { continue }
      }
      found[volume] = disk
    }
    rivalDisks = rivals
    for volume in migration.diskVolumes where found[volume.name] == nil {
      guard let id = expectedDiskID(for: volume, in: migration, of: plan) else { continue }
      if let disk = cloud?.namedDisks[id], !disk.isOrphaned { found[volume.name] = disk }
    }
    disks = found
  }

  /// The session as its agents call it: what they keep is told apart by that.
  package var heldSession: SessionID { sourceSession?.heldSession ?? destinationSession?.heldSession ?? session }

  /// Whether a label on a device is of this session.
  func owns(_ label: SessionID) -> Bool {
    if label == heldSession || label == session { return true }
    let prefix = plan.metadata.id.text + "/"
    guard label.text.hasPrefix(prefix) else { return false }
    return plan.renames.name(of: MigrationName(String(label.text.dropFirst(prefix.count)))) == migration.name
  }

  package var machineReference: String? { plan.hosts[migration.destination]?.azureVirtualMachine }
  package var machine: CloudMachine? { machineReference.flatMap { cloud?.machines[$0] } }

  /// The ids of the answer that showed the machine, or that there is none; "" where they aren't known.
  var machineAnswer: String { machineReference.flatMap { cloud?.answers?.machines[$0] }?.note ?? "" }

  /// The same of a volume's disk, where it was asked for by its name or id.
  func diskAnswer(_ volume: Volume) -> String {
    expectedDiskID(for: volume, in: migration, of: plan).flatMap { cloud?.answers?.disks[$0] }?.note ?? ""
  }

  /// What of the cloud this migration needs and nobody could see.
  package var cloudFaults: [ObservationFault] { cloud?.faults.filter { $0.concerns(migration.name) } ?? [] }
  package var isCloudSeen: Bool { cloud != nil && cloudFaults.isEmpty }

  package func position(_ field: PlanField, _ volume: Volume? = nil) -> SourcePosition? {
    plan.position(of: field, for: migration, volume: volume)
  }

  package func isAttached(_ disk: CloudDisk) -> Bool { lun(of: disk) != nil }

  /// Resource ids compare without regard to case.
  package func lun(of disk: CloudDisk) -> Int? {
    machine?.attachments.first { isSameResource($0.diskID, disk.resourceID) }?.lun
  }

  /// The device of a volume's destination on its host; nil while it isn't known.
  package func destinationPath(of volume: Volume) -> String? {
    switch volume.destination {
    case .device(let path): path
    case .disk: disks[volume.name].flatMap(lun(of:)).flatMap { destination?.devicePaths[$0] }
    }
  }

  /// Size of what is replicated: what the session has, or is to have once it has grown, else what the source's device has
  /// now.
  package func sourceBytes(of volume: Volume) -> UInt64? {
    if case .grows(_, let bytes) = growth(of: volume) { return bytes }
    if sourceSession?.configuration.volumes.contains(where: { $0.name == volume.name }) == true {
      return agreedBytes(of: volume)
    }
    guard let report = source?.device(volume.device), report.kind == .block || report.kind == .file else { return nil }
    return report.sizeBytes
  }

  /// How the volume's changes will be followed. Nil while the source's agent hasn't told what it can.
  package func tracking(of volume: Volume) -> Tracking? {
    if volume.tracking != .auto { return volume.tracking }
    if case .local = plan.hosts[migration.source]?.reach { return .tap }
    if source?.device(volume.device)?.kind == .file { return .tap }
    guard let hello = source?.agent?.hello else { return nil }
    if let method = source?.device(volume.device)?.tapMethod {
      return AgentCapability.makesDevices.contains(method) ? .tap : .checksum
    }
    return hello.capabilities.contains(where: AgentCapability.makesDevices.contains) ? .tap : .checksum
  }

  /// Whether cMotion is on the way: every volume has a tap.
  package var canSwing: Bool { migration.volumes.allSatisfy { (tracking(of: $0) ?? .tap) == .tap } }

  // MARK: Where it is

  /// What the tags of all its disks say at least; nil where not all carry a tombstone, or it has no disks.
  package var taggedPhase: Phase? {
    var least: Phase?
    for volume in migration.volumes {
      guard case .disk = volume.destination else { continue }
      let phase = disks[volume.name]?.tags[DiskTag.state].flatMap(Phase.init(rawValue:)) ?? .prepared
      guard phase >= .finalized else { return nil }
      least = min(least ?? phase, phase)
    }
    return least
  }

  package var tombstone: Tombstone? {
    Role.allCases.compactMap { tombstone(of: $0) }.max { $0.phase < $1.phase }
  }

  /// Of that half; within one host both are found in one place.
  func tombstone(of role: Role) -> Tombstone? {
    (role == .source ? source : destination)?.tombstone(session, migration.isWithinHost ? role : nil)
  }

  package var sourceStage: SessionStage? { sourceSession?.stage }
  package var isPastFence: Bool {
    sourceStage == .fenced || sourceStage == .released || destinationSession?.stage == .released
  }

  /// Hosts whose agent should answer but couldn't be seen.
  package var unseenHosts: [(HostName, ObservationFault?)] {
    var unseen: [(HostName, ObservationFault?)] = []
    for (name, host) in [(migration.source, source), (migration.destination, destination)] {
      let agentRuns = host?.state?.agentRunning ?? false
      if host?.state == nil || (agentRuns && host?.agent == nil) {
        if !unseen.contains(where: { $0.0 == name }) { unseen.append((name, host?.faults.first)) }
      }
    }
    return unseen
  }

  /// Whether an agent that doesn't run may hold that half of the migration's session.
  func mayHideSession(_ role: Role) -> Bool {
    guard let state = (role == .source ? source : destination)?.state, state.agentDigest != nil, !state.agentRunning
    else { return false }
    return tombstone(of: role)?.phase != .retired
  }

  func mayHideSession(on host: HostName) -> Bool {
    Role.allCases.contains { migration.host($0) == host && mayHideSession($0) }
  }

  package func reached(digest: DigestFunction) -> PhaseReached {
    if taggedPhase == .retired { return .tombstoned(.retired) }
    if sourceSession == nil, destinationSession == nil {
      // The destination's session is deleted last, so its tombstone speaks for both, also when the source is long gone.
      // The source's alone says nothing of a destination that could not be seen.
      let isDestinationSeen = !unseenHosts.contains { $0.0 == migration.destination }
      if isDestinationSeen, let phase = tombstone(of: .destination)?.phase, phase >= .finalized {
        return .tombstoned(phase)
      }
      guard unseenHosts.isEmpty else { return taggedPhase == .finalized ? .tombstoned(.finalized) : .unknown }
      // So does the source's where the destination's agent died before its own session was deleted.
      if let tombstone, tombstone.phase >= .finalized {
        return .tombstoned(mayHideSession(.destination) ? .finalized : tombstone.phase)
      }
    }
    if !unseenHosts.isEmpty, taggedPhase == nil { return .unknown }
    if isPastFence { return isFinalizeComplete(digest: digest) ? .reached(.finalized) : .pastFence }
    if taggedPhase == .finalized { return .reached(.finalized) }
    guard let sourceSession, destinationSession != nil else { return .nothing }
    switch sourceSession.stage {
    case .prepared: return sourceSession.connectionProof == nil ? .nothing : .reached(.prepared)
    case .cancelled: return .nothing
    case .standIn: return .reached(.cmotion)
    case .synchronizing, .tracking, .swinging:
      if sourceSession.initialSynchronizationAt != nil { return .reached(.synchronized) }
      return sourceSession.connectionProof == nil ? .nothing : .reached(.prepared)
    case .tapClosed, .proving, .proven:
      return sourceSession.authority == .source ? .reached(.synchronized) : .reached(.cmotion)
    case .fenced, .released: return .pastFence
    }
  }

  /// The last step of finalize leaves its mark on the disks; without any disk the hooks' records tell.
  func isFinalizeComplete(digest: DigestFunction) -> Bool {
    guard destinationSession?.stage == .released || destinationSession == nil else { return false }
    if !migration.diskVolumes.isEmpty { return taggedPhase != nil }
    guard destinationSession != nil else { return false }
    return Self.hooksAfterFence.allSatisfy { hookProgress($0, digest: digest) == .succeeded }
  }

  package static let hooksBeforeFence: [HookPoint] = [.stopApplication, .unmount]
  package static let hooksAfterFence: [HookPoint] = [.mount, .startApplication, .healthCheck]

  /// A hook that the plan doesn't have has succeeded.
  package func hookProgress(_ point: HookPoint, digest: DigestFunction) -> HookProgress {
    guard migration.cutover.hooks[point] != nil else { return .succeeded }
    let own = migration.role(ofHook: point) == .source ? sourceSession : destinationSession
    guard let generation = sourceSession?.generation ?? destinationSession?.generation else {
      return .toRun(runID: "", attempt: 1)
    }
    return Planning.hookProgress(
      point, session: heldSession, generation: generation, runs: own?.hookRuns ?? [], digest: digest)
  }
}

/// Words of `AgentHello.capabilities`.
package enum AgentCapability {
  /// The tap can become a block device through FUSE and a loop device.
  package static let fuseLoop = "fuse-loop"
  /// The kernel's NBD client makes one.
  package static let kernelNBD = "kernel-nbd"
  /// The tap can take the place beneath a device-mapper device in use.
  package static let deviceMapper = "device-mapper"
  /// It keeps what the plan calls a session by now.
  package static let rename = AgentHello.renames
  /// It makes the volumes of a session larger that lives.
  package static let grow = AgentHello.grows
  /// It yields to an application that gets slower.
  package static let latencyBound = AgentHello.latencyBounds
  /// It can have both halves of a session.
  package static let withinAgent = AgentHello.withinAgent
  /// Any of these makes a block device of the tap.
  package static let makesDevices: Set<String> = [fuseLoop, kernelNBD, deviceMapper]
}
