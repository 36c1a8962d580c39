import NBDServer
import TestSupport
import Testing

@testable import VolumeTap

@Suite("requests that wait for the agent") struct PendingRequestsTests {
  private func entry(_ unique: UInt64, at start: Int, bytes: Int) -> PendingRequests.Entry {
    PendingRequests.Entry(unique: unique, command: .write, arenaStart: start, arenaEnd: start + bytes)
  }

  @Test("what was not answered is sent again in the original order, what was answered is not") func order() {
    var pending = PendingRequests(arenaBytes: 1 << 20)
    for unique in 10..<15 as Range<UInt64> {
      let place = pending.room(for: 4096)
      #expect(place != nil)
      _ = pending.add(entry(unique, at: place ?? 0, bytes: 4096))
    }
    pending.answer(1)
    pending.answer(3)
    #expect(pending.toSendAgain.map(\.entry.unique) == [10, 12, 14])
    #expect(pending.unanswered == 3)
    #expect(pending.entry(1) == nil && pending.entry(99) == nil)
  }

  @Test("there is room again only when the oldest are answered; nothing in use is ever handed out")
  func roundAndRound() {
    let random = SeededRandom(seed: 11)
    var pending = PendingRequests(arenaBytes: 64 << 10)
    var inUse: [UInt64: Range<Int>] = [:]
    var waits = 0
    for unique in 0..<20_000 as Range<UInt64> {
      let bytes = random.within(80...9000)
      while true {
        if let place = pending.room(for: 9000) {
          let range = place..<place + bytes
          #expect(range.upperBound <= pending.arenaBytes)
          if inUse.values.contains(where: { $0.overlaps(range) }) { Issue.record("\(range) is still in use") }
          inUse[pending.add(entry(unique, at: place, bytes: bytes))] = range
          break
        }
        waits += 1
        guard let number = random.pick(inUse.keys.sorted()) else {
          Issue.record("no room in an empty arena")
          return
        }
        pending.answer(number)
        inUse[number] = nil
      }
    }
    #expect(waits > 1000)
  }

  @Test("no more than the limit of requests wait here; the rest wait in the kernel") func limit() {
    var pending = PendingRequests(arenaBytes: 1 << 20)
    for unique in 0..<UInt64(PendingRequests.capacity) {
      let place = pending.room(for: 64) ?? -1
      _ = pending.add(entry(unique, at: place, bytes: 64))
    }
    #expect(pending.room(for: 64) == nil)
    pending.answer(0)
    #expect(pending.room(for: 64) != nil)
  }
}
