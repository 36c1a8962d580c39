import BlockModel
import H2HProtocol

/// A frame's work on the destination's disks, running or waiting for an overlapping one before it.
struct DestinationWork: Sendable {
  var link: UInt64
  var requestID: UInt64
  var operation: DestinationOperation
  /// For ordering; nil for a flush.
  var volume: Int?
  var range: ByteRange
  var isWrite: Bool
  var isRunning = false

  func conflicts(with other: DestinationWork) -> Bool {
    volume == other.volume && volume != nil && (isWrite || other.isWrite) && range.overlaps(other.range)
  }
}

extension DestinationMachine {
  // MARK: frames

  mutating func message(_ id: UInt64, _ frame: H2HFrame, into effects: inout [DestinationEffect]) {
    guard link == id else {
      if frame.message.payloadBytes > 0 { effects.append(.drop(link: id, requestID: frame.requestID)) }
      return
    }
    switch frame.message {
    case .write, .writeZeroes, .read, .flush, .digestRequest: serve(frame, into: &effects)
    case .ping: send(frame.requestID, .pong, into: &effects)
    case .pong, .answer, .readAnswer, .digestAnswer, .prepared: break
    case .prepare(let generation, let authority): prepare(frame.requestID, generation, authority, into: &effects)
    case .committed(let generation, let authority):
      committed(frame.requestID, generation, authority, into: &effects)
    case .probe(let length, let answerLength):
      if length > 0 { effects.append(.drop(link: id, requestID: frame.requestID)) }
      if answerLength > 0 {
        effects.append(
          .send(
            link: id, .bulk,
            H2HFrame(requestID: frame.requestID, message: .probe(length: answerLength, answerLength: 0))))
      }
    case .cancel: cancel(into: &effects)
    case .retire: break
    case .hello, .helloAnswer: fail("a second hello on the same lane", into: &effects)
    }
  }

  func send(_ requestID: UInt64, _ message: H2HMessage, into effects: inout [DestinationEffect]) {
    guard let link else { return }
    effects.append(.send(link: link, .control, H2HFrame(requestID: requestID, message: message)))
  }

  func answer(
    _ requestID: UInt64, _ status: H2HStatus, _ text: String, microseconds: UInt32 = 0,
    into effects: inout [DestinationEffect]
  ) {
    guard let link else { return }
    let frame = H2HFrame(
      requestID: requestID, message: .answer(status, text: text), workMicroseconds: microseconds)
    effects.append(.send(link: link, .control, frame))
  }

  // MARK: disk work

  private mutating func serve(_ frame: H2HFrame, into effects: inout [DestinationEffect]) {
    guard let link else { return }
    let hasPayload = frame.message.payloadBytes > 0
    func refuse(_ status: H2HStatus, _ text: String) {
      if hasPayload { effects.append(.drop(link: link, requestID: frame.requestID)) }
      answer(frame.requestID, status, text, into: &effects)
    }
    guard work.count < Self.workLimit else {
      fail("more than \(Self.workLimit) requests at once", into: &effects)
      return
    }
    guard var item = item(link, frame) else {
      refuse(.outOfRange, "no such volume, or past its end")
      return
    }
    guard !work.contains(where: { $0.link == link && $0.requestID == frame.requestID }) else {
      fail("a request number that is in use", into: &effects)
      return
    }
    if item.isWrite, let why = whyNotWritable {
      refuse(.refused, why)
      return
    }
    count(frame.message, item.volume)
    if item.isWrite && isLabelledConsistent(forKindOf: frame.message) {
      // The label says so before the copy stops being consistent.
      isMarkingInconsistent = true
      record.inconsistentSince = wall
      if stage == .prepared || stage == .standIn { changeStage(.receiving, into: &effects) }
      store(.inconsistent, into: &effects)
    }
    item.isRunning = !isMarkingInconsistent && !work.contains { $0.conflicts(with: item) }
    work.append(item)
    if item.isRunning { effects.append(.local(link: link, requestID: item.requestID, item.operation)) }
  }

  private func isLabelledConsistent(forKindOf message: H2HMessage) -> Bool {
    if isMarkingInconsistent || record.inconsistentSince != nil { return false }
    // In stand-in mirrored writes keep it as consistent as the source is.
    switch message {
    case .write(_, _, _, _, .mirror), .writeZeroes(_, _, _, .mirror): return record.authority != .standIn
    default: return true
    }
  }

  private var whyNotWritable: String? {
    switch stage {
    case .prepared, .receiving, .standIn: nil
    case .fenced, .releasing, .released: "the destination is final and takes no more writes from the source"
    case .cancelled: "the session is cancelled"
    }
  }

