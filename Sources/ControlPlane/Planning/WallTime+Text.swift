package import BlockModel
import Foundation

private let earliestShown = -62_135_596_800.0
private let latestShown = 253_402_300_799.0

/// "2026-11-23T04:30:00Z", for tags. Rounded up: nothing is to look older than it is.
package func stamped(_ time: WallTime) -> String {
  rendered(WallTime(secondsSince1970: time.secondsSince1970.rounded(.up))).replacing(" ", with: "T")
}

/// What `stamped` wrote, or another time of ISO 8601; nil where the text is none.
package func wallTime(stamped text: String) -> WallTime? {
  guard let date = try? Date(text, strategy: .iso8601) else { return nil }
  return WallTime(secondsSince1970: date.timeIntervalSince1970)
}

/// "2026-11-23 04:30:00Z": UTC, whatever the machine's zone.
///
/// Times beyond the years 1 and 9999 are shown as their first and last second.
package func rendered(_ time: WallTime) -> String {
  // Of four-digit years only: an agent may say anything.
  let told = time.secondsSince1970.isNaN ? 0 : min(max(time.secondsSince1970, earliestShown), latestShown)
  let days = (told / 86_400).rounded(.down)
  let seconds = Int(told - days * 86_400)
  // Days to a civil date (the proleptic Gregorian calendar repeats every 146,097 days, counted from 0000-03-01).
  let shifted = Int(days) + 719_468
  let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
  let dayOfEra = shifted - era * 146_097
  let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
  let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
  let monthIndex = (5 * dayOfYear + 2) / 153
  let day = dayOfYear - (153 * monthIndex + 2) / 5 + 1
  let month = monthIndex < 10 ? monthIndex + 3 : monthIndex - 9
  let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
  return String(
    format: "%04d-%02d-%02d %02d:%02d:%02dZ", year, month, day, seconds / 3600, seconds / 60 % 60, seconds % 60)
}
