import BlockModel
import H2HProtocol
import Replication
import Testing

/// A source machine whose effects wait in lists until a test performs them, one by one.
final class SourceBench {
  static let session = SessionID("plan/migration")
  var machine: SourceMachine
  var now = MonotonicTime(nanoseconds: 1_000_000_000)
  var effects: [SourceEffect] = []
  /// So many extents will be found different.
  var differences = 0

  init(
    record: SessionRecord? = nil, pages: [[Int: [UInt8]]] = [], volumes: [UInt64] = [8 << 20],
    confirmWithinSeconds: Double? = nil, verify: VerifyMode = .full, trackLost: String? = nil
  ) {
    machine = SourceMachine(
      configuration: SourceConfiguration(
        session: Self.session,
        volumes: volumes.enumerated().map { .init(name: VolumeName("v\($0)"), sizeBytes: $1) }, bootID: "boot",
        openEpoch: 1, verify: verify, confirmWithinSeconds: confirmWithinSeconds), record: record, intentPages: pages,
      trackLost: trackLost)
    tell(.start(wall: WallTime(secondsSince1970: 1000)))
  }

  func tell(_ event: SourceEvent) { machine.handle(event, at: now, into: &effects) }
  func advance(_ seconds: Double) {
    now = now.adding(seconds: seconds)
    tell(.tick)
  }
  func take<Value>(_ pick: (SourceEffect) -> Value?) -> Value? {
    for index in effects.indices {
      if let value = pick(effects[index]) {
        effects.remove(at: index)
        return value
      }
    }
    return nil
  }
  func has(_ test: (SourceEffect) -> Bool) -> Bool { effects.contains(where: test) }

  func hello(copy: UInt64 = 7, generation: Generation = Generation(0), isKnownZero: Bool = false) -> HelloState {
    HelloState(
      session: Self.session, role: .destination, bootID: "there", openEpoch: 1, generation: generation,
      authority: .source, copyID: copy,
      volumes: machine.configuration.volumes.map {
        HelloVolume(name: $0.name, sizeBytes: $0.sizeBytes, isKnownZero: isKnownZero)
      })
  }
  func connect(_ link: UInt64 = 1, copy: UInt64 = 7) { tell(.linkOffered(link: link, hello(copy: copy))) }

  func write(_ id: UInt64, _ offset: UInt64, _ length: UInt64 = 4096, durable: Bool = false) {
    tell(.application(id: id, volume: 0, .write, range: ByteRange(offset: offset, length: length), durable: durable))
  }
  func read(_ id: UInt64, _ offset: UInt64, _ length: UInt64 = 4096) {
    tell(.application(id: id, volume: 0, .read, range: ByteRange(offset: offset, length: length), durable: false))
  }
  func flush(_ id: UInt64) {
    tell(.application(id: id, volume: 0, .flush, range: ByteRange(offset: 0, length: 0), durable: false))
  }

  // What a test looks for.
  func takeLocal(_ id: UInt64) -> Bool {
    take { if case .local(id, _, _, _, _) = $0 { true } else { nil } } ?? false
  }
  func takeCompletion(_ id: UInt64) -> IOStatus? {
    take { if case .complete(id, let status) = $0 { status } else { nil } }
  }
  func takeSent(_ test: (H2HMessage) -> Bool) -> H2HFrame? {
    take { if case .send(_, _, let frame, _) = $0, test(frame.message) { frame } else { nil } }
  }
  func takeMirror() -> H2HFrame? {
    takeSent {
      switch $0 {
      case .write(_, _, _, _, .mirror), .writeZeroes(_, _, _, .mirror): true
      default: false
      }
    }
  }
  func answer(_ frame: H2HFrame, _ status: H2HStatus = .ok, link: UInt64 = 1) {
    tell(.message(link: link, H2HFrame(requestID: frame.requestID, message: .answer(status, text: ""))))
  }
  var copies: [(transfer: UInt64, range: ByteRange)] {
    effects.compactMap {
      if case .readForCopy(let transfer, _, let range, _, _) = $0 { (transfer, range) } else { nil }
    }
  }

