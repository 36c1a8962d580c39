internal import AgentProtocol
internal import BlockModel
internal import H2HProtocol
internal import LinuxPlatform
internal import NBDServer
internal import Replication
internal import Seams
internal import Synchronization

extension SourceSession {
  /// What is left of an effect when the lock is released.
  enum Work: Sendable {
    case effect(SourceEffect)
    case local(ApplicationRequest, volume: Int, ApplicationOperation, ByteRange, durable: Bool)
    case deliver(ApplicationRequest, offset: Int, count: Int)
    case answer(ApplicationRequest)
    case refuse(Link, H2HStatus, why: String)
    /// Bulk frames go in any order.
    case transmit(Link, OutgoingFrame)
  }

  /// Inside the lock. Frames go on their lanes here; nothing here waits.
  func route(_ effect: SourceEffect, _ state: inout State, _ work: inout [Work]) {
    switch effect {
    case .send(let number, let lane, let frame, let source):
      guard let link = state.links[number] else { return }
      let outgoing = OutgoingFrame(frame, payload: payload(for: frame, source, &state))
      switch lane {
      case .control, .application: link.sendControl(outgoing)
      case .bulk: work.append(.transmit(link, outgoing))
      }
    case .local(let id, let volume, let operation, let range, let durable):
      guard let request = state.applications[id] else { return }
      work.append(.local(request, volume: Int(volume), operation, range, durable: durable))
    case .deliver(let id, let offset, let length):
      guard let request = state.applications[id] else { return }
      request.hold()
      work.append(.deliver(request, offset: Int(offset), count: Int(length)))
    case .complete(let id, let status):
      guard let request = state.applications.removeValue(forKey: id) else { return }
      if request.isMeasured {
        state.latencySums.requests += 1
        state.latencySums.seconds += MonotonicTime.now.seconds(since: request.begunAt)
      }
      if request.finish(status) { work.append(.answer(request)) }
    case .releaseTransfer(let id): state.transfers[id] = nil
    case .sendHello(let number, let hello): state.links[number]?.sendHellos(hello)
    case .answerHello(let number, let hello): state.links[number]?.answer(hello)
    case .refuseHello(let number, let status, let why):
      if let link = state.links[number] { work.append(.refuse(link, status, why: why)) }
    case .linkEstablished(let number): state.links[number]?.markEstablished()
    case .closeLink(let number, let why): state.links[number]?.close(why: why)
    case .readForCopy, .storeIntent, .store, .flushLocal, .digestLocal, .makeReceipt, .keepVerification, .fenceHost,
      .commandAnswer, .hold, .stageChanged, .journal:
      work.append(.effect(effect))
    }
  }

  private func payload(
    for frame: H2HFrame, _ source: PayloadSource, _ state: inout State
  ) -> (any FramePayload)? {
    switch source {
    case .none: nil
    case .transfer(let id, let offset): piece(of: id, offset: Int(offset), count: frame.payloadBytes, &state)
    case .application(let id, let offset):
      state.applications[id].map { request in
        ApplicationSlice(request, offset: Int(offset), count: frame.message.payloadBytes)
      }
    }
  }

  /// Once it is sent, what was read is not needed again: after a lost link the disk is read anew.
  private func piece(of transfer: UInt64, offset: Int, count: Int, _ state: inout State) -> (any FramePayload)? {
    guard let buffer = state.transfers[transfer], offset + count <= buffer.count else { return nil }
    if offset + count == buffer.count { state.transfers[transfer] = nil }
    return offset == 0 && count == buffer.count ? buffer : BufferSlice(buffer, offset: offset, count: count)
  }

