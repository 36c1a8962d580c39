/// Sizes, rates, durations, shares and times of day as people write them. Pure; every fault says what to write.
enum Quantities {
  private struct Unit {
    var name: String
    var factor: Double
  }

  private static let binaryUnits: [Unit] = [
    Unit(name: "KiB", factor: 1_024), Unit(name: "MiB", factor: 1_048_576), Unit(name: "GiB", factor: 1_073_741_824),
    Unit(name: "TiB", factor: 1_099_511_627_776), Unit(name: "PiB", factor: 1_125_899_906_842_624),
  ]
  private static let decimalUnits: [Unit] = [
    Unit(name: "kB", factor: 1e3), Unit(name: "MB", factor: 1e6), Unit(name: "GB", factor: 1e9),
    Unit(name: "TB", factor: 1e12), Unit(name: "PB", factor: 1e15),
  ]
  private static let sizeUnits = [Unit(name: "B", factor: 1)] + binaryUnits + decimalUnits
  private static let bitUnits: [Unit] = [
    Unit(name: "bit/s", factor: 0.125), Unit(name: "kbit/s", factor: 125), Unit(name: "Mbit/s", factor: 125_000),
    Unit(name: "Gbit/s", factor: 125_000_000), Unit(name: "Tbit/s", factor: 125_000_000_000),
  ]
  private static let rateUnits =
    bitUnits + sizeUnits.map { Unit(name: $0.name + "/s", factor: $0.factor) }
  /// 2^53: whole bytes up to here are exact in a Double.
  static let maximumBytes = 9_007_199_254_740_992.0

  /// The number in front, what follows it without spaces, or nil where no number is in front.
  private static func split(_ text: String) -> (number: Double, digits: String, unit: String)? {
    let point = UInt8(ascii: "."), digit = UInt8(ascii: "0")...UInt8(ascii: "9")
    let digits = text.utf8.prefix { digit.contains($0) || $0 == point }
    guard let number = Double(Substring(digits)), number.isFinite else { return nil }
    let unit = text.utf8.dropFirst(digits.count).drop { $0 == UInt8(ascii: " ") }
    return (number, String(Substring(digits)), String(Substring(unit)))
  }

  /// Bytes, from "64 MiB", "1.5TiB" or "100 GB".
  static func size(_ text: String) throws(ValueFault) -> UInt64 {
    guard let parts = split(text), !parts.unit.hasPrefix(",") else {
      throw ValueFault("CMC1106", "'\(text.shortened())' is no size", sizeAdvice(text))
    }
    if parts.unit.isEmpty {
      let (binary, decimal) = ("\(parts.digits) GiB", "\(parts.digits) GB")
      throw ValueFault(
        "CMC1105", "the size '\(text)' has no unit",
        "write '\(binary)' for \(bytes(parts.number * 1_073_741_824)), or '\(decimal)' for \(bytes(parts.number * 1e9))"
      )
    }
    guard let unit = sizeUnits.first(where: { $0.name == parts.unit }) else {
      throw ValueFault(
        "CMC1106", "'\(parts.unit.shortened())' is no unit of size", unitAdvice(parts.digits, parts.unit))
    }
    return try whole(parts.number * unit.factor, text, what: "size")
  }

  private static func sizeAdvice(_ text: String) -> String {
    text.contains(",") ? "write a point, not a comma, as in '1.5 TiB'" : "write a number with a unit, as in '256 GiB'"
  }

  /// For "256G", "256gb": both readings, if the letter says which.
  private static func unitAdvice(_ digits: String, _ unit: String) -> String {
    guard let letter = unit.first?.uppercased(), "KMGTP".contains(letter), unit.count <= 3, !unit.contains("/") else {
      return "use B, KiB, MiB, GiB, TiB, or kB, MB, GB, TB"
    }
    let decimal = letter == "K" ? "kB" : letter + "B"
    return "write '\(digits) \(letter)iB' (powers of 1024), or '\(digits) \(decimal)' (powers of 1000)"
  }

  private static func whole(_ value: Double, _ text: String, what: String) throws(ValueFault) -> UInt64 {
    guard value <= maximumBytes else {
      throw ValueFault("CMC1107", "the \(what) '\(text.shortened())' is too large", "the most is 8 PiB")
    }
    guard value > 0 else {
      throw ValueFault("CMC1107", "the \(what) '\(text.shortened())' is nothing", "write a \(what) above zero")
    }
    guard value >= 1, value.rounded() == value else {
      throw ValueFault(
        "CMC1107", "the \(what) '\(text.shortened())' is not a whole number of bytes",
        "use a smaller unit, as in '1536 GiB' for '1.5 TiB'")
    }
    return UInt64(value)
  }

  /// Bytes a second, from "400 Mbit/s" or "400 MB/s".
  static func rate(_ text: String) throws(ValueFault) -> UInt64 {
    guard let parts = split(text), !parts.unit.hasPrefix(",") else {
      throw ValueFault(
        "CMC1106", "'\(text.shortened())' is no rate",
        text.contains(",")
          ? "write a point, not a comma" : "write a number with a unit, as in '400 Mbit/s' or '50 MB/s'")
    }
    let both = "write '\(parts.digits) Mbit/s' (megabits), or '\(parts.digits) MB/s' (megabytes, eight times as much)"
    if parts.unit.isEmpty { throw ValueFault("CMC1105", "the rate '\(text)' has no unit", both) }
    guard let unit = rateUnits.first(where: { $0.name == parts.unit }) else {
      let advice = rateUnitAdvice(parts.digits, parts.unit) ?? both
      throw ValueFault("CMC1106", "'\(parts.unit.shortened())' is no unit of rate", advice)
    }
    return try whole((parts.number * unit.factor).rounded(), text, what: "rate")
  }

