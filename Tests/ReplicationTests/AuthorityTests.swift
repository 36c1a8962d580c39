import BlockModel
import H2HProtocol
import Replication
import Testing

/// DESIGN §8.4, §8.6, §8.7: who may answer, and what a lost peer costs.
@Suite struct AuthorityTests {
  @Test func aSwingIsPreparedThereCommittedHereAndThenServesFromTheDestination() {
    let bench = SourceBench.tracking()
    bench.tell(.command(.swing, id: 2))
    let prepare = bench.takeSent { if case .prepare(Generation(2), .standIn) = $0 { true } else { false } }
    #expect(prepare != nil)
    bench.read(50, 0)
    #expect(!bench.takeLocal(50), "behind the barrier")
    bench.tell(
      .message(link: 1, H2HFrame(requestID: prepare?.requestID ?? 0, message: .prepared(Generation(2)))))
    #expect(bench.observed.authority == .source, "not before the record is durable")
    let record = bench.take { effect -> (UInt64, SessionRecord)? in
      if case .store(let revision, let record) = effect, record.authority == .standIn {
        (revision, record)
      } else {
        nil
      }
    }
    // A note may have been under way; then the commit comes after it.
    if let (revision, stored) = record {
      #expect(stored.generation == Generation(2))
      #expect(stored.standInSince != nil, "the record says since when, for whoever asks after a restart")
      bench.tell(.stored(revision: revision, isStored: true))
    } else {
      bench.settle()
    }
    #expect(bench.observed.authority == .standIn)
    #expect(bench.observed.standInSince != nil)
    #expect(bench.takeSent { if case .read = $0 { true } else { false } } != nil, "the waiting read goes there")
  }

  @Test func inStandInAWriteIsAcknowledgedWhenBothHaveItAndAFlushWhenBothFlushed() {
    let bench = SourceBench.standIn()
    bench.write(10, 0, durable: true)
    bench.settle()
    let mirror = bench.takeMirror()
    guard case .write(_, _, _, true, .mirror)? = mirror?.message else {
      Issue.record("FUA goes to both")
      return
    }
    bench.tell(.localDone(id: 10, .ok))
    #expect(bench.takeCompletion(10) == nil)
    if let mirror { bench.answer(mirror) }
    #expect(bench.takeCompletion(10) == .ok)
    #expect(bench.observed.volumes[0].dirtyBytes == 0)

    bench.flush(11)
    let flush = bench.takeSent { $0 == .flush(volume: 0) }
    if let flush { bench.answer(flush) }
    #expect(bench.takeCompletion(11) == nil)
    bench.tell(.localDone(id: 11, .ok))
    #expect(bench.takeCompletion(11) == .ok)
  }

  @Test func inStandInAReadWaitsForTheOverlappingWriteInFlight() {
    let bench = SourceBench.standIn()
    bench.write(10, 0)
    bench.settle()
    let mirror = bench.takeMirror()
    bench.read(11, 0)
    #expect(bench.takeSent { if case .read = $0 { true } else { false } } == nil)
    bench.tell(.localDone(id: 10, .ok))
    if let mirror { bench.answer(mirror) }
    #expect(bench.takeSent { if case .read = $0 { true } else { false } } != nil)
  }

  @Test func aLongReadArrivesInPartsAndIsCompletedOnce() {
    let bench = SourceBench.standIn()
    bench.read(11, 0, 2 << 20 + 4096)
    var parts: [H2HFrame] = []
    while let part = bench.takeSent({ if case .read = $0 { true } else { false } }) { parts.append(part) }
    #expect(parts.count == 3)
    for part in parts.reversed() {
      guard case .read(_, _, let length) = part.message else { continue }
      bench.tell(.message(link: 1, H2HFrame(requestID: part.requestID, message: .readAnswer(length: length))))
      bench.tell(.message(link: 1, H2HFrame(requestID: part.requestID, message: .readAnswer(length: length))))
    }
    let delivered = bench.effects.compactMap { if case .deliver(11, let offset, _) = $0 { offset } else { nil } }
    #expect(delivered == [2 << 20, 1 << 20, 0])
    #expect(bench.takeCompletion(11) == .ok)
    #expect(bench.takeCompletion(11) == nil)
  }

