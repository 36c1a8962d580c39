import AgentProtocol
import BlockModel
import Foundation
import MigrationModel
import Planning

/// A world in a few lines, for a plan: what an observation would say, with everything as expected unless a line says
/// otherwise. One word a fact, `name=value` for what differs; blanks in a value are written `_`.
///
///     now 2026-11-23T04:00:00Z
///     agent db absent|stopped|old           unseen db no_route          resolves db name 192.0.2.9
///     device db /dev/vg/data size=10 kind=missing mounted=/mnt system identity=x foreign label=p/m   (size in GiB)
///     machine vm absent|zone=1              clouds azure fails_to_answer
///     disk erp/data size=10 state=finalized at=2026-11-22T04:00:00Z sku=… zone=1 iops=3000 rate=125 detached owner=other elsewhere number=2
///     session erp standIn half=source dirty=5 (GiB) health=… hold=paused,ann,why approved=ann confirmed since=… copied=identity written=400 (GiB) up=2 (hours) larger=12 (GiB, its destination half)
///     orphaned erp/data                     (after a session that has it)
///     tombstone erp retired receipt=…       stray gone prepared told=x both hold=paused,ann,why
///     disk erp/data tagged=old/files        (its tags, and its name, are of another volume)
///     session erp tracking made=old,files told=old (made under other names, of which the agents were told these)
///     tombstone erp retired made=old
struct WorldScript {
  private(set) var now = WallTime(secondsSince1970: 1_795_406_400)
  private let plan: MigrationPlan
  private var observation: Observation
  private static let gibibyte: UInt64 = 1 << 30

  struct Unreadable: Error { var line: String }

  static func read(_ text: String, for plan: MigrationPlan) throws -> (observation: Observation, now: WallTime) {
    var script = WorldScript(plan: plan)
    for line in text.split(separator: "\n") where !line.hasPrefix("#") {
      try script.take(line.split(separator: " ").map { String($0).replacing("_", with: " ") }, String(line))
    }
    script.observation.observedAt = script.now
    return (script.observation.named(for: plan), script.now)
  }

  /// Agents everywhere, source devices of 10 GiB, the virtual machines; no disks, no sessions.
  private init(plan: MigrationPlan) {
    self.plan = plan
    var observation = Observation(
      plan: plan.metadata.id, observedAt: now, shippedAgentDigest: "SHA256:new", clouds: [:], hosts: [:])
    for name in plan.hosts.keys {
      let hello = AgentHello(
        agentVersion: "1", protocolVersion: 1, fingerprint: KeyFingerprint("SHA256:\(name)"), bootID: "b", processID: 1,
        startedAt: now, capabilities: ["fuse-loop", "rename", "grow"])
      observation.hosts[name] = HostObservation(
        state: HostState(agentDigest: "SHA256:new", agentRunning: true, tombstones: []),
        agent: AgentObservation(hello: hello, observedAt: now, sessions: [], tombstones: [], leases: []))
    }
    for integration in plan.integrations.keys { observation.clouds[integration] = CloudObservation() }
    self.observation = observation
    for migration in plan.sortedMigrations {
      for volume in migration.volumes {
        device(migration.source, volume.device) { $0.sizeBytes = 10 * Self.gibibyte }
        if case .device(let path) = volume.destination {
          device(migration.destination, path) {
            $0.sizeBytes = 10 * Self.gibibyte
            $0.looksBlank = true
          }
        }
      }
      guard let reference = plan.hosts[migration.destination]?.azureVirtualMachine,
        let integration = migration.integration(in: plan)?.name
      else { continue }
      self.observation.clouds[integration]?.machines[reference] = CloudMachine(
        resourceID: "/vm/\(reference)", name: reference, location: "westeurope", size: "Standard_D4s_v5", zone: nil,
        attachments: [])
    }
  }

  private mutating func device(_ host: HostName, _ path: String, _ change: (inout DeviceReport) -> Void) {
    var devices = observation.hosts[host]?.devices ?? []
    var report = devices.first { $0.path == path } ?? DeviceReport(path: path, kind: .block)
    devices.removeAll { $0.path == path }
    change(&report)
    observation.hosts[host]?.devices = devices + [report]
  }