  private static func rateUnitAdvice(_ digits: String, _ unit: String) -> String? {
    guard let first = unit.first else { return nil }
    let letter = first.uppercased()
    guard "KMGT".contains(letter) else { return nil }
    let scale = letter == "K" ? "k" : letter
    return "write '\(digits) \(scale)bit/s' for bits, or '\(digits) \(scale)B/s' for bytes (eight times as much)"
  }

  /// Seconds, from "15m", "1h30m", "90s", "500ms" or "2d".
  static func duration(_ text: String) throws(ValueFault) -> Double {
    let units = [
      Unit(name: "d", factor: 86_400), Unit(name: "h", factor: 3_600), Unit(name: "m", factor: 60),
      Unit(name: "s", factor: 1), Unit(name: "ms", factor: 0.001),
    ]
    var rest = text[...]
    var seconds = 0.0
    var lastRank = -1
    while !rest.isEmpty {
      let digits = rest.prefix { $0.isASCII && $0.isNumber }
      rest = rest.dropFirst(digits.count)
      if rest.first == " ", !digits.isEmpty {
        let name = rest.drop { $0 == " " }
        throw ValueFault("CMC1106", "'\(text.shortened())' is no duration", durationUnitAdvice(digits, name))
      }
      let name = rest.prefix { $0.isLetter }
      rest = rest.dropFirst(name.count)
      guard let number = Double(String(digits)), number <= 1e9 else {
        throw ValueFault("CMC1106", "'\(text.shortened())' is no duration", durationAdvice)
      }
      if name.isEmpty, rest.isEmpty {
        throw ValueFault(
          "CMC1105", "the duration '\(text.shortened())' has no unit",
          "write '\(text.shortened())m' for minutes, or '\(text.shortened())s' for seconds")
      }
      guard let rank = units.firstIndex(where: { $0.name == name }), rank > lastRank else {
        throw ValueFault("CMC1106", "'\(text.shortened())' is no duration", durationUnitAdvice(digits, name))
      }
      lastRank = rank
      seconds += number * units[rank].factor
    }
    guard seconds > 0 else {
      throw ValueFault("CMC1106", "'\(text.shortened())' is no duration", durationAdvice)
    }
    return seconds
  }

  private static let durationAdvice = "write it as in '90s', '15m', '1h30m' or '2d'"

  private static func durationUnitAdvice(_ digits: Substring, _ name: Substring) -> String {
    let words = [
      "sec": "s", "second": "s", "seconds": "s", "min": "m", "mins": "m", "minute": "m", "minutes": "m",
      "hour": "h", "hours": "h", "hr": "h", "day": "d", "days": "d", "H": "h", "M": "m", "S": "s",
    ]
    let unit = words[String(name)] ?? (["d", "h", "m", "s", "ms"].contains(name) ? String(name) : nil)
    return unit.map { "write '\(digits)\($0)'" } ?? durationAdvice
  }

  /// A fraction, from "20%": 0.2.
  static func percent(_ text: String) throws(ValueFault) -> Double {
    guard let parts = split(text), parts.unit.isEmpty || parts.unit == "%" else {
      throw ValueFault("CMC1106", "'\(text.shortened())' is no percentage", "write it as in '20%'")
    }
    guard parts.unit == "%" else {
      let whole = parts.number * 100
      let advice =
        parts.number < 1
        ? "write '\(trimmed(whole))%' for a fraction of \(parts.digits), or '\(parts.digits)%'"
        : "write '\(parts.digits)%', or '\(trimmed(whole))%' for \(parts.digits) times as much"
      throw ValueFault("CMC1105", "the share '\(text)' has no unit", advice)
    }
    return parts.number / 100
  }

  /// Minutes since midnight, from "00:00" to "24:00".
  static func timeOfDay(_ text: String) throws(ValueFault) -> Int {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 2, let hour = Int(parts[0]), let minute = Int(parts[1]), hour >= 0, minute >= 0 else {
      let advice =
        parts.count == 3 ? "leave out the seconds" : "write hours and minutes of a 24-hour day, as in \"02:00\""
      throw ValueFault("CMC1108", "'\(text.shortened())' is no time of day", advice)
    }
    guard parts[0].utf8.count == 2, parts[1].utf8.count == 2 else {
      let padded = (hour < 10 ? "0" : "") + "\(hour):" + (minute < 10 ? "0" : "") + "\(minute)"
      throw ValueFault("CMC1108", "'\(text.shortened())' is no time of day", "write \"\(padded)\"")
    }
    guard minute < 60, hour * 60 + minute <= 1_440 else {
      throw ValueFault("CMC1107", "there is no '\(text)' in a day", "times go from \"00:00\" to \"24:00\"")
    }
    return hour * 60 + minute
  }

  private static func trimmed(_ number: Double) -> String {
    number == number.rounded() && abs(number) < 1e15 ? String(Int(number)) : String(number)
  }

  /// "274,877,906,944 bytes".
  static func bytes(_ value: Double) -> String {
    guard value < maximumBytes else { return "more bytes than exist" }
    return grouped(Int(value)) + " bytes"
  }

  /// With a comma between groups of three digits.
  static func grouped(_ value: Int) -> String {
    let digits = Array(String(value))
    var text = ""
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index) % 3 == 0, digits[index - 1] != "-" { text.append(",") }
      text.append(digit)
    }
    return text
  }

  /// A size in the unit that shows it shortest: "256 GiB", "1.5 TiB".
  static func sizeText(_ bytes: UInt64) -> String {
    for unit in binaryUnits.reversed() where Double(bytes) >= unit.factor {
      let value = (Double(bytes) / unit.factor * 100).rounded() / 100
      return "\(trimmed(value)) \(unit.name)"
    }
    return "\(bytes) B"
  }
}
