/// A name or id that must never be mixed up with another kind of string.
///
/// Encoded as a plain string. Conforming types check their own form where one is prescribed.
package protocol Identifier: Hashable, Sendable, Codable, Comparable, CustomStringConvertible {
  var text: String { get }
  init(_ text: String)
}

extension Identifier {
  package var description: String { text }
  package static func < (left: Self, right: Self) -> Bool { left.text < right.text }

  package init(from decoder: any Decoder) throws {
    self.init(try decoder.singleValueContainer().decode(String.self))
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(text)
  }
}

/// `metadata.id` of a migration plan: owns tags, disk names and sessions.
package struct PlanID: Identifier {
  package let text: String
  package init(_ text: String) { self.text = text }
}

/// The key of a migration in the plan. With the plan's id it names the migration everywhere.
package struct MigrationName: Identifier {
  package let text: String
  package init(_ text: String) { self.text = text }
}

/// The key of a volume in its migration.
package struct VolumeName: Identifier {
  package let text: String
  package init(_ text: String) { self.text = text }
}

/// The key of a host in the plan: a label. The host's identity is its agent's key.
package struct HostName: Identifier {
  package let text: String
  package init(_ text: String) { self.text = text }
}

/// The replication of one migration, as two agents hold it: "PLANID/MIGRATION".
package struct SessionID: Identifier {
  package let text: String
  package init(_ text: String) { self.text = text }
  package init(plan: PlanID, migration: MigrationName) { self.text = "\(plan.text)/\(migration.text)" }
}

/// SHA-256 of an agent's public key (DER SubjectPublicKeyInfo), as "SHA256:" and 64 lower-case hex digits.
package struct KeyFingerprint: Identifier {
  package let text: String
  package init(_ text: String) { self.text = text }
}

/// Grows each time authority over the data moves; the smaller one is refused (DESIGN: generation).
package struct Generation: Hashable, Sendable, Comparable, Codable, CustomStringConvertible {
  package let number: UInt64
  package init(_ number: UInt64) { self.number = number }
  package static let initial = Generation(1)
  package var next: Generation { Generation(number + 1) }
  package var description: String { String(number) }
  package static func < (left: Generation, right: Generation) -> Bool { left.number < right.number }

  package init(from decoder: any Decoder) throws { number = try decoder.singleValueContainer().decode(UInt64.self) }
  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(number)
  }
}

/// Which end of a migration a host or an agent's session is.
package enum Role: String, Sendable, Codable, Hashable, CaseIterable {
  case source
  case destination
}

/// Where a migration is, or should be. The order of the cases is the order of the way.
package enum Phase: String, Sendable, Codable, Hashable, CaseIterable, Comparable {
  case prepared
  case synchronized
  case cmotion
  case finalized
  case retired

  private var rank: Int {
    switch self {
    case .prepared: 0
    case .synchronized: 1
    case .cmotion: 2
    case .finalized: 3
    case .retired: 4
    }
  }
  package static func < (left: Phase, right: Phase) -> Bool { left.rank < right.rank }
}

/// A point on the wall clock, in seconds since 1970-01-01T00:00:00Z. For people and records, never for intervals.
package struct WallTime: Hashable, Sendable, Comparable, Codable {
  package let secondsSince1970: Double
  package init(secondsSince1970: Double) { self.secondsSince1970 = secondsSince1970 }
  package static func < (left: WallTime, right: WallTime) -> Bool { left.secondsSince1970 < right.secondsSince1970 }
  package func adding(seconds: Double) -> WallTime { WallTime(secondsSince1970: secondsSince1970 + seconds) }

  package init(from decoder: any Decoder) throws {
    secondsSince1970 = try decoder.singleValueContainer().decode(Double.self)
  }
  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(secondsSince1970)
  }
}

/// A point on the monotonic clock, in nanoseconds since an arbitrary origin of this boot.
package struct MonotonicTime: Hashable, Sendable, Comparable {
  package let nanoseconds: UInt64
  package init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }
  package static func < (left: MonotonicTime, right: MonotonicTime) -> Bool { left.nanoseconds < right.nanoseconds }
  package func adding(nanoseconds more: UInt64) -> MonotonicTime { MonotonicTime(nanoseconds: nanoseconds + more) }
  package func adding(seconds: Double) -> MonotonicTime {
    MonotonicTime(nanoseconds: nanoseconds + UInt64(max(0, seconds) * 1e9))
  }
  /// Seconds from `earlier` to this; zero if `earlier` is later.
  package func seconds(since earlier: MonotonicTime) -> Double {
    nanoseconds > earlier.nanoseconds ? Double(nanoseconds - earlier.nanoseconds) / 1e9 : 0
  }
}
