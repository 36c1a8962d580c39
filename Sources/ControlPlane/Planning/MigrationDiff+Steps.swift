import AgentProtocol
import BlockModel
import Diagnostics
import MigrationModel

// MARK: - Steps to prepared

extension MigrationDiff {
  /// Agents that are installed and don't run, where the migration isn't retired yet: nobody sees a session, or ends it,
  /// without its agent.
  mutating func startAgents() {
    for host in Set([migration.source, migration.destination]).sorted() {
      guard facts.mayHideSession(on: host) else { continue }
      if result.changes.contains(where: { $0.action == .deployAgent(host) }) { continue }
      add(
        .deployAgent(host), towards: .prepared, "start the agent on \(host)", why: "it doesn't run",
        precondition: "host \(host) answers", .reversible)
    }
  }

  mutating func deploy() {
    for host in Set([migration.source, migration.destination]).sorted() {
      if result.changes.contains(where: { $0.action == .deployAgent(host) }) { continue }
      let state = (host == migration.source ? facts.source : facts.destination)?.state
      let isCurrent = shippedAgentDigest == nil || state?.agentDigest == shippedAgentDigest
      if state?.agentRunning == true, isCurrent { continue }
      if state?.agentRunning == true, !canRestartAgents {
        result.diagnostics.append(
          Diagnostic(
            .note, code: PlanningCode.agentOutdated, at: facts.plan.hosts[host]?.position,
            "the agent on \(host) is of another version; it is left alone while \(migration.name) replicates"))
        continue
      }
      let installs = state?.agentDigest == nil
      add(
        .deployAgent(host), towards: .prepared,
        installs
          ? "install the agent on \(host)" : isCurrent ? "start the agent on \(host)" : "upgrade the agent on \(host)",
        why: installs ? "no agent there" : isCurrent ? "it doesn't run" : "it is of another version",
        precondition: "host \(host) answers", .reversible)
    }
  }

  var canRestartAgents: Bool {
    [facts.sourceStage, facts.destinationSession?.stage].allSatisfy { $0 == nil || $0 == .prepared || $0 == .cancelled }
  }

  mutating func prepare() {
    if !isReplacing { deploy() }
    // What the agents can do decides the tracking, and that the way; until they answer it is only assumed.
    if !result.changes.isEmpty, migration.volumes.contains(where: { facts.tracking(of: $0) == nil }) {
      result.lookAgainAfter = result.changes.count
    }
    if reached == .nothing, !isReplacing {
      add(
        .checkDevices(migration.name), towards: .prepared,
        migration.isWithinHost ? "check the devices on \(migration.source)" : "check the devices on both hosts",
        why: "nothing is made for a source that can't be migrated")
    }
    ensureDisks()
    attachDisks()
    configure()
    if facts.sourceSession?.connectionProof == nil {
      let listener = migration.host(migration.connection.listener)
      add(
        .proveConnection(migration.name), towards: .prepared,
        migration.isWithinHost
          ? "prove that the halves on \(migration.source) meet"
          : "prove the connection \(migration.source) → \(migration.destination)",
        why: "no data moves over a link that nobody tried",
        precondition: migration.isWithinHost
          ? "one agent has both" : "port \(migration.connection.port) on \(listener) is open")
    }
  }

  mutating func ensureDisks() {
    for volume in migration.diskVolumes {
      guard case .disk(let wanted) = volume.destination else { continue }
      let key = VolumeKey(migration.name, volume.name)
      if let disk = facts.disks[volume.name] {
        guard disk.tags[DiskTag.plan] == nil else {
          changeDisk(volume, wanted, disk)
          continue
        }
        add(
          .ensureDisk(key), towards: .prepared, "tag disk \(disk.name)", why: "the plan takes it for \(volume.name)",
          .reversible)
        continue
      }
      let gib = sizeGiB(of: volume, wanted)
      let size = gib.map { "\($0) GiB" } ?? "as large as its source, which is known once the agent is there"
      let name = newDiskName(volume, wanted)
      add(
        .ensureDisk(key), towards: .prepared, "create disk \(name) (\(wanted.sku.rawValue), \(size))",
        why: "volume \(volume.name) has no disk yet",
        price: Price(cost: .billed, note: billingNote(wanted, gib)), .reversible)
    }
  }

