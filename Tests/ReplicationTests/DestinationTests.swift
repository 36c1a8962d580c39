import BlockModel
import H2HProtocol
import Replication
import Testing

/// A destination machine whose effects wait in a list.
final class DestinationBench {
  var machine: DestinationMachine
  var effects: [DestinationEffect] = []
  var lastRecord: SessionRecord?
  let now = MonotonicTime(nanoseconds: 1)

  init(record: SessionRecord? = nil) {
    machine = DestinationMachine(
      configuration: DestinationConfiguration(
        session: SourceBench.session,
        volumes: [.init(name: VolumeName("v0"), sizeBytes: 8 << 20, isKnownZero: true)], bootID: "b", openEpoch: 1,
        peer: KeyFingerprint("SHA256:ab"), newCopyID: 77), record: record)
    tell(.start(wall: WallTime(secondsSince1970: 1000)))
  }

  func tell(_ event: DestinationEvent) { machine.handle(event, at: now, into: &effects) }
  func take<Value>(_ pick: (DestinationEffect) -> Value?) -> Value? {
    for index in effects.indices {
      if let value = pick(effects[index]) {
        effects.remove(at: index)
        return value
      }
    }
    return nil
  }
  func store(_ isStored: Bool = true) {
    while let (revision, record) = take({ effect -> (UInt64, SessionRecord)? in
      if case .store(let revision, let record, _) = effect { (revision, record) } else { nil }
    }) {
      if isStored { lastRecord = record }
      tell(.stored(revision: revision, isStored: isStored))
      if !isStored { return }
    }
  }
  func source(_ generation: UInt64 = 1, _ authority: CopyAuthority = .source) -> HelloState {
    HelloState(
      session: SourceBench.session, role: .source, bootID: "s", openEpoch: 1, generation: Generation(generation),
      authority: authority, copyID: 0, volumes: [HelloVolume(name: VolumeName("v0"), sizeBytes: 8 << 20)])
  }
  func connect(_ link: UInt64 = 1, _ generation: UInt64 = 1, _ authority: CopyAuthority = .source) {
    tell(.linkOffered(link: link, source(generation, authority)))
    store()
  }
  func frame(_ id: UInt64, _ message: H2HMessage, link: UInt64 = 1) {
    tell(.message(link: link, H2HFrame(requestID: id, message: message)))
  }
  func write(_ id: UInt64, _ offset: UInt64, kind: WriteKind = .copy, link: UInt64 = 1) {
    frame(id, .write(volume: 0, offset: offset, length: 4096, durable: false, kind: kind), link: link)
  }
  func isRunning(_ id: UInt64) -> Bool {
    take { if case .local(_, id, _) = $0 { true } else { nil } } ?? false
  }
  func done(_ id: UInt64, _ status: IOStatus = .ok, link: UInt64 = 1) {
    tell(.localDone(link: link, requestID: id, status, digests: []))
  }
  func sent(_ id: UInt64) -> H2HMessage? {
    take { if case .send(_, _, let frame) = $0, frame.requestID == id { frame.message } else { nil } }
  }
  func has(_ test: (DestinationEffect) -> Bool) -> Bool { effects.contains(where: test) }

  static func connected() -> DestinationBench {
    let bench = DestinationBench()
    bench.store()
    bench.connect()
    bench.effects = []
    return bench
  }
  static func fenced() -> DestinationBench {
    let bench = DestinationBench.connected()
    bench.frame(1, .prepare(Generation(2), .destination))
    bench.done(1, link: .max)
    bench.store()
    bench.frame(2, .committed(Generation(2), .destination))
    bench.store()
    bench.effects = []
    return bench
  }
}

@Suite struct DestinationTests {
  @Test func aHelloIsAnsweredOnlyWhenEveryWriteOfTheOldLinkIsDone() {
    let bench = DestinationBench.connected()
    bench.write(5, 0)
    bench.store()
    #expect(bench.isRunning(5))
    bench.tell(.linkOffered(link: 2, bench.source()))
    bench.store()
    #expect(!bench.has { if case .answerHello = $0 { true } else { false } })
    bench.done(5)
    bench.store()
    #expect(bench.has { if case .answerHello(2, _) = $0 { true } else { false } })
    bench.write(6, 0, link: 1)
    #expect(!bench.isRunning(6), "a frame of the old link is dropped")
    #expect(bench.has { if case .drop(1, 6) = $0 { true } else { false } })
  }

  @Test func theLabelSaysInconsistentBeforeTheFirstCopiedWrite() {
    let bench = DestinationBench.connected()
    bench.write(5, 0)
    #expect(!bench.isRunning(5))
    let label = bench.effects.compactMap { if case .store(_, _, let label) = $0 { label } else { nil } }.last
    #expect(label?.inconsistentSince != nil)
    #expect(label?.session == SourceBench.session)
    bench.store()
    #expect(bench.isRunning(5))
    bench.write(6, 4096)
    #expect(bench.isRunning(6), "once is enough")
  }

  @Test func overlappingWritesAreCarriedOutInTheirOrder() {
    let bench = DestinationBench.connected()
    bench.write(5, 0)
    bench.store()
    bench.write(6, 0)
    bench.write(7, 8192)
    #expect(bench.isRunning(5) && bench.isRunning(7) && !bench.isRunning(6))
    bench.done(5)
    #expect(bench.isRunning(6))
  }

