import BlockModel
import CFUSE
import Glibc
import LinuxPlatform
import NBDServer
import Seams
import Synchronization

/// Between the kernel (/dev/fuse) and the agent (NBD). Three threads: one reads the kernel's requests and sends them on,
/// one reads the agent's replies and answers the kernel, one keeps the connection. Only the third sends requests again,
/// so that replies are always read while requests are written, and neither end can block the other for good.
///
/// `@unchecked Sendable`: the arena's bytes of a request are written by the kernel's thread before it is in `table` and
/// only read afterwards, by whoever holds `sending`; `replyData` belongs to the reply thread.
final class HolderLink: @unchecked Sendable {
  /// Data of requests that wait for the agent, in bytes. Past it the kernel's requests wait in the kernel.
  static let arenaBytes = 16 << 20
  static let maxBackoffMilliseconds = 250
  static let replyBufferBytes = 64 << 10

  struct Connection: Sendable {
    /// What the reply thread reads from; nil while there is none.
    var channel: LocalChannel?
    /// Set by whoever saw `channel` fail.
    var isBroken = false
    var isStopping = false
    var reconnections = 0
    var problem = ""
  }

  private let fuse: FileDescriptor
  /// Grows at most.
  private let size: Atomic<UInt64>
  private var volume: FuseVolume { FuseVolume(sizeBytes: sizeBytes) }
  var sizeBytes: UInt64 { size.load(ordering: .acquiring) }
  /// Told of a new size, on a thread of its own.
  private let grown: @Sendable () -> Void
  private let socket: String
  private let exportName: String
  private let log: HolderLog
  private let arena: UnsafeMutableRawBufferPointer
  private let replyData: UnsafeMutableRawBufferPointer
  private let table = Monitor(PendingRequests(arenaBytes: arenaBytes))
  private let connection: Monitor<Connection>
  /// Who sends; the channel that new requests go to, once all older ones were sent again.
  private let sending: Monitor<LocalChannel?> = Monitor(nil)

  /// Takes over a mounted FUSE descriptor. `first` is the connection that told the size.
  init(
    fuse: FileDescriptor, first: NBDClient.Connected, socket: String, exportName: String, log: HolderLog,
    grown: @escaping @Sendable () -> Void
  ) {
    self.fuse = fuse
    size = Atomic(first.sizeBytes)
    self.grown = grown
    self.socket = socket
    self.exportName = exportName
    self.log = log
    arena = .allocate(byteCount: Self.arenaBytes, alignment: 4096)
    replyData = .allocate(byteCount: FuseVolume.maxTransferBytes + Self.replyBufferBytes, alignment: 4096)
    arena.initializeMemory(as: UInt8.self, repeating: 0)
    replyData.initializeMemory(as: UInt8.self, repeating: 0)
    connection = Monitor(Connection(channel: first.channel))
    sending.withLock { $0 = first.channel }
  }

  deinit {
    arena.deallocate()
    replyData.deallocate()
  }

  var facts: (isConnected: Bool, unanswered: Int, reconnections: Int, problem: String) {
    let connection = connection.withLock { $0 }
    return (
      connection.channel != nil && !connection.isBroken, table.withLock { $0.unanswered }, connection.reconnections,
      connection.problem
    )
  }

  /// Starts the threads. `onUnmount` is called once the file system is no longer mounted.
  func start(onUnmount: @escaping @Sendable () -> Void) throws(SystemError) {
    try PlatformThread.start(name: "holder-replies") { self.readReplies() }
    try PlatformThread.start(name: "holder-link") { self.keepConnected() }
    try PlatformThread.start(name: "holder-fuse") {
      self.readKernel()
      self.stop()
      onUnmount()
    }
  }

  func stop() {
    let channel = connection.change { connection in
      connection.isStopping = true
      return connection.channel
    }
    channel?.shutDown()
  }

  // MARK: from the kernel