  /// Those that were replaced, or are being, keep their names.
  private func newDiskName(_ volume: Volume, _ wanted: ManagedDisk) -> String {
    let base =
      wanted.name ?? diskName(plan: facts.plan.metadata.id, migration: migration.name, volume: volume.name)
    return replacementName(base, taken: Set(facts.orphans(of: volume).map { $0.name.lowercased() }))
  }

  /// What the plan says otherwise of a disk that we made, as far as Azure changes it with its data and users where they
  /// are: performance and most sizes at any time, another SKU before anybody has it attached or a session knows it.
  private mutating func changeDisk(_ volume: Volume, _ wanted: ManagedDisk, _ disk: CloudDisk) {
    guard wanted.existingID == nil else { return }
    let converts = disk.sku != wanted.sku.rawValue
    guard !converts || facts.canConvert(disk, to: wanted.sku) else { return }
    let gib = sizeGiB(of: volume, wanted)
    let gibNow = Int(clamping: disk.sizeBytes >> 30)
    var parts = converts ? ["\(disk.sku) → \(wanted.sku.rawValue)"] : []
    var why = "the plan says so; its data stays as it is"
    if let gib, gib > gibNow {
      if facts.isUnused(disk) || wanted.sku.growth(fromGiB: gibNow, toGiB: gib) == .live {
        parts.append("\(gibNow) → \(gib) GiB")
        if disk.attachedTo != nil {
          why += "; its host sees the space after a rescan (echo 1 > /sys/class/block/NAME/device/rescan)"
        }
      } else {
        result.diagnostics.append(
          Diagnostic(
            .note, code: PlanningCode.diskStaysSmaller, at: facts.position(.size, volume),
            "disk \(disk.name) has \(gibNow) GiB, the plan says \(gib): Azure takes a \(disk.sku) disk past 4 TiB only "
              + "while it is detached; it is left as it is",
            advice:
              "write at most \(ManagedDisk.SKU.growthBorderGiB) GiB; or enlarge it once it is finalized, with the "
              + "machine deallocated"))
      }
    }
    if wanted.sku.hasOwnPerformance {
      let rate = wanted.throughputBytesPerSecond.map { Int(clamping: $0 / 1_000_000) }
      let others = parts.count
      for (now, asked, unit) in [(disk.iops, wanted.iops, "IOPS"), (disk.megabytesPerSecond, rate, "MB/s")] {
        if let now, let asked, now != asked { parts.append("\(now) → \(asked) \(unit)") }
      }
      if parts.count > others {
        why += "; Azure sets a disk's performance four times in 24 hours, its making included"
      }
    }
    guard !parts.isEmpty else { return }
    add(
      .ensureDisk(VolumeKey(migration.name, volume.name)), towards: reached.phase ?? .prepared,
      "change disk \(disk.name): \(parts.joined(separator: ", "))", why: why,
      price: Price(cost: .billed, note: billingNote(wanted, max(gib ?? gibNow, gibNow))), .live)
  }

  /// What the disk will have; nil while nobody knows how large its source is.
  private func sizeGiB(of volume: Volume, _ wanted: ManagedDisk) -> Int? {
    if let bytes = facts.sourceBytes(of: volume),
      let request = diskRequest(for: volume, in: migration, of: facts.plan, sourceBytes: bytes)
    {
      return request.sizeGiB
    }
    guard case .bytes(let asked) = wanted.size else { return nil }
    return gibibytes(holding: asked)
  }

  private func billingNote(_ wanted: ManagedDisk, _ gib: Int?) -> String {
    guard let gib else {
      return "\(wanted.sku.rawValue), as large as its source, which is known once the agent is there, "
        + "billed until it is deleted"
    }
    let rate = wanted.throughputBytesPerSecond.map { Int(clamping: $0 / 1_000_000) }
    return "\(wanted.sku.rawValue), "
      + diskBilling(wanted.sku, gib: max(1, gib), iops: wanted.iops, megabytesPerSecond: rate).text
  }