  /// Performs everything but the application's own requests as a good driver and destination would, `rounds` times over.
  func settle(link: UInt64 = 1, isZero: Bool = false, rounds: Int = 400) {
    for _ in 0..<rounds {
      let batch = effects
      effects = []
      var isIdle = true
      for effect in batch {
        switch effect {
        case .storeIntent(let volume, let page, let revision, _):
          tell(.intentStored(volume: volume, page: page, revision: revision, isStored: true))
        case .store(let revision, _): tell(.stored(revision: revision, isStored: true))
        case .readForCopy(let transfer, _, _, _, _): tell(.copyRead(transfer: transfer, .ok, isZero: isZero))
        case .flushLocal(let checkpoint): tell(.localFlushed(checkpoint: checkpoint, isFlushed: true))
        case .digestLocal(let id, _, _):
          tell(.localDigest(id: id, ExtentDigest([UInt8](repeating: differences > 0 ? 9 : 1, count: 32))))
          differences = max(0, differences - 1)
        case .keepVerification: tell(.verificationKept(isKept: true))
        case .makeReceipt: tell(.receiptStored(digest: "abc"))
        case .fenceHost: tell(.hostFenced(isFenced: true))
        case .send(let id, _, let frame, _) where id == link:
          if !settleSent(id, frame) {
            effects.append(effect)
            continue
          }
        case .releaseTransfer, .stageChanged, .journal, .linkEstablished, .answerHello: break
        default:
          effects.append(effect)
          continue
        }
        isIdle = false
      }
      if isIdle { break }
    }
  }

  private func settleSent(_ link: UInt64, _ frame: H2HFrame) -> Bool {
    func tellBack(_ message: H2HMessage) -> SourceEvent {
      .message(link: link, H2HFrame(requestID: frame.requestID, message: message))
    }
    switch frame.message {
    case .write(_, _, _, _, .copy), .writeZeroes(_, _, _, .copy), .flush(volume: nil), .committed:
      tell(tellBack(.answer(.ok, text: "")))
    case .prepare(let generation, _): tell(tellBack(.prepared(generation)))
    case .digestRequest:
      if let digest = ExtentDigest([UInt8](repeating: 1, count: 32)) { tell(tellBack(.digestAnswer([digest]))) }
    case .ping: tell(tellBack(.pong))
    default: return false
    }
    return true
  }

  /// Connected, initially synchronized and tracking.
  static func tracking(_ volumes: [UInt64] = [8 << 20], confirmWithinSeconds: Double? = nil) -> SourceBench {
    let bench = SourceBench(volumes: volumes, confirmWithinSeconds: confirmWithinSeconds)
    bench.connect()
    bench.tell(.command(.synchronize, id: 1))
    bench.settle()
    #expect(bench.machine.stage == .tracking)
    bench.effects = []
    return bench
  }
  static func standIn(confirmWithinSeconds: Double? = nil) -> SourceBench {
    let bench = SourceBench.tracking(confirmWithinSeconds: confirmWithinSeconds)
    bench.tell(.command(.swing, id: 2))
    bench.settle()
    #expect(bench.machine.stage == .standIn)
    bench.effects = []
    return bench
  }
  static func fenced() -> SourceBench {
    let bench = SourceBench.tracking()
    bench.write(50, 0)
    bench.settle()
    bench.tell(.localDone(id: 50, .ok))
    for command in [SourceCommand.resync, .closeTap, .prove, .fence] {
      bench.tell(.command(command, id: 2))
      bench.settle()
    }
    #expect(bench.machine.stage == .fenced)
    bench.effects = []
    return bench
  }
  var observed: SourceObservation { machine.observation(at: now) }
  func isSettled(_ offset: UInt64) -> Bool { machine.isSettled(volume: 0, block: Int(offset / (64 << 10))) }
}

extension SessionRecord {
  /// What a session's agent finds after its end while it tracked.
  static func ofTracking(_ bench: SourceBench) -> SessionRecord {
    var record = SessionRecord(
      session: SourceBench.session, role: .source, generation: bench.observed.generation, authority: .source,
      stage: SourceStage.tracking.rawValue)
    record.copyID = 7
    record.initialSynchronizationAt = bench.observed.initialSynchronizationAt
    return record
  }
}
