package import BlockModel
package import Diagnostics

/// How much of the available bandwidth a migration may take.
package enum IQoSLevel: String, Sendable, Codable, CaseIterable {
  case minimum
  case moderate
  case aggressive
  case relentless

  /// Nil: no throttle.
  package var share: Double? {
    switch self {
    case .minimum: 0.25
    case .moderate: 0.5
    case .aggressive: 0.75
    case .relentless: nil
    }
  }
}

package struct IQoS: Sendable, Equatable {
  package var level: IQoSLevel
  package var schedule: [ScheduledLevel]
  package var networkLimitBytesPerSecond: UInt64?
  /// How much slower production may get before migration yields, as a fraction (0.2 is 20 %).
  package var latencyBound: Double?
  package init(
    level: IQoSLevel, schedule: [ScheduledLevel] = [], networkLimitBytesPerSecond: UInt64? = nil,
    latencyBound: Double? = nil
  ) {
    self.level = level
    self.schedule = schedule
    self.networkLimitBytesPerSecond = networkLimitBytesPerSecond
    self.latencyBound = latencyBound
  }
}

package enum Weekday: String, Sendable, Codable, CaseIterable {
  case mon, tue, wed, thu, fri, sat, sun
}

/// Every week on `days`, from one minute of the day (0 to 1440) to another, in an IANA time zone.
package struct WeeklyWindow: Sendable, Equatable {
  package var days: [Weekday]
  package var fromMinute: Int
  package var toMinute: Int
  package var timeZone: String
  package var position: SourcePosition?
  package init(days: [Weekday], fromMinute: Int, toMinute: Int, timeZone: String, position: SourcePosition?) {
    self.days = days
    self.fromMinute = fromMinute
    self.toMinute = toMinute
    self.timeZone = timeZone
    self.position = position
  }
}

package struct ScheduledLevel: Sendable, Equatable {
  package var window: WeeklyWindow
  package var level: IQoSLevel
  package init(window: WeeklyWindow, level: IQoSLevel) {
    self.window = window
    self.level = level
  }
}

package struct Cutover: Sendable, Equatable {
  package enum Approval: String, Sendable, Codable, CaseIterable {
    case manual
    case automatic
  }
  package enum Verification: String, Sendable, Codable, CaseIterable {
    case full
    case changed
    case none
  }
  /// The line that people review: where the migration should be.
  package var phase: Positioned<Phase>
  package var approval: Approval
  package var windows: [WeeklyWindow]
  package var confirmWithinSeconds: Double?
  package var verify: Verification
  package var hooks: [HookPoint: Hook]
  package init(
    phase: Positioned<Phase>, approval: Approval = .manual, windows: [WeeklyWindow] = [],
    confirmWithinSeconds: Double? = nil, verify: Verification = .full, hooks: [HookPoint: Hook] = [:]
  ) {
    self.phase = phase
    self.approval = approval
    self.windows = windows
    self.confirmWithinSeconds = confirmWithinSeconds
    self.verify = verify
    self.hooks = hooks
  }
}

package enum HookPoint: String, Sendable, Codable, CaseIterable, Comparable {
  case stopApplication
  case unmount
  case mount
  case startApplication
  case healthCheck

  private var rank: Int { Self.allCases.firstIndex(of: self) ?? 0 }
  package static func < (left: HookPoint, right: HookPoint) -> Bool { left.rank < right.rank }

  /// Where it runs if the plan doesn't say. The health check runs where the application runs.
  package var defaultRole: Role {
    switch self {
    case .stopApplication, .unmount: .source
    case .mount, .startApplication, .healthCheck: .destination
    }
  }
}

package struct Hook: Sendable, Equatable {
  package static let defaultTimeoutSeconds = 300.0
  package var host: HostName?
  /// A shell command with placeholders `{device:VOLUME}` and `{lun:VOLUME}`, run as `/bin/sh -c` on the host.
  package var run: String
  package var timeoutSeconds: Double
  package var position: SourcePosition?
  package init(host: HostName?, run: String, timeoutSeconds: Double, position: SourcePosition?) {
    self.host = host
    self.run = run
    self.timeoutSeconds = timeoutSeconds
    self.position = position
  }
}

/// What a platform team allows, kept outside the plan so that a plan can't allow itself anything.
package struct Guardrails: Sendable, Equatable {
  /// Base URLs (authority or resource manager) that a custom cloud may name.
  package var allowedEndpoints: [String]
  package var allowedSecrets: [SecretReference]
  /// Whom notifications may reach: an https URL and all below it, or a secret that holds one.
  package var allowedWebhooks: [NotificationTarget.Webhook]
  /// Held beside those of the plan itself; the stricter one wins.
  package var limits: GuardrailLimits
  package init(
    allowedEndpoints: [String], allowedSecrets: [SecretReference],
    allowedWebhooks: [NotificationTarget.Webhook] = [], limits: GuardrailLimits = GuardrailLimits()
  ) {
    self.allowedEndpoints = allowedEndpoints
    self.allowedSecrets = allowedSecrets
    self.allowedWebhooks = allowedWebhooks
    self.limits = limits
  }
}
