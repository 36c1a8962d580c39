/// What changes between two versions of a text, as `diff -u` shows it.
package enum UnifiedDiff {
  private static let context = 3

  /// Empty where nothing changes.
  package static func text(_ before: String, _ after: String, file: String) -> String {
    guard before != after else { return "" }
    let old = lines(before)
    let new = lines(after)
    let rows = rows(old, new)
    var result = "--- \(file)\n+++ \(file)\n"
    var start = 0
    while let first = rows[start...].firstIndex(where: { $0.mark != " " }) {
      var last = first
      while let next = rows[(last + 1)...].firstIndex(where: { $0.mark != " " }), next - last <= 2 * context {
        last = next
      }
      let range = max(start, first - context)..<min(rows.count, last + context + 1)
      result += hunk(rows, range)
      start = range.upperBound
    }
    return result
  }

  private struct Row {
    var mark: Character
    var text: Substring
  }

  private static func lines(_ text: String) -> [Substring] {
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    if lines.last == "" { lines.removeLast() }
    return lines
  }

  private static func rows(_ old: [Substring], _ new: [Substring]) -> [Row] {
    var removed: Set<Int> = []
    var inserted: Set<Int> = []
    for change in new.difference(from: old) {
      switch change {
      case .remove(let offset, _, _): removed.insert(offset)
      case .insert(let offset, _, _): inserted.insert(offset)
      }
    }
    var rows: [Row] = []
    var (i, j) = (0, 0)
    while i < old.count || j < new.count {
      if i < old.count, removed.contains(i) {
        rows.append(Row(mark: "-", text: old[i]))
        i += 1
      } else if j < new.count, inserted.contains(j) {
        rows.append(Row(mark: "+", text: new[j]))
        j += 1
      } else {
        rows.append(Row(mark: " ", text: new[j]))
        i += 1
        j += 1
      }
    }
    return rows
  }

  private static func hunk(_ rows: [Row], _ range: Range<Int>) -> String {
    func count(_ range: Range<Int>, without mark: Character) -> Int { rows[range].count { $0.mark != mark } }
    let before = (start: count(0..<range.lowerBound, without: "+"), count: count(range, without: "+"))
    let after = (start: count(0..<range.lowerBound, without: "-"), count: count(range, without: "-"))
    func place(_ part: (start: Int, count: Int)) -> String {
      "\(part.count == 0 ? part.start : part.start + 1),\(part.count)"
    }
    return "@@ -\(place(before)) +\(place(after)) @@\n" + rows[range].map { "\($0.mark)\($0.text)\n" }.joined()
  }
}
