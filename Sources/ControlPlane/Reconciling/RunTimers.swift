import BlockModel

/// What a run waits for, by its time: the earliest first, those of one time in the order in which they were set. An entry
/// is a reason to look, no more: whatever it was set for may have gone another way by then.
struct RunTimers: Sendable {
  enum Reason: Sendable {
    /// A step that waits for its milestone has had long enough.
    case limit(step: Int)
    case retry(step: Int)
    case poll(MigrationName)
    case renewal(MigrationName)
  }

  struct Entry: Sendable {
    var at: MonotonicTime
    var reason: Reason
    fileprivate var number: UInt64

    fileprivate func isBefore(_ other: Entry) -> Bool { at == other.at ? number < other.number : at < other.at }
  }

  /// A binary heap: no entry is before its parent.
  private var heap: [Entry] = []
  private var count: UInt64 = 0

  var first: Entry? { heap.first }

  mutating func set(_ reason: Reason, at: MonotonicTime) {
    count += 1
    heap.append(Entry(at: at, reason: reason, number: count))
    var place = heap.count - 1
    while place > 0, heap[place].isBefore(heap[(place - 1) / 2]) {
      heap.swapAt(place, (place - 1) / 2)
      place = (place - 1) / 2
    }
  }

  mutating func removeFirst() {
    guard let last = heap.popLast(), !heap.isEmpty else { return }
    heap[0] = last
    var place = 0
    while true {
      let (left, right) = (2 * place + 1, 2 * place + 2)
      var least = place
      if left < heap.count, heap[left].isBefore(heap[least]) { least = left }
      if right < heap.count, heap[right].isBefore(heap[least]) { least = right }
      guard least != place else { return }
      heap.swapAt(place, least)
      place = least
    }
  }
}
