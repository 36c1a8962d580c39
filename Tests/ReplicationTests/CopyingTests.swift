import BlockModel
import H2HProtocol
import Replication
import Testing

/// DESIGN §8.2 and §8.3: what is marked, when it is forgotten, what survives.
@Suite struct CopyingTests {
  @Test func aFreshCopyIsFilledFromTheBeginningAndThenTracks() {
    let bench = SourceBench()
    #expect(bench.observed.volumes[0].dirtyBytes == 8 << 20)
    bench.connect()
    #expect(bench.copies.isEmpty, "no data moves before it was asked for")
    bench.tell(.command(.synchronize, id: 1))
    #expect(!bench.copies.isEmpty)
    bench.settle()
    #expect(bench.machine.stage == .tracking)
    #expect(bench.observed.volumes[0].dirtyBytes == 0)
    #expect(bench.observed.volumes[0].wireBytes == 8 << 20)
    #expect(bench.observed.initialSynchronizationAt != nil)
  }

  @Test func aWriteIsMarkedBeforeItIsIssuedAndAgainAfterItCompleted() {
    let bench = SourceBench.tracking()
    bench.write(10, 0)
    bench.settle()
    #expect(bench.observed.volumes[0].dirtyBytes == 4096)
    bench.tell(.command(.resync, id: 3))
    #expect(bench.copies.count == 1)
    bench.settle()
    #expect(bench.observed.volumes[0].dirtyBytes == 0, "the copier took the old bytes")
    bench.tell(.localDone(id: 10, .ok))
    #expect(bench.observed.volumes[0].dirtyBytes == 4096, "the copier may have read before the write")
    #expect(bench.takeCompletion(10) == .ok)
  }

  @Test func aBitMovesBeforeTheReadAndIsForgottenOnlyByAnAnsweredFlush() {
    let bench = SourceBench.tracking()
    bench.write(10, 0)
    bench.settle()
    bench.tell(.localDone(id: 10, .ok))
    bench.settle()
    bench.tell(.command(.resync, id: 3))
    let copy = bench.copies.first
    #expect(copy != nil)
    #expect(bench.observed.volumes[0].dirtyBytes == 4096, "on its way is not there")
    #expect(!bench.isSettled(0))
    bench.tell(.copyRead(transfer: copy?.transfer ?? 0, .ok, isZero: false))
    let sent = bench.takeSent { if case .write(_, _, _, _, .copy) = $0 { true } else { false } }
    if let sent { bench.answer(sent) }
    #expect(bench.observed.volumes[0].dirtyBytes == 0, "answered")
    #expect(!bench.isSettled(0), "answered, not flushed")
    let flush = bench.takeSent { $0 == .flush(volume: nil) }
    #expect(flush != nil)
    if let flush { bench.answer(flush) }
    #expect(!bench.isSettled(0), "the source's own disk isn't flushed yet")
    let checkpoint = bench.take { if case .flushLocal(let id) = $0 { id } else { nil } }
    bench.tell(.localFlushed(checkpoint: checkpoint ?? 0, isFlushed: true))
    #expect(bench.isSettled(0))
  }

  @Test func aLostLinkMakesEverythingUnflushedDirtyAgain() {
    let bench = SourceBench.tracking()
    bench.write(10, 1 << 20)
    bench.settle()
    bench.tell(.localDone(id: 10, .ok))
    bench.tell(.command(.resync, id: 3))
    let copy = bench.copies.first
    bench.tell(.copyRead(transfer: copy?.transfer ?? 0, .ok, isZero: false))
    if let sent = bench.takeSent({ if case .write(_, _, _, _, .copy) = $0 { true } else { false } }) {
      bench.answer(sent)
    }
    #expect(bench.observed.volumes[0].dirtyBytes == 0)
    bench.tell(.linkDown(link: 1, why: "test"))
    #expect(bench.observed.volumes[0].dirtyBytes == 64 << 10)
    #expect(bench.observed.health == .disconnected(since: WallTime(secondsSince1970: 1000)))
  }

  @Test func aBlockThatIsWrittenWhileItIsCopiedIsSentAgainButNeverTwiceAtOnce() {
    let bench = SourceBench.tracking()
    bench.write(10, 0)
    bench.settle()
    bench.tell(.localDone(id: 10, .ok))
    bench.tell(.command(.resync, id: 3))
    #expect(bench.copies.count == 1)
    bench.write(11, 0)
    bench.tell(.localDone(id: 11, .ok))
    bench.tell(.command(.resync, id: 4))
    bench.advance(0.1)
    #expect(bench.copies.count == 1, "one in flight")
    #expect(bench.observed.volumes[0].dirtyBytes == 8192, "one on its way, and dirty again")
  }