  @Test func whatLiesPastTheEndIsRefusedAndNotWritten() {
    let bench = DestinationBench.connected()
    bench.write(5, (8 << 20) - 100)
    bench.frame(6, .read(volume: 9, offset: 0, length: 512))
    bench.frame(7, .writeZeroes(volume: 0, range: ByteRange(offset: 0, length: 1 << 40), durable: false, kind: .copy))
    for id: UInt64 in 5...7 {
      #expect(!bench.isRunning(id))
      #expect(bench.sent(id) == .answer(.outOfRange, text: "no such volume, or past its end"))
    }
  }

  @Test func anOlderGenerationOrAnotherSessionIsRefused() {
    let bench = DestinationBench.connected()
    bench.connect(2, 5)
    #expect(bench.machine.observation().generation == Generation(5))
    bench.connect(3, 4)
    #expect(bench.has { if case .refuseHello(3, .refused, _) = $0 { true } else { false } })
    var other = bench.source(9)
    other.session = SessionID("other/one")
    bench.tell(.linkOffered(link: 4, other))
    #expect(bench.has { if case .refuseHello(4, .refused, _) = $0 { true } else { false } })
    #expect(bench.machine.observation().generation == Generation(5))
  }

  @Test func aPreparedGenerationIsDurableBeforeItIsAnsweredAndVoidUnlessCommitted() {
    let bench = DestinationBench.connected()
    bench.frame(9, .prepare(Generation(2), .standIn))
    #expect(bench.sent(9) == nil)
    bench.done(9, link: .max)
    #expect(bench.sent(9) == nil, "flushed, not stored")
    bench.store()
    #expect(bench.sent(9) == .prepared(Generation(2)))
    #expect(bench.lastRecord?.prepared == Generation(2))
    #expect(bench.machine.observation().generation == Generation(1))
    let again = DestinationBench(record: bench.lastRecord)
    again.store()
    again.connect(1, 3, .source)
    #expect(again.machine.observation().generation == Generation(3))
    #expect(again.lastRecord?.prepared == nil)
    #expect(again.machine.observation().authority == .source)
  }

  @Test func theDeviceMayBeOpenedOnlyAfterTheFenceAndTheRelease() {
    let early = DestinationBench.connected()
    early.tell(.command(.release, id: 1))
    #expect(early.has { if case .commandAnswer(1, .refused) = $0 { true } else { false } })

    let bench = DestinationBench.fenced()
    #expect(bench.machine.stage == .fenced)
    #expect(!bench.machine.mayOpenLocally)
    bench.write(40, 0)
    #expect(!bench.isRunning(40), "no write after the fence")
    bench.tell(.command(.release, id: 2))
    #expect(!bench.has { if case .releaseVolume = $0 { true } else { false } }, "the record first")
    bench.store()
    #expect(bench.has { if case .releaseVolume(0) = $0 { true } else { false } })
    #expect(!bench.machine.mayOpenLocally)

    // Killed in the middle: the restart goes on by itself.
    let again = DestinationBench(record: bench.lastRecord)
    again.store()
    #expect(again.has { if case .releaseVolume(0) = $0 { true } else { false } })
    again.tell(.volumeReleased(volume: 0, isReleased: true))
    again.store()
    #expect(again.machine.mayOpenLocally)
    again.tell(.command(.release, id: 3))
    #expect(again.has { if case .commandAnswer(3, .accepted) = $0 { true } else { false } })
  }

  @Test func theFenceIsTakenOnlyFromWhatWasPreparedAndThenToldNeverFromAHello() {
    let bench = DestinationBench.connected()
    bench.frame(3, .committed(Generation(9), .destination))
    guard case .answer(.refused, _)? = bench.sent(3) else {
      Issue.record("a fence that was not prepared was taken")
      return
    }
    let prepared = DestinationBench.connected()
    prepared.frame(1, .prepare(Generation(2), .destination))
    prepared.done(1, link: .max)
    prepared.store()
    prepared.tell(.linkDown(link: 1, why: "test"))
    prepared.connect(2, 2, .destination)
    #expect(prepared.machine.stage == .prepared, "the source's host may not refuse it yet")
    prepared.frame(2, .committed(Generation(2), .destination), link: 2)
    prepared.store()
    #expect(prepared.machine.stage == .fenced)
  }

  @Test func aFailedWriteIsAnsweredAsSuchAndARecordThatCannotBeStoredAnswersNothing() {
    let bench = DestinationBench.connected()
    bench.write(5, 0)
    bench.store()
    bench.done(5, .noSpace)
    guard case .answer(.noSpace, _)? = bench.sent(5) else {
      Issue.record("the source was not told")
      return
    }
    bench.frame(9, .prepare(Generation(2), .standIn))
    bench.done(9, link: .max)
    bench.store(false)
    #expect(bench.sent(9) == nil)
  }

  @Test func aCancelledCopyIsLabelledIncomplete() {
    let bench = DestinationBench.connected()
    bench.tell(.command(.cancel, id: 1))
    let label = bench.effects.compactMap { if case .store(_, _, let label) = $0 { label } else { nil } }.last
    #expect(label?.isCancelled == true)
    #expect(label?.inconsistentSince != nil)
    bench.store()
    bench.connect(2)
    #expect(bench.has { if case .refuseHello(2, .refused, _) = $0 { true } else { false } })
  }
}