  private mutating func take(_ words: [String], _ line: String) throws {
    let subject = words.count > 1 ? words[1] : ""
    let rest = Facts(Array(words.dropFirst(2)))
    switch words.first {
    case "now": now = WallTime(secondsSince1970: try Date(subject, strategy: .iso8601).timeIntervalSince1970)
    case "agent": try agent(HostName(subject), rest, line)
    case "unseen":
      observation.hosts[HostName(subject)] = HostObservation(
        faults: [ObservationFault(part: "host", code: "CMC3100", message: rest.first, advice: "check its address")])
    case "resolves": observation.hosts[HostName(subject)]?.resolved[rest.first] = rest.words.last
    case "device": device(HostName(subject), rest.first) { Self.apply(rest, to: &$0) }
    case "machine":
      for name in observation.clouds.keys {
        if rest.has("absent") { observation.clouds[name]?.machines[subject] = nil }
        if let zone = rest["zone"] { observation.clouds[name]?.machines[subject]?.zone = zone }
      }
    case "clouds":
      observation.clouds[subject]?.faults = [
        ObservationFault(part: "disks", code: "CMC4001", message: rest.first, advice: "check the credential")
      ]
    case "disk": try disk(subject, rest, line)
    case "orphaned": try orphan(subject, line)
    case "session": try session(MigrationName(subject), rest, line)
    case "tombstone": try tombstone(MigrationName(subject), rest, line)
    case "stray": try stray(MigrationName(subject), rest, line)
    default: throw Unreadable(line: line)
    }
  }

  private mutating func agent(_ host: HostName, _ facts: Facts, _ line: String) throws {
    switch facts.first {
    case "absent":
      observation.hosts[host]?.state = HostState(agentDigest: nil, agentRunning: false, tombstones: [])
      observation.hosts[host]?.agent = nil
      observation.hosts[host]?.devices = []
    case "stopped":
      observation.hosts[host]?.state?.agentRunning = false
      observation.hosts[host]?.agent = nil
      observation.hosts[host]?.devices = []
    case "old": observation.hosts[host]?.state?.agentDigest = "SHA256:old"
    case "stubborn": observation.hosts[host]?.agent?.hello.capabilities = ["fuse-loop"]
    case "plain": observation.hosts[host]?.agent?.hello.capabilities = []
    default: throw Unreadable(line: line)
    }
  }

  private static func apply(_ facts: Facts, to report: inout DeviceReport) {
    if let size = facts["size"].flatMap(UInt64.init) { report.sizeBytes = size * gibibyte }
    if let kind = facts["kind"].flatMap(DeviceReport.Kind.init(rawValue:)) { report.kind = kind }
    if let place = facts["mounted"] { report.mountedAt = [place] }
    if facts.has("system") { report.isSystemDevice = true }
    if let identity = facts["identity"] { report.identity = identity }
    if facts.has("foreign") { report.looksBlank = false }
    if let label = facts["label"] {
      report.looksBlank = false
      report.labelledSession = SessionID(label)
    }
    report.error = facts["error"]
  }