  @Test func theFirstWriteToAnExtentWaitsForItsIntentAndOthersShareTheStore() {
    let bench = SourceBench.tracking()
    // Quiet for several checkpoints: the extents leave the map.
    for _ in 0..<8 {
      bench.advance(6)
      bench.settle()
    }
    bench.effects = []
    bench.write(20, 0)
    bench.write(21, 8192)
    bench.write(22, 1 << 20)
    #expect(
      !bench.takeLocal(20) && !bench.takeLocal(21) && !bench.takeLocal(22), "nothing before the intent is durable")
    let stores = bench.effects.compactMap {
      if case .storeIntent(let volume, let page, let revision, _) = $0 { (volume, page, revision) } else { nil }
    }
    #expect(stores.count == 1, "one store for all of them")
    for (volume, page, revision) in stores {
      bench.tell(.intentStored(volume: volume, page: page, revision: revision, isStored: true))
    }
    #expect(bench.takeLocal(20) && bench.takeLocal(21) && bench.takeLocal(22))
    bench.effects = []
    bench.write(23, 16384)
    #expect(bench.takeLocal(23), "a hot extent costs nothing more")
  }

  @Test func aWriteWhoseIntentCannotBeStoredWaitsAndIsNotFailed() {
    let bench = SourceBench.tracking()
    for _ in 0..<8 {
      bench.advance(6)
      bench.settle()
    }
    bench.effects = []
    bench.write(20, 0)
    for attempt in 0..<3 {
      let store = bench.take {
        if case .storeIntent(let volume, let page, let revision, _) = $0 { (volume, page, revision) } else { nil }
      }
      #expect(store != nil, "attempt \(attempt)")
      guard let (volume, page, revision) = store else { return }
      bench.tell(.intentStored(volume: volume, page: page, revision: revision, isStored: attempt == 2))
      bench.advance(1.5)
    }
    #expect(bench.takeLocal(20))
  }

  @Test func afterARestartOnlyWhatTheIntentMapNamesIsCopiedAgain() {
    var pages: [Int: [UInt8]] = [:]
    var record: SessionRecord?
    let bench = SourceBench(volumes: [64 << 20])
    func keep(_ effects: [SourceEffect]) {
      for effect in effects {
        if case .storeIntent(_, let page, _, let bytes) = effect { pages[page] = bytes }
        if case .store(_, let stored) = effect { record = stored }
      }
    }
    bench.connect()
    bench.tell(.command(.synchronize, id: 1))
    for _ in 0..<300 {
      keep(bench.effects)
      if bench.effects.isEmpty { bench.advance(2) }
      bench.settle(rounds: 1)
    }
    #expect(bench.machine.stage == .tracking)
    bench.write(5, 9 << 20)
    keep(bench.effects)
    let again = SourceBench(record: record, pages: [pages], volumes: [64 << 20])
    #expect(again.observed.volumes[0].dirtyBytes == 4 << 20, "one extent of 4 MiB")
    #expect(again.machine.stage == .tracking)
    var torn = pages
    torn[0]?[100] ^= 1
    let careful = SourceBench(record: record, pages: [torn], volumes: [64 << 20])
    #expect(careful.observed.volumes[0].dirtyBytes == 64 << 20, "a torn page names everything")
  }

  @Test func anotherCopyIsNeverTrustedByItsAddress() {
    let bench = SourceBench.tracking()
    bench.tell(.linkDown(link: 1, why: "test"))
    bench.connect(2, copy: 8)
    #expect(bench.copies.reduce(0) { $0 + $1.range.length } == 8 << 20)
    #expect(bench.machine.stage == .synchronizing)
  }

  @Test func zeroesAreSentAsARangeAndNotAtAllWhereTheDestinationIsZero() {
    let bench = SourceBench()
    bench.connect()
    bench.tell(.command(.synchronize, id: 1))
    let copy = bench.copies.first
    bench.tell(.copyRead(transfer: copy?.transfer ?? 0, .ok, isZero: true))
    #expect(bench.takeSent { if case .writeZeroes(_, _, _, .copy) = $0 { true } else { false } } != nil)

    let blank = SourceBench()
    blank.tell(.linkOffered(link: 1, blank.hello(isKnownZero: true)))
    blank.tell(.command(.synchronize, id: 1))
    blank.settle(isZero: true)
    #expect(blank.machine.stage == .tracking)
    #expect(blank.observed.volumes[0].wireBytes == 0)
  }

  @Test func aSmallWriteMovesOnlyTheSixteenthsThatItTouched() {
    let bench = SourceBench.tracking()
    // Two places of one block, one across the border to the next.
    for (id, offset, length) in [(10, 4096, 512), (11, 20_480, 8192), (12, 61_440, 8192)] {
      bench.write(UInt64(id), UInt64(offset), UInt64(length))
      bench.settle()
      bench.tell(.localDone(id: UInt64(id), .ok))
    }
    #expect(bench.observed.volumes[0].dirtyBytes == 4096 + 8192 + 8192)
    bench.tell(.command(.resync, id: 3))
    let copies = bench.copies
    #expect(copies.map(\.range) == [ByteRange(from: 4096, to: 65_536), ByteRange(from: 65_536, to: 69_632)])
    for copy in copies { bench.tell(.copyRead(transfer: copy.transfer, .ok, isZero: false)) }
    var sent: [H2HFrame] = []
    while let frame = bench.takeSent({ if case .write(_, _, _, _, .copy) = $0 { true } else { false } }) {
      sent.append(frame)
    }
    #expect(sent.map(\.message.payloadBytes) == [4096, 8192, 4096, 4096])
    // One of a block's frames fails: nothing of the block is sent again before all are answered.
    bench.answer(sent[0], .ioError)
    bench.advance(2)
    #expect(bench.copies.count == 2 && !bench.isSettled(0), "its other frames are still on their way")
    bench.answer(sent[1])
    bench.answer(sent[2])
    bench.answer(sent[3])
    #expect(bench.observed.volumes[0].dirtyBytes == 4096 + 8192 + 4096, "the block's sixteenths, not all of it")
    bench.advance(2)
    bench.settle()
    #expect(bench.isSettled(0) && bench.isSettled(65_536))
    #expect(bench.observed.volumes[0].dirtyBytes == 0)
  }

  @Test func aLongRunOfZeroesIsOneTransferAndWhatFollowsItIsNotForgotten() {
    let bench = SourceBench(volumes: [64 << 20])
    bench.tell(.linkOffered(link: 1, bench.hello(isKnownZero: true)))
    bench.tell(.command(.synchronize, id: 1))
    let first = bench.copies
    for copy in first { bench.tell(.copyRead(transfer: copy.transfer, .ok, isZero: true)) }
    let long = bench.copies.dropFirst(first.count).first { $0.range.length > 4 << 20 }
    #expect(long != nil, "once zeroes were seen, more is asked for at once")
    guard let long else { return }
    // The first mebibyte is zero, what follows isn't.
    bench.tell(.copyRead(transfer: long.transfer, .ok, isZero: true, length: 1 << 20))
    #expect(
      bench.copies.contains { $0.range.offset == long.range.offset + (1 << 20) },
      "the rest of the run is looked at again")
    bench.settle()
    #expect(bench.machine.stage == .tracking)
    #expect(bench.observed.volumes[0].dirtyBytes == 0)
  }

  @Test func aFailedTransferStaysDirtyAndHealthSaysWhatStalls() {
    let bench = SourceBench()
    bench.connect()
    bench.tell(.command(.synchronize, id: 1))
    let copy = bench.copies.first
    bench.tell(.copyRead(transfer: copy?.transfer ?? 0, .ok, isZero: false))
    if let sent = bench.takeSent({ if case .write = $0 { true } else { false } }) { bench.answer(sent, .noSpace) }
    guard case .stalled(let why) = bench.observed.health else {
      Issue.record("health is \(bench.observed.health)")
      return
    }
    #expect(why.contains("could not write"))
    bench.settle()
    bench.advance(2)
    bench.settle()
    #expect(bench.machine.stage == .tracking, "it goes on by itself")
  }

  @Test func aCopyBudgetHoldsTheCopierAndNotTheApplication() {
    let bench = SourceBench()
    bench.connect()
    bench.tell(.copyBudget(.grant(bytes: 0)))
    bench.tell(.command(.synchronize, id: 1))
    #expect(bench.copies.isEmpty)
    bench.write(9, 0)
    #expect(bench.takeLocal(9))
    bench.tell(.copyBudget(.grant(bytes: 600 << 10)))
    #expect(bench.copies.count == 5, "small ones while there is a limit")
    bench.tell(.copyBudget(.unlimited))
    #expect(bench.copies.count == 20)
  }

  @Test func theBudgetIsChargedWithWhatGoesOnTheWire() {
    let bench = SourceBench.tracking()
    // Eight of a block's sixteenths, in one transfer.
    for part in 0..<8 as Range<UInt64> {
      bench.write(10 + part, 2 << 20 | part * 8192)
      bench.settle()
      bench.tell(.localDone(id: 10 + part, .ok))
    }
    // And a write elsewhere, that has to wait.
    bench.write(30, 4 << 20)
    bench.settle()
    bench.tell(.localDone(id: 30, .ok))
    bench.tell(.copyBudget(.grant(bytes: 4096)))
    bench.tell(.command(.resync, id: 3))
    #expect(bench.copies.count == 1, "32 KiB begin with any budget in hand")
    bench.tell(.copyBudget(.grant(bytes: 16 << 10)))
    #expect(bench.copies.count == 1, "and are repaid")
    bench.tell(.copyBudget(.grant(bytes: 16 << 10)))
    #expect(bench.copies.count == 2)
  }

  @Test func howFastTheLinkIsLeavesOutTheWayAndThePauses() {
    let bench = SourceBench()
    bench.connect()
    bench.advance(2)
    let ping = bench.takeSent { $0 == .ping }
    bench.advance(0.02)
    if let ping { bench.tell(.message(link: 1, H2HFrame(requestID: ping.requestID, message: .pong))) }
    bench.tell(.copyBudget(.grant(bytes: 1 << 20)))
    bench.tell(.command(.synchronize, id: 1))
    #expect(bench.copies.count == 8)
    for copy in bench.copies { bench.tell(.copyRead(transfer: copy.transfer, .ok, isZero: false)) }
    // Both share the way and arrive at once.
    bench.advance(0.12)
    while let frame = bench.takeSent({ if case .write(_, _, _, _, .copy) = $0 { true } else { false } }) {
      bench.answer(frame)
    }
    let pace = bench.observed.copyPace
    #expect(pace.busyBytes == 1 << 20)
    #expect(abs(pace.busySeconds - 0.1) < 1e-6, "0.12 s, of which 0.02 s are the way")
    bench.advance(3)
    #expect(bench.observed.copyPace == pace, "a pause says nothing")
  }

  @Test func zeroesCostNoBudget() {
    let bench = SourceBench()
    bench.connect()
    bench.tell(.copyBudget(.grant(bytes: 1)))
    bench.tell(.command(.synchronize, id: 1))
    #expect(bench.copies.count == 1)
    bench.settle(isZero: true)
    #expect(bench.machine.stage == .tracking, "a budget of a byte is enough for a volume of zeroes")
  }

  @Test func aComparisonIsRepaidInFull() {
    let bench = SourceBench.tracking()
    var digests: Int { bench.effects.count { if case .digestLocal = $0 { true } else { false } } }
    bench.tell(.comparisonBudget(.grant(bytes: 4096)))
    bench.tell(.command(.verify(VerificationRequest(scope: .all, repairs: true)), id: 3))
    #expect(digests == 1, "an extent of 4 MiB begins with any budget in hand")
    for _ in 0..<3 { bench.tell(.comparisonBudget(.grant(bytes: 1 << 20))) }
    #expect(digests == 1, "and is repaid before the next")
    bench.tell(.comparisonBudget(.grant(bytes: 1 << 20)))
    #expect(digests == 2)
  }

  @Test func overlappingWritesGoOneAfterTheOtherInTheirOrder() {
    let bench = SourceBench()
    bench.write(1, 0, 8192)
    bench.write(2, 4096, 8192)
    bench.write(3, 4096)
    bench.write(4, 1 << 20)
    #expect(bench.takeLocal(1) && bench.takeLocal(4))
    #expect(!bench.takeLocal(2) && !bench.takeLocal(3))
    bench.tell(.localDone(id: 1, .ok))
    #expect(bench.takeLocal(2) && !bench.takeLocal(3))
    bench.tell(.localDone(id: 2, .ok))
    #expect(bench.takeLocal(3))
  }
}