  /// Outside the lock. `events` gets what was done at once; what is handed to a pool posts by itself.
  func perform(
    _ work: Work, _ poster: Poster, _ payload: UnsafeRawBufferPointer?, _ events: inout [SourceEvent]
  ) {
    switch work {
    case .local(let request, let volume, let operation, let range, let durable):
      if case .worker = poster, volumes[volume].isInline, operation != .flush, range.length < Self.handedOverBytes {
        events.append(.localDone(id: request.id, carryOut(request, volume, operation, range, durable)))
      } else {
        submit(local) { [self] in
          post(.localDone(id: request.id, carryOut(request, volume, operation, range, durable)))
        }
      }
    case .deliver(let request, let offset, let count):
      if let payload, count <= payload.count, offset + count <= request.payload.bytes.count {
        request.piece(offset, count).copyMemory(from: UnsafeRawBufferPointer(rebasing: payload[..<count]))
      }
      if request.drop() { request.answer() }
    case .answer(let request): request.answer()
    case .refuse(let link, let status, let why): submit(local) { link.refuse(status, why: why) }
    case .transmit(let link, let frame):
      // Small frames are gathered by the lane's own thread.
      if case .copier = poster, let read = frame.payload as? PooledBuffer, let packing = read.packing {
        transmit(frame, packing, on: link)
      } else if case .copier = poster, frame.frame.payloadBytes > FrameLane.copiedPayloadBytes {
        link.transmitBulk(frame)
      } else {
        link.sendBulk(frame)
      }
    case .effect(let effect): perform(effect)
    }
  }

  /// The pools take more than a session may have outstanding; where the host gives no thread, this one does the work.
  func submit(_ pool: ThreadPool, _ job: @escaping @Sendable () -> Void) {
    do throws(SystemError) { try pool.trySubmit(job) } catch { job() }
  }

  private func perform(_ effect: SourceEffect) {
    switch effect {
    case .readForCopy(let transfer, let volume, let range, let pieceBytes, let mayPack):
      submit(copying) { [self] in
        post(readForCopy(transfer, Int(volume), range, pieceBytes: pieceBytes, mayPack: mayPack), from: .copier)
      }
    case .storeIntent(let volume, let page, let revision, let bytes):
      writer.replace(SourceFiles.intent(session, volumes[Int(volume)].name, page), with: bytes) {
        [weak self] isStored in
        self?.post(.intentStored(volume: volume, page: page, revision: revision, isStored: isStored), from: .lane)
      }
    case .store(let revision, let record):
      writer.replace(SourceFiles.record(session), with: record.encoded()) { [weak self] isStored in
        self?.post(.stored(revision: revision, isStored: isStored), from: .lane)
      }
    case .flushLocal(let checkpoint):
      submit(local) { [self] in
        let isFlushed = volumes.allSatisfy { (try? $0.device.flush()) != nil }
        post(.localFlushed(checkpoint: checkpoint, isFlushed: isFlushed))
      }
    case .digestLocal(let id, let volume, let range):
      submit(copying) { [self] in
        post(.localDigest(id: id, DeviceDigest.extent(range, of: volumes[Int(volume)].device)))
      }
    case .makeReceipt(let draft): submit(local) { [self] in makeReceipt(draft) }
    case .keepVerification(let draft): submit(local) { [self] in keepVerification(draft) }
    case .fenceHost: submit(local) { [self] in fenceHost() }
    case .commandAnswer(let id, let answer): commandAnswers.change { $0[id] = answer }
    case .hold(let cause, let why): keepHold(cause, why)
    case .stageChanged: submit(local) { [self] in stageChanged() }
    case .journal(let line): journal.append("replication", line)
    case .send, .local, .deliver, .complete, .releaseTransfer, .sendHello, .answerHello, .refuseHello,
      .linkEstablished, .closeLink:
      break
    }
  }

  private func carryOut(
    _ request: ApplicationRequest, _ volume: Int, _ operation: ApplicationOperation, _ range: ByteRange, _ durable: Bool
  ) -> IOStatus {
    let device = volumes[volume].device
    let counters = volumes[volume].counters
    // A machine may split a request; its piece lies at the same place in the payload as in the range.
    let start = Int(range.offset &- request.offset)
    do throws(BlockDeviceError) {
      switch operation {
      case .read:
        try device.read(at: range.offset, into: request.piece(start, Int(range.length)))
        counters.countRead(range.length)
      case .write:
        try device.write(
          at: range.offset, from: UnsafeRawBufferPointer(request.piece(start, Int(range.length))), durable: durable)
        counters.countWrite(range.length)
      case .zeroes:
        try device.writeZeroes(range, mayUnmap: true, durable: durable)
        counters.countWrite(range.length)
      case .flush:
        try device.flush()
        counters.countFlush()
      }
      return .ok
    } catch {
      journal.append("localFailed", error.message)
      return IOStatus(error)
    }
  }