  private mutating func disk(_ subject: String, _ facts: Facts, _ line: String) throws {
    let parts = subject.split(separator: "/").map(String.init)
    guard parts.count == 2 else { throw Unreadable(line: line) }
    let migration = plan.migrations[MigrationName(parts[0])]
    let tagged = facts["tagged"]?.split(separator: "/").map(String.init) ?? parts
    guard tagged.count == 2 else { throw Unreadable(line: line) }
    let name = diskName(plan: plan.metadata.id, migration: MigrationName(tagged[0]), volume: VolumeName(tagged[1]))
    let integration = migration?.integration(in: plan)?.name ?? plan.integrations.keys.sorted().first ?? ""
    let reference = migration.flatMap { plan.hosts[$0.destination]?.azureVirtualMachine } ?? ""
    var wantedName = name
    if case .disk(let wanted)? = migration?.volume(VolumeName(parts[1]))?.destination, let own = wanted.name {
      wantedName = own
    }
    if let named = facts["named"] { wantedName = named }
    let isAttached = !facts.has("detached") && migration != nil
    let owner = facts["owner"]
    var disk = CloudDisk(
      resourceID:
        "/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/erp/providers/Microsoft.Compute/disks/\(wantedName)",
      name: wantedName,
      sku: facts["sku"]?.replacing(" ", with: "_") ?? "Premium_LRS",
      sizeBytes: (facts["size"].flatMap(UInt64.init) ?? 10) * Self.gibibyte,
      zone: facts["zone"], iops: facts["iops"].flatMap(Int.init), megabytesPerSecond: facts["rate"].flatMap(Int.init),
      state: isAttached ? .attached : .unattached,
      attachedTo: facts.has("elsewhere") ? "/vm/other" : isAttached ? "/vm/\(reference)" : nil,
      tags: [
        DiskTag.plan: owner ?? plan.metadata.id.text, DiskTag.migration: tagged[0], DiskTag.volume: tagged[1],
        DiskTag.state: facts["state"] ?? "prepared",
      ], provisioningState: "Succeeded")
    if let number = facts["number"] {
      disk.name += "-\(number)"
      disk.resourceID += "-\(number)"
    }
    if let at = facts["at"] { disk.tags[DiskTag.stateAt] = at }
    if owner == "nobody" { disk.tags = [:] }
    if owner == nil {
      observation.clouds[integration]?.disks.append(disk)
    } else {
      observation.clouds[integration]?.namedDisks[disk.resourceID] = disk
    }
    guard isAttached, !facts.has("elsewhere"), let host = migration?.destination else { return }
    let lun = observation.clouds[integration]?.machines[reference]?.attachments.count ?? 0
    observation.clouds[integration]?.machines[reference]?.attachments.append(
      CloudAttachment(lun: lun, diskID: disk.resourceID))
    observation.hosts[host]?.devicePaths[lun] = "/dev/lun\(lun)"
    device(host, "/dev/lun\(lun)") {
      $0.sizeBytes = disk.sizeBytes
      $0.looksBlank = true
    }
  }

  /// As a run leaves it that died after it tagged the disk.
  private mutating func orphan(_ subject: String, _ line: String) throws {
    for (name, cloud) in observation.clouds {
      for (index, disk) in cloud.disks.enumerated() where disk.volume(in: plan)?.description == subject {
        observation.clouds[name]?.disks[index].tags[DiskTag.state] = DiskTag.orphaned
        return
      }
    }
    throw Unreadable(line: line)
  }

  private mutating func session(_ name: MigrationName, _ facts: Facts, _ line: String) throws {
    guard let migration = plan.migrations[name], let stage = SessionStage(rawValue: facts.first),
      let inputs = MigrationFacts(migration, in: plan, observation).sessionInputs(),
      let halves = sessionConfigurations(
        for: migration, in: plan, inputs: inputs, overwrite: [], at: now, digest: goldenDigest)
    else { throw Unreadable(line: line) }
    for (role, configuration) in [(Role.source, halves.source), (.destination, halves.destination)] {
      if let half = facts["half"], half != role.rawValue { continue }
      var seen = try Self.session(configuration, stage, role, facts, now, line)
      if let made = facts["made"] { seen = Self.made(seen, as: made, told: facts["told"], facts["toldhalf"]) }
      observation.hosts[migration.host(role)]?.agent?.sessions.append(seen)
    }
    if let hours = facts["up"].flatMap(Double.init) {
      observation.hosts[migration.source]?.agent?.hello.startedAt = now.adding(seconds: -3600 * hours)
    }
  }