  private func readKernel() {
    while true {
      let place = table.wait { $0.room(for: FuseVolume.maxRequestBytes) }
      guard let place else { return }
      let buffer = UnsafeMutableRawBufferPointer(rebasing: arena[place..<place + FuseVolume.maxRequestBytes])
      let count = cfuse_read(fuse.number, buffer.baseAddress, buffer.count)
      // ENODEV: unmounted. ENOENT: the request was withdrawn before it was read.
      if count == -Int(ENOENT) || count == -Int(EAGAIN) { continue }
      guard count > 0 else {
        if count != -Int(ENODEV) { log.say("reading /dev/fuse failed: \(SystemError.text(of: Int32(-count)))") }
        return
      }
      let raw = UnsafeRawBufferPointer(rebasing: buffer[..<count])
      switch volume.answer(raw) {
      case .none: break
      case .error(let number): reply(unique(raw), error: number, UnsafeRawBufferPointer(start: nil, count: 0))
      case .data(let bytes): bytes.withUnsafeBytes { reply(unique(raw), error: 0, $0) }
      case .forward(var entry):
        entry.arenaStart = place
        entry.arenaEnd = (place + count + 63) & ~63
        entry.payloadStart = place + FuseVolume.writePayloadStart
        forward(entry)
      }
    }
  }

  private func unique(_ raw: UnsafeRawBufferPointer) -> UInt64 {
    raw.loadUnaligned(as: fuse_in_header.self).unique
  }

  private func reply(_ unique: UInt64, error: Int32, _ data: UnsafeRawBufferPointer) {
    // ENOENT: the kernel no longer waits for it. Nothing else can be done about a failure here.
    _ = cfuse_reply(fuse.number, unique, error, data.baseAddress, data.count)
  }

  private func forward(_ entry: PendingRequests.Entry) {
    sending.withLock { channel in
      let number = table.withLock { $0.add(entry) }
      if let channel { send(entry, number, channel) }
    }
  }

  /// The holder of `sending` only. A failure is noticed by the reply thread: the request stays and is sent again.
  private func send(_ entry: PendingRequests.Entry, _ number: UInt64, _ channel: LocalChannel) {
    // The header goes right before the data, over what FUSE said of the request: one piece, one system call.
    let start = entry.payloadStart - NBDWire.requestBytes
    let payloadBytes = entry.command == .write ? Int(entry.length) : 0
    let message = UnsafeMutableRawBufferPointer(rebasing: arena[start..<entry.payloadStart + payloadBytes])
    NBDClient.encode(entry, cookie: number, into: message)
    do throws(ChannelError) {
      try channel.write(UnsafeRawBufferPointer(message))
    } catch {
      channel.shutDown()
    }
  }

  // MARK: from the agent

  private func readReplies() {
    while true {
      let channel = connection.wait { connection -> LocalChannel?? in
        if connection.isStopping { return .some(nil) }
        return connection.isBroken ? nil : connection.channel.map { .some($0) }
      }
      guard let channel = channel ?? nil else { return }
      var why = "the agent asked to come back later"
      do throws(ChannelError) {
        try readReplies(from: channel)
      } catch {
        why = error.description
      }
      channel.shutDown()
      connection.change { connection in
        connection.isBroken = true
        connection.problem = why
      }
    }
  }

