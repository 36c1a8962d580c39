package import BlockModel
package import MigrationModel

/// One volume of one migration.
package struct VolumeKey: Hashable, Sendable, Codable, Comparable, CustomStringConvertible {
  package var migration: MigrationName
  package var volume: VolumeName
  package init(_ migration: MigrationName, _ volume: VolumeName) {
    self.migration = migration
    self.volume = volume
  }
  package var description: String { "\(migration)/\(volume)" }
  package static func < (left: VolumeKey, right: VolumeKey) -> Bool {
    (left.migration, left.volume) < (right.migration, right.volume)
  }
}

/// What migrations of one group do together, or none of them.
package enum GroupBarrier: String, Sendable, Codable, CaseIterable {
  case swing
  /// From the first step on that the application notices.
  case finalize
  case fence

  var verb: String {
    switch self {
    case .swing: "swing"
    case .finalize: "begin finalize"
    case .fence: "be fenced"
    }
  }

  var reason: String {
    switch self {
    case .swing: "they swing together, or none of them does"
    case .finalize: "no application is stopped while another must go on"
    case .fence: "their sources are fenced together, or none is"
    }
  }

  var words: String {
    switch self {
    case .swing: "swings together"
    case .finalize: "is finalized together"
    case .fence: "is fenced together"
    }
  }
}

/// One thing to do. Each says what should hold afterwards, so it may be repeated at any time; what it needs to know
/// of the world (sizes, LUNs, keys, addresses) is looked up when it is carried out.
package enum Action: Hashable, Sendable, Codable {
  /// The shipped agent is installed and runs.
  case deployAgent(HostName)
  /// This run may act on the migration: both agents gave it their lease.
  case acquireLease(MigrationName)
  /// The source devices are there and may be migrated, the destination would fit.
  case checkDevices(MigrationName)
  /// Neither agent has the session any more, and its copy counts for nothing (`--replace`). Never from a swing on.
  case giveUpSession(MigrationName)
  /// The volume's disk is kept, and isn't the volume's any more (`--replace`).
  case orphanDisk(VolumeKey)
  /// The disk exists, with our tags, and is large enough.
  case ensureDisk(VolumeKey)
  /// All these volumes' disks are attached to the virtual machine: one call for all.
  case attachDisks(integration: String, machine: String, volumes: [VolumeKey])
  /// Its disks, and with `sessions` the halves of its session, know the names that the plan has for them by now.
  case rename(MigrationName, sessions: Bool)
  /// Both agents hold the session as the plan has it.
  case configureSession(MigrationName)
  /// Both agents hold its volumes as large as their source devices are by now.
  case growVolumes(MigrationName)
  case proveConnection(MigrationName)
  /// The wave's health check succeeds, on this host: before the next wave's migrations swing.
  case checkWave(String, HostName)
  /// Each migration of the group could take the step now, or has: right before all of them take it.
  case checkGroup(String, GroupBarrier)
  case openTap(MigrationName)
  case synchronize(MigrationName)
  case stopSynchronizing(MigrationName)
  case swing(MigrationName)
  case revert(MigrationName)
  case runHook(MigrationName, HookPoint)
  case closeTap(MigrationName)
  case prove(MigrationName)
  /// The one-way step.
  case fence(MigrationName)
  case release(MigrationName)
  /// The disks' `cmcplan-state` says how far the migration is.
  case tagDisks(MigrationName, Phase)
  /// What would be lost with the sessions is in the plan's archive: journals, approvals, the receipt.
  case archive(MigrationName)
  /// The role's agent has forgotten the session, but for its tombstone.
  case retire(MigrationName, Role)
  case releaseLease(MigrationName)
  case removeAgent(HostName)
  /// A step before the fence failed: authority back to the source, and a hold.
  case abandonFinalize(MigrationName, why: String)
  /// Another migration of its group can't follow: authority back to the source, and a hold.
  case revertWithGroup(MigrationName, why: String)
  /// A step after the fence failed: a hold, and nothing else.
  case holdAfterFence(MigrationName, why: String)
}

extension Action {
  /// The migration that it is for; nil where several share it.
  package var migration: MigrationName? {
    switch self {
    case .deployAgent, .removeAgent, .attachDisks, .checkWave, .checkGroup: nil
    case .acquireLease(let name), .checkDevices(let name), .giveUpSession(let name), .configureSession(let name),
      .growVolumes(let name), .proveConnection(let name),
      .openTap(let name), .synchronize(let name), .stopSynchronizing(let name), .swing(let name), .revert(let name),
      .runHook(let name, _), .closeTap(let name), .prove(let name), .fence(let name), .release(let name),
      .tagDisks(let name, _), .rename(let name, _), .archive(let name), .retire(let name, _), .releaseLease(let name),
      .abandonFinalize(let name, _), .revertWithGroup(let name, _), .holdAfterFence(let name, _):
      name
    case .ensureDisk(let key), .orphanDisk(let key): key.migration
    }
  }

  package static let revertWithGroupKind = "revertWithGroup"

  /// Short and stable: journals, JSON and progress lines name the step with it.
  package var kind: String {
    switch self {
    case .deployAgent: "deployAgent"
    case .acquireLease: "acquireLease"
    case .checkDevices: "checkDevices"
    case .giveUpSession: "giveUpSession"
    case .orphanDisk: "orphanDisk"
    case .ensureDisk: "ensureDisk"
    case .attachDisks: "attachDisks"
    case .configureSession: "configureSession"
    case .growVolumes: "growVolumes"
    case .proveConnection: "proveConnection"
    case .checkWave: "checkWave"
    case .checkGroup(_, let barrier): "checkGroup.\(barrier.rawValue)"
    case .openTap: "openTap"
    case .synchronize: "synchronize"
    case .stopSynchronizing: "stopSynchronizing"
    case .swing: "swing"
    case .revert: "revert"
    case .runHook(_, let point): "hook.\(point.rawValue)"
    case .closeTap: "closeTap"
    case .prove: "prove"
    case .fence: "fence"
    case .release: "release"
    case .tagDisks: "tagDisks"
    case .rename: "rename"
    case .archive: "archive"
    case .retire(_, let role): "retire.\(role.rawValue)"
    case .releaseLease: "releaseLease"
    case .removeAgent: "removeAgent"
    case .abandonFinalize: "abandonFinalize"
    case .revertWithGroup: Self.revertWithGroupKind
    case .holdAfterFence: "holdAfterFence"
    }
  }

  /// What it is about, in words: "agent on erp-db", "erp-db/data".
  package var subject: String {
    switch self {
    case .deployAgent(let host), .removeAgent(let host): "host \(host)"
    case .ensureDisk(let key), .orphanDisk(let key): key.description
    case .attachDisks(_, let machine, _): "virtual machine \(machine)"
    case .checkWave(let wave, let host): "wave \(wave) on \(host)"
    case .checkGroup(let group, _): "group \(group)"
    default: migration?.text ?? ""
    }
  }

  /// Looks only, before others' steps.
  var isCheck: Bool {
    switch self {
    case .checkWave, .checkGroup: true
    default: false
    }
  }

  /// Before the fence, or the fence itself, of finalize: the application notices.
  var isOfFinalize: Bool {
    switch self {
    case .runHook(_, let point): MigrationFacts.hooksBeforeFence.contains(point)
    case .closeTap, .prove, .fence: true
    default: false
    }
  }
}
