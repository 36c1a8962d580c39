import Seams
import Synchronization

/// Replies. While the connection's own thread has requests at hand, it gathers replies and writes them together before
/// it waits. What is settled meanwhile it waits, a second thread writes, which starts when it is first needed: the thread
/// that settled the request belongs to somebody else (to other volumes' replies, say) and must not wait for this client.
extension NBDConnection {
  /// The request is answered. Any thread.
  func completed(_ transaction: NBDTransaction, _ result: Result<Void, NBDErrorCode>) {
    if case .failure(let error) = result { transaction.error = error }
    let mustWrite = outbox.withLock { box in
      box.ready.append(transaction)
      if box.isWriting || box.isDeferring { return false }
      box.isWriting = true
      return true
    }
    if mustWrite { wakeWriter() }
  }

  /// `isWriting` is set; the writer thread, or for want of one this thread, writes.
  private func wakeWriter() {
    let mustStart = outbox.withLock { box in
      defer { box.hasWriterThread = true }
      box.isWriterAsked = true
      return !box.hasWriterThread
    }
    if mustStart, !server.startThread({ self.writeAsAsked() }) {
      outbox.withLock { box in
        box.hasWriterThread = false
        box.isWriterAsked = false
      }
      writeReplies()
      return
    }
    writerParking.unpark()
  }

  /// The writer thread's life.
  private func writeAsAsked() {
    while true {
      writerParking.park()
      let (ends, isAsked) = outbox.withLock { box in
        defer { box.isWriterAsked = false }
        return (box.writerThreadEnds, box.isWriterAsked)
      }
      if isAsked { writeReplies() }
      if ends { return }
    }
  }

  /// Before the connection's thread waits for anything.
  func stopDeferring() {
    let mustWrite = outbox.withLock { box in
      box.isDeferring = false
      if box.isWriting || box.ready.isEmpty { return false }
      box.isWriting = true
      return true
    }
    if mustWrite { writeReplies() }
  }

  /// Waits until nothing of this client is in flight. The connection's thread, last.
  func drain() {
    stopDeferring()
    while true {
      let isBusy = outbox.withLock { box in
        box.isAwaited = box.inFlight > 0 || box.isWriting
        return box.isAwaited
      }
      guard isBusy else { break }
      parking.park()
    }
    outbox.withLock { box in
      for transaction in box.free { transaction.completion = nil }
      box.free = []
      box.writerThreadEnds = true
    }
    writerParking.unpark()
  }

  private func writeReplies() {
    while var batch = nextBatch() {
      var filled = 0
      for transaction in batch { filled = append(transaction, filled) }
      transmit(filled, UnsafeRawBufferPointer(start: nil, count: 0))
      release(&batch)
    }
  }

  private func nextBatch() -> [NBDTransaction]? {
    outbox.withLock { box in
      guard !box.ready.isEmpty else {
        box.isWriting = false
        if box.isAwaited { wake(&box) }
        return nil
      }
      var batch = box.spare
      box.spare = []
      swap(&batch, &box.ready)
      return batch
    }
  }

  /// Adds a reply to the send buffer, which holds `filled` bytes; a long payload goes out at once behind them.
  private func append(_ transaction: NBDTransaction, _ filled: Int) -> Int {
    var filled = filled
    if filled + NBDReply.maxHeaderBytes + NBDLimits.maxCopiedReplyBytes > send.count {
      transmit(filled, UnsafeRawBufferPointer(start: nil, count: 0))
      filled = 0
    }
    let room = UnsafeMutableRawBufferPointer(rebasing: send[filled...])
    if let error = transaction.error {
      return filled
        + (structuredReplies
          ? NBDReply.error(error, cookie: transaction.cookie, into: room)
          : NBDReply.simple(error.rawValue, cookie: transaction.cookie, into: room))
    }
    switch transaction.answer {
    case .status: return filled + NBDReply.simple(0, cookie: transaction.cookie, into: room)
    case .prepared(let bytes):
      bytes.withUnsafeBytes { transmit(filled, $0) }
      return 0
    case .data:
      let data = UnsafeRawBufferPointer(transaction.payload.bytes)
      filled +=
        structuredReplies
        ? NBDReply.dataHeader(
          cookie: transaction.cookie, offset: transaction.offset, length: data.count, into: room)
        : NBDReply.simple(0, cookie: transaction.cookie, into: room)
      guard data.count <= NBDLimits.maxCopiedReplyBytes else {
        transmit(filled, data)
        return 0
      }
      UnsafeMutableRawBufferPointer(rebasing: send[filled...]).copyMemory(from: data)
      return filled + data.count
    }
  }

  /// Sends the first `filled` bytes of the send buffer, then `payload`.
  private func transmit(_ filled: Int, _ payload: UnsafeRawBufferPointer) {
    guard filled + payload.count > 0, !outbox.withLock({ $0.isBroken }) else { return }
    let head = UnsafeRawBufferPointer(rebasing: send[..<filled])
    do {
      if payload.isEmpty { try channel.write(head) } else { try channel.write(head, payload) }
    } catch {
      outbox.withLock { $0.isBroken = true }
      channel.shutDown()
    }
  }

  private func release(_ batch: inout [NBDTransaction]) {
    for transaction in batch {
      if transaction.payload !== PayloadBuffer.empty {
        server.pool.give(back: transaction.payload)
        transaction.payload = .empty
      }
      transaction.error = nil
      transaction.answer = .status
      transaction.isRead = false
    }
    let mustClose = outbox.withLock { box in
      box.inFlight -= batch.count
      box.free.append(contentsOf: batch)
      batch.removeAll(keepingCapacity: true)
      swap(&box.spare, &batch)
      if box.isAwaited { wake(&box) }
      return box.closesWhenIdle && box.inFlight == 0
    }
    if mustClose { channel.shutDown() }
  }

  private func wake(_ box: inout Outbox) {
    box.isAwaited = false
    parking.unpark()
  }
}
