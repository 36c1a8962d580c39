import BlockModel
import H2HProtocol
import Replication

extension SimulatedWorld {
  // MARK: effects begin

  mutating func perform(_ effect: SourceEffect) {
    switch effect {
    case .local(let id, let volume, let operation, let range, let durable):
      work.append(.local(id: id, volume: Int(volume), operation, range, durable: durable))
    case .complete(let id, let status): complete(id, status)
    case .deliver(let id, let offset, let length):
      let first = Int(UInt64(offset) / SimulatedDisk.cellBytes)
      let count = Int(UInt64(length) / SimulatedDisk.cellBytes)
      guard let request = requests[id] else { return }
      var seen = request.seen
      if seen.isEmpty { seen = Array(repeating: 0, count: cells(request.range).count) }
      for index in 0..<count { seen[first + index] = payloadInHand[index] }
      requests[id]?.seen = seen
    case .send(let id, let lane, let frame, let payload):
      if link?.id == id, link?.isBroken == false { checkOneInFlight(frame) }
      send(from: .source, id, lane, frame, sourcePayload(payload, frame))
    case .readForCopy(let transfer, let volume, let range, let pieceBytes, let mayPack):
      work.append(.copyRead(transfer: transfer, volume: Int(volume), range, pieceBytes: pieceBytes, mayPack: mayPack))
    case .releaseTransfer(let transfer): transferData[transfer] = nil
    case .storeIntent(let volume, let page, let revision, let bytes):
      work.append(.intent(volume: Int(volume), page: page, revision: revision, bytes: bytes))
    case .store(let revision, let record):
      work.append(.store(.source, revision: revision, record.encoded()))
    case .flushLocal(let checkpoint): work.append(.flushLocal(checkpoint: checkpoint))
    case .digestLocal(let id, let volume, let range):
      work.append(.digest(id: id, volume: Int(volume), range))
    case .keepVerification: work.append(.tellSource(.verificationKept(isKept: true)))
    case .makeReceipt(let draft):
      let text = Receipt.text(draft) { Self.digest($0.map(UInt64.init)) }
      work.append(.tellSource(.receiptStored(digest: "\(Self.digest(text.map(UInt64.init)))")))
    case .fenceHost: work.append(.tellSource(.hostFenced(isFenced: isCalm || !chance.oneIn(3))))
    case .sendHello(let id, let state): deliver(.hello(state), from: .source, id)
    case .answerHello(let id, let state): deliver(.helloAnswer(state), from: .source, id)
    case .refuseHello(let id, _, _), .closeLink(let id, _): if link?.id == id { breakLink(knownAt: .source) }
    case .linkEstablished(let id): if link?.id == id { link?.isEstablished[0] = true }
    case .commandAnswer(_, let answer): lastAnswer = answer
    case .hold(let cause, let why): lastHold = (cause, why)
    case .stageChanged: break
    case .journal(let text): if isTracing { print(time, "source:", text) }
    }
  }

  mutating func perform(_ effect: DestinationEffect) {
    switch effect {
    case .local(let link, let requestID, let operation):
      work.append(.destinationLocal(link: link, requestID: requestID, operation))
    case .drop(let link, let requestID): frameData[FrameKey(link: link, requestID: requestID)] = nil
    case .send(let id, let lane, let frame):
      let key = FrameKey(link: id, requestID: frame.requestID)
      send(from: .destination, id, lane, frame, readData.removeValue(forKey: key) ?? [])
    case .store(let revision, let record, _):
      work.append(.store(.destination, revision: revision, record.encoded()))
    case .releaseVolume(let volume):
      let isReleased = isCalm || !chance.oneIn(3)
      work.append(.tellDestination(.volumeReleased(volume: volume, isReleased: isReleased)))
    case .sendHello(let id, let state): deliver(.hello(state), from: .destination, id)
    case .answerHello(let id, let state): deliver(.helloAnswer(state), from: .destination, id)
    case .refuseHello(let id, _, _), .closeLink(let id, _): if link?.id == id { breakLink(knownAt: .destination) }
    case .linkEstablished(let id): if link?.id == id { link?.isEstablished[1] = true }
    case .commandAnswer(_, let answer): lastAnswer = answer
    case .stageChanged: break
    case .journal(let text): if isTracing { print(time, "destination:", text) }
    }
  }

  private func sourcePayload(_ payload: PayloadSource, _ frame: H2HFrame) -> [UInt64] {
    switch payload {
    case .none: []
    case .application(let id, _):
      Array(repeating: id, count: frame.message.payloadBytes / Int(SimulatedDisk.cellBytes))
    case .transfer(let id, let offset):
      Array(
        (transferData[id] ?? []).dropFirst(Int(UInt64(offset) / SimulatedDisk.cellBytes))
          .prefix(frame.message.payloadBytes / Int(SimulatedDisk.cellBytes)))
    }
  }