  @Test func aLostLinkCommitsHereBeforeAnythingTheDestinationLacksIsAcknowledged() {
    let bench = SourceBench.standIn()
    bench.write(10, 0)
    bench.read(11, 1 << 20)
    bench.settle()
    #expect(bench.takeLocal(10))
    bench.tell(.localDone(id: 10, .ok))
    bench.tell(.linkDown(link: 1, why: "cable"))
    #expect(bench.takeLocal(11), "the read goes on here")
    bench.write(12, 2 << 20)
    #expect(bench.takeCompletion(10) == nil && !bench.takeLocal(12), "not before the record")
    let record = bench.take { effect -> (UInt64, SessionRecord)? in
      if case .store(let revision, let record) = effect { (revision, record) } else { nil }
    }
    #expect(record?.1.authority == .source)
    #expect(record?.1.generation == Generation(3))
    #expect(record?.1.holdCause == .failure)
    bench.tell(.stored(revision: record?.0 ?? 0, isStored: true))
    #expect(bench.takeCompletion(10) == .ok, "not failed")
    bench.settle()
    #expect(bench.takeLocal(12))
    #expect(bench.observed.authority == .source)
    #expect(bench.observed.volumes[0].dirtyBytes == 8192)
    #expect(bench.has { if case .hold(.failure, _) = $0 { true } else { false } })
  }

  @Test func aMirroredWriteAnsweredThereButNotHereIsCopiedAgainAfterTheLinkIsLost() {
    let bench = SourceBench.standIn()
    bench.write(10, 0)
    bench.settle()
    if let frame = bench.takeMirror() { bench.answer(frame) }
    // The destination has it; this host's disk is slow, and the link goes.
    bench.tell(.linkDown(link: 1, why: "cable"))
    bench.settle()
    bench.connect(2)
    bench.settle(link: 2)
    #expect(bench.observed.volumes[0].dirtyBytes == 0, "copied meanwhile, with what the disk held then")
    bench.tell(.localDone(id: 10, .ok))
    #expect(bench.observed.volumes[0].dirtyBytes == 4096, "so it is copied once more")
  }

  @Test func aHostThatCouldNotBeFencedIsTriedAgainUntilItIs() {
    let bench = SourceBench.standIn()
    bench.tell(.command(.closeTap, id: 3))
    bench.tell(.command(.prove, id: 4))
    bench.settle()
    bench.tell(.command(.fence, id: 5))
    for _ in 0..<20 where !bench.has({ if case .fenceHost = $0 { true } else { false } }) { bench.settle(rounds: 1) }
    for attempt in 0..<5 {
      #expect(bench.take { if case .fenceHost = $0 { true } else { nil } } == true, "attempt \(attempt)")
      bench.tell(.hostFenced(isFenced: false))
      for _ in 0..<20 { bench.advance(0.1) }
    }
  }

  @Test func aRecordThatCannotBeStoredKeepsRequestsWaitingNotFailing() {
    let bench = SourceBench.standIn()
    bench.write(10, 0)
    bench.settle()
    bench.tell(.localDone(id: 10, .ok))
    bench.tell(.linkDown(link: 1, why: "cable"))
    for attempt in 0..<3 {
      let revision = bench.take { if case .store(let revision, _) = $0 { revision } else { nil } }
      #expect(revision != nil, "attempt \(attempt)")
      bench.tell(.stored(revision: revision ?? 0, isStored: attempt == 2))
      #expect((bench.takeCompletion(10) == .ok) == (attempt == 2))
      bench.advance(1.5)
    }
  }

  @Test func aRestartInStandInReturnsAuthorityWithANewGenerationAndAHold() {
    var record = SessionRecord(
      session: SourceBench.session, role: .source, generation: Generation(4), authority: .standIn, stage: "standIn")
    record.copyID = 7
    let bench = SourceBench(record: record)
    bench.write(1, 0)
    #expect(!bench.takeLocal(1))
    let stored = bench.take { effect -> (UInt64, SessionRecord)? in
      if case .store(let revision, let record) = effect { (revision, record) } else { nil }
    }
    #expect(stored?.1.generation == Generation(5))
    #expect(stored?.1.authority == .source)
    bench.tell(.stored(revision: stored?.0 ?? 0, isStored: true))
    #expect(bench.takeLocal(1))
    #expect(bench.machine.stage == .tracking)
    #expect(bench.has { if case .hold(.failure, _) = $0 { true } else { false } })
  }

