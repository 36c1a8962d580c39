/// Replies of the transmission phase. Each function writes at the start of `buffer` and returns the bytes written.
enum NBDReply {
  /// The longest header that comes before a payload, or error chunk with its message.
  static let maxHeaderBytes = 512

  @inline(__always)
  static func simple(_ error: UInt32, cookie: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    buffer.storeBigEndian(NBDWire.simpleReplyMagic, at: 0)
    buffer.storeBigEndian(error, at: 4)
    buffer.storeBigEndian(cookie, at: 8)
    return NBDWire.simpleReplyBytes
  }

  @inline(__always)
  private static func chunk(
    _ type: UInt16, flags: UInt16, cookie: UInt64, length: UInt32, into buffer: UnsafeMutableRawBufferPointer
  ) {
    buffer.storeBigEndian(NBDWire.structuredReplyMagic, at: 0)
    buffer.storeBigEndian(flags, at: 4)
    buffer.storeBigEndian(type, at: 6)
    buffer.storeBigEndian(cookie, at: 8)
    buffer.storeBigEndian(length, at: 16)
  }

  /// Comes before the data of a read. The data was read whole before, so it may be the final chunk.
  @inline(__always)
  static func dataHeader(
    cookie: UInt64, offset: UInt64, length: Int, into buffer: UnsafeMutableRawBufferPointer
  ) -> Int {
    chunk(
      NBDWire.ReplyType.offsetData, flags: NBDWire.ReplyFlag.done, cookie: cookie, length: UInt32(length + 8),
      into: buffer)
    buffer.storeBigEndian(offset, at: NBDWire.structuredHeaderBytes)
    return NBDWire.structuredHeaderBytes + 8
  }

  /// An error with a word for the person at the client.
  static func error(_ code: NBDErrorCode, cookie: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    let text = Array(code.description.utf8.prefix(maxHeaderBytes - NBDWire.structuredHeaderBytes - 6))
    chunk(
      NBDWire.ReplyType.error, flags: NBDWire.ReplyFlag.done, cookie: cookie, length: UInt32(6 + text.count),
      into: buffer)
    buffer.storeBigEndian(code.rawValue, at: NBDWire.structuredHeaderBytes)
    buffer.storeBigEndian(UInt16(text.count), at: NBDWire.structuredHeaderBytes + 4)
    let start = NBDWire.structuredHeaderBytes + 6
    UnsafeMutableRawBufferPointer(rebasing: buffer[start..<start + text.count]).copyBytes(from: text)
    return start + text.count
  }

  /// One chunk a context, the last one final.
  static func blockStatus(_ status: [(NBDMetaContext, [NBDExtent])], cookie: UInt64) -> [UInt8] {
    var bytes: [UInt8] = []
    for (index, (context, extents)) in status.enumerated() {
      bytes.appendBigEndian(NBDWire.structuredReplyMagic)
      bytes.appendBigEndian(index == status.count - 1 ? NBDWire.ReplyFlag.done : 0)
      bytes.appendBigEndian(NBDWire.ReplyType.blockStatus)
      bytes.appendBigEndian(cookie)
      bytes.appendBigEndian(UInt32(4 + 8 * extents.count))
      bytes.appendBigEndian(context.rawValue)
      for extent in extents {
        bytes.appendBigEndian(UInt32(extent.lengthBytes))
        bytes.appendBigEndian(extent.flags)
      }
    }
    return bytes
  }

  /// What an export answered, made fit for the wire: neighbours with equal flags joined, nothing empty, nothing beyond
  /// `range`, at most `limit` extents. An export that told nothing gets status 0, which is always true.
  static func normalized(_ extents: [NBDExtent], range length: UInt64, limit: Int) -> [NBDExtent] {
    var result: [NBDExtent] = []
    var covered: UInt64 = 0
    for extent in extents where extent.lengthBytes > 0 && covered < length {
      let part = min(extent.lengthBytes, length - covered)
      covered += part
      if let last = result.last, last.flags == extent.flags {
        result[result.count - 1].lengthBytes += part
      } else if result.count < limit {
        result.append(NBDExtent(lengthBytes: part, flags: extent.flags))
      } else {
        break
      }
    }
    return result.isEmpty ? [NBDExtent(lengthBytes: length, flags: 0)] : result
  }
}