  /// Overlapping data is never on its way to the destination twice.
  private mutating func checkOneInFlight(_ frame: H2HFrame) {
    let target: (volume: Int, range: ByteRange)
    switch frame.message {
    case .write(let volume, let offset, let length, _, _):
      target = (Int(volume), ByteRange(offset: offset, length: UInt64(length)))
    case .writeZeroes(let volume, let range, _, _): target = (Int(volume), range)
    default: return
    }
    for (id, other) in unanswered where other.volume == target.volume && other.range.overlaps(target.range) {
      note(
        "two writes of volume \(target.volume) are in flight together: \(id) \(other.range), "
          + "\(frame.requestID) \(target.range)")
    }
    unanswered[frame.requestID] = target
  }

  // MARK: the link

  mutating func send(from side: Side, _ id: UInt64, _ lane: LinkLane, _ frame: H2HFrame, _ payload: [UInt64]) {
    guard let current = link, current.id == id, !current.isBroken else { return }
    if frame.packedBytes != nil {
      if current.version < H2HVersions.packing { note("a packed frame goes to a peer that does not know of them") }
      report.packedFrames += 1
    }
    let packet = Packet(content: .frame(frame, payload: payload))
    link?.queues[side.other.rawValue][Int(lane.rawValue)].append(packet)
  }

  private mutating func deliver(_ content: Packet.Content, from side: Side, _ id: UInt64) {
    guard link?.id == id, link?.isBroken == false else { return }
    link?.queues[side.other.rawValue][0].append(Packet(content: content))
  }

  /// The ends learn of it at different times; `knownAt` is the one that did it.
  mutating func breakLink(knownAt side: Side?) {
    guard link != nil, link?.isBroken == false else { return }
    link?.isBroken = true
    unanswered = [:]
    if let side { link?.isKnownDown[side.rawValue] = true }
  }

  /// One step of the link: a frame arrives, an end learns that it is broken, or a new one is opened.
  mutating func stepLink() {
    guard let current = link else {
      openLink()
      return
    }
    let side: Side = chance.oneIn(2) ? .source : .destination
    if current.isBroken {
      if current.isKnownDown[0] && current.isKnownDown[1] {
        link = nil
      } else if !current.isKnownDown[side.rawValue] {
        link?.isKnownDown[side.rawValue] = true
        if side == .source {
          tellSource(.linkDown(link: current.id, why: "connection reset"))
        } else {
          tellDestination(.linkDown(link: current.id, why: "connection reset"))
        }
      }
      return
    }
    let lane = chance.below(3)
    guard !current.queues[side.rawValue][lane].isEmpty else { return }
    let isHello = if case .frame = current.queues[side.rawValue][lane][0].content { false } else { true }
    guard isHello || current.isEstablished[side.rawValue] else { return }
    guard (side == .source ? source != nil : destination != nil) else { return }
    if let packet = link?.queues[side.rawValue][lane].removeFirst() {
      receive(side, current.id, current.version, packet)
    }
  }

  private mutating func openLink() {
    guard source != nil, destination != nil, isCalm || chance.oneIn(4) else { return }
    linkCounter += 1
    let opener: Side = chance.oneIn(2) ? .source : .destination
    link = SimulatedLink(
      id: linkCounter, opener: opener, version: chance.oneIn(3) ? H2HVersions.own.oldest : H2HVersions.own.newest)
    report.links += 1
    if opener == .source {
      tellSource(.linkOpening(link: linkCounter))
    } else {
      tellDestination(.linkOpening(link: linkCounter))
    }
  }

  private mutating func receive(_ side: Side, _ id: UInt64, _ version: UInt16, _ packet: Packet) {
    switch packet.content {
    case .hello(let state):
      side == .source
        ? tellSource(.linkOffered(link: id, state, version: version))
        : tellDestination(.linkOffered(link: id, state))
    case .helloAnswer(let state):
      side == .source
        ? tellSource(.linkUp(link: id, state, version: version)) : tellDestination(.linkUp(link: id, state))
    case .frame(let frame, let payload):
      // Through the bytes, so that what is said can be said.
      var bytes = frame.encoded()
      if !isCalm && chance.oneIn(2000) {
        receiveCorrupted(side, &bytes)
        return
      }
      guard let header = try? FrameHeader(decoding: bytes[..<H2HLimits.headerBytes]),
        let decoded = try? H2HFrame(header: header, fields: bytes[H2HLimits.headerBytes...]), decoded == frame
      else {
        note("a frame does not survive its encoding: \(frame)")
        return
      }
      if side == .source {
        if case .answer = frame.message { unanswered[frame.requestID] = nil }
        payloadInHand = payload
        tellSource(.message(link: id, frame))
        payloadInHand = []
      } else {
        if frame.message.payloadBytes > 0 { frameData[FrameKey(link: id, requestID: frame.requestID)] = payload }
        tellDestination(.message(link: id, frame))
      }
    }
  }

