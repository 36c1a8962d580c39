import BlockModel
import H2HProtocol
import Replication
import Testing

/// What a person who asks for a comparison is told: all of it, once, and nothing that isn't so.
@Suite struct VerificationTests {
  private func verify(_ bench: SourceBench, _ scope: VerificationRequest.Scope = .all, repairs: Bool) {
    bench.tell(.command(.verify(VerificationRequest(scope: scope, repairs: repairs)), id: 90))
  }
  /// So slowly that no ping is missed.
  private func pass(_ bench: SourceBench, seconds: Int, link: UInt64 = 1) {
    for _ in 0..<seconds {
      bench.settle(link: link)
      bench.advance(1)
    }
    bench.settle(link: link)
  }
  private func seen(_ bench: SourceBench) throws -> VerificationObservation {
    try #require(bench.observed.verification)
  }
  /// Answers every digest but keeps the rest waiting.
  private var copied: (SourceBench) -> Int {
    { bench in bench.effects.count { if case .readForCopy = $0 { true } else { false } } }
  }

  @Test func allIsComparedAndItsReceiptIsKeptApartFromTheProofs() throws {
    let bench = SourceBench.tracking([8 << 20, 5 << 20])
    verify(bench, repairs: false)
    let begun = try seen(bench)
    #expect(begun.endedAt == nil)
    #expect(begun.totalBytes == 13 << 20)
    #expect(begun.remainingBytes == begun.totalBytes, "nothing is answered yet")
    bench.settle()
    let ended = try seen(bench)
    #expect(ended.endedAt != nil && ended.givenUp == nil && ended.hasReceipt)
    #expect(ended.remainingBytes == 0 && ended.differenceCount == 0 && ended.openCount == 0)
    #expect(bench.observed.receiptDigest == nil, "a verification is no proof of a cutover")
  }

  @Test func theReceiptOfAVerificationHasWhatIsEqualAtItsEnd() throws {
    let bench = SourceBench.tracking()
    verify(bench, repairs: false)
    var draft: ReceiptDraft?
    for _ in 0..<50 where draft == nil {
      bench.settle(rounds: 1)
      draft = bench.effects.lazy.compactMap { if case .keepVerification(let draft) = $0 { draft } else { nil } }.first
    }
    #expect(draft?.verify == .full)
    #expect(draft?.volumes.first?.comparedBytes == 8 << 20)
    #expect(draft?.volumes.first?.digests.allSatisfy { $0 != nil } == true)
  }

  @Test func aDifferenceIsOnlyToldWhereNobodyAskedForRepair() throws {
    let bench = SourceBench.tracking()
    bench.differences = 1
    verify(bench, repairs: false)
    bench.settle()
    let found = try seen(bench)
    #expect(found.differenceCount == 1 && found.openCount == 1)
    #expect(found.differences.map(\.outcome) == [.found])
    #expect(found.differences.first?.range == ByteRange(offset: 0, length: 4 << 20))
    #expect(bench.observed.volumes[0].mismatchedExtents == 1)
    #expect(bench.observed.volumes[0].dirtyBytes == 0, "it is left as it is")
    // And stays so: neither a resync nor the comparing that goes on by itself touches it.
    bench.tell(.command(.resync, id: 91))
    for _ in 0..<20 { bench.advance(1) }
    bench.settle()
    #expect(copied(bench) == 0)
    #expect(bench.observed.volumes[0].mismatchedExtents == 1, "nor is it told again and again")
  }

  @Test func whatIsOnlyToldIsFoundAgainAfterACrash() throws {
    let bench = SourceBench.tracking()
    var pages: [Int: [UInt8]] = [:]
    bench.differences = 1
    verify(bench, repairs: false)
    for _ in 0..<200 {
      for effect in bench.effects { if case .storeIntent(0, let page, _, let bytes) = effect { pages[page] = bytes } }
      bench.settle(rounds: 1)
    }
    let again = SourceBench(record: .ofTracking(bench), pages: [pages])
    #expect(again.observed.volumes[0].dirtyBytes == 4 << 20)
  }

  @Test(arguments: [SourceCommand.swing, .closeTap])
  func whatReliesOnTheCopyRepairsWhatWasOnlyTold(_ command: SourceCommand) throws {
    let bench = SourceBench.tracking()
    bench.differences = 1
    verify(bench, repairs: false)
    bench.settle()
    bench.tell(.command(command, id: 92))
    bench.settle()
    if command == .closeTap {
      bench.tell(.command(.prove, id: 93))
      #expect(copied(bench) > 0, "before anything is compared for the proof")
      bench.settle()
      #expect(bench.machine.stage == .proven)
    } else {
      #expect(bench.machine.stage == .standIn)
    }
    #expect(bench.observed.volumes[0].copiedBytes == 12 << 20, "8 MiB at first, 4 MiB again")
    #expect(try seen(bench).differences.map(\.outcome) == [.repairing])
  }

  @Test func repairCopiesWhatDiffersAndComparesItAgain() throws {
    let bench = SourceBench.tracking()
    bench.differences = 1
    verify(bench, repairs: true)
    pass(bench, seconds: 20)
    let found = try seen(bench)
    #expect(found.endedAt != nil)
    #expect(found.differenceCount == 1 && found.openCount == 0)
    #expect(found.differences.map(\.outcome) == [.repaired])
    #expect(bench.observed.volumes[0].copiedBytes == 12 << 20)
  }

