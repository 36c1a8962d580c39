internal import Foundation

/// IANA time zones, as this machine's database knows them.
enum TimeZones {
  private static let known = Set(TimeZone.knownTimeZoneIdentifiers)

  /// Only names that mean the same everywhere: `CET` or `GMT+1` follow nobody's daylight-saving rules.
  static func isKnown(_ name: String) -> Bool {
    if name == "UTC" || known.contains(name) && name.contains("/") { return true }
    // Older names ("US/Pacific") are links in the database and not in the list.
    return name.contains("/") && name.utf8.count <= 64 && !name.contains("..") && TimeZone(identifier: name) != nil
  }

  private static let abbreviations = [
    "CET": "Europe/Berlin", "CEST": "Europe/Berlin", "MET": "Europe/Berlin", "GMT": "UTC", "BST": "Europe/London",
    "EST": "America/New_York", "EDT": "America/New_York", "CST": "America/Chicago", "CDT": "America/Chicago",
    "MST": "America/Denver", "PST": "America/Los_Angeles", "PDT": "America/Los_Angeles", "JST": "Asia/Tokyo",
    "IST": "Asia/Kolkata", "Z": "UTC",
  ]

  static func suggestion(for name: String) -> String {
    if let city = abbreviations[name.uppercased()] { return "abbreviations are ambiguous; write '\(city)'" }
    if let match = known.first(where: { $0.hasSuffix("/" + name) }) { return "did you mean '\(match)'?" }
    return Suggestion.phrase(for: name, among: known.sorted())
  }
}
