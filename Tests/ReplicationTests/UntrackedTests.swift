import BlockModel
import H2HProtocol
import Replication
import Testing

/// DESIGN §8.11: somebody changed what lies beneath the application, so its writes went past the tap.
@Suite struct UntrackedTests {
  @Test func whileTrackingAllOfTheVolumeDiffersAndIsCopiedAgain() {
    let bench = SourceBench.tracking()
    #expect(bench.observed.volumes[0].dirtyBytes == 0)
    bench.tell(.untracked(why: "lvextend"))
    let differs = bench.observed.volumes[0].dirtyBytes + bench.copies.reduce(0) { $0 + $1.range.length }
    #expect(differs >= 8 << 20, "all of it waits or is being copied")
    #expect(bench.observed.lastError == "lvextend")
    #expect(bench.has { if case .storeIntent = $0 { true } else { false } }, "a crash must not forget it")
    bench.settle()
    bench.advance(2)
    bench.settle()
    #expect(bench.observed.volumes[0].dirtyBytes == 8 << 20, "what is read while writes go past may be old at once")
    #expect(bench.observed.health == .stalled(why: "lvextend"))
    #expect(!bench.isSettled(0))
    bench.tell(.tracked)
    bench.settle()
    #expect(bench.observed.volumes[0].dirtyBytes == 0)
    #expect(bench.observed.stage == .tracking)
    #expect(bench.observed.lastError == nil)
  }

  @Test func nothingIsHandedOverWhileTrackIsLost() {
    func refusal(_ command: SourceCommand, _ bench: SourceBench) -> String? {
      bench.tell(.command(command, id: 99))
      return bench.take {
        if case .commandAnswer(99, .refused(let why)) = $0 { why } else { nil }
      }
    }
    let bench = SourceBench.tracking()
    bench.tell(.untracked(why: "bypassed"))
    for command in [SourceCommand.swing, .closeTap] {
      #expect(refusal(command, bench)?.contains("bypassed") == true, "\(command)")
    }
    bench.tell(.tracked)
    bench.settle()
    #expect(refusal(.closeTap, bench) == nil)
    bench.tell(.untracked(why: "opened"))
    #expect(refusal(.prove, bench)?.contains("opened") == true)
  }

  @Test func aProofOfWhatWasWrittenSinceIsVoid() {
    let bench = SourceBench.tracking()
    for command in [SourceCommand.closeTap, .prove] {
      bench.tell(.command(command, id: 2))
      bench.settle()
    }
    #expect(bench.observed.stage == .proven && bench.observed.receiptDigest != nil)
    bench.tell(.untracked(why: "the host was started anew"))
    #expect(bench.observed.stage == .tapClosed && bench.observed.receiptDigest == nil)
    bench.tell(.tracked)
    bench.tell(.command(.fence, id: 3))
    #expect(bench.observed.stage == .tapClosed, "the copies differ")
    bench.tell(.command(.prove, id: 4))
    #expect(!bench.copies.isEmpty, "all is copied again before it is compared")
    bench.settle()
    #expect(bench.observed.stage == .proven)
    #expect(bench.observed.volumes[0].equalBytes == 8 << 20)
  }

  @Test func aComparisonUnderWayAndAPassHalfDoneSayNothingAnyMore() {
    let bench = SourceBench()
    bench.connect()
    bench.tell(.command(.synchronize, id: 1))
    // All is being copied; the sweep is past everything.
    for copy in bench.copies { bench.tell(.copyRead(transfer: copy.transfer, .ok, isZero: false)) }
    bench.tell(.untracked(why: "bypassed"))
    bench.settle()
    #expect(bench.observed.stage == .synchronizing && bench.observed.initialSynchronizationAt == nil)
    bench.tell(.tracked)
    bench.settle()
    #expect(bench.observed.stage == .tracking && bench.observed.volumes[0].dirtyBytes == 0)

    bench.tell(.command(.verify(VerificationRequest(scope: .all, repairs: true)), id: 2))
    let compared = bench.take { if case .digestLocal(let id, _, _) = $0 { id } else { nil } }
    bench.tell(.untracked(why: "bypassed again"))
    if let compared, let digest = ExtentDigest([UInt8](repeating: 1, count: 32)) {
      bench.tell(.localDigest(id: compared, digest))
      bench.tell(
        .message(link: 1, H2HFrame(requestID: compared, message: .digestAnswer([digest]))))
    } else {
      Issue.record("nothing was compared")
    }
    #expect(bench.observed.volumes[0].equalBytes == 0)
  }

  @Test func aSessionThatStartsWithoutItsTapWaitsForIt() {
    let bench = SourceBench.tracking()
    let record = SessionRecord.ofTracking(bench)
    let late = SourceBench(record: record, trackLost: "the tap is not in place")
    late.connect()
    late.settle()
    late.advance(1)
    #expect(late.copies.isEmpty && late.observed.volumes[0].dirtyBytes == 8 << 20)
    #expect(late.machine.isLossNoted, "a start without pages marks all")
    late.tell(.tracked)
    #expect(!late.copies.isEmpty)
  }

