import BlockModel
import Seams
import Synchronization

/// One client, from greeting to goodbye, on the thread that calls `run`.
///
/// `@unchecked Sendable`: `receive`, `received`, `consumed` and `sendsLongPayloads` are touched by the thread in `run`
/// only, `send` only by whoever set `isWriting` in the outbox; `structuredReplies` is set before the first request is
/// begun (which takes the outbox's lock) and never again; all else is immutable, atomic or behind a lock.
final class NBDConnection: @unchecked Sendable {
  struct Outbox {
    /// Settled, waiting to be written.
    var ready: [NBDTransaction] = []
    /// An empty array with capacity, to swap with.
    var spare: [NBDTransaction] = []
    var free: [NBDTransaction] = []
    var inFlight = 0
    /// Somebody is in `writeReplies`.
    var isWriting = false
    /// The connection's thread has more requests at hand, and writes the replies itself before it waits.
    var isDeferring = false
    /// A write failed: replies are dropped.
    var isBroken = false
    /// The connection's thread waits until `inFlight` falls.
    var isAwaited = false
    /// Shut the channel down when nothing is in flight.
    var closesWhenIdle = false
    var hasWriterThread = false
    /// `isWriting` was set for the writer thread.
    var isWriterAsked = false
    var writerThreadEnds = false
  }

  let channel: any ByteChannel
  unowned let server: NBDServer
  let parking: any NBDParking
  let writerParking: any NBDParking
  let outbox = Mutex(Outbox())
  let send: UnsafeMutableRawBufferPointer
  private let receive: UnsafeMutableRawBufferPointer
  private var received = 0
  private var consumed = 0
  /// The last request came with a long payload: of such a client only the next header is read ahead, so that payloads go
  /// where they belong without a copy.
  private var sendsLongPayloads = false
  private let isRetired = Atomic<Bool>(false)
  private let chosen = Mutex<String?>(nil)
  private(set) var structuredReplies = false

  init(
    channel: any ByteChannel, server: NBDServer, parking: any NBDParking, writerParking: any NBDParking
  ) {
    self.channel = channel
    self.server = server
    self.parking = parking
    self.writerParking = writerParking
    receive = .allocate(byteCount: NBDLimits.receiveBufferBytes, alignment: PayloadBuffer.alignmentBytes)
    send = .allocate(byteCount: NBDLimits.sendBufferBytes, alignment: PayloadBuffer.alignmentBytes)
  }

  deinit {
    receive.deallocate()
    send.deallocate()
  }

  var chosenExportName: String? { chosen.withLock { $0 } }

  func retire(exportName: String) {
    if chosenExportName == exportName { isRetired.store(true, ordering: .relaxed) }
  }

  func shutDown() {
    isRetired.store(true, ordering: .relaxed)
    let isIdle = outbox.withLock { box in
      box.closesWhenIdle = true
      return box.inFlight == 0
    }
    if isIdle { channel.shutDown() }
  }

  func run() {
    do throws(ChannelError) {
      guard let (session, export) = try shakeHands() else { return }
      chosen.withLock { $0 = session.exportName }
      defer {
        chosen.withLock { $0 = nil }
        export.connectionClosed()
      }
      structuredReplies = session.structuredReplies
      // Removed while this client was being let in.
      if server.export(named: session.exportName) !== export { isRetired.store(true, ordering: .relaxed) }
      do throws(ChannelError) {
        try transmit(session, export)
      } catch {
        // The client has gone without a goodbye; what is in flight still ends in order.
      }
      drain()
    } catch {
      // The client has gone during the handshake.
    }
  }

  // MARK: Handshake

