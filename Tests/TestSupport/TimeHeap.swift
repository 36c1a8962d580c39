/// Items by their time: the earliest first, those of one time in the order in which they came. A binary heap.
package struct TimeHeap<Item> {
  package struct Entry {
    package let at: Double
    package let item: Item
    fileprivate let number: UInt64
    fileprivate func isBefore(_ other: Entry) -> Bool { at == other.at ? number < other.number : at < other.at }
  }
  private var heap: [Entry] = []
  private var count: UInt64 = 0

  package init() {}

  package var first: Entry? { heap.first }

  package mutating func insert(_ item: Item, at time: Double) {
    count += 1
    heap.append(Entry(at: time, item: item, number: count))
    var place = heap.count - 1
    while place > 0, heap[place].isBefore(heap[(place - 1) / 2]) {
      heap.swapAt(place, (place - 1) / 2)
      place = (place - 1) / 2
    }
  }

  package mutating func popFirst() -> Entry? {
    guard let first = heap.first, let last = heap.popLast() else { return nil }
    guard !heap.isEmpty else { return first }
    heap[0] = last
    var place = 0
    while true {
      let (left, right) = (2 * place + 1, 2 * place + 2)
      var least = place
      if left < heap.count, heap[left].isBefore(heap[least]) { least = left }
      if right < heap.count, heap[right].isBefore(heap[least]) { least = right }
      guard least != place else { return first }
      heap.swapAt(place, least)
      place = least
    }
  }
}

extension TimeHeap: Sendable where Item: Sendable {}
extension TimeHeap.Entry: Sendable where Item: Sendable {}
