import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel
import Planning
import Seams

/// The leases that this run holds: their fencing numbers, and who gave them.
actor HeldLeases {
  struct Held: Sendable {
    var number: UInt64
    var hosts: [HostName]
  }
  private var all: [MigrationName: Held] = [:]
  func held(of migration: MigrationName) -> Held? { all[migration] }
  func set(_ held: Held?, of migration: MigrationName) { all[migration] = held }
}

/// Which disk each volume had when the world was looked at last. Its name is that of the time when it was made, so it
/// can't be told from the plan after a rename.
actor KnownDisks {
  private var all: [VolumeKey: String] = [:]
  /// Names of those that were replaced, in small letters.
  private var orphans: [VolumeKey: Set<String>] = [:]
  func learn(_ observation: Observation, of plan: MigrationPlan) {
    for disk in observation.clouds.values.flatMap(\.disks) {
      if let key = disk.volume(in: plan) { all[key] = disk.resourceID }
      if disk.isOrphaned, let key = disk.taggedVolume(in: plan) { orphaned(disk, of: key) }
    }
  }
  func made(_ disk: CloudDisk, of key: VolumeKey) { all[key] = disk.resourceID }
  func orphaned(_ disk: CloudDisk, of key: VolumeKey) {
    orphans[key, default: []].insert(disk.name.lowercased())
    if all[key]?.lowercased() == disk.resourceID.lowercased() { all[key] = nil }
  }
  func orphanNames(of key: VolumeKey) -> Set<String> { orphans[key] ?? [] }
  func resourceID(of key: VolumeKey) -> String? { all[key] }
}

/// Carries single actions out through the gateways. What an action needs to know is looked up when it is carried out,
/// so that it is right however long ago the plan was made. Every one may be repeated.
struct ActionPerformer: Sendable {
  let plan: MigrationPlan
  let gateways: Gateways
  let options: ApplyOptions
  let services: RunServices
  let limits: ReconcileLimits
  let pool: AgentPool
  let leases = HeldLeases()
  let knownDisks = KnownDisks()
  let waveLooks = WaveLooks()
  let groupDeadlines = GroupDeadlines()

  func perform(_ action: Action) async throws(GatewayError) {
    do throws(GatewayError) {
      try await attempt(action)
    } catch {
      var error = error
      if error.position == nil { error.position = position(of: error.field, in: action) }
      throw error
    }
  }

  /// The line of the document that an error is about.
  private func position(of field: PlanField?, in action: Action) -> SourcePosition? {
    guard let field else { return nil }
    var keys: [VolumeKey] = []
    switch action {
    case .ensureDisk(let key), .orphanDisk(let key): keys = [key]
    case .attachDisks(_, _, let volumes): keys = volumes
    default: break
    }
    guard let name = action.migration ?? keys.first?.migration, let migration = plan.migrations[name] else {
      return nil
    }
    // Of several disks at once nobody can tell which one it was.
    return plan.position(of: field, for: migration, volume: keys.count == 1 ? migration.volume(keys[0].volume) : nil)
  }

  private func attempt(_ action: Action) async throws(GatewayError) {
    switch action {
    case .deployAgent(let host): try await deploy(host)
    case .removeAgent(let host): try await remove(host)
    case .acquireLease(let name): try await acquireLease(try migration(name))
    case .releaseLease(let name): await releaseLease(try migration(name))
    case .checkDevices(let name): try await checkDevices(try migration(name))
    case .giveUpSession(let name): try await giveUp(try migration(name))
    case .orphanDisk(let key): try await orphanDisk(key)
    case .ensureDisk(let key): try await ensureDisk(key)
    case .attachDisks(let integration, let machine, let volumes):
      try await attach(volumes, integration: integration, machine: machine)
    case .configureSession(let name): try await configure(try migration(name))
    case .growVolumes(let name): try await configure(try migration(name), growing: true)
    case .proveConnection(let name): try await command(.proveConnection, .source, try migration(name))
    case .checkWave(let wave, let host): try await checkWave(wave, on: host)
    case .checkGroup(let group, let barrier): try await checkGroup(group, barrier)
    case .openTap(let name): try await command(.openTap, .source, try migration(name))
    case .synchronize(let name): try await command(.synchronize, .source, try migration(name))
    case .stopSynchronizing(let name): try await command(.stopSynchronizing, .source, try migration(name))
    case .revert(let name): try await command(.revert, .source, try migration(name))
    case .swing(let name):
      try await checkGates(try migration(name), for: .swing)
      try await swing(try migration(name))
    case .runHook(let name, let point): try await runHook(point, try migration(name))
    case .closeTap(let name):
      try await checkGates(try migration(name), for: .finalize)
      try await command(.closeTap, .source, try migration(name))
    case .prove(let name):
      try await checkGates(try migration(name), for: .finalize)
      try await command(.prove, .source, try migration(name))
    case .fence(let name):
      try await checkBeforeFence(try migration(name))
      try await command(.fence, .source, try migration(name))
    case .release(let name): try await command(.release, .destination, try migration(name))
    case .tagDisks(let name, let phase): try await tag(try migration(name), phase)
    case .rename(let name, let sessions): try await rename(try migration(name), sessions: sessions)
    case .archive(let name): try await archive(try migration(name))
    case .retire(let name, let role): try await retire(try migration(name), role)
    case .abandonFinalize(let name, let why): try await abandon(try migration(name), why)
    case .revertWithGroup(let name, let why): try await revertWithGroup(try migration(name), why)
    case .holdAfterFence(let name, let why): try await holdAfterFailure(try migration(name), why)
    }
  }

