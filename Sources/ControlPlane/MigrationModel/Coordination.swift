package import BlockModel
package import Diagnostics

// What holds between migrations, or of a plan as a whole.

/// Migrations that reach their phase before those of the next wave may start.
package struct Wave: Sendable, Equatable {
  package var name: String
  /// In the order of the document; each migration is in at most one wave. One that is in none waits for nobody.
  package var migrations: [MigrationName]
  /// How long all of the wave must have been in its phase before the next wave starts; 0 where nothing is said.
  package var bakeSeconds: Double
  /// Asked after the bake time; the next wave starts only if it succeeds.
  package var healthCheck: WaveHealthCheck?
  package var position: SourcePosition?
  package init(
    name: String, migrations: [MigrationName], bakeSeconds: Double = 0, healthCheck: WaveHealthCheck? = nil,
    position: SourcePosition? = nil
  ) {
    self.name = name
    self.migrations = migrations
    self.bakeSeconds = bakeSeconds
    self.healthCheck = healthCheck
    self.position = position
  }
}

/// A command that says whether a wave went well. It has no placeholders: it belongs to no migration.
package struct WaveHealthCheck: Sendable, Equatable {
  package var host: HostName
  /// A shell command, run as `/bin/sh -c` on the host.
  package var run: String
  package var timeoutSeconds: Double
  package init(host: HostName, run: String, timeoutSeconds: Double) {
    self.host = host
    self.run = run
    self.timeoutSeconds = timeoutSeconds
  }
}

/// Migrations that swing together, or none of them. They have one phase, and are in one wave.
package struct SwingGroup: Sendable, Equatable {
  package var name: String
  /// At least two, in the order of the document; each is in at most one group.
  package var migrations: [MigrationName]
  package var position: SourcePosition?
  package init(name: String, migrations: [MigrationName], position: SourcePosition? = nil) {
    self.name = name
    self.migrations = migrations
    self.position = position
  }
}

/// A rename: what a migration, or one of its volumes, was called. No data moves.
package struct Move: Sendable, Equatable {
  /// A migration where `volume` is nil. `from` and `to` are both migrations or both volumes.
  package struct Name: Sendable, Hashable, CustomStringConvertible {
    package var migration: MigrationName
    package var volume: VolumeName?
    package init(migration: MigrationName, volume: VolumeName? = nil) {
      self.migration = migration
      self.volume = volume
    }
    package var description: String { volume.map { "\(migration)/\($0)" } ?? "\(migration)" }
  }
  /// Not part of the plan any more.
  package var from: Name
  /// Part of the plan, or `from` of another rename.
  package var to: Name
  package var position: SourcePosition?
  package init(from: Name, to: Name, position: SourcePosition? = nil) {
    self.from = from
    self.to = to
    self.position = position
  }
}

/// Whom to tell, and of what.
package struct NotificationTarget: Sendable, Equatable {
  package enum Event: String, Sendable, Codable, CaseIterable {
    /// A one-way step waits for `approve`.
    case approvalNeeded
    /// A swing waits for `confirm`.
    case confirmationNeeded
    /// A migration is held: paused, reverted, or failed.
    case held
    /// A step failed and is not tried again.
    case failed
    /// A window is open, or was in this run, and what it is for doesn't fit in what is left of it.
    case windowMissed
    /// A migration reached the phase that the plan names.
    case reached
  }
  package enum Format: String, Sendable, Codable, CaseIterable {
    case json
    case slack
    case teams
  }
  package enum Webhook: Sendable, Equatable {
    /// What `WebhookAddress` takes.
    case url(String)
    /// Where the URL is found, for it is a secret in itself. What is found there must be what `WebhookAddress` takes.
    case secret(SecretReference)
  }
  package var name: String
  package var webhook: Webhook
  /// Not empty.
  package var events: [Event]
  package var format: Format
  package var position: SourcePosition?
  package init(name: String, webhook: Webhook, events: [Event], format: Format, position: SourcePosition? = nil) {
    self.name = name
    self.webhook = webhook
    self.events = events
    self.format = format
    self.position = position
  }
}

/// Where journals, approvals and receipts go for good.
package struct Archive: Sendable, Equatable {
  package enum Place: Sendable, Equatable {
    /// As written, relative to the plan's directory.
    case directory(String)
    /// What `BlobAddress` takes.
    case blob(String, access: BlobAccess)
  }
  /// Who signs in to a blob's container.
  package enum BlobAccess: Sendable, Equatable {
    /// Whoever this integration signs in as.
    case integration(String)
    /// A shared access signature.
    case signature(SecretReference)
  }
  package var place: Place
  package var position: SourcePosition?
  package init(_ place: Place, position: SourcePosition? = nil) {
    self.place = place
    self.position = position
  }
  package init(directory: String) { self.init(.directory(directory)) }

  /// As people know it.
  package var text: String {
    switch place {
    case .directory(let path): path
    case .blob(let url, _): url
    }
  }
}

/// What happens where a guardrail is crossed.
package enum GuardrailEffect: String, Sendable, Codable, CaseIterable {
  case deny
  case warn
}

package struct GuardrailRule<Value: Sendable & Equatable>: Sendable, Equatable {
  package var value: Value
  package var effect: GuardrailEffect
  package var position: SourcePosition?
  package init(_ value: Value, effect: GuardrailEffect = .deny, position: SourcePosition? = nil) {
    self.value = value
    self.effect = effect
    self.position = position
  }
}

/// The highest iQoS level in a part of the week.
package struct GuardrailLevel: Sendable, Equatable {
  package var window: WeeklyWindow
  package var atMost: IQoSLevel
  package init(window: WeeklyWindow, atMost: IQoSLevel) {
    self.window = window
    self.atMost = atMost
  }
}

/// What a plan may want. It stands in the plan itself, or in a guardrails file that a platform team owns; what is nil
/// or empty is not limited.
package struct GuardrailLimits: Sendable, Equatable {
  /// Azure locations, as in `westeurope`.
  package var locations: GuardrailRule<[String]>?
  package var skus: GuardrailRule<[ManagedDisk.SKU]>?
  /// The largest disk, in bytes.
  package var diskSizeBytes: GuardrailRule<UInt64>?
  /// The most migrations that one run may move a phase on.
  package var moves: GuardrailRule<Int>?
  /// The most bytes that one run may start to move.
  package var bytes: GuardrailRule<UInt64>?
  package var iqos: [GuardrailRule<GuardrailLevel>]
  /// The plan's metadata names an owner.
  package var owner: GuardrailRule<Bool>?
  /// One-way steps are applied only from a saved change set.
  package var oneWayFromSavedOnly: GuardrailRule<Bool>?
  package init(
    locations: GuardrailRule<[String]>? = nil, skus: GuardrailRule<[ManagedDisk.SKU]>? = nil,
    diskSizeBytes: GuardrailRule<UInt64>? = nil, moves: GuardrailRule<Int>? = nil, bytes: GuardrailRule<UInt64>? = nil,
    iqos: [GuardrailRule<GuardrailLevel>] = [], owner: GuardrailRule<Bool>? = nil,
    oneWayFromSavedOnly: GuardrailRule<Bool>? = nil
  ) {
    self.locations = locations
    self.skus = skus
    self.diskSizeBytes = diskSizeBytes
    self.moves = moves
    self.bytes = bytes
    self.iqos = iqos
    self.owner = owner
    self.oneWayFromSavedOnly = oneWayFromSavedOnly
  }
}