  mutating func attachDisks() {
    guard let reference = facts.machineReference, let integration = migration.integration(in: facts.plan) else {
      return
    }
    let missing = migration.diskVolumes.filter { volume in
      facts.disks[volume.name].map { !facts.isAttached($0) } ?? true
    }
    guard !missing.isEmpty else { return }
    add(
      .attachDisks(
        integration: integration.name, machine: reference,
        volumes: missing.map { VolumeKey(migration.name, $0.name) }), towards: .prepared,
      "attach \(missing.map(\.name.text).joined(separator: ", ")) to \(reference)",
      why: "\(migration.destination) doesn't see \(missing.count == 1 ? "it" : "them") yet",
      precondition: "the disks exist, the virtual machine has free LUNs", .reversible)
  }

  mutating func configure() {
    let name = migration.name
    guard let source = facts.sourceSession, let destination = facts.destinationSession else {
      add(
        .configureSession(name), towards: .prepared,
        migration.isWithinHost ? "create both halves of the session" : "create the session on both agents",
        why: migration.isWithinHost ? "the agent doesn't know them yet" : "they don't know it yet",
        precondition: "the devices are there and large enough, the destination is blank or ours", .reversible)
      return
    }
    growVolumes()
    if let differs = configurationDifference(source, destination, isRenamed: facts.isSessionRenamed) {
      add(
        .configureSession(name), towards: reached.phase ?? .prepared, "change the session's configuration: \(differs)",
        why: "the plan says so; replication goes on", .live)
    }
  }

  /// In words what the agents hold differently from the plan, nil where nothing. A rename brings the digest with it.
  func configurationDifference(
    _ source: SessionObservation, _ destination: SessionObservation, isRenamed: Bool
  ) -> String? {
    guard let inputs = facts.sessionInputs(),
      let wanted = sessionConfigurations(
        for: migration, in: facts.plan, inputs: inputs, overwrite: options.overwrite, at: options.now,
        digest: options.digest)
    else {
      return isRenamed
        || source.configurationDigest == result.configurationDigest
          && destination.configurationDigest == result.configurationDigest
        ? nil : "as the plan has it now"
    }
    var words: [String] = []
    for (old, new) in [(source.configuration, wanted.source), (destination.configuration, wanted.destination)] {
      var new = new
      if isRenamed { new.configurationDigest = old.configurationDigest }
      let differences = Self.differences(old, new)
      for word in differences where !words.contains(word) { words.append(word) }
    }
    return words.isEmpty ? nil : words.joined(separator: ", ")
  }

  static func differences(_ old: SessionConfiguration, _ new: SessionConfiguration) -> [String] {
    func share(_ limits: RateLimits) -> String { limits.share.map { "\(Int(saturating: $0 * 100)) %" } ?? "relentless" }
    var words: [String] = []
    if old.limits.share != new.limits.share { words.append("iQoS \(share(old.limits)) → \(share(new.limits))") }
    if old.limits.networkLimitBytesPerSecond != new.limits.networkLimitBytesPerSecond { words.append("network limit") }
    if old.limits.latencyBound != new.limits.latencyBound { words.append("latencyBound") }
    if old.resyncIntervalSeconds != new.resyncIntervalSeconds {
      let intervals = [old, new].map { "\(Int(saturating: $0.resyncIntervalSeconds)) s" }
      words.append("resync interval \(intervals.joined(separator: " → "))")
    }
    if old.linkLossTimeoutSeconds != new.linkLossTimeoutSeconds { words.append("link loss timeout") }
    if old.confirmWithinSeconds != new.confirmWithinSeconds { words.append("confirmWithin") }
    if old.verify != new.verify { words.append("verify \(old.verify) → \(new.verify)") }
    if old.link != new.link { words.append("connection") }
    if old.peerFingerprint != new.peerFingerprint { words.append("the peer's key") }
    // `overwrite` is a word for one run, not a state to keep; what older agents were not told they don't keep.
    let comparable = { (volume: VolumeConfiguration) in
      var copy = volume
      copy.overwrite = false
      // Other sizes are a step of their own.
      copy.sizeBytes = 0
      copy.deviceIdentity = nil
      return copy
    }
    if old.volumes.map(comparable) != new.volumes.map(comparable) { words.append("volumes") }
    if words.isEmpty, old.configurationDigest != new.configurationDigest { words.append("cutover settings") }
    return words
  }
}