  /// Returns when the agent says that it shuts down.
  private func readReplies(from channel: LocalChannel) throws(ChannelError) {
    let buffer = UnsafeMutableRawBufferPointer(rebasing: replyData[FuseVolume.maxTransferBytes...])
    var received = 0
    var consumed = 0
    while true {
      while received - consumed >= NBDWire.simpleReplyBytes {
        let raw = UnsafeRawBufferPointer(rebasing: buffer[consumed..<received])
        let error = raw.bigEndian(at: 4, as: UInt32.self)
        let number = raw.bigEndian(at: 8, as: UInt64.self)
        guard raw.bigEndian(at: 0, as: UInt32.self) == NBDWire.simpleReplyMagic,
          let entry = table.withLock({ $0.entry(number) })
        else { throw ChannelError(.untrustedPeer, "the agent answers what was not asked") }
        if error == NBDErrorCode.shutdown.rawValue { return }
        consumed += NBDWire.simpleReplyBytes
        if error != 0 {
          reply(entry.unique, error: -errorNumber(error), UnsafeRawBufferPointer(start: nil, count: 0))
        } else if entry.command == .read {
          let data = UnsafeMutableRawBufferPointer(rebasing: replyData[..<Int(entry.length)])
          let atHand = min(data.count, received - consumed)
          data.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[consumed..<consumed + atHand]))
          consumed += atHand
          if atHand < data.count {
            try channel.readFully(into: UnsafeMutableRawBufferPointer(rebasing: data[atHand...]))
          }
          reply(entry.unique, error: 0, UnsafeRawBufferPointer(data))
        } else {
          volume.withSuccess(of: entry) { reply(entry.unique, error: 0, $0) }
        }
        table.withLock { $0.answer(number) }
        table.notifyAll()
      }
      let rest = received - consumed
      if rest > 0 { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[consumed..<received])) }
      received = rest
      consumed = 0
      received += try channel.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[received...]))
    }
  }

  /// NBD's errors are Linux's numbers; anything else is a failed transfer.
  private func errorNumber(_ raw: UInt32) -> Int32 {
    NBDErrorCode(rawValue: raw) == nil ? EIO : Int32(raw)
  }

  // MARK: the size

  /// Asks the agent how large the export is now. The connection that carries the requests stays as it is.
  func lookAgain() throws(TapError) {
    let asked = try NBDClient.connect(socket: socket, exportName: exportName)
    asked.channel.shutDown()
    _ = noteSize(asked.sizeBytes)
  }

  /// Whether it is a new one.
  private func noteSize(_ sizeBytes: UInt64) -> Bool {
    size.max(sizeBytes, ordering: .acquiringAndReleasing).oldValue < sizeBytes
  }

  /// The loop device is made larger by a child, which asks this process for the file's size: never on the thread that
  /// answers it.
  private func tellGrown() {
    do throws(SystemError) { try PlatformThread.start(name: "holder-grow") { [grown] in grown() } } catch {
      log.say("the device keeps its former size: \(error)")
    }
  }

  // MARK: the connection

  private func keepConnected() {
    while true {
      let goesOn = connection.wait { connection -> Bool? in
        if connection.isStopping { return false }
        return connection.isBroken ? true : nil
      }
      guard goesOn == true else { return }
      sending.withLock { $0 = nil }
      log.say("connection with the agent lost (\(connection.withLock { $0.problem })); I/O waits")
      guard let channel = reconnect() else { return }
      // The reply thread reads from now on, so sending can't get stuck.
      connection.change { connection in
        connection.channel = channel
        connection.isBroken = false
        connection.reconnections += 1
        connection.problem = ""
      }
      let sentAgain = sending.withLock { current in
        let again = table.withLock { $0.toSendAgain }
        for (number, entry) in again { send(entry, number, channel) }
        current = channel
        return again.count
      }
      log.say("connected with the agent again; \(sentAgain) requests sent again")
    }
  }

  /// Until it works or the holder stops.
  private func reconnect() -> LocalChannel? {
    var backoff = 5
    var lastProblem = ""
    while true {
      var problem: String
      do throws(TapError) {
        let connected = try NBDClient.connect(socket: socket, exportName: exportName)
        if connected.sizeBytes >= sizeBytes {
          if noteSize(connected.sizeBytes) { tellGrown() }
          return connected.channel
        }
        connected.channel.shutDown()
        problem =
          "export \(exportName) has \(connected.sizeBytes) bytes now, not \(sizeBytes): it is another volume; I/O waits for the right one"
      } catch {
        problem = error.message
      }
      if problem != lastProblem { log.say(problem) }
      lastProblem = problem
      let deadline = MonotonicTime.afterNow(seconds: Double(backoff) / 1000)
      let stops: Bool? = connection.wait(until: deadline) { connection in
        connection.problem = problem
        return connection.isStopping ? true : nil
      }
      if stops == true { return nil }
      backoff = min(backoff * 2, Self.maxBackoffMilliseconds)
    }
  }
}
