package import BlockModel
package import MigrationModel
package import Planning

/// A word to a person: what happened to a migration, and what to do.
package struct Notice: Sendable, Equatable {
  package var event: NotificationTarget.Event
  package var migration: MigrationName
  /// Stands for why: the same cause is told once, until it is gone or another one.
  package var cause: String
  package var message: String
  /// A command, where there is one; may be empty.
  package var advice: String
  package var reached: PhaseReached
  package var target: Phase
  package init(
    event: NotificationTarget.Event, migration: MigrationName, cause: String, message: String, advice: String,
    reached: PhaseReached, target: Phase
  ) {
    self.event = event
    self.migration = migration
    self.cause = cause
    self.message = message
    self.advice = advice
    self.reached = reached
    self.target = target
  }
}

/// A notice on its way to one of the plan's `notifications`.
package struct NoticeDelivery: Sendable, Equatable {
  /// The key under `notifications:`.
  package var target: String
  package var notice: Notice
}

/// What was told to whom: kept beside the journals, so that a run every five minutes doesn't say it every five minutes.
/// Losing it means that what still stands is told once more.
package struct NoticeMemory: Sendable, Codable, Equatable {
  package struct Told: Sendable, Codable, Equatable {
    package var target: String
    package var migration: MigrationName
    package var event: NotificationTarget.Event
    package var cause: String
    package var at: WallTime
  }
  package static let version = 1
  /// The newest are kept.
  package static let entryLimit = 20_000
  package static let ageLimitSeconds = 400.0 * 86_400
  package private(set) var formatVersion = NoticeMemory.version
  package private(set) var told: [Told] = []
  package init() {}

  package mutating func add(_ delivery: NoticeDelivery, at now: WallTime) {
    told.append(
      Told(
        target: delivery.target, migration: delivery.notice.migration, event: delivery.notice.event,
        cause: delivery.notice.cause, at: now))
    if told.count > Self.entryLimit { told.removeFirst(told.count - Self.entryLimit) }
  }

  package mutating func forget(where isOver: (Told) -> Bool) { told.removeAll(where: isOver) }
}