  private func item(_ link: UInt64, _ frame: H2HFrame) -> DestinationWork? {
    func make(
      _ volume: UInt16, _ range: ByteRange, _ isWrite: Bool, _ operation: DestinationOperation
    ) -> DestinationWork? {
      guard Int(volume) < configuration.volumes.count, !range.isEmpty,
        range.fits(in: configuration.volumes[Int(volume)].sizeBytes)
      else { return nil }
      return DestinationWork(
        link: link, requestID: frame.requestID, operation: operation, volume: Int(volume), range: range,
        isWrite: isWrite)
    }
    switch frame.message {
    case .write(let volume, let offset, let length, let durable, _):
      return make(
        volume, ByteRange(offset: offset, length: UInt64(length)), true,
        .write(volume: volume, offset: offset, length: length, durable: durable))
    case .writeZeroes(let volume, let range, let durable, _):
      return make(volume, range, true, .writeZeroes(volume: volume, range: range, durable: durable))
    case .read(let volume, let offset, let length):
      return make(
        volume, ByteRange(offset: offset, length: UInt64(length)), false,
        .read(volume: volume, offset: offset, length: length))
    case .flush(let volume):
      if let volume, Int(volume) >= configuration.volumes.count { return nil }
      return DestinationWork(
        link: link, requestID: frame.requestID, operation: .flush(volume: volume), volume: nil,
        range: ByteRange(offset: 0, length: 0), isWrite: false)
    case .digestRequest(let volume, let ranges):
      guard let first = ranges.first else { return nil }
      var whole = first
      for range in ranges {
        guard make(volume, range, false, .digest(volume: volume, ranges: ranges)) != nil else { return nil }
        whole = ByteRange(from: min(whole.offset, range.offset), to: max(whole.end, range.end))
      }
      return make(volume, whole, false, .digest(volume: volume, ranges: ranges))
    default: return nil
    }
  }

  private mutating func count(_ message: H2HMessage, _ volume: Int?) {
    switch message {
    case .write(let volume, _, let length, _, let kind):
      if kind == .mirror {
        counters[Int(volume)].mirroredWrites += 1
        counters[Int(volume)].mirroredBytes += UInt64(length)
      } else {
        counters[Int(volume)].copiedBytes += UInt64(length)
      }
    case .writeZeroes(let volume, let range, _, let kind):
      if kind == .mirror {
        counters[Int(volume)].mirroredWrites += 1
        counters[Int(volume)].mirroredBytes += range.length
      } else {
        counters[Int(volume)].copiedBytes += range.length
      }
    case .read(let volume, _, let length):
      counters[Int(volume)].reads += 1
      counters[Int(volume)].readBytes += UInt64(length)
    case .flush(let volume):
      if let volume { counters[Int(volume)].flushes += 1 }
    default: break
    }
  }

  mutating func localDone(
    _ id: UInt64, _ requestID: UInt64, _ status: IOStatus, _ digests: [ExtentDigest], _ microseconds: UInt32,
    into effects: inout [DestinationEffect]
  ) {
    if id == Self.ownLink {
      preparedFlushed(requestID, status, into: &effects)
      return
    }
    guard let index = work.firstIndex(where: { $0.link == id && $0.requestID == requestID && $0.isRunning }) else {
      return
    }
    let done = work.remove(at: index)
    if link == id {
      reply(done, status, digests, microseconds, into: &effects)
    }
    startWaiting(into: &effects)
    if work.isEmpty { answerOffer(into: &effects) }
  }

  private mutating func reply(
    _ done: DestinationWork, _ status: IOStatus, _ digests: [ExtentDigest], _ microseconds: UInt32,
    into effects: inout [DestinationEffect]
  ) {
    if status != .ok {
      lastError = "\(done.operation) failed on the destination's disk: \(status.explanation)"
      answer(done.requestID, Self.wire(status), lastError ?? "", into: &effects)
      return
    }
    switch done.operation {
    case .read(_, _, let length):
      effects.append(
        .send(
          link: done.link, .application, H2HFrame(requestID: done.requestID, message: .readAnswer(length: length))))
    case .digest: send(done.requestID, .digestAnswer(digests), into: &effects)
    case .write, .writeZeroes: answer(done.requestID, .ok, "", microseconds: microseconds, into: &effects)
    case .flush: answer(done.requestID, .ok, "", into: &effects)
    }
  }

  private static func wire(_ status: IOStatus) -> H2HStatus {
    switch status {
    case .ok: .ok
    case .ioError, .readOnly: .ioError
    case .noSpace: .noSpace
    case .outOfRange: .outOfRange
    case .refused: .refused
    }
  }

  /// In arrival order; nothing overtakes an overlapping one that waits.
  mutating func startWaiting(into effects: inout [DestinationEffect]) {
    if isMarkingInconsistent { return }
    for index in work.indices where !work[index].isRunning {
      if work[..<index].contains(where: { $0.conflicts(with: work[index]) }) { continue }
      work[index].isRunning = true
      effects.append(
        .local(link: work[index].link, requestID: work[index].requestID, work[index].operation))
    }
  }
}
