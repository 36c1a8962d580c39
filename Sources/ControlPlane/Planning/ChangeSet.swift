package import AgentProtocol
package import BlockModel
package import Diagnostics

/// Where a migration is now, as far as the observation tells.
package enum PhaseReached: Sendable, Equatable, Codable {
  /// Not even prepared yet.
  case nothing
  case reached(Phase)
  /// Finished: only tombstones or tags are left.
  case tombstoned(Phase)
  /// Between the fence and the end of finalize: there is only one way, forward.
  case pastFence
  /// What would tell could not be observed.
  case unknown

  /// The furthest phase that certainly holds.
  package var phase: Phase? {
    switch self {
    case .nothing, .unknown: nil
    case .reached(let phase), .tombstoned(let phase): phase
    case .pastFence: .cmotion
    }
  }

  package var word: String {
    switch self {
    case .nothing: "nothing yet"
    case .reached(let phase): phase.rawValue
    case .tombstoned(let phase): phase == .retired ? "retired" : "\(phase.rawValue) (tombstone)"
    case .pastFence: "finalizing, source fenced"
    case .unknown: "unknown"
    }
  }
}

/// What a change costs. Nil is "not known before …", never zero.
package struct Price: Sendable, Equatable, Codable {
  package enum CostClass: String, Sendable, Codable {
    /// No new resource, no pause.
    case free
    /// Something is billed from now on.
    case billed
    /// The application feels it.
    case pause
  }
  package var bytesToMove: UInt64?
  package var estimatedSeconds: Double?
  /// Whether the estimate rests on a measured bandwidth or an assumed one.
  package var bandwidthMeasured: Bool
  /// How long the application is paused or stopped, in seconds; nil: not at all.
  package var pauseSeconds: Double?
  package var cost: CostClass
  /// What is billed, or what the price depends on; may be empty.
  package var note: String
  package init(
    bytesToMove: UInt64? = nil, estimatedSeconds: Double? = nil, bandwidthMeasured: Bool = false,
    pauseSeconds: Double? = nil, cost: CostClass = .free, note: String = ""
  ) {
    self.bytesToMove = bytesToMove
    self.estimatedSeconds = estimatedSeconds
    self.bandwidthMeasured = bandwidthMeasured
    self.pauseSeconds = pauseSeconds
    self.cost = cost
    self.note = note
  }
  package static let free = Price()
}

/// Whether a change can be taken back.
package enum Reversibility: String, Sendable, Codable {
  /// Changes nothing that anybody could notice, or can be changed again at any time.
  case live
  case reversible
  case oneWay
}

/// One thing that will be done, and everything a reviewer would ask about it.
package struct Change: Sendable, Equatable, Codable {
  package var action: Action
  /// The phase that this step is on the way to.
  package var towards: Phase
  /// "create disk cmc-erp-db-data-… (PremiumV2_LRS, 256 GiB)".
  package var summary: String
  package var why: String
  /// What must hold when it starts; may be empty.
  package var precondition: String
  package var price: Price
  package var reversibility: Reversibility
  /// Index into the migration's `waiting`, where something holds this step back; nil: it can be done now.
  package var waitsFor: Int?
  package init(
    action: Action, towards: Phase, summary: String, why: String, precondition: String = "", price: Price = .free,
    reversibility: Reversibility = .live, waitsFor: Int? = nil
  ) {
    self.action = action
    self.towards = towards
    self.summary = summary
    self.why = why
    self.precondition = precondition
    self.price = price
    self.reversibility = reversibility
    self.waitsFor = waitsFor
  }
}

/// Why something that the plan wants isn't done now.
package struct Waiting: Sendable, Equatable, Codable {
  package enum Reason: Sendable, Equatable, Codable {
    /// Closed now; the next opening, nil where there is none within a year.
    case window(opensAt: WallTime?)
    /// Nobody approved this configuration, or the approval expired.
    case approval(Phase)
    case hold(Hold)
    /// Guardrails want it from a saved change set.
    case saved
    /// Guardrails forbid it, and what comes before it must not be stopped.
    case guardrail
    /// The saved change set that is applied doesn't list it: nobody reviewed it.
    case unreviewed
    /// Only so many migrations are moved in one run (`--max-moves`, guardrails), and others come first.
    case moves(limit: Int)
    /// `confirmWithin` is set and the swing isn't confirmed yet; the agents revert at this time.
    case confirmation(by: WallTime?)
    /// An earlier wave isn't where it should be, or wasn't long enough; `until`: when that will have been, where it is
    /// known.
    case wave(String, until: WallTime?)
    /// Its group goes together, and this migration of it (it may be the one that waits) can't now.
    case group(String, MigrationName)
  }
  package var reason: Reason
  package var message: String
  /// What to do about it, a command where there is one; may be empty.
  package var advice: String
  package init(reason: Reason, message: String, advice: String = "") {
    self.reason = reason
    self.message = message
    self.advice = advice
  }
}