  private func makeReceipt(_ draft: ReceiptDraft) {
    let bytes = Receipt.text(draft, notes: plannedNames, sha256: DeviceDigest.of)
    let path = SourceFiles.receipt(session)
    do throws(StateStoreError) {
      try resources.catalogue.state.replace(path, with: bytes)
    } catch {
      journal.append("receiptNotStored", error.message)
      return post(.receiptStored(digest: nil))
    }
    let digest = DeviceDigest.of(bytes).description
    let summary = ReceiptSummary(
      digest: digest, verify: draft.verify.rawValue,
      comparedBytes: draft.volumes.reduce(0) { $0 + $1.comparedBytes }, at: draft.at,
      path: "\(resources.root.state)/\(path)")
    change { $0.receipt = summary }
    post(.receiptStored(digest: digest))
  }

  /// What the plan calls the session and its volumes by now, where that is something else.
  private var plannedNames: [String] {
    guard let planned = configuration.plannedAs else { return [] }
    return ["planned=\(planned.migration)"]
      + planned.volumes.sorted { $0.key < $1.key }.map { "planned.\($0.key)=\($0.value)" }
  }

  private func fenceHost() {
    var isFenced = true
    for volume in volumes {
      do throws(AgentFault) {
        try fence.raise(volume.path, session: session)
      } catch {
        journal.append("notFenced", error.message)
        isFenced = false
      }
    }
    post(.hostFenced(isFenced: isFenced))
  }

  /// A machine that starts repeats the hold of its record, which somebody may have cleared since.
  private func keepHold(_ cause: HoldCause, _ why: String) {
    let now = resources.time.monotonicNow()
    let (key, isKnown) = state.withLock { state in
      let key = "\(state.machine.observation(at: now).swings) \(cause.rawValue) \(why)"
      return (key, state.isStarting && state.entry.machineHold == key)
    }
    if isKnown { return }
    let hold = Hold(
      cause: cause == .reverted ? .reverted : .failure, who: "cmcagent", why: why, at: resources.time.wallNow())
    submit(local) { [self] in
      change { entry in
        entry.hold = hold
        entry.machineHold = key
      }
    }
  }

  /// Changes what the catalogue keeps, one at a time, so that no older entry overwrites a newer.
  func save(_ body: @Sendable (inout SessionEntry) -> Void) throws(AgentFault) {
    try saving.withLock { _ throws(AgentFault) in
      let entry = state.withLock { state in
        body(&state.entry)
        return state.entry
      }
      try resources.catalogue.save(entry)
    }
  }

  /// The same where nobody waits: a write that fails is reported in the journal and repeated by the next change.
  func change(_ body: @Sendable (inout SessionEntry) -> Void) {
    do throws(AgentFault) { try save(body) } catch { journal.append("catalogueNotStored", error.message) }
  }
}

/// Where a source keeps what its machine wants durable.
enum SourceFiles {
  static func record(_ session: SessionID) -> String { "\(Catalogue.directory(of: session))/record" }
  static func intentDirectory(_ session: SessionID, _ volume: VolumeName) -> String {
    "\(Catalogue.directory(of: session))/intent/\(Catalogue.fileName(volume.text))"
  }
  static func intent(_ session: SessionID, _ volume: VolumeName, _ page: Int) -> String {
    "\(intentDirectory(session, volume))/\(page)"
  }
  static func receipt(_ session: SessionID) -> String { "\(Catalogue.directory(of: session))/receipt" }
  static func verification(_ session: SessionID) -> String { "\(Catalogue.directory(of: session))/verification" }
}

extension IOStatus {
  init(_ error: BlockDeviceError) {
    switch error.code {
    case .outOfRange: self = .outOfRange
    case .noSpace: self = .noSpace
    case .readOnly: self = .readOnly
    case .readFailed, .writeFailed, .flushFailed, .gone: self = .ioError
    }
  }
}