  @Test func aSilentDestinationIsGivenUpWithinTheLinkLossTimeout() {
    let bench = SourceBench.standIn()
    for _ in 0..<30 { bench.advance(0.25) }
    #expect(bench.has { if case .closeLink = $0 { true } else { false } })
    bench.settle()
    #expect(bench.observed.authority == .source)
  }

  @Test func aFailedWriteThereRevertsTheSwingAndNothingFails() {
    let bench = SourceBench.standIn()
    bench.write(10, 0)
    bench.settle()
    bench.tell(.localDone(id: 10, .ok))
    if let mirror = bench.takeMirror() { bench.answer(mirror, .noSpace) }
    bench.settle()
    #expect(bench.takeCompletion(10) == .ok)
    #expect(bench.observed.authority == .source)
  }

  @Test func aFailedWriteHereIsToldAndLeavesTheBlockMarked() {
    let bench = SourceBench.standIn()
    bench.write(10, 0)
    bench.settle()
    if let mirror = bench.takeMirror() { bench.answer(mirror) }
    bench.tell(.localDone(id: 10, .ioError))
    #expect(bench.takeCompletion(10) == .ioError)
    #expect(bench.observed.volumes[0].dirtyBytes == 4096)
    guard case .degraded(.source, _) = bench.observed.health else {
      Issue.record("health is \(bench.observed.health)")
      return
    }
  }

  @Test func swingAndRevertCanBeRepeated() {
    let bench = SourceBench.tracking()
    for round in 1...3 {
      bench.tell(.command(.swing, id: 1))
      bench.settle()
      #expect(bench.machine.stage == .standIn)
      bench.tell(.command(.swing, id: 1))
      bench.settle()
      #expect(bench.observed.swings == round)
      bench.tell(.command(.revert, id: 1))
      bench.settle()
      #expect(bench.machine.stage == .tracking)
      #expect(bench.observed.standInSince == nil)
      #expect(bench.observed.generation == Generation(UInt64(1 + 2 * round)))
    }
  }

  @Test func anUnconfirmedSwingRevertsByItselfWithAHold() {
    let bench = SourceBench.standIn(confirmWithinSeconds: 30)
    #expect(bench.observed.confirmBy != nil)
    for _ in 0..<40 {
      bench.advance(1)
      bench.settle()
    }
    #expect(bench.machine.stage == .tracking)
    #expect(bench.has { if case .hold(.failure, _) = $0 { true } else { false } })

    let confirmed = SourceBench.standIn(confirmWithinSeconds: 30)
    confirmed.tell(.command(.confirmSwing, id: 1))
    for _ in 0..<40 {
      confirmed.advance(1)
      confirmed.settle()
    }
    #expect(confirmed.machine.stage == .standIn)
  }

  @Test func aSwingWithOthersIsTakenBackWhenTheirTimeIsOverAndNoLaterThanItsOwn() {
    for (given, stays) in [(10.0, 8), (90.0, 28)] {
      let bench = SourceBench.tracking(confirmWithinSeconds: 30)
      bench.tell(.command(.confirmWithin(seconds: given), id: 1))
      bench.tell(.command(.swing, id: 2))
      bench.settle()
      // Asked again, with more: the first word stands.
      bench.tell(.command(.confirmWithin(seconds: given + 5), id: 3))
      for _ in 0..<stays {
        bench.advance(1)
        bench.settle()
      }
      #expect(bench.machine.stage == .standIn)
      for _ in 0..<4 {
        bench.advance(1)
        bench.settle()
      }
      #expect(bench.machine.stage == .tracking)
      #expect(bench.has { if case .hold(.failure, _) = $0 { true } else { false } })
    }
  }

  @Test func aDrainThatTakesLongerThanItsGroupHasIsGivenUpWithoutAPause() {
    let bench = SourceBench.tracking(confirmWithinSeconds: 30)
    bench.write(9, 0)
    bench.settle()
    bench.tell(.localDone(id: 9, .ok))
    #expect(bench.takeCompletion(9) == .ok)
    bench.tell(.command(.confirmWithin(seconds: 3), id: 1))
    bench.tell(.command(.swing, id: 2))
    #expect(bench.machine.stage == .swinging && bench.observed.confirmBy != nil)
    for _ in 0..<4 { bench.advance(1) }
    #expect(bench.machine.stage == .tracking)
    #expect(bench.observed.swingGivenUp?.contains("longer than its group has") == true)
    #expect(bench.observed.confirmBy == nil && bench.observed.generation == .initial)
  }

