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

  @Test func aFencedSourceIsNotTouched() {
    let bench = SourceBench.tracking()
    bench.tell(.command(.closeTap, id: 2))
    bench.tell(.untracked(why: "too late"))
    #expect(bench.observed.volumes[0].dirtyBytes == 0)
  }
}