  private func shakeHands() throws(ChannelError) -> (NBDSession, any NBDExport)? {
    try sendAll(NBDHandshake.greeting)
    var handshake = NBDHandshake()
    while true {
      let count = try channel.read(into: receive)
      var effects = handshake.receive(
        receive[..<count], exports: server.descriptions, isShuttingDown: isRetired.load(ordering: .relaxed))
      var chosenExport: (any NBDExport)?
      while !effects.isEmpty {
        switch effects.removeFirst() {
        case .send(let bytes):
          do throws(ChannelError) {
            try sendAll(bytes)
          } catch {
            chosenExport?.connectionClosed()
            throw error
          }
        case .open(let name):
          let export = server.export(named: name)
          let accepted = export?.connectionOpened() ?? false
          if accepted { chosenExport = export }
          effects += handshake.opened(
            accepted, exports: server.descriptions, isShuttingDown: isRetired.load(ordering: .relaxed))
        case .enterTransmission(let session):
          guard let chosenExport else { return nil }
          let leftover = handshake.leftover
          precondition(leftover.count <= receive.count)
          receive.copyBytes(from: leftover)
          received = leftover.count
          return (session, chosenExport)
        case .disconnect: return nil
        }
      }
    }
  }

  private func sendAll(_ bytes: [UInt8]) throws(ChannelError) {
    let outcome: Result<Void, ChannelError> = bytes.withUnsafeBytes { raw in
      do throws(ChannelError) {
        try channel.write(raw)
        return .success(())
      } catch {
        return .failure(error)
      }
    }
    try outcome.get()
  }

  // MARK: Transmission

  private func transmit(_ session: NBDSession, _ export: any NBDExport) throws(ChannelError) {
    var rules = NBDRules(
      sizeBytes: export.sizeBytes, blockSizes: export.blockSizes, isReadOnly: export.isReadOnly,
      structuredReplies: session.structuredReplies, hasContexts: !session.contexts.isEmpty)
    outbox.withLock { $0.isDeferring = true }
    while true {
      while received - consumed >= NBDWire.requestBytes {
        let raw = UnsafeRawBufferPointer(rebasing: receive[consumed..<received])
        guard let header = NBDRequestHeader(raw) else { return }
        consumed += NBDWire.requestBytes
        if rules.liesBeyondEnd(header) { rules.sizeBytes = max(rules.sizeBytes, export.sizeBytes) }
        guard try handle(header, rules.judge(header), session, export) else { return }
      }
      try receiveMore()
    }
  }

  /// False where the transmission phase ends.
  private func handle(
    _ header: NBDRequestHeader, _ verdict: NBDVerdict, _ session: NBDSession, _ export: any NBDExport
  ) throws(ChannelError) -> Bool {
    let isClosing = isRetired.load(ordering: .relaxed)
    switch verdict {
    case .submit(let request, let payloadBytes):
      if isClosing {
        try skip(request.kind == .write ? payloadBytes : 0)
        refuse(header, .shutdown)
        return true
      }
      let transaction = begin(header)
      if payloadBytes > 0 {
        transaction.payload = takePayload(payloadBytes)
        sendsLongPayloads = request.kind == .write && payloadBytes >= NBDLimits.longPayloadBytes
        if request.kind == .write {
          do throws(ChannelError) {
            try receivePayload(transaction.payload.bytes)
          } catch {
            // Never submitted; the connection is lost, so nobody waits for the answer.
            completed(transaction, .failure(.inputOutput))
            throw error
          }
        }
      }
      transaction.isRead = request.kind == .read
      submit(request, transaction, export)
    case .blockStatus(let range, let onlyOne):
      if isClosing {
        refuse(header, .shutdown)
      } else {
        answerStatus(header, range, onlyOne, session, export)
      }
    case .refuse(let error, let skipBytes):
      try skip(skipBytes)
      refuse(header, isClosing ? .shutdown : error)
    case .leave, .disconnect: return false
    }
    return true
  }

  private func submit(_ request: NBDRequest, _ transaction: NBDTransaction, _ export: any NBDExport) {
    transaction.isSubmitted = true
    guard let completion = transaction.completion else { preconditionFailure("a transaction without completion") }
    export.submit(request, payload: transaction.payload, completion: completion)
  }