/// What differs for one migration.
package struct MigrationChanges: Sendable, Equatable, Codable {
  package var migration: MigrationName
  package var reached: PhaseReached
  package var target: Phase
  package var configurationDigest: String
  /// In the order in which they will be done.
  package var changes: [Change]
  package var waiting: [Waiting]
  /// Errors among these mean that nothing is done for this migration.
  package var diagnostics: [Diagnostic]
  package var health: ReplicationHealth?
  /// Only so many of the first changes are carried out before the world is looked at again, because what they show
  /// may change the rest; nil: all.
  package var lookAgainAfter: Int?
  /// So many of the first changes are kept back by no guardrail and no limit of a run: a way back, a finalize that has
  /// stopped the application, and the start of an agent that may know more. Half-way is the worst place to stop.
  package var unstoppable = 0
  /// It left the document, and this ends it (`--prune`). Nil: no; change sets of older versions have nothing here.
  package var isPruned: Bool?
  /// Where it goes, in a word.
  package var targetWord: String { isPruned == true ? "gone" : target.rawValue }
  package init(migration: MigrationName, reached: PhaseReached, target: Phase, configurationDigest: String) {
    self.migration = migration
    self.reached = reached
    self.target = target
    self.configurationDigest = configurationDigest
    changes = []
    waiting = []
    diagnostics = []
  }

  /// What can be done now.
  package var actionable: [Change] {
    diagnostics.hasErrors ? [] : changes.prefix(lookAgainAfter ?? changes.count).filter { $0.waitsFor == nil }
  }
  package var isNoOp: Bool { changes.isEmpty && !diagnostics.hasErrors }

  /// Whether it comes back because its group can't follow, as far as that can be done now.
  package var goesBackWithGroup: Bool {
    actionable.contains { if case .revertWithGroup = $0.action { true } else { false } }
  }

  /// Whether the source is fenced, or was: there is only one way from here.
  package var isPastFence: Bool {
    switch reached {
    case .pastFence, .tombstoned: true
    case .reached(let phase): phase >= .finalized
    case .nothing, .unknown: false
    }
  }

  /// Whether what can be done now moves data or authority, stops an application, or makes something: more than a live
  /// edit, a tag, or the start of an agent that was there. What nothing may stop is no move: the run that began it
  /// counted it.
  package var isMove: Bool {
    // Also what comes once an agent has answered: it belongs to the same run.
    !diagnostics.hasErrors
      && changes.dropFirst(unstoppable).contains { change in
        guard change.waitsFor == nil else { return false }
        return switch change.action {
        case .configureSession: reached == .nothing
        case .deployAgent, .acquireLease, .checkDevices, .growVolumes, .proveConnection, .checkWave, .checkGroup,
          .tagDisks, .rename,
          .releaseLease, .removeAgent, .revertWithGroup, .holdAfterFence:
          false
        default: true
        }
      }
  }

  /// Bytes that what can be done now moves, as far as they are known.
  package var bytesToMove: UInt64 { actionable.compactMap(\.price.bytesToMove).reduce(0, +) }

  /// From this change on everything waits, unless it waits already.
  mutating func hold(from first: Int, _ why: Waiting) {
    let held = changes.indices.dropFirst(first).filter { changes[$0].waitsFor == nil }
    guard !held.isEmpty else { return }
    waiting.append(why)
    for index in held { changes[index].waitsFor = waiting.count - 1 }
  }
}

/// Ours by its plan id, but not in the document any more.
package struct UnmanagedItem: Sendable, Equatable, Codable, Comparable {
  package enum Kind: String, Sendable, Codable {
    case session
    case disk
  }
  package var kind: Kind
  package var name: String
  package var migration: MigrationName?
  /// Where it is and in which state.
  package var detail: String
  package init(kind: Kind, name: String, migration: MigrationName?, detail: String) {
    self.kind = kind
    self.name = name
    self.migration = migration
    self.detail = detail
  }
  package static func < (left: UnmanagedItem, right: UnmanagedItem) -> Bool {
    (left.kind.rawValue, left.name, left.detail) < (right.kind.rawValue, right.name, right.detail)
  }
}

/// The computed difference between a migration plan and an observation: what `plan` prints.
package struct ChangeSet: Sendable, Equatable, Codable {
  package static let formatVersion = 1
  package var plan: PlanID
  package var planName: String
  package var observedAt: WallTime
  /// In the order of their names.
  package var migrations: [MigrationChanges]
  package var unmanaged: [UnmanagedItem]
  /// About the plan as a whole; those of a migration are with it.
  package var diagnostics: [Diagnostic]
  package init(
    plan: PlanID, planName: String, observedAt: WallTime, migrations: [MigrationChanges],
    unmanaged: [UnmanagedItem], diagnostics: [Diagnostic]
  ) {
    self.plan = plan
    self.planName = planName
    self.observedAt = observedAt
    self.migrations = migrations
    self.unmanaged = unmanaged
    self.diagnostics = diagnostics
  }

  package var isNoOp: Bool { migrations.allSatisfy(\.isNoOp) && !hasErrors }
  package var hasErrors: Bool { diagnostics.hasErrors || migrations.contains { $0.diagnostics.hasErrors } }
  package var allDiagnostics: [Diagnostic] {
    (diagnostics + migrations.flatMap(\.diagnostics)).sortedByPosition()
  }
  /// Whether anything at all could be done now.
  package var isActionable: Bool { migrations.contains { !$0.actionable.isEmpty } }
}
