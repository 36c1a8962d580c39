import BlockModel
import H2HProtocol
import Replication
import Testing

/// What the machine makes of pieces that its driver packed.
@Suite struct PackedCopyTests {
  private func reads(_ bench: SourceBench) -> [(transfer: UInt64, mayPack: Bool)] {
    bench.effects.compactMap { effect in
      if case .readForCopy(let transfer, _, _, _, let mayPack) = effect { (transfer, mayPack) } else { nil }
    }
  }

  @Test func onlyAPeerThatUnpacksIsSentPackedPieces() {
    for (version, may) in [(UInt16(1), false), (2, true), (3, true)] {
      let bench = SourceBench()
      bench.tell(.command(.synchronize, id: 1))
      bench.tell(.linkOffered(link: 1, bench.hello(), version: version))
      #expect(!reads(bench).isEmpty)
      #expect(reads(bench).allSatisfy { $0.mayPack == may })
      #expect(bench.observed.linkVersion == version)
    }
  }

  @Test func theVersionIsThatOfTheLinkThatCarriesThePiece() {
    let bench = SourceBench()
    bench.tell(.command(.synchronize, id: 1))
    bench.tell(.linkOffered(link: 1, bench.hello()))
    let early = reads(bench)
    bench.effects = []
    // The peer comes back older than it was; what was packed for its successor is thrown away.
    bench.tell(.linkOffered(link: 2, bench.hello(), version: 1))
    for read in early { bench.tell(.copyRead(transfer: read.transfer, .ok, isZero: false, packedBytes: 77)) }
    #expect(bench.takeSent { if case .write = $0 { true } else { false } } == nil)
    bench.advance(0.1)
    #expect(!reads(bench).isEmpty)
    #expect(reads(bench).allSatisfy { !$0.mayPack })
  }

  @Test func scatteredPiecesOfABlockGoAsTheyAre() {
    let bench = SourceBench.tracking()
    bench.write(10, 0)
    bench.write(11, 32768)
    bench.write(12, 1 << 20)
    bench.settle()
    for id in [10, 11, 12] { bench.tell(.localDone(id: UInt64(id), .ok)) }
    bench.settle()
    bench.tell(.command(.resync, id: 3))
    #expect(reads(bench).map(\.mayPack) == [false, true])
  }

  @Test func packedPiecesAreChargedAndCountedAsWhatCrossesTheLink() throws {
    let bench = SourceBench()
    bench.tell(.command(.synchronize, id: 1))
    bench.tell(.copyBudget(.grant(bytes: 1)))
    bench.connect()
    let read = try #require(reads(bench).first)
    let before = try #require(bench.observed.copyPace.budgetBytes)
    #expect(before == 1 - Int64(128 << 10))
    bench.tell(.copyRead(transfer: read.transfer, .ok, isZero: false, packedBytes: 100_000))
    #expect(bench.observed.copyPace.budgetBytes == 1 - 100_000)
    let sent = try #require(bench.takeSent { if case .write = $0 { true } else { false } })
    #expect(sent.packedBytes == 100_000)
    #expect(sent.message.payloadBytes == 128 << 10)
    bench.answer(sent)
    let seen = bench.observed
    #expect(seen.volumes[0].copiedBytes == 128 << 10)
    #expect(seen.volumes[0].wireBytes == 100_000)
    #expect(seen.copyStages.packedBytes == 128 << 10)
    #expect(seen.copyStages.packedWireBytes == 100_000)
  }

  @Test func whatTheCopierWaitedForIsCounted() {
    let bench = SourceBench()
    bench.tell(.command(.synchronize, id: 1))
    bench.tell(.copyBudget(.grant(bytes: 1)))
    bench.connect()
    bench.advance(3)
    #expect(abs(bench.observed.copyStages.limitedSeconds - 3) < 0.001, "no budget, and work")
    #expect(bench.observed.copyStages.fullSeconds == 0)
    bench.tell(.copyBudget(.unlimited))
    let large = SourceBench(volumes: [64 << 20])
    large.tell(.command(.synchronize, id: 1))
    large.connect()
    large.advance(2)
    #expect(abs(large.observed.copyStages.fullSeconds - 2) < 0.001, "as much under way as may be")
    #expect(large.observed.copyStages.limitedSeconds == 0)
    large.tell(.copyRead(transfer: reads(large).first?.transfer ?? 0, .ok, isZero: false))
    if let sent = large.takeSent({ if case .write = $0 { true } else { false } }) {
      large.tell(
        .message(
          link: 1, H2HFrame(requestID: sent.requestID, message: .answer(.ok, text: ""), workMicroseconds: 250_000)))
    }
    #expect(large.observed.copyStages.destinationSeconds == 0.25)
    #expect(SourceBench.tracking().observed.copyStages.limitedSeconds == 0, "nothing to do is no wait")
  }
}