  @Test func theLossIsNotedOnlyOnceAllPagesAreStored() {
    let bench = SourceBench.tracking()
    #expect(bench.machine.isLossNoted, "there is none")
    bench.tell(.untracked(why: "bypassed"))
    #expect(!bench.machine.isLossNoted)
    bench.settle()
    #expect(bench.machine.isLossNoted)
  }

  @Test func standInIsLeftAndNothingFails() {
    let bench = SourceBench.standIn()
    bench.write(10, 0)
    bench.settle()
    bench.tell(.untracked(why: "refresh"))
    #expect(bench.takeCompletion(10) == nil, "not before the record says that authority is here")
    bench.tell(.localDone(id: 10, .ok))
    bench.settle()
    #expect(bench.takeCompletion(10) == .ok)
    #expect(bench.observed.authority == .source)
    #expect(bench.observed.volumes[0].dirtyBytes > 0)
    bench.write(11, 1 << 20)
    bench.settle()
    #expect(bench.takeLocal(11), "the application goes on here")
  }

  @Test func aSwingUnderWayIsGivenUp() {
    let bench = SourceBench.tracking()
    bench.tell(.command(.swing, id: 2))
    bench.tell(.untracked(why: "snapshot"))
    #expect(bench.observed.stage == .tracking)
    #expect(bench.observed.authority == .source)
    bench.settle()
    #expect(bench.observed.authority == .source, "what was prepared is void")
  }

  @Test func theMapShowsWhatDiffersOrIsOnItsWay() {
    let bench = SourceBench.tracking()
    let whole = ByteRange(offset: 0, length: 8 << 20)
    func map(_ range: ByteRange, limit: Int = 99) -> [SourceMachine.MapRun] {
      bench.machine.changedDataMap(of: 0, in: range, limit: limit)
    }
    #expect(map(whole) == [.init(range: whole, differs: false)])
    bench.write(10, (1 << 20) + 512)
    bench.settle()
    bench.tell(.localDone(id: 10, .ok))
    let block: UInt64 = 64 << 10
    let written = SourceMachine.MapRun(range: ByteRange(offset: 1 << 20, length: block), differs: true)
    #expect(map(whole).count == 3 && map(whole)[1] == written)
    #expect(map(whole, limit: 2).count == 2)
    #expect(map(ByteRange(offset: (1 << 20) + 4096, length: 4096)).map(\.range.length) == [4096])
    bench.tell(.command(.resync, id: 3))
    #expect(bench.copies.count == 1, "it is being copied")
    #expect(map(whole)[1] == written)
    bench.settle()
    #expect(map(whole) == [.init(range: whole, differs: false)])
  }

  @Test func aSwingFlushesBeforeTheBarrierWhatTheCopierWrote() {
    let bench = SourceBench.tracking()
    bench.write(10, 0)
    bench.settle()
    bench.tell(.localDone(id: 10, .ok))
    bench.tell(.command(.swing, id: 2))
    if let copy = bench.copies.first { bench.tell(.copyRead(transfer: copy.transfer, .ok, isZero: false)) }
    let sent = bench.takeSent { message in
      guard case .write(_, _, _, _, .copy) = message else { return false }
      return true
    }
    if let sent { bench.answer(sent) }
    func hasPrepare() -> Bool {
      bench.has { effect in
        guard case .send(_, _, let frame, _) = effect, case .prepare = frame.message else { return false }
        return true
      }
    }
    #expect(sent != nil && bench.observed.volumes[0].dirtyBytes == 0)
    #expect(!hasPrepare(), "drained, but the destination hasn't flushed what it got")
    bench.write(11, 4 << 20)
    #expect(bench.takeCompletion(11) == nil)
    let flush = bench.takeSent { $0 == .flush(volume: nil) }
    #expect(flush != nil)
    bench.settle()
    #expect(bench.observed.stage == .swinging || bench.observed.stage == .standIn)
  }

  @Test func aFencedSourceIsNotTouched() {
    let bench = SourceBench.fenced()
    bench.tell(.untracked(why: "too late"))
    #expect(bench.observed.volumes[0].dirtyBytes == 0)
    #expect(bench.observed.stage == .fenced && bench.observed.lastError == nil)
  }

  /// A destination that was released is its host's: it takes no flush, and there is nothing left to forget.
  @Test func aFencedSourceFlushesNothingAnyMore() {
    let bench = SourceBench.fenced()
    for _ in 0..<10 { bench.advance(6) }
    #expect(bench.takeSent { $0 == .flush(volume: nil) } == nil)
    #expect(bench.observed.lastError == nil)
  }
}