  @Test func aLinkLostWhilePreparingLeavesAuthorityHereAndReleasesRequests() {
    let bench = SourceBench.tracking()
    bench.tell(.command(.swing, id: 2))
    bench.write(9, 0)
    bench.tell(.linkDown(link: 1, why: "cable"))
    bench.settle()
    #expect(bench.takeLocal(9))
    #expect(bench.machine.stage == .tracking)
    #expect(bench.observed.authority == .source)
    #expect(bench.observed.generation == .initial)
  }

  @Test func whyASwingWasGivenUpIsToldUntilAnotherBegins() {
    let bench = SourceBench.tracking()
    bench.tell(.command(.swing, id: 2))
    bench.write(9, 0)
    bench.tell(.linkDown(link: 1, why: "cable"))
    bench.settle()
    bench.tell(.localDone(id: 9, .ok))
    bench.connect(2)
    for _ in 0..<10 {
      bench.advance(1)
      bench.settle(link: 2)
    }
    #expect(bench.observed.volumes[0].dirtyBytes == 0, "copying went on")
    #expect(bench.observed.swingGivenUp?.contains("the link was lost (cable)") == true)
    bench.tell(.command(.swing, id: 3))
    #expect(bench.observed.swingGivenUp == nil)
  }

  @Test func aDestinationThatHasSeenMoreIsRefused() {
    let bench = SourceBench()
    bench.tell(.linkOffered(link: 1, bench.hello(generation: Generation(9))))
    #expect(bench.has { if case .refuseHello(1, .refused, _) = $0 { true } else { false } })
    #expect(!bench.observed.isConnected)
    var other = bench.hello()
    other.session = SessionID("other/one")
    bench.effects = []
    bench.tell(.linkOffered(link: 2, other))
    #expect(bench.has { if case .refuseHello(2, .refused, _) = $0 { true } else { false } })
  }

  @Test func finalizeGoesOnlyInOrderAndTheFenceIsOneWay() {
    let bench = SourceBench.standIn()
    func refuses(_ command: SourceCommand) -> Bool {
      bench.tell(.command(command, id: 9))
      let answer: CommandAnswer? = bench.take { if case .commandAnswer(9, let answer) = $0 { answer } else { nil } }
      return answer != .accepted
    }
    #expect(refuses(.prove) && refuses(.fence) && refuses(.retire))
    bench.tell(.command(.closeTap, id: 3))
    bench.write(5, 0)
    #expect(bench.takeCompletion(5) == .refused)
    #expect(refuses(.fence))
    bench.tell(.command(.prove, id: 4))
    bench.settle()
    #expect(bench.machine.stage == .proven)
    #expect(bench.observed.receiptDigest == "abc")
    #expect(bench.observed.comparedBytes == 8 << 20)
    bench.tell(.command(.fence, id: 5))
    bench.settle()
    #expect(bench.machine.stage == .fenced)
    #expect(bench.observed.authority == .destination)
    #expect(refuses(.revert) && refuses(.cancel) && refuses(.openTap))
    bench.tell(.command(.fence, id: 6))
    #expect(bench.has { if case .commandAnswer(6, .accepted) = $0 { true } else { false } })
  }

  @Test func aLateExtentIsComparedInTheProofAndIfItDiffersReportedCopiedAndComparedAgain() {
    let bench = SourceBench.standIn()
    bench.write(10, 0)
    bench.settle()
    if let mirror = bench.takeMirror() { bench.answer(mirror) }
    bench.tell(.localDone(id: 10, .ok))
    bench.tell(.command(.closeTap, id: 3))
    bench.tell(.command(.prove, id: 4))
    bench.differences = 1
    bench.settle()
    #expect(bench.machine.stage == .proven)
    #expect(bench.observed.volumes[0].mismatchedExtents == 1)
  }

  @Test func cancelInStandInReturnsAuthorityFirst() {
    let bench = SourceBench.standIn()
    bench.tell(.command(.cancel, id: 3))
    #expect(bench.takeSent { $0 == .cancel } != nil)
    bench.settle()
    #expect(bench.machine.stage == .cancelled)
    #expect(bench.observed.authority == .source)
    bench.write(5, 0)
    #expect(bench.takeLocal(5), "the application goes on here")
  }
}
