import BlockModel
import Foundation

/// How far this machine's clock is off, told from the `Date` of an answer: what is signed here, and how long tokens
/// live, goes by it.
enum ClockSkew {
  /// Answers travel, and dates are whole seconds.
  static let noticedSeconds = 60.0

  static func aheadSeconds(_ response: HTTPResponse, now: WallTime) -> Double? {
    guard let text = response.header("date"), let theirs = seconds(text) else { return nil }
    return now.secondsSince1970 - theirs
  }

  /// "set this machine's clock: …"; nil where it is right, or nobody knows.
  static func advice(_ aheadSeconds: Double?) -> String? {
    guard let aheadSeconds, aheadSeconds.magnitude >= noticedSeconds else { return nil }
    return "this machine's clock is \(Int(saturating: aheadSeconds.magnitude)) s "
      + "\(aheadSeconds > 0 ? "ahead of" : "behind") Azure's: set it by NTP (chrony, systemd-timesyncd), then run again"
  }

  /// "Mon, 23 Nov 2026 15:20:16 GMT" in seconds since 1970; nil for anything else.
  static func seconds(_ text: String) -> Double? {
    let words = text.split(whereSeparator: { $0 == " " || $0 == "," })
    guard words.count == 6, words[5] == "GMT", let day = Int(words[1]), let year = Int(words[3]),
      let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        .firstIndex(of: String(words[2]))
    else { return nil }
    let clock = words[4].split(separator: ":").compactMap { Int($0) }
    guard clock.count == 3 else { return nil }
    var calendar = Calendar(identifier: .gregorian)
    calendar.timeZone = .gmt
    let parts = DateComponents(
      year: year, month: month + 1, day: day, hour: clock[0], minute: clock[1], second: clock[2])
    return calendar.date(from: parts)?.timeIntervalSince1970
  }
}
