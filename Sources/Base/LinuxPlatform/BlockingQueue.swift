package import BlockModel

/// A bounded first-in-first-out queue between threads.
package final class BlockingQueue<Element: Sendable>: Sendable {
  private struct Contents: Sendable {
    /// A ring, as large as it once had to be.
    var elements: [Element?]
    var first = 0
    var count = 0
    /// Pushers that wait for room.
    var pushers = 0
    var isClosed = false

    mutating func append(_ element: Element) {
      if count == elements.count {
        elements = (0..<count).map { elements[(first + $0) % count] } + Array(repeating: nil, count: count)
        first = 0
      }
      elements[(first + count) % elements.count] = element
      count += 1
    }

    mutating func takeFirst() -> Element? {
      guard count > 0 else { return nil }
      let element = elements[first]
      elements[first] = nil
      first = (first + 1) % elements.count
      count -= 1
      return element
    }
  }

  private let contents: Monitor<Contents>
  package let capacity: Int

  /// `capacity` is at least 1.
  package init(capacity: Int) {
    precondition(capacity >= 1)
    self.capacity = capacity
    contents = Monitor(Contents(elements: Array(repeating: nil, count: min(capacity, 16))))
  }

  /// Waits for room. False, and the element is dropped, when the queue was closed or the deadline passed.
  package func push(_ element: Element, until deadline: MonotonicTime? = nil) -> Bool {
    var isWaiting = false
    func leave(_ contents: inout Contents) {
      if isWaiting { contents.pushers -= 1 }
      isWaiting = false
    }
    let pushed: Bool? = contents.wait(until: deadline) { contents in
      if contents.isClosed {
        leave(&contents)
        return false
      }
      guard contents.count < capacity else {
        if !isWaiting { contents.pushers += 1 }
        isWaiting = true
        return nil
      }
      leave(&contents)
      contents.append(element)
      return true
    }
    if isWaiting { contents.withLock { leave(&$0) } }
    // Pushers and poppers wait on one condition, so that one signal might wake the wrong kind.
    if pushed == true { contents.notifyAll() }
    return pushed ?? false
  }

  /// False where there is no room, or the queue was closed. Never waits.
  package func tryPush(_ element: Element) -> Bool {
    contents.change { contents in
      guard !contents.isClosed, contents.count < capacity else { return false }
      contents.append(element)
      return true
    }
  }

  /// Waits for an element. Nil when the deadline passed, or the queue was closed and is empty.
  package func pop(until deadline: MonotonicTime? = nil) -> Element? {
    var hasPushers = false
    let popped: Element?? = contents.wait(until: deadline) { contents -> Element?? in
      hasPushers = contents.pushers > 0
      if let element = contents.takeFirst() { return .some(element) }
      return contents.isClosed ? .some(nil) : nil
    }
    let element = popped ?? nil
    if element != nil, hasPushers { contents.notifyAll() }
    return element
  }

  /// No more pushes; what is in the queue can still be popped.
  package func close() { contents.change { $0.isClosed = true } }

  /// Closes, and drops what is in the queue.
  package func cancel() {
    contents.change { contents in
      contents.isClosed = true
      while contents.takeFirst() != nil {}
    }
  }

  package var count: Int { contents.withLock { $0.count } }
  package var isClosed: Bool { contents.withLock { $0.isClosed } }
}