  @Test func zeroesThatRottedAreWrittenAgainThoughTheDestinationWasZeroOnce() throws {
    let bench = SourceBench()
    bench.tell(.linkOffered(link: 1, bench.hello(isKnownZero: true)))
    bench.tell(.command(.synchronize, id: 1))
    bench.settle(isZero: true)
    #expect(bench.machine.stage == .tracking)
    #expect(bench.takeSent { if case .writeZeroes = $0 { true } else { false } } == nil, "they are there already")
    bench.differences = 1
    verify(bench, repairs: true)
    var rewritten: UInt64 = 0
    for _ in 0..<100 {
      for effect in bench.effects {
        guard case .send(_, _, let frame, _) = effect, case .writeZeroes(_, let range, _, .copy) = frame.message else {
          continue
        }
        rewritten += range.length
      }
      bench.settle(isZero: true, rounds: 1)
    }
    #expect(rewritten == 4 << 20)
  }

  @Test func inStandInARepairWaitsForTheRevert() throws {
    let bench = SourceBench.standIn()
    bench.differences = 1
    verify(bench, repairs: true)
    bench.settle()
    let found = try seen(bench)
    #expect(found.endedAt != nil, "there is nothing to wait for here")
    #expect(found.differences.map(\.outcome) == [.waitsForRevert] && found.openCount == 1)
    bench.tell(.command(.revert, id: 94))
    bench.settle()
    bench.tell(.command(.resync, id: 95))
    bench.settle()
    #expect(bench.observed.volumes[0].copiedBytes == 12 << 20)
  }

  @Test func whatIsWrittenMeanwhileIsNoFalseAlarmAndIsComparedLater() throws {
    let bench = SourceBench.tracking()
    verify(bench, repairs: false)
    bench.write(5, 0)
    // The write begins while both sides read: the digests are of before or after it, as luck has it.
    for effect in bench.effects {
      guard case .storeIntent(let volume, let page, let revision, _) = effect else { continue }
      bench.tell(.intentStored(volume: volume, page: page, revision: revision, isStored: true))
    }
    bench.differences = 1
    bench.settle()
    bench.tell(.localDone(id: 5, .ok))
    bench.settle()
    #expect(try seen(bench).endedAt == nil, "the extent that was written is not known yet")
    #expect(try seen(bench).remainingBytes == 4 << 20)
    bench.tell(.command(.resync, id: 95))
    bench.settle()
    pass(bench, seconds: 20)
    let found = try seen(bench)
    #expect(found.endedAt != nil && found.differenceCount == 0, "what was written meanwhile is no difference")
  }

  @Test func onlyWhatChangedIsReadWhereOnlyThatIsAskedFor() throws {
    let bench = SourceBench.tracking()
    pass(bench, seconds: 8)
    bench.write(5, 5 << 20)
    bench.settle()
    bench.tell(.localDone(id: 5, .ok))
    bench.tell(.command(.resync, id: 95))
    bench.settle()
    pass(bench, seconds: 20)
    let before = bench.observed.volumes[0].comparedBytes
    verify(bench, .changed, repairs: false)
    #expect(try seen(bench).totalBytes == 4 << 20)
    bench.settle()
    #expect(try seen(bench).endedAt != nil)
    #expect(bench.observed.volumes[0].comparedBytes - before == 4 << 20)
  }

  @Test func anExtentThatCannotBeReadIsToldAndEndsNothing() throws {
    let bench = SourceBench.tracking()
    verify(bench, repairs: true)
    guard let id: UInt64 = bench.take({ if case .digestLocal(let id, _, _) = $0 { id } else { nil } }) else {
      Issue.record("nothing is compared")
      return
    }
    bench.tell(.localDigest(id: id, nil))
    for _ in 0..<5 {
      bench.settle()
      bench.advance(2)
    }
    let found = try seen(bench)
    #expect(found.endedAt != nil)
    #expect(found.differences.map(\.outcome) == [.unreadable])
    #expect(found.differenceCount == 0 && found.openCount == 1)
  }

  @Test func aSessionThatGoesOnGivesAVerificationUpAndSaysSo() throws {
    let bench = SourceBench.tracking()
    verify(bench, repairs: false)
    bench.tell(.command(.closeTap, id: 96))
    bench.advance(0.1)
    let found = try seen(bench)
    #expect(found.endedAt != nil && found.givenUp?.contains("tapClosed") == true)
    verify(bench, repairs: false)
    #expect(
      bench.has { if case .commandAnswer(90, .refused(let why)) = $0 { why.contains("tapClosed") } else { false } })
  }

  @Test func aLostLinkOnlyDelaysIt() throws {
    let bench = SourceBench.tracking()
    verify(bench, repairs: false)
    bench.tell(.linkDown(link: 1, why: "cable"))
    bench.effects = []
    bench.advance(1)
    #expect(try seen(bench).endedAt == nil)
    bench.connect(2)
    bench.settle(link: 2)
    pass(bench, seconds: 20, link: 2)
    let found = try seen(bench)
    #expect(found.endedAt != nil && found.givenUp == nil && found.differenceCount == 0)
  }

  @Test func comparingTakesNothingOfTheLinksBudget() {
    let bench = SourceBench.tracking()
    bench.tell(.copyBudget(.grant(bytes: 0)))
    verify(bench, repairs: false)
    #expect(bench.effects.contains { if case .digestLocal = $0 { true } else { false } })
    bench.settle()
    #expect(bench.observed.copyPace.budgetBytes == 0)
    #expect(bench.observed.comparisonPace.busyBytes >= 8 << 20)
  }
}