// MARK: - Steps to synchronized and cMotion, and back

extension MigrationDiff {
  /// Bytes a second assumed where no connection was proven yet.
  static let assumedBytesPerSecond = 100e6

  func movingPrice() -> Price {
    var bytes: UInt64? = 0
    for volume in migration.volumes {
      let dirty = facts.sourceSession?.volumes.first { $0.name == volume.name }
      let started = facts.sourceStage.map { $0 != .prepared } ?? false
      let remaining = started ? dirty?.dirtyBytes : facts.sourceBytes(of: volume)
      bytes = bytes.flatMap { sum in remaining.map { sum + $0 } }
    }
    let proof = facts.sourceSession?.connectionProof
    let measured = proof?.bytesPerSecond
    let share = migration.iqos.level(at: options.now).share ?? 1
    var rate = (measured ?? Self.assumedBytesPerSecond) * share
    if let limit = migration.iqos.networkLimitBytesPerSecond { rate = min(rate, Double(limit)) }
    return Price(
      bytesToMove: bytes, estimatedSeconds: bytes.flatMap { rate > 0 ? Double($0) / rate : nil },
      bandwidthMeasured: measured != nil,
      note: proof.map { proof in
        let milliseconds = (proof.roundTripSeconds * 10_000).rounded() / 10
        let megabytes = Int(saturating: (proof.bytesPerSecond / 1e6).rounded())
        return "the link was measured: \(megabytes) MB/s, round trip \(milliseconds) ms"
      } ?? "")
  }

  mutating func synchronize() {
    let name = migration.name
    let stage = facts.sourceStage
    let usesTap = migration.volumes.contains { (facts.tracking(of: $0) ?? .tap) == .tap }
    let tapIsOpen =
      facts.sourceSession.map { session in
        migration.volumes.allSatisfy { volume in
          facts.tracking(of: volume) == .checksum
            || session.volumes.first { $0.name == volume.name }?.tapSocket != nil
        }
      } ?? false
    if usesTap, !tapIsOpen, !isClosing { openTap() }
    let isMoving = stage == .synchronizing || stage == .tracking || stage == .swinging
    if reached == .nothing || reached == .reached(.prepared) || stage == .prepared {
      let progress: String
      if case .synchronizing(let percent, _, _)? = facts.sourceSession?.health, isMoving {
        progress = " (\(Int(saturating: percent)) % done)"
      } else {
        progress = ""
      }
      add(
        .synchronize(name), towards: .synchronized,
        isMoving ? "go on with the initial synchronization\(progress)" : "start the initial synchronization",
        why: isMoving ? "it isn't finished" : "the destination holds nothing of the source yet",
        precondition: "the connection is proven", price: movingPrice(), .reversible)
    }
  }

  mutating func swing() {
    guard reached != .reached(.cmotion) else { return }
    if facts.sourceStage != .swinging { waitForWindow() }
    add(
      .swing(migration.name), towards: .cmotion,
      migration.isWithinHost
        ? "cMotion: swing live I/O to the new disk" : "cMotion: swing live I/O to \(migration.destination)",
      why: "phase: \(target.rawValue)", precondition: "initial synchronization is finished, both ends are healthy",
      price: Price(
        pauseSeconds: facts.sourceSession?.lastSwingPauseSeconds ?? Self.assumedSwingPauseSeconds, cost: .pause,
        note: "I/O waits behind a barrier"), .reversible)
  }

  /// A swing's barrier, where none was measured yet.
  static let assumedSwingPauseSeconds = 1.0

  mutating func revert() {
    add(
      .revert(migration.name), towards: .synchronized,
      migration.isWithinHost
        ? "revert cMotion: live I/O back to the old disk" : "revert cMotion: live I/O back to \(migration.source)",
      why: "phase: \(target.rawValue)", price: Price(pauseSeconds: Self.assumedSwingPauseSeconds, cost: .pause),
      .reversible)
  }

  mutating func stop() {
    add(
      .stopSynchronizing(migration.name), towards: .prepared, "stop replication",
      why: "phase: prepared; the disk stays, labelled incomplete", .reversible)
  }
}

// MARK: - Steps to finalized and retired

