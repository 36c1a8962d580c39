import LinuxPlatform
import NBDServer
import Seams

/// An NBD client's handshake with the agent (document section "Newstyle negotiation"), and the bytes of its requests.
enum NBDClient {
  struct Connected: Sendable {
    var channel: LocalChannel
    var sizeBytes: UInt64
    var minimumBlockBytes: UInt32
    var transmissionFlags: UInt16
  }

  /// Longest option reply that is read, in bytes.
  static let maxReplyBytes: UInt32 = 64 << 10
  static let connectTimeoutSeconds = 5.0

  /// Simple replies are enough: the holder asks for no block status, and they are shorter.
  static func connect(socket: String, exportName: String) throws(TapError) -> Connected {
    let channel: LocalChannel
    do throws(SystemError) {
      channel = try LocalChannel(SocketConnector.unix(path: socket, timeoutSeconds: connectTimeoutSeconds))
    } catch {
      throw TapError(.serverUnreachable, error.description)
    }
    do throws(ChannelError) {
      return try shakeHands(channel, exportName)
    } catch {
      channel.shutDown()
      throw TapError(.serverUnreachable, "cannot use export \(exportName) at \(socket): \(error)")
    }
  }

  private static func shakeHands(_ channel: LocalChannel, _ exportName: String) throws(ChannelError) -> Connected {
    let greeting = try receive(18, channel)
    guard Array(greeting.prefix(16)) == Array(NBDHandshake.greeting.prefix(16)), greeting[17] & 3 == 3 else {
      throw ChannelError(.untrustedPeer, "it is no fixed newstyle NBD server")
    }
    var message: [UInt8] = [0, 0, 0, 3]
    message.appendBigEndian(NBDWire.optionMagic)
    message.appendBigEndian(NBDWire.Option.go.rawValue)
    message.appendBigEndian(UInt32(4 + exportName.utf8.count + 2 + 2))
    message.appendBigEndian(UInt32(exportName.utf8.count))
    message += Array(exportName.utf8)
    message.appendBigEndian(UInt16(1))
    message.appendBigEndian(NBDWire.Info.blockSize)
    try send(message, channel)
    var sizeBytes: UInt64?
    var minimumBlockBytes: UInt32 = 1
    var transmissionFlags = NBDWire.TransmissionFlag.hasFlags
    while true {
      let header = try receive(NBDWire.optionReplyHeaderBytes, channel)
      let (magic, type, length) = header.withUnsafeBytes {
        (
          $0.bigEndian(at: 0, as: UInt64.self), $0.bigEndian(at: 12, as: UInt32.self),
          $0.bigEndian(at: 16, as: UInt32.self)
        )
      }
      guard magic == NBDWire.optionReplyMagic, length <= maxReplyBytes else {
        throw ChannelError(.untrustedPeer, "it answers with garbage")
      }
      let data = try receive(Int(length), channel)
      switch type {
      case NBDWire.OptionReply.ack:
        guard let sizeBytes else { throw ChannelError(.untrustedPeer, "it tells no size") }
        return Connected(
          channel: channel, sizeBytes: sizeBytes, minimumBlockBytes: minimumBlockBytes,
          transmissionFlags: transmissionFlags)
      case NBDWire.OptionReply.info where data.count >= 2:
        data.withUnsafeBytes { raw in
          switch raw.bigEndian(at: 0, as: UInt16.self) {
          case NBDWire.Info.export where raw.count >= 12:
            sizeBytes = raw.bigEndian(at: 2, as: UInt64.self)
            transmissionFlags = raw.bigEndian(at: 10, as: UInt16.self)
          case NBDWire.Info.blockSize where raw.count >= 6: minimumBlockBytes = raw.bigEndian(at: 2, as: UInt32.self)
          default: break
          }
        }
      case NBDWire.OptionReply.info: break
      default:
        throw ChannelError(.closed, "it refuses: \(String(decoding: data.prefix(200), as: UTF8.self))")
      }
    }
  }

  private static func send(_ bytes: [UInt8], _ channel: LocalChannel) throws(ChannelError) {
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

  private static func receive(_ count: Int, _ channel: LocalChannel) throws(ChannelError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    let outcome: Result<Void, ChannelError> = bytes.withUnsafeMutableBytes { raw in
      do throws(ChannelError) {
        if !raw.isEmpty { try channel.readFully(into: raw) }
        return .success(())
      } catch {
        return .failure(error)
      }
    }
    try outcome.get()
    return bytes
  }

  /// Writes the request's header at the start of `buffer` (`NBDWire.requestBytes`).
  static func encode(_ entry: PendingRequests.Entry, cookie: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
    buffer.storeBigEndian(NBDWire.requestMagic, at: 0)
    buffer.storeBigEndian(entry.flags, at: 4)
    buffer.storeBigEndian(entry.command.rawValue, at: 6)
    buffer.storeBigEndian(cookie, at: 8)
    buffer.storeBigEndian(entry.offset, at: 16)
    buffer.storeBigEndian(entry.length, at: 24)
  }
}