  private static func session(
    _ configuration: SessionConfiguration, _ stage: SessionStage, _ role: Role, _ facts: Facts, _ now: WallTime,
    _ line: String
  ) throws -> SessionObservation {
    let authority: Authority =
      stage == .standIn ? .standIn : [.fenced, .released].contains(stage) ? .destination : .source
    var seen = SessionObservation(
      configuration: configuration, stage: stage, authority: authority, generation: .initial,
      health: try health(facts, line), connected: !facts.has("apart"))
    if !facts.has("unproven") {
      seen.connectionProof = ConnectionProof(provenAt: now, roundTripSeconds: 0.001, bytesPerSecond: 200e6)
    }
    let isSynchronized = stage != .prepared && stage != .synchronizing
    if isSynchronized, !facts.has("unsynchronized") { seen.initialSynchronizationAt = now }
    let dirty = (facts["dirty"].flatMap(UInt64.init) ?? 0) * gibibyte
    seen.volumes = configuration.volumes.map {
      VolumeObservation(
        name: $0.name, devicePath: $0.devicePath, sizeBytes: $0.sizeBytes, blockBytes: 65_536,
        dirtyBytes: role == .source ? dirty : 0, copiedBytes: 0, wireBytes: 0,
        tapSocket: facts.has("untapped") || stage == .prepared ? nil : "tap", tapDevice: nil, tapOpenCount: 1,
        applicationIO: IOCounters(), longestPauseSeconds: 0)
    }
    if role == .source, let written = facts["written"].flatMap(UInt64.init) {
      seen.volumes[0].applicationIO.writeBytes = written * gibibyte
    }
    if let text = facts["hold"] { seen.hold = try hold(text, line, at: now) }
    if let who = facts["approved"] {
      seen.approvals = [
        Approval(
          phase: .finalized, who: who, at: now,
          expiresAt: facts.has("expired") ? now.adding(seconds: -1) : nil,
          configurationDigest: facts.has("otherwise") ? "other" : configuration.configurationDigest)
      ]
    }
    if facts.has("onesided"), role == .destination { seen.approvals = [] }
    seen.swingConfirmed = facts.has("confirmed")
    if facts.has("unconfirmed") { seen.confirmBy = now.adding(seconds: 900) }
    if role == .source, stage == .standIn, let since = facts["since"] {
      seen.standInSince = WallTime(secondsSince1970: try Date(since, strategy: .iso8601).timeIntervalSince1970)
    }
    if let pause = facts["pause"].flatMap(Double.init) { seen.lastSwingPauseSeconds = pause }
    if let error = facts["error"], role == .source { seen.lastError = AgentFault(.failed, error) }
    if facts.has("lostsource") { seen.authority = .destinationOnly }
    if let level = facts["share"].flatMap(Double.init) { seen.configuration.limits.share = level }
    if let size = facts["larger"].flatMap(UInt64.init), role == .destination {
      seen.configuration.volumes[0].sizeBytes = size * gibibyte
    }
    if facts.has("edited") { seen.configuration.resyncIntervalSeconds += 60 }
    if let identity = facts["copied"], role == .source { seen.configuration.volumes[0].deviceIdentity = identity }
    if let path = facts["was"], role == .source { seen.configuration.volumes[0].devicePath = path }
    return seen
  }

  /// As its agent calls it: `made` is the migration's name and the first volume's, `told` what the plan called them when
  /// the agent (or only the half of this role) was told last.
  private static func made(
    _ seen: SessionObservation, as made: String, told: String?, _ half: String?
  ) -> SessionObservation {
    let own = made.split(separator: ",").map(String.init)
    var result = seen
    result.migration = MigrationName(own[0])
    result.session = SessionID(plan: seen.plan, migration: result.migration)
    result.configuration.migration = result.migration
    result.configuration.session = result.session
    if own.count > 1 {
      result.volumes[0].name = VolumeName(own[1])
      result.configuration.volumes[0].name = VolumeName(own[1])
    }
    if let told = told?.split(separator: ",").map(String.init), half == nil || half == seen.role.rawValue {
      let volumes = told.count > 1 ? [result.volumes[0].name.text: VolumeName(told[1])] : [:]
      result.configuration.plannedAs = PlannedNames(migration: MigrationName(told[0]), volumes: volumes)
    }
    return result
  }

