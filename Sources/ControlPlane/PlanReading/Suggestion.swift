/// "Did you mean": the candidate that someone who wrote `word` most likely had in mind.
enum Suggestion {
  /// Words longer than this are not compared: nobody mistypes 64 characters, and comparing costs their product.
  static let maximumLength = 64

  /// Nil where nothing is near. Case and separators count less than letters; ties go to the first candidate.
  static func nearest(to word: String, among candidates: some Sequence<String>) -> String? {
    guard word.utf8.count <= maximumLength, !word.isEmpty else { return nil }
    let plainWord = plain(word)
    let allowed = max(1, plainWord.count / 3)
    var best: (candidate: String, distance: Int)?
    for candidate in candidates where candidate.utf8.count <= maximumLength {
      let other = plain(candidate)
      guard abs(other.count - plainWord.count) <= allowed else { continue }
      let distance = distance(plainWord, other)
      if distance <= allowed, distance < best?.distance ?? .max { best = (candidate, distance) }
    }
    if let best, best.distance <= 1 { return best.candidate }
    return continued(plainWord, candidates) ?? best?.candidate ?? abbreviated(plainWord, candidates)
  }

  /// "PremiumV2_LRS" for "PremiumV2", if nothing else begins so.
  private static func continued(_ word: [UInt8], _ candidates: some Sequence<String>) -> String? {
    guard word.count >= 4 else { return nil }
    let longer = candidates.filter { $0.utf8.count <= maximumLength && plain($0).starts(with: word) }
    return longer.count == 1 ? longer.first : nil
  }

  /// "saturday" for "sat", "auto" for "automatic".
  private static func abbreviated(_ word: [UInt8], _ candidates: some Sequence<String>) -> String? {
    candidates.first { candidate in
      let other = plain(candidate)
      return min(word.count, other.count) >= 3 && (word.starts(with: other) || other.starts(with: word))
    }
  }

  /// "did you mean 'x'?", or nothing.
  static func phrase(for word: String, among candidates: some Sequence<String>) -> String {
    nearest(to: word, among: candidates).map { "did you mean '\($0)'?" } ?? ""
  }

  private static func plain(_ word: String) -> [UInt8] {
    word.lowercased().utf8.filter { $0 != UInt8(ascii: "-") && $0 != UInt8(ascii: "_") && $0 != UInt8(ascii: " ") }
  }

  /// Damerau-Levenshtein distance (optimal string alignment): insertions, deletions, substitutions, and neighbours
  /// swapped.
  static func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
    if left.isEmpty || right.isEmpty { return max(left.count, right.count) }
    var beforeLast: [Int] = []
    var last = Array(0...right.count)
    for (i, one) in left.enumerated() {
      var current = [i + 1]
      current.reserveCapacity(right.count + 1)
      for (j, other) in right.enumerated() {
        var cost = min(last[j + 1] + 1, current[j] + 1, last[j] + (one == other ? 0 : 1))
        if i > 0, j > 0, one == right[j - 1], left[i - 1] == other { cost = min(cost, beforeLast[j - 1] + 1) }
        current.append(cost)
      }
      beforeLast = last
      last = current
    }
    return last[right.count]
  }
}
