import NBDServer

/// What the kernel asked and the agent hasn't answered: in order, with its data, until the answer is there. Pure.
///
/// A request's number is its NBD cookie. Data stays where FUSE's read put it, in one ring of bytes (`arenaBytes`).
struct PendingRequests: Sendable {
  /// Unanswered requests at most; a power of two. The kernel keeps fewer in flight (`FuseVolume.maxBackground`), but
  /// those who open the device for themselves add some.
  static let capacity = 1024

  struct Entry: Sendable, Equatable {
    /// The kernel's number of the request.
    var unique: UInt64 = 0
    var command = NBDWire.Command.flush
    var flags: UInt16 = 0
    var offset: UInt64 = 0
    var length: UInt32 = 0
    /// Where the request lies in the arena, and a write's data.
    var arenaStart = 0
    var arenaEnd = 0
    var payloadStart = 0
    var isAnswered = false
  }

  let arenaBytes: Int
  private var entries = [Entry](repeating: Entry(), count: capacity)
  private(set) var oldest: UInt64 = 0
  private(set) var next: UInt64 = 0
  private(set) var unanswered = 0
  private var head = 0

  init(arenaBytes: Int) { self.arenaBytes = arenaBytes }

  private static func index(_ number: UInt64) -> Int { Int(number & UInt64(capacity - 1)) }

  /// Where in the arena the next request of up to `byteCount` bytes may be put; nil while there is no room.
  mutating func room(for byteCount: Int) -> Int? {
    if oldest == next {
      head = 0
      return byteCount <= arenaBytes ? 0 : nil
    }
    guard next - oldest < UInt64(Self.capacity) else { return nil }
    let tail = entries[Self.index(oldest)].arenaStart
    if head >= tail {
      if head + byteCount <= arenaBytes { return head }
      // Around the end. Strictly less: head == tail would look empty.
      return byteCount < tail ? 0 : nil
    }
    return head + byteCount < tail ? head : nil
  }

  /// Takes a request in, and gives it its number.
  mutating func add(_ entry: Entry) -> UInt64 {
    precondition(next - oldest < UInt64(Self.capacity))
    let number = next
    entries[Self.index(number)] = entry
    head = entry.arenaEnd
    next += 1
    unanswered += 1
    return number
  }

  /// The unanswered request of that number; nil where a peer made the number up.
  func entry(_ number: UInt64) -> Entry? {
    guard number >= oldest, number < next else { return nil }
    let entry = entries[Self.index(number)]
    return entry.isAnswered ? nil : entry
  }

  /// The request is answered; what is older than every unanswered one makes room.
  mutating func answer(_ number: UInt64) {
    guard entry(number) != nil else { return }
    entries[Self.index(number)].isAnswered = true
    unanswered -= 1
    while oldest < next, entries[Self.index(oldest)].isAnswered { oldest += 1 }
  }

  /// All that must be sent again after a lost connection, in the original order.
  var toSendAgain: [(number: UInt64, entry: Entry)] {
    (oldest..<next).compactMap { number in entry(number).map { (number, $0) } }
  }
}
