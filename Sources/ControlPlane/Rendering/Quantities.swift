import BlockModel
import Foundation

/// How amounts are written: binary for sizes, decimal for rates, one place behind the point at most.
enum Quantity {
  static func bytes(_ count: UInt64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    var value = Double(count)
    var unit = 0
    while value >= 1024, unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    return "\(number(value, whole: unit == 0)) \(units[unit])"
  }

  static func rate(_ bytesPerSecond: Double) -> String {
    let units = ["B/s", "kB/s", "MB/s", "GB/s"]
    var value = max(0, bytesPerSecond)
    var unit = 0
    while value >= 1000, unit < units.count - 1 {
      value /= 1000
      unit += 1
    }
    return "\(number(value, whole: unit == 0)) \(units[unit])"
  }

  static func duration(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds >= 0 else { return "unknown" }
    if seconds < 1 { return seconds < 0.001 ? "under 1 ms" : "\(Int((seconds * 1000).rounded())) ms" }
    if seconds < 10 { return "\(number(seconds, whole: false)) s" }
    // Longer than any migration; also keeps the conversion below within an integer.
    guard seconds < 1e9 else { return "years" }
    let whole = Int(seconds.rounded())
    switch whole {
    case ..<60: return "\(whole) s"
    case ..<3600: return whole % 60 == 0 ? "\(whole / 60) min" : "\(whole / 60) min \(whole % 60) s"
    case ..<172_800:
      let minutes = (whole % 3600) / 60
      return minutes == 0 ? "\(whole / 3600) h" : "\(whole / 3600) h \(minutes) min"
    default: return "\(whole / 86_400) d \((whole % 86_400) / 3600) h"
    }
  }

  static func ratio(_ value: Double) -> String { "\(number(value, whole: false))×" }

  static func count(_ number: Int, _ one: String, _ many: String? = nil) -> String {
    "\(number) \(number == 1 ? one : many ?? one + "s")"
  }

  private static func number(_ value: Double, whole: Bool) -> String {
    whole || value >= 100 || value == value.rounded()
      ? String(Int(saturating: value.rounded())) : String(format: "%.1f", value)
  }
}