  private static func health(_ facts: Facts, _ line: String) throws -> ReplicationHealth {
    guard let text = facts["health"] else { return .tracking(lagBytes: 0, lagSeconds: 0) }
    let words = text.split(separator: ",").map(String.init)
    switch words.first {
    case "idle": return .idle
    case "synchronizing" where words.count == 3:
      let rate = Double(words[2]) ?? 0
      return .synchronizing(
        percent: Double(words[1]) ?? 0, bytesPerSecond: rate, etaSeconds: rate > 0 ? 600 : nil)
    case "behind": return .tracking(lagBytes: UInt64(words[1]) ?? 0, lagSeconds: 12)
    case "stalled": return .stalled(why: words[1])
    case "disconnected": return .disconnected(since: WallTime(secondsSince1970: 1_795_400_000))
    case "degraded": return .degraded(copy: .destination, why: words[1])
    default: throw Unreadable(line: line)
    }
  }

  private mutating func tombstone(_ name: MigrationName, _ facts: Facts, _ line: String) throws {
    guard let migration = plan.migrations[name], let phase = Phase(rawValue: facts.first) else {
      throw Unreadable(line: line)
    }
    for role in [Role.source, .destination] {
      if let half = facts["half"], half != role.rawValue { continue }
      observation.hosts[migration.host(role)]?.state?.tombstones.append(
        Tombstone(
          session: SessionID(plan: plan.metadata.id, migration: facts["made"].map { MigrationName($0) } ?? name),
          role: role, phase: phase, generation: .initial, receiptDigest: facts["receipt"], at: now))
    }
  }

  private mutating func stray(_ name: MigrationName, _ facts: Facts, _ line: String) throws {
    let hosts = plan.hosts.keys.sorted()
    guard let stage = SessionStage(rawValue: facts.first), let source = hosts.first, let destination = hosts.last else {
      throw Unreadable(line: line)
    }
    let isBoth = facts.has("both")
    try stray(name, stage, .source, on: source, peer: isBoth ? "SHA256:\(destination)" : "SHA256:x", facts)
    if isBoth { try stray(name, stage, .destination, on: destination, peer: "SHA256:\(source)", facts) }
  }

  private static func hold(_ text: String, _ line: String, at now: WallTime) throws -> Hold {
    let words = text.split(separator: ",").map(String.init)
    guard words.count == 3, let cause = Hold.Cause(rawValue: words[0]) else { throw Unreadable(line: line) }
    return Hold(cause: cause, who: words[1], why: words[2], at: now)
  }

  private mutating func stray(
    _ name: MigrationName, _ stage: SessionStage, _ role: Role, on host: HostName, peer: String, _ facts: Facts
  ) throws {
    let configuration = SessionConfiguration(
      session: SessionID(plan: plan.metadata.id, migration: name), plan: plan.metadata.id, migration: name,
      role: role, configurationDigest: "d", peerFingerprint: KeyFingerprint(peer),
      link: LinkConfiguration(listens: false, address: "192.0.2.1", port: 4996, lanes: 2), volumes: [],
      limits: RateLimits(share: nil, networkLimitBytesPerSecond: nil), linkLossTimeoutSeconds: 5,
      resyncIntervalSeconds: 900, confirmWithinSeconds: nil, verify: "full")
    var seen = SessionObservation(
      configuration: configuration, stage: stage, authority: .source, generation: .initial,
      health: .tracking(lagBytes: 0, lagSeconds: 0), connected: true)
    if let told = facts["told"] {
      seen.configuration.plannedAs = PlannedNames(migration: MigrationName(told), volumes: [:])
    }
    if let text = facts["hold"] { seen.hold = try Self.hold(text, text, at: now) }
    observation.hosts[host]?.agent?.sessions.append(seen)
  }

  private struct Facts {
    let words: [String]
    init(_ words: [String]) { self.words = words }
    var first: String { words.first ?? "" }
    func has(_ word: String) -> Bool { words.contains(word) }
    subscript(_ name: String) -> String? {
      words.first { $0.hasPrefix(name + "=") }.map { String($0.dropFirst(name.count + 1)) }
    }
  }
}

/// Not a digest, but one text for one text.
@Sendable func goldenDigest(_ text: String) -> String {
  var hash: UInt64 = 0xcbf2_9ce4_8422_2325
  for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
  return "FAKE:" + String(hash, radix: 16)
}