  private func answerStatus(
    _ header: NBDRequestHeader, _ range: ByteRange, _ onlyOne: Bool, _ session: NBDSession, _ export: any NBDExport
  ) {
    let limit = onlyOne ? 1 : NBDLimits.maxExtentsPerReply
    var status: [(NBDMetaContext, [NBDExtent])] = []
    do throws(NBDErrorCode) {
      for context in session.contexts {
        let extents = try export.blockStatus(of: range, context: context, limit: limit)
        status.append((context, NBDReply.normalized(extents, range: range.length, limit: limit)))
      }
    } catch {
      refuse(header, error)
      return
    }
    let transaction = begin(header)
    transaction.answer = .prepared(NBDReply.blockStatus(status, cookie: header.cookie))
    completed(transaction, .success(()))
  }

  private func refuse(_ header: NBDRequestHeader, _ error: NBDErrorCode) {
    completed(begin(header), .failure(error))
  }

  /// Waits while too many are in flight: the socket isn't read meanwhile.
  private func begin(_ header: NBDRequestHeader) -> NBDTransaction {
    var transaction = nextTransaction()
    if transaction == nil {
      stopDeferring()
      while transaction == nil {
        let mustWait = outbox.withLock { box in
          box.isAwaited = box.inFlight >= server.limits.maxRequestsInFlight
          return box.isAwaited
        }
        if mustWait { parking.park() }
        transaction = nextTransaction()
      }
      outbox.withLock { $0.isDeferring = true }
    }
    guard let transaction else { preconditionFailure("unreachable: the loop ends with a transaction") }
    transaction.cookie = header.cookie
    transaction.offset = header.offset
    return transaction
  }

  private func nextTransaction() -> NBDTransaction? {
    let limit = server.limits.maxRequestsInFlight
    let (granted, reused) = outbox.withLock { box -> (Bool, NBDTransaction?) in
      guard box.inFlight < limit else { return (false, nil) }
      box.inFlight += 1
      return (true, box.free.popLast())
    }
    guard granted else { return nil }
    if let reused { return reused }
    let transaction = NBDTransaction()
    transaction.completion = { [self] result in
      precondition(transaction.isSubmitted, "an export completed a request twice")
      transaction.isSubmitted = false
      if transaction.isRead, case .success = result { transaction.answer = .data }
      completed(transaction, result)
    }
    return transaction
  }

  private func takePayload(_ byteCount: Int) -> PayloadBuffer {
    if let buffer = server.pool.takeNow(byteCount) { return buffer }
    stopDeferring()
    let buffer = server.pool.take(byteCount, parking: parking)
    outbox.withLock { $0.isDeferring = true }
    return buffer
  }

  // MARK: Receiving

  /// Writes what is owed and waits for more of the client's bytes.
  private func receiveMore() throws(ChannelError) {
    if consumed > 0 {
      let rest = received - consumed
      if rest > 0 { receive.copyMemory(from: UnsafeRawBufferPointer(rebasing: receive[consumed..<received])) }
      received = rest
      consumed = 0
    }
    stopDeferring()
    let end = sendsLongPayloads ? max(NBDWire.requestBytes, received + 1) : receive.count
    received += try channel.read(into: UnsafeMutableRawBufferPointer(rebasing: receive[received..<end]))
    outbox.withLock { $0.isDeferring = true }
  }

  private func receivePayload(_ buffer: UnsafeMutableRawBufferPointer) throws(ChannelError) {
    let atHand = min(buffer.count, received - consumed)
    buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: receive[consumed..<consumed + atHand]))
    consumed += atHand
    guard atHand < buffer.count else { return }
    stopDeferring()
    try channel.readFully(into: UnsafeMutableRawBufferPointer(rebasing: buffer[atHand...]))
    outbox.withLock { $0.isDeferring = true }
  }

  private func skip(_ byteCount: Int) throws(ChannelError) {
    sendsLongPayloads = false
    var remaining = byteCount
    while remaining > 0 {
      if consumed == received { try receiveMore() }
      let dropped = min(remaining, received - consumed)
      consumed += dropped
      remaining -= dropped
    }
  }
}
