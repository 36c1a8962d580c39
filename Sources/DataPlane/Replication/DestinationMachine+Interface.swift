package import BlockModel
package import H2HProtocol

package enum DestinationCommand: Sendable, Equatable {
  /// Gives the device to its host. Needs the committed generation with authority `destination`.
  case release
  case retire
  case cancel
}

/// What the driver executes on the destination's disks, under the key of the frame that asked for it. (The link number
/// `.max` is the machine's own: a flush before a generation is prepared.)
package enum DestinationOperation: Sendable, Equatable {
  /// The bytes are the payload that came with the frame.
  case write(volume: UInt16, offset: UInt64, length: UInt32, durable: Bool)
  case writeZeroes(volume: UInt16, range: ByteRange, durable: Bool)
  case read(volume: UInt16, offset: UInt64, length: UInt32)
  /// Nil: every volume.
  case flush(volume: UInt16?)
  /// SHA-256 of each, past the page cache.
  case digest(volume: UInt16, ranges: [ByteRange])
}

package enum DestinationEvent: Sendable {
  case start(wall: WallTime)
  case tick
  case command(DestinationCommand, id: UInt64)
  case linkOpening(link: UInt64)
  case linkOffered(link: UInt64, HelloState)
  case linkUp(link: UInt64, HelloState)
  case linkDown(link: UInt64, why: String)
  /// A frame other than hello. The driver keeps its payload under (link, requestID) until the `.local` of the same key is
  /// done, or `.drop` says that there will be none.
  case message(link: UInt64, H2HFrame)
  /// Answer to `.local`. `digests` is for a digest, in the order of its ranges; `microseconds` is how long the disk took.
  case localDone(link: UInt64, requestID: UInt64, IOStatus, digests: [ExtentDigest], microseconds: UInt32 = 0)
  /// Answer to `.store`.
  case stored(revision: UInt64, isStored: Bool)
  /// Answer to `.releaseVolume`.
  case volumeReleased(volume: UInt16, isReleased: Bool)
}

package enum DestinationEffect: Sendable {
  /// Answered with `.localDone`. Also performed if the link is gone meanwhile (a new link waits for it).
  case local(link: UInt64, requestID: UInt64, DestinationOperation)
  /// The payload kept under this key is not needed.
  case drop(link: UInt64, requestID: UInt64)
  /// A `readAnswer` carries what the `.local` of its request id read; a probe, any bytes.
  case send(link: UInt64, LinkLane, H2HFrame)
  /// Replace the record durably, then write and flush `label` (where not nil) to every volume's first withheld block (the
  /// label differs a volume only in its name and size: `DeviceLabel.forVolume`). Answered with `.stored`.
  case store(revision: UInt64, SessionRecord, label: DeviceLabel?)
  /// Write the withheld head and tail to the device, flush it; the label is overwritten by that. Idempotent. Answered with
  /// `.volumeReleased`.
  case releaseVolume(volume: UInt16)
  case sendHello(link: UInt64, HelloState)
  case answerHello(link: UInt64, HelloState)
  case refuseHello(link: UInt64, H2HStatus, why: String)
  /// The link is in use from here on: after the hello exchange, before any other frame. Not before it may the driver hand
  /// over frames of the link (it leaves them in the socket) or open the other lanes.
  case linkEstablished(link: UInt64)
  case closeLink(link: UInt64, why: String)
  case commandAnswer(id: UInt64, CommandAnswer)
  case stageChanged
  case journal(String)
}