  func poll(_ name: MigrationName) async throws(GatewayError) -> SessionPair {
    try await sessions(of: try migration(name), ageSeconds: limits.urgentPollSeconds / 2)
  }

  // MARK: Small things that many need

  func migration(_ name: MigrationName) throws(GatewayError) -> Migration {
    guard let migration = plan.migrations[name] else {
      throw GatewayError(
        code: ApplyCode.notInPlan, message: "the plan has no migration \(name)", advice: "", disposition: .terminal)
    }
    return migration
  }

  func host(_ name: HostName) throws(GatewayError) -> Host {
    guard let host = plan.hosts[name] else {
      throw GatewayError(
        code: ApplyCode.notInPlan, message: "the plan has no host \(name)", advice: "add it under hosts:",
        disposition: .terminal)
    }
    return host
  }

  func session(_ migration: Migration) -> SessionID { SessionID(plan: plan.metadata.id, migration: migration.name) }

  func sessions(of migration: Migration, ageSeconds: Double = 0) async throws(GatewayError) -> SessionPair {
    let id = session(migration)
    let source = try await pool.observation(of: migration.source, ageSeconds: ageSeconds)
    let destination =
      migration.source == migration.destination
      ? source : try await pool.observation(of: migration.destination, ageSeconds: ageSeconds)
    return SessionPair(
      source: source.sessions.first { $0.session == id && $0.role == .source },
      destination: destination.sessions.first { $0.session == id && $0.role == .destination })
  }

  func fencingNumber(of migration: Migration) async throws(GatewayError) -> UInt64 {
    guard let number = await leases.held(of: migration.name)?.number else {
      throw GatewayError(
        code: ApplyCode.leaseLost, message: "this run has no lease of \(migration.name)", advice: "apply again",
        disposition: .needsOperator)
    }
    return number
  }

  func command(
    _ command: SessionCommand, _ role: Role, _ migration: Migration, confirmWithinSeconds: Double? = nil
  ) async throws(GatewayError) {
    let number = try await fencingNumber(of: migration)
    let call = SessionCommandCall(
      fencingNumber: number, session: session(migration), role: role, command: command,
      confirmWithinSeconds: confirmWithinSeconds)
    do throws(GatewayError) {
      _ = try await pool.call(call, on: migration.host(role))
    } catch {
      if command.mayCrossHold { throw error }
      throw await heldInstead(of: error, migration)
    }
  }

  /// A hold may come at any moment between a look at the gates and the step: the agent refuses then, and that is a
  /// closed gate, not a failed step.
  func heldInstead(of error: GatewayError, _ migration: Migration) async -> GatewayError {
    guard error.disposition == .needsOperator else { return error }
    do throws(GatewayError) {
      guard let hold = try await sessions(of: migration).hold else { return error }
      return heldError(migration, hold)
    } catch {
      return error
    }
  }

  func heldError(_ migration: Migration, _ hold: Hold) -> GatewayError {
    GatewayError(
      code: ApplyCode.held, message: "\(migration.name): held (\(hold.cause.rawValue)) by \(hold.who): \(hold.why)",
      advice: "cmcplan resume \(migration.name), once the reason is gone", disposition: .needsOperator)
  }

  // MARK: Hosts

  private func deploy(_ name: HostName) async throws(GatewayError) {
    await pool.forget(name)
    try await gateways.hosts.deploy(to: try host(name))
  }