extension MigrationDiff {
  mutating func finalize() {
    if !isClosing { waitForWindow() }
    waitForConfirmation()
    waitForApproval()
    let name = migration.name
    let stage = facts.sourceStage
    for point in MigrationFacts.hooksBeforeFence { addHook(point, towards: .finalized) }
    if stage != .tapClosed, stage != .proving, stage != .proven {
      add(
        .closeTap(name), towards: .finalized, "close the tap on \(migration.source) and flush",
        why: "the application must not write any more", precondition: "nothing has the tap open", .reversible)
    }
    if stage != .proven {
      let none = migration.cutover.verify == .none
      add(
        .prove(name), towards: .finalized,
        none
          ? "write the receipt (verify: none)"
          : "prove that both copies are identical (verify: \(migration.cutover.verify.rawValue))",
        why: none ? "the plan waives the proof" : "no cutover without a receipt",
        price: Price(pauseSeconds: nil, cost: .pause, note: "the application is stopped meanwhile"), .reversible)
    }
    add(
      .fence(name), towards: .finalized,
      migration.isWithinHost ? "fence the old copy" : "fence the source \(migration.source)",
      why: migration.isWithinHost
        ? "from here on only the new copy counts"
        : "from here on \(migration.destination) has the only copy that counts",
      precondition: migration.cutover.approval == .manual ? "approved, and the receipt exists" : "the receipt exists",
      price: Price(cost: .pause), .oneWay)
    finishFinalize()
  }

  mutating func finishFinalize() {
    if facts.destinationSession?.stage != .released {
      add(
        .release(migration.name), towards: .finalized,
        migration.isWithinHost
          ? "release the new copy to \(migration.destination)" : "release the destination to \(migration.destination)",
        why: "its first and last MiB were withheld until now", precondition: "the source is fenced", .oneWay)
    }
    for point in MigrationFacts.hooksAfterFence { addHook(point, towards: .finalized) }
    if !migration.diskVolumes.isEmpty {
      add(
        .tagDisks(migration.name, .finalized), towards: .finalized, "tag the disks finalized",
        why: "so that the migration is never started again", .oneWay)
    }
  }

  mutating func addHook(_ point: HookPoint, towards: Phase) {
    guard let hook = migration.cutover.hooks[point] else { return }
    // Hooks behind the fence have the generation that the fence commits, so their records tell nothing before it.
    let isRecorded = facts.isPastFence || MigrationFacts.hooksBeforeFence.contains(point)
    if isRecorded, facts.hookProgress(point, digest: options.digest) == .succeeded { return }
    add(
      .runHook(migration.name, point), towards: towards,
      "run hook \(point.rawValue) on \(migration.host(ofHook: point))", why: hook.run,
      price: Price(cost: .pause, note: "at most \(Int(saturating: hook.timeoutSeconds)) s"),
      MigrationFacts.hooksAfterFence.contains(point) ? .oneWay : .reversible)
  }

  mutating func retire() {
    let name = migration.name
    startAgents()
    holdBack()
    let roles = [Role.source, .destination].filter { role in
      let isKnown = reached == .reached(.finalized) || reached == .pastFence || reached.isTombstoned
      let session = role == .source ? facts.sourceSession : facts.destinationSession
      return !isKnown || session != nil || facts.mayHideSession(role)
    }
    if !roles.isEmpty { archive() }
    for role in roles {
      let half = migration.isWithinHost ? "\(role.rawValue)'s half of the session" : "session"
      add(
        .retire(name, role), towards: .retired, "delete the \(half) on \(migration.host(role))",
        why: "phase: retired", precondition: "finalized", .oneWay)
    }
    finishRetirement()
  }

  /// What is left once both sessions are gone; agents are looked at for all migrations together.
  mutating func finishRetirement() {
    guard !migration.diskVolumes.isEmpty, facts.taggedPhase != .retired, facts.isCloudSeen else { return }
    // An agent may be left on a host that can't be seen now; the tag would say that nobody needs to look there again.
    guard facts.unseenHosts.isEmpty else { return }
    add(
      .tagDisks(migration.name, .retired), towards: .retired, "tag the disks retired",
      why: "the tombstone that outlives both hosts", .oneWay)
  }
}

extension PhaseReached {
  var isTombstoned: Bool { if case .tombstoned = self { true } else { false } }
}