  /// A header with a bit that is wrong is never taken for another: the link is closed.
  private mutating func receiveCorrupted(_ side: Side, _ bytes: inout [UInt8]) {
    report.faults["header corrupted", default: 0] += 1
    bytes[chance.below(H2HLimits.headerBytes)] ^= 1 << UInt8(chance.below(8))
    if (try? FrameHeader(decoding: bytes[..<H2HLimits.headerBytes])) != nil { note("a corrupted header was taken") }
    guard let id = link?.id else { return }
    breakLink(knownAt: side)
    if side == .source {
      tellSource(.linkDown(link: id, why: "a damaged frame"))
    } else {
      tellDestination(.linkDown(link: id, why: "a damaged frame"))
    }
  }

  // MARK: work is performed

  mutating func stepWork() {
    if let index = lingering.firstIndex(where: { $0.due <= time }) { work.append(lingering.remove(at: index).item) }
    guard !work.isEmpty else { return }
    let item = work.remove(at: chance.below(work.count))
    if !isCalm && chance.oneIn(30) {
      lingering.append((item, time + 50 + chance.below(500)))
      return
    }
    switch item {
    case .tellSource(let event): tellSource(event)
    case .tellDestination(let event): tellDestination(event)
    case .local, .copyRead, .intent, .flushLocal, .digest: performAtSource(item)
    case .store(let side, let revision, let bytes):
      let isFailing = !isCalm && chance.oneIn(40)
      if !isFailing || chance.oneIn(2) { applyStore(side, bytes) }
      work.append(
        side == .source
          ? .tellSource(.stored(revision: revision, isStored: !isFailing))
          : .tellDestination(.stored(revision: revision, isStored: !isFailing)))
      if isFailing { report.faults["record not stored", default: 0] += 1 }
    case .destinationLocal(let link, let requestID, let operation):
      performAtDestination(link, requestID, operation)
    }
  }

  /// Nothing lingers any more.
  mutating func hurry() {
    work += lingering.map(\.item)
    lingering = []
  }

  private mutating func performAtSource(_ item: Work) {
    switch item {
    case .local(let id, let volume, let operation, let range, let durable):
      if !isCalm && chance.oneIn(150) {
        failLocally(id, volume, operation, range)
        return
      }
      switch operation {
      case .read:
        let seen = cells(range).map { disks[0][volume].current[$0] }
        requests[id]?.seen = seen
      case .write: for cell in cells(range) { disks[0][volume].write(cell, id, durably: durable) }
      case .zeroes: for cell in cells(range) { disks[0][volume].write(cell, 0, durably: durable) }
      case .flush: disks[0][volume].flush()
      }
      work.append(.tellSource(.localDone(id: id, .ok)))
    case .copyRead(let transfer, let volume, let range, let pieceBytes, let mayPack):
      let isFailing = !isCalm && chance.oneIn(200)
      if isFailing { report.faults["copy read failed", default: 0] += 1 }
      let values = cells(range).map { disks[0][volume].current[$0] }
      let pieceCells = Int(pieceBytes / SimulatedDisk.cellBytes)
      // How far a long range is zero, in whole pieces; where it isn't, only its first piece is read.
      let zeroPieces = (values.firstIndex { $0 != 0 } ?? values.count) / pieceCells
      let taken = Array(values.prefix(max(1, zeroPieces) * pieceCells))
      transferData[transfer] = taken
      let isZero = taken.allSatisfy { $0 == 0 }
      let length = UInt64(taken.count) * SimulatedDisk.cellBytes
      let packedBytes = mayPack && !isZero && chance.oneIn(2) ? 1 + length / 3 : nil
      work.append(
        .tellSource(
          .copyRead(
            transfer: transfer, isFailing ? .ioError : .ok, isZero: isZero, length: length, packedBytes: packedBytes)))
    case .intent(let volume, let page, let revision, let bytes):
      let isFailing = !isCalm && chance.oneIn(40)
      if !isFailing || chance.oneIn(2) { intentPages[volume][page] = bytes }
      if isFailing { report.faults["intent not stored", default: 0] += 1 }
      work.append(
        .tellSource(
          .intentStored(volume: UInt16(volume), page: page, revision: revision, isStored: !isFailing)))
    case .flushLocal(let checkpoint):
      for volume in disks[0].indices { disks[0][volume].flush() }
      work.append(.tellSource(.localFlushed(checkpoint: checkpoint, isFlushed: true)))
    case .digest(let id, let volume, let range):
      let values = cells(range).map { disks[0][volume].current[$0] }
      work.append(.tellSource(.localDigest(id: id, Self.digest(values))))
    default: break
    }
  }