  private func remove(_ name: HostName) async throws(GatewayError) {
    let target = try host(name)
    let state = try await gateways.hosts.state(of: target)
    if state.agentRunning {
      let observation = try await pool.observation(of: name)
      guard observation.sessions.isEmpty else {
        throw GatewayError(
          code: ApplyCode.stillUsed,
          message: "the agent on \(name) still has \(observation.sessions.map(\.session.text).joined(separator: ", "))",
          advice: "retire those first", disposition: .needsOperator)
      }
    }
    await pool.forget(name)
    if state.agentDigest != nil || state.agentRunning {
      try await gateways.hosts.remove(from: target, givingUpSessions: false)
    }
  }

  // MARK: Disks

  private func cloud(_ name: String) throws(GatewayError) -> any CloudGateway {
    guard let cloud = gateways.clouds[name] else {
      throw GatewayError(
        code: ApplyCode.notInPlan, message: "no way to integration \(name) was set up",
        advice: "check the integration's credential", disposition: .needsOperator)
    }
    return cloud
  }

  func cloud(of migration: Migration) throws(GatewayError) -> any CloudGateway {
    try cloud(migration.integration(in: plan)?.name ?? "")
  }

  private func findDisk(_ volume: Volume, _ migration: Migration) async throws(GatewayError) -> CloudDisk {
    let cloud = try cloud(of: migration)
    if let id = expectedDiskID(for: volume, in: migration, of: plan), let disk = try await cloud.disk(id),
      !disk.isOrphaned
    {
      return disk
    }
    // It may have been made under another name: before the plan named it, or renamed it.
    if let disk = try await knownDisk(volume, migration) { return disk }
    let key = VolumeKey(migration.name, volume.name)
    let ours = try await cloud.disks(of: plan.metadata.id).filter { $0.volume(in: plan) == key }
    guard let disk = ours.min(by: { $0.name < $1.name }) else {
      throw GatewayError(
        code: ApplyCode.diskMissing, message: "there is no disk for \(migration.name)/\(volume.name)",
        advice: "apply again makes it", disposition: .retry(afterSeconds: 2))
    }
    return disk
  }

  private func sourceBytes(of volume: Volume, _ migration: Migration) async throws(GatewayError) -> UInt64 {
    let reports = try await pool.call(InspectDevicesCall(paths: [volume.device]), on: migration.source)
    guard let report = reports.first, report.kind == .block || report.kind == .file, report.sizeBytes > 0 else {
      throw GatewayError(
        code: ApplyCode.preflightFailed, message: "\(volume.device) on \(migration.source) can't be measured",
        advice: "check the device of \(migration.name)/\(volume.name)", disposition: .needsOperator)
    }
    return report.sizeBytes
  }

  private func ensureDisk(_ key: VolumeKey) async throws(GatewayError) {
    let migration = try migration(key.migration)
    guard let volume = migration.volume(key.volume), case .disk(let wanted) = volume.destination else { return }
    let cloud = try cloud(of: migration)
    let bytes = try await sourceBytes(of: volume, migration)
    let disk: CloudDisk
    if wanted.existingID != nil {
      let found = try await findDisk(volume, migration)
      let tags = found.tags.merging(diskTags(for: volume, in: migration, of: plan, state: .prepared)) { _, new in new }
      disk = found.tags == tags ? found : try await cloud.setTags(tags, ofDisk: found.resourceID)
    } else if var request = diskRequest(for: volume, in: migration, of: plan, sourceBytes: bytes) {
      if let known = try await knownDisk(volume, migration) {
        try await retag(known, key, in: cloud)
        request.name = known.name
        request.resourceGroup = known.resourceGroup ?? request.resourceGroup
      } else {
        request.name = replacementName(request.name, taken: await knownDisks.orphanNames(of: key))
      }
      disk = try await cloud.ensureDisk(request)
      await knownDisks.made(disk, of: key)
    } else {
      return
    }
    guard disk.sizeBytes >= bytes else {
      throw GatewayError(
        code: ApplyCode.diskTooSmall, message: "disk \(disk.name) has \(disk.sizeBytes) bytes, its source \(bytes)",
        advice: "write a larger size: for \(key)", disposition: .needsOperator)
    }
  }

  /// The disk that the volume has under another name than it would get now; nil where there is none.
  private func knownDisk(_ volume: Volume, _ migration: Migration) async throws(GatewayError) -> CloudDisk? {
    let cloud = try cloud(of: migration)
    let key = VolumeKey(migration.name, volume.name)
    var ids: [String] = []
    if let id = await knownDisks.resourceID(of: key) { ids.append(id) }
    // One that was made under a former name a moment ago may not be in a list yet.
    for former in plan.renames.formerNames(of: Move.Name(migration: migration.name, volume: volume.name)) {
      if let id = expectedDiskID(for: volume, in: migration, of: plan, former: former) { ids.append(id) }
    }
    for id in ids {
      if let disk = try await cloud.disk(id), disk.volume(in: plan) == key { return disk }
    }
    return nil
  }

