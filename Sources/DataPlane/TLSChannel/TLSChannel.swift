package import BlockModel
package import LinuxPlatform
package import Seams
import Synchronization

/// A byte channel under TLS 1.3 over a connected socket, both ends proven by their keys. See `ByteChannel` for threads.
/// The socket's idle timeout holds for every wait.
package final class TLSChannel: ByteChannel {
  package static let defaultHandshakeTimeoutSeconds = 10.0
  /// A refused peer gets this long to take the alert that says so.
  package static let refusalLingerSeconds = 1.0
  /// Most bytes that one TLS record carries.
  package static let recordBytes = 16 << 10

  package let label: String
  package let peerFingerprint: KeyFingerprint
  /// "TLS_AES_128_GCM_SHA256", for people.
  package let cipherName: String

  /// Messages from this size on are corked while they are written, and waited for in large pieces when they are read.
  static let bulkBytes = 64 << 10
  /// Most bytes that a wait for a bulk message lets gather in the socket.
  static let lowWaterBytes = 192 << 10

  private let socket: SocketChannel
  private let session: Mutex<TLSSession>
  /// Held for a whole message, so that messages of two writers don't mix. Holds the first record of a two-part message.
  private let writing = Monitor(AlignedBuffer(byteCount: recordBytes))
  private let isShutDown = Atomic<Bool>(false)

  /// The end that opened the connection. Returns when both ends have accepted each other's key; throws `.untrustedPeer`
  /// where either has not. `peers`: more than one while the peer's key is being replaced.
  package static func connect(
    over socket: SocketChannel, identity: AgentIdentity, expecting peers: Set<KeyFingerprint>,
    handshakeTimeoutSeconds: Double = defaultHandshakeTimeoutSeconds
  ) throws(ChannelError) -> TLSChannel {
    try establish(
      over: socket, identity, isServer: false, PeerJudge { peers.contains($0) }, limitSeconds: handshakeTimeoutSeconds)
  }

  /// The end that listened. `admits` says who may be here; it is called once, on this thread, before any byte of the
  /// peer's is believed. Who came is in `peerFingerprint`.
  package static func accept(
    over socket: SocketChannel, identity: AgentIdentity,
    handshakeTimeoutSeconds: Double = defaultHandshakeTimeoutSeconds,
    admitting admits: @escaping @Sendable (KeyFingerprint) -> Bool
  ) throws(ChannelError) -> TLSChannel {
    try establish(
      over: socket, identity, isServer: true, PeerJudge(admits), limitSeconds: handshakeTimeoutSeconds)
  }

  private init(
    _ session: sending TLSSession, over socket: SocketChannel, peer: KeyFingerprint, cipherName: String
  ) {
    self.session = Mutex(session)
    self.socket = socket
    self.cipherName = cipherName
    label = socket.label
    peerFingerprint = peer
  }

  deinit { shutDown() }

  // MARK: ByteChannel

  package func read(into buffer: UnsafeMutableRawBufferPointer) throws(ChannelError) -> Int {
    precondition(!buffer.isEmpty)
    while true {
      switch step({ $0.read(into: buffer) }) {
      case .moved(let count): return count
      case .wait(let direction): try socket.waitUntilReady(direction)
      case .failed(let error): throw explain(error)
      }
    }
  }

  package func readFully(into buffer: UnsafeMutableRawBufferPointer) throws(ChannelError) {
    var filled = 0
    var lowWater = 1
    defer { if lowWater > 1 { socket.setLowWater(1) } }
    while filled < buffer.count {
      let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[filled...])
      switch step({ $0.read(into: rest) }) {
      case .moved(let count): filled += count
      case .wait(let direction):
        // OpenSSL may hold a part of one record; all else of the message is still to come through the socket.
        let missing = rest.count - 2 * Self.recordBytes
        let wanted = missing >= Self.bulkBytes ? min(missing, Self.lowWaterBytes) : 1
        if wanted != lowWater, socket.idleTimeoutSeconds == .infinity {
          socket.setLowWater(wanted)
          lowWater = wanted
        }
        try socket.waitUntilReady(direction)
      case .failed(let error): throw explain(error)
      }
    }
  }

  package func write(_ buffer: UnsafeRawBufferPointer) throws(ChannelError) {
    try writing.withLock { _ throws(ChannelError) in try writeAll(buffer) }
  }

  package func write(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) throws(ChannelError) {
    try writing.withLock { record throws(ChannelError) in
      let isBulk = second.count >= Self.bulkBytes
      if isBulk { socket.setCork(true) }
      defer { if isBulk { socket.setCork(false) } }
      guard first.count < record.count, !second.isEmpty else {
        try writeAll(first)
        return try writeAll(second)
      }
      let shared = min(second.count, record.count - first.count)
      record.bytes.copyMemory(from: first)
      UnsafeMutableRawBufferPointer(rebasing: record.bytes[first.count...]).copyMemory(
        from: UnsafeRawBufferPointer(rebasing: second[..<shared]))
      try writeAll(UnsafeRawBufferPointer(rebasing: record.readOnly[..<(first.count + shared)]))
      try writeAll(UnsafeRawBufferPointer(rebasing: second[shared...]))
    }
  }

  package func shutDown() {
    guard !isShutDown.exchange(true, ordering: .acquiringAndReleasing) else { return }
    session.withLock { $0.sayClosed() }
    socket.shutDown()
  }

  // MARK: steps

  private func writeAll(_ buffer: UnsafeRawBufferPointer) throws(ChannelError) {
    var sent = 0
    while sent < buffer.count {
      let rest = UnsafeRawBufferPointer(rebasing: buffer[sent...])
      switch step({ $0.write(rest) }) {
      case .moved(let count): sent += count
      case .wait(let direction): try socket.waitUntilReady(direction)
      case .failed(let error): throw explain(error)
      }
    }
  }

  private func step(_ body: (TLSSession) -> TLSStep) -> TLSStep {
    if isShutDown.load(ordering: .acquiring) {
      return .failed(ChannelError(.broken, "connection with \(label) was shut down from this end"))
    }
    return session.withLock { body($0) }
  }

  /// What OpenSSL says after our own end shut the socket down beneath it is not the peer's doing.
  private func explain(_ error: ChannelError) -> ChannelError {
    isShutDown.load(ordering: .acquiring)
      ? ChannelError(.broken, "connection with \(label) was shut down from this end") : error
  }

  private static func establish(
    over socket: SocketChannel, _ identity: AgentIdentity, isServer: Bool, _ judge: PeerJudge, limitSeconds: Double
  ) throws(ChannelError) -> TLSChannel {
    ProcessSetup.ignoreBrokenPipes()
    let deadline = MonotonicTime.now.adding(seconds: limitSeconds)
    let session = try TLSSession(
      identity: identity, isServer: isServer, descriptor: socket.descriptor.number, judge: judge, label: socket.label)
    do throws(ChannelError) {
      try finish(socket, deadline) { session.handshake() }
      try exchangeAcceptance(session, socket, isServer, deadline)
    } catch {
      if error.code == .untrustedPeer { letPeerLearn(socket) }
      socket.shutDown()
      throw error
    }
    guard let peer = judge.outcome.fingerprint, judge.outcome.isAdmitted else {
      socket.shutDown()
      throw ChannelError(.untrustedPeer, "\(socket.label) showed no key")
    }
    return TLSChannel(session, over: socket, peer: peer, cipherName: session.cipherName)
  }

  /// The server's first byte: it accepted the client's key.
  private static let accepted: UInt8 = 0x06

  private static func exchangeAcceptance(
    _ session: TLSSession, _ socket: SocketChannel, _ isServer: Bool, _ deadline: MonotonicTime
  ) throws(ChannelError) {
    var byte = isServer ? accepted : 0
    try withUnsafeMutableBytes(of: &byte) { raw throws(ChannelError) in
      try finish(socket, deadline) {
        isServer ? session.write(UnsafeRawBufferPointer(raw)) : session.read(into: raw)
      }
    }
    if byte != accepted { throw ChannelError(.broken, "\(socket.label) speaks TLS but is no cmcplan agent") }
  }

  private static func finish(
    _ socket: SocketChannel, _ deadline: MonotonicTime, _ body: () -> TLSStep
  ) throws(ChannelError) {
    while true {
      switch body() {
      case .moved: return
      case .wait(let direction): try socket.waitUntilReady(direction, until: deadline)
      case .failed(let error): throw error
      }
    }
  }

  /// Closing a socket with unread bytes resets it, and the reset may overtake the alert: so the rest is read first.
  private static func letPeerLearn(_ socket: SocketChannel) {
    socket.finishWriting()
    let deadline = MonotonicTime.now.adding(seconds: refusalLingerSeconds)
    withUnsafeTemporaryAllocation(byteCount: recordBytes, alignment: 16) { buffer in
      var seen = 0
      while seen < 4 * recordBytes, MonotonicTime.now < deadline {
        do throws(ChannelError) {
          try socket.waitUntilReady(.reading, until: deadline)
          seen += try socket.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[...]))
        } catch { return }
      }
    }
  }
}
