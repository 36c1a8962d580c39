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
    #expect(bench.observed.volumes[0].dirtyBytes == 0)
    #expect(bench.observed.stage == .tracking)
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
    let bench = SourceBench.tracking()
    bench.tell(.command(.closeTap, id: 2))
    bench.tell(.untracked(why: "too late"))
    #expect(bench.observed.volumes[0].dirtyBytes == 0)
  }
}