  private func retag(_ disk: CloudDisk, _ key: VolumeKey, in cloud: any CloudGateway) async throws(GatewayError) {
    guard disk.isRenamed(in: plan) else { return }
    _ = try await cloud.setTags(disk.tags.merging(Self.names(key)) { _, new in new }, ofDisk: disk.resourceID)
  }

  private static func names(_ key: VolumeKey) -> [String: String] {
    [DiskTag.migration: key.migration.text, DiskTag.volume: key.volume.text]
  }

  /// The disks first: an agent that was told speaks for disks that can be found by the new name alone.
  private func rename(_ migration: Migration, sessions: Bool) async throws(GatewayError) {
    if !migration.diskVolumes.isEmpty {
      let cloud = try cloud(of: migration)
      for disk in try await cloud.disks(of: plan.metadata.id) {
        guard let key = disk.volume(in: plan), key.migration == migration.name else { continue }
        try await retag(disk, key, in: cloud)
      }
    }
    guard sessions else { return }
    let number = try await fencingNumber(of: migration)
    let pair = try await self.sessions(of: migration)
    let digest = configurationDigest(of: migration, in: plan, digest: services.digest)
    for half in [pair.destination, pair.source].compactMap({ $0 }) where half.isRenamePending {
      var configuration = half.configuration
      configuration.configurationDigest = digest
      _ = try await pool.call(
        ConfigureSessionCall(fencingNumber: number, configuration: configuration), on: migration.host(half.role))
      await services.record(
        JournalEntry(
          .stepOutput, .rename(migration.name, sessions: true),
          message: "\(migration.host(half.role)) calls it \(half.heldSession) as before"))
    }
  }

  private func attach(
    _ volumes: [VolumeKey], integration: String, machine reference: String
  ) async throws(GatewayError) {
    let cloud = try cloud(integration)
    let reading = try await cloud.machineReading(reference)
    guard let machine = reading.value else {
      throw GatewayError(
        code: PlanningCode.noVirtualMachine,
        message: "there is no virtual machine \(reference)\(reading.answer?.note ?? "")",
        advice: "correct azureVirtualMachine", disposition: .needsOperator, field: .machine)
    }
    var disks: [(diskID: String, caching: ManagedDisk.Caching)] = []
    for key in volumes {
      let migration = try migration(key.migration)
      guard let volume = migration.volume(key.volume), case .disk(let wanted) = volume.destination else { continue }
      disks.append((try await findDisk(volume, migration).resourceID, wanted.caching))
    }
    _ = try await cloud.attach(disks, to: machine.resourceID)
  }

  private func tag(_ migration: Migration, _ phase: Phase) async throws(GatewayError) {
    if phase == .retired { try await removeUnusedAgents(migration) }
    let cloud = try cloud(of: migration)
    for volume in migration.diskVolumes {
      let disk = try await findDisk(volume, migration)
      guard disk.tags[DiskTag.state] != phase.rawValue else { continue }
      let state = [DiskTag.state: phase.rawValue, DiskTag.stateAt: stamped(services.time.wallNow())].merging(
        Self.names(VolumeKey(migration.name, volume.name))
      ) { first, _ in first }
      _ = try await cloud.setTags(disk.tags.merging(state) { _, new in new }, ofDisk: disk.resourceID)
    }
    if phase == .retired { try await removeUnusedAgents(migration) }
  }

  /// Once the tag says retired nobody looks at the hosts again, so whoever tags last removes what is left there: two
  /// runs that retire two migrations of one host at once may each have left its agent to the other. Looked at before
  /// the tag is written, and after, when the other's is seen.
  private func removeUnusedAgents(_ migration: Migration) async throws(GatewayError) {
    let cloud = try cloud(of: migration)
    let hosts = Set([migration.source, migration.destination]).sorted()
    let users = plan.migrations.values.filter { other in
      other.name != migration.name && (hosts.contains(other.source) || hosts.contains(other.destination))
    }
    var tagged: Set<VolumeKey> = []
    if !users.isEmpty {
      for disk in try await cloud.disks(of: plan.metadata.id) where disk.tags[DiskTag.state] == Phase.retired.rawValue {
        if let key = disk.volume(in: plan) { tagged.insert(key) }
      }
    }
    func isTagged(_ other: Migration) -> Bool {
      let volumes = other.diskVolumes
      return !volumes.isEmpty && volumes.allSatisfy { tagged.contains(VolumeKey(other.name, $0.name)) }
    }
    for name in hosts {
      let others = users.filter { $0.source == name || $0.destination == name }
      if others.allSatisfy(isTagged) { try await remove(name) }
    }
  }
}
