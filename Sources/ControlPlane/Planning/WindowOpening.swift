package import BlockModel
import Foundation
package import MigrationModel

/// One opening of a window: from the first instant to before the second.
package struct Opening: Sendable, Equatable {
  package var from: WallTime
  package var to: WallTime
  package init(from: WallTime, to: WallTime) {
    self.from = from
    self.to = to
  }
}

/// When weekly windows open.
///
/// Daylight saving, decided once: a window is named by what the clocks on the wall show. A start or an end that the
/// clocks skip (spring) is the first instant after the gap; one that they show twice (autumn) is the first showing for
/// a start and the last for an end, so that the window is open whenever the wall says so. An end that isn't after
/// the start is on the next day; 24:00 is the next day's 00:00.
package enum WindowOpening {
  private static let daySeconds = 86_400.0
  /// Days around now in which an opening may have begun that isn't over: one begins on its day and ends on the next.
  private static let openDays = -2...1
  /// Days in which openings are looked for: the next one begins within a week, and with those that touch it lasts less
  /// than a week, or for ever.
  private static let searchDays = -8...16

  /// Whether `timeZone` is one that this system knows.
  package static func knows(timeZone: String) -> Bool { TimeZone(identifier: timeZone) != nil }

  /// The opening that contains `now`, or else the next one. Nil where there is no window, no day or no such zone.
  /// Those that touch or overlap are one: Friday until 24:00 and Saturday from 00:00 is a night without a break.
  package static func currentOrNext(of windows: [WeeklyWindow], at now: WallTime) -> Opening? {
    var found: Opening?
    let all = windows.flatMap { openings(of: $0, around: now, days: searchDays) }
    for opening in all.sorted(by: { ($0.from, $0.to) < ($1.from, $1.to) }) {
      if let before = found, opening.from <= before.to {
        found = Opening(from: before.from, to: max(before.to, opening.to))
      } else if let before = found, before.to > now {
        return before
      } else {
        found = opening
      }
    }
    return found.flatMap { $0.to > now ? $0 : nil }
  }

  /// Without any window it is always open.
  package static func isOpen(_ windows: [WeeklyWindow], at now: WallTime) -> Bool {
    guard !windows.isEmpty else { return true }
    return windows.contains { window in
      openings(of: window, around: now, days: openDays).contains { $0.from <= now && now < $0.to }
    }
  }

  private static func openings(
    of window: WeeklyWindow, around now: WallTime, days: ClosedRange<Int>
  ) -> [Opening] {
    guard let zone = TimeZone(identifier: window.timeZone) else { return [] }
    let localNow = now.secondsSince1970 + offset(of: zone, at: now.secondsSince1970)
    let today = (localNow / daySeconds).rounded(.down)
    var found: [Opening] = []
    for distance in days {
      let day = today + Double(distance)
      guard window.days.contains(weekday(ofDay: day)) else { continue }
      let nextDay = window.toMinute <= window.fromMinute ? daySeconds : 0
      let from = instant(local: day * daySeconds + Double(window.fromMinute) * 60, in: zone, last: false)
      let to = instant(local: day * daySeconds + Double(window.toMinute) * 60 + nextDay, in: zone, last: true)
      if from < to {
        found.append(Opening(from: WallTime(secondsSince1970: from), to: WallTime(secondsSince1970: to)))
      }
    }
    return found
  }

  /// Day 0 is 1970-01-01, a Thursday.
  private static func weekday(ofDay day: Double) -> Weekday {
    let index = (Int(day) + 3) % 7
    return Weekday.allCases[index < 0 ? index + 7 : index]
  }

  private static func offset(of zone: TimeZone, at instant: Double) -> Double {
    Double(zone.secondsFromGMT(for: Date(timeIntervalSince1970: instant)))
  }

  /// The instant at which clocks in `zone` show `local` (seconds since 1970 as if it were UTC).
  private static func instant(local: Double, in zone: TimeZone, last: Bool) -> Double {
    let before = offset(of: zone, at: local - daySeconds)
    let after = offset(of: zone, at: local + daySeconds)
    let shown = [local - before, local - after].filter { $0 + offset(of: zone, at: $0) == local }
    if let first = shown.min(), let final = shown.max() { return last ? final : first }
    // The clocks skip it: find the instant at which the offset changes.
    var low = local - daySeconds - before
    var high = local + daySeconds - after
    while high - low > 0.5 {
      let middle = ((low + high) / 2).rounded(.down)
      if middle <= low { break }
      if offset(of: zone, at: middle) == before { low = middle } else { high = middle }
    }
    return high.rounded()
  }
}

extension IQoS {
  /// The level that holds now: the first scheduled one whose window is open, else the usual one.
  package func level(at now: WallTime) -> IQoSLevel {
    schedule.first { WindowOpening.isOpen([$0.window], at: now) }?.level ?? level
  }
}