  /// The source's disk fails under the application, which is told; a write may have reached it in part.
  private mutating func failLocally(
    _ id: UInt64, _ volume: Int, _ operation: ApplicationOperation, _ range: ByteRange
  ) {
    report.faults["source disk failed", default: 0] += 1
    failedLocally.insert(id)
    if operation == .write || operation == .zeroes {
      for cell in cells(range) where chance.oneIn(2) {
        disks[0][volume].write(cell, operation == .zeroes ? 0 : id, durably: false)
      }
    }
    work.append(.tellSource(.localDone(id: id, chance.oneIn(2) ? .ioError : .noSpace)))
  }

  private mutating func performAtDestination(_ link: UInt64, _ requestID: UInt64, _ operation: DestinationOperation) {
    let key = FrameKey(link: link, requestID: requestID)
    var status = IOStatus.ok
    var digests: [ExtentDigest] = []
    if !isCalm && chance.oneIn(120) {
      status = chance.oneIn(2) ? .ioError : .noSpace
      report.faults["destination disk failed", default: 0] += 1
    }
    switch operation {
    case .write(let volume, let offset, let length, let durable):
      let values = frameData.removeValue(forKey: key) ?? []
      let cells = cells(ByteRange(offset: offset, length: UInt64(length)))
      // A failed write may have reached the disk in part.
      for (cell, value) in zip(cells, values) where status == .ok || chance.oneIn(2) {
        disks[1][Int(volume)].write(cell, value, durably: durable && status == .ok)
      }
    case .writeZeroes(let volume, let range, let durable):
      for cell in cells(range) where status == .ok || chance.oneIn(2) {
        disks[1][Int(volume)].write(cell, 0, durably: durable && status == .ok)
      }
    case .read(let volume, let offset, let length):
      let cells = cells(ByteRange(offset: offset, length: UInt64(length)))
      if status == .ok { readData[key] = cells.map { disks[1][Int(volume)].current[$0] } }
    case .flush(let volume):
      for index in disks[1].indices where status == .ok && (volume == nil || Int(volume ?? 0) == index) {
        disks[1][index].flush()
      }
    case .digest(let volume, let ranges):
      digests = ranges.map { range in Self.digest(cells(range).map { disks[1][Int(volume)].current[$0] }) }
    }
    work.append(
      .tellDestination(.localDone(link: link, requestID: requestID, status, digests: digests)))
  }

  /// Its agent died while it was under way.
  mutating func performPartly(_ item: Work) {
    switch item {
    case .local(let id, let volume, let operation, let range, _) where operation == .write || operation == .zeroes:
      for cell in cells(range) where chance.oneIn(2) {
        disks[0][volume].write(cell, operation == .zeroes ? 0 : id, durably: false)
      }
    case .intent(let volume, let page, _, let bytes): intentPages[volume][page] = bytes
    case .store(let side, _, let bytes): applyStore(side, bytes)
    case .destinationLocal(let link, let requestID, .write(let volume, let offset, let length, _)):
      let values = frameData[FrameKey(link: link, requestID: requestID)] ?? []
      for (cell, value) in zip(cells(ByteRange(offset: offset, length: UInt64(length))), values) where chance.oneIn(2) {
        disks[1][Int(volume)].write(cell, value, durably: false)
      }
    default: break
    }
  }

  private mutating func applyStore(_ side: Side, _ bytes: [UInt8]) {
    guard let record = try? SessionRecord(decoding: bytes) else {
      note("a record does not survive its encoding")
      return
    }
    if record.generation.number < lastGenerations[side.rawValue] {
      note("a generation went back from \(lastGenerations[side.rawValue]) to \(record.generation) at \(side)")
    }
    lastGenerations[side.rawValue] = record.generation.number
    records[side.rawValue] = bytes
    if side == .source { recordedAuthority = record.authority }
  }

  /// Not SHA-256, but as long: equality is all that counts here.
  static func digest(_ values: [UInt64]) -> ExtentDigest {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for value in values { hash = (hash ^ value) &* 0x100_0000_01b3 ^ hash >> 29 }
    var bytes: [UInt8] = []
    for _ in 0..<4 {
      for shift in 0..<8 { bytes.append(UInt8(truncatingIfNeeded: hash >> UInt64(shift * 8))) }
      hash = hash &* 0x9e37_79b9_7f4a_7c15 ^ hash >> 31
    }
    guard let digest = ExtentDigest(bytes) else { preconditionFailure("32 bytes were made") }
    return digest
  }
}
