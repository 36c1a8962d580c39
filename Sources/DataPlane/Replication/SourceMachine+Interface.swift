package import BlockModel
package import H2HProtocol

/// How a block operation ended, for the application and from local disks.
package enum IOStatus: UInt8, Sendable {
  case ok
  case ioError
  case noSpace
  case readOnly
  case outOfRange
  /// The session does not take application I/O (tap closed, fenced, cancelled).
  case refused

  /// What it means to a person, and what to do about it.
  package var explanation: String {
    switch self {
    case .ok: "nothing is wrong"
    case .ioError: "it answers with an I/O error; look at the host's kernel log"
    case .noSpace: "no space left on it; free space on the host, and it goes on"
    case .readOnly: "it is read-only; make it writable, and it goes on"
    case .outOfRange: "it is smaller than the source; grow it"
    case .refused: "the session takes no application I/O now"
    }
  }
}

package enum ApplicationOperation: UInt8, Sendable {
  case read
  case write
  /// Trim too: executed as write-zeroes on every copy (DESIGN §8.13).
  case zeroes
  case flush
}

/// What the session's source half is asked to do. All may be repeated; one that finds its work done answers `.done`.
package enum SourceCommand: Sendable, Equatable {
  case synchronize
  case stopSynchronizing
  case resync
  /// Compares anew, with the application running; a verification that runs is given up for it.
  case verify(VerificationRequest)
  case swing
  /// The next swing, or the one under way, is confirmed in that time from now, or taken back.
  case confirmWithin(seconds: Double)
  case revert
  case confirmSwing
  case openTap
  case closeTap
  case prove
  case fence
  case retire
  case cancel
}

package enum CommandAnswer: Sendable, Equatable {
  /// Done, or begun and to be seen in the observation.
  case accepted
  /// `why` says what is missing and what to do.
  case refused(why: String)
}

/// How much of a proof `prove` makes.
package enum VerifyMode: String, Sendable {
  case full
  case changed
  case none
}

/// What happens to a `SourceMachine`. The driver calls `handle` with its session lock held.
package enum SourceEvent: Sendable {
  /// First of all events. `wall` anchors records' times to the monotonic clock.
  case start(wall: WallTime)
  /// Every 50 to 250 ms.
  case tick
  case command(SourceCommand, id: UInt64)
  /// `id` is unique among the requests outstanding. `range` lies within the volume and is not empty, but for a flush.
  case application(id: UInt64, volume: UInt16, ApplicationOperation, range: ByteRange, durable: Bool)
  /// Answer to `.local`.
  case localDone(id: UInt64, IOStatus)
  /// Answer to `.readForCopy`, about the first `length` bytes of the range (or all of it, where that is less): the driver
  /// keeps them for `.send(…, .transfer(id, …))` unless they are zero. `packedBytes`: it packed them down to so many,
  /// where it was told that it may.
  case copyRead(transfer: UInt64, IOStatus, isZero: Bool, length: UInt64 = .max, packedBytes: UInt64? = nil)
  /// Answer to `.storeIntent`.
  case intentStored(volume: UInt16, page: Int, revision: UInt64, isStored: Bool)
  /// Answer to `.store`. If `isStored` is false the record may or may not be durable.
  case stored(revision: UInt64, isStored: Bool)
  /// Answer to `.flushLocal`.
  case localFlushed(checkpoint: UInt64, isFlushed: Bool)
  /// Answer to `.digestLocal`; nil where reading failed.
  case localDigest(id: UInt64, ExtentDigest?)
  /// Answer to `.makeReceipt`: the receipt is durable, and this is its SHA-256 in hex; nil where it couldn't be stored.
  case receiptStored(digest: String?)
  /// Answer to `.keepVerification`.
  case verificationKept(isKept: Bool)
  /// Answer to `.fenceHost`.
  case hostFenced(isFenced: Bool)
  /// The driver connected and wants to send a hello: answered with `.sendHello` or `.closeLink`.
  case linkOpening(link: UInt64)
  /// The peer connected and said hello on lane 0: answered with `.answerHello` or `.refuseHello`.
  case linkOffered(link: UInt64, HelloState, version: UInt16 = H2HVersions.own.newest)
  /// The peer answered our hello.
  case linkUp(link: UInt64, HelloState, version: UInt16 = H2HVersions.own.newest)
  /// No frame of this link will be handed over any more. Of a link that isn't current: no effect.
  case linkDown(link: UInt64, why: String)
  /// A frame other than hello. Its payload stays in the lane's buffer until this `handle`'s effects are performed.
  case message(link: UInt64, H2HFrame)
  case copyBudget(CopyBudget)
  case comparisonBudget(CopyBudget)
  /// The volumes have these sizes from here on, in their order and none smaller than before: their devices have them, and
  /// the session's own file says so durably. Never where `growthRefusal` has something against it.
  case grown(sizes: [UInt64])
  /// The application's writes went past the tap, or may have, and may still: all of every volume may differ (DESIGN §8.11).
  case untracked(why: String)
  /// From before this event on every write comes through the tap, or nobody can write at all.
  case tracked
}

/// How much the copier may send, or online comparing may read (iQoS). Mirrored writes are never held back.
package enum CopyBudget: Sendable, Equatable {
  case unlimited
  /// From now on limited: adds so many bytes, up to `ReplicationLimits.budgetBytes` in hand; what was taken too much is
  /// repaid first.
  case grant(bytes: UInt64)

  /// What is in hand after this change; nil: no limit.
  func added(to budget: Int64?, _ limits: ReplicationLimits) -> Int64? {
    switch self {
    case .unlimited: return nil
    case .grant(let bytes):
      return min((budget ?? 0) + Int64(min(bytes, limits.budgetBytes)), Int64(limits.budgetBytes))
    }
  }
}

/// Which connection of the link carries a frame. The driver may map `application` onto either of the others.
package enum LinkLane: UInt8, Sendable {
  case control
  /// Mirrored writes and stand-in reads: never behind bulk copying where it can be avoided.
  case application
  case bulk
}

/// Where the payload of a frame comes from.
package enum PayloadSource: Sendable, Equatable {
  case none
  /// `message.payloadBytes` bytes of the application's request, from `offset` in it.
  case application(id: UInt64, offset: UInt32)
  /// The frame's `payloadBytes` bytes of what `.readForCopy` left, from `offset` in it.
  case transfer(UInt64, offset: UInt32)
}

/// Who gets what a machine wants kept with the session for people and apply to see.
package enum HoldCause: String, Sendable {
  case reverted
  case failure
}

/// What the driver does for a `SourceMachine`. In any order and concurrently, but: `.send`s of one lane in order, and
/// effects of one `handle` on the same frame's payload (`.deliver`) before the lane reads on.
package enum SourceEffect: Sendable {
  /// On this host's disk; answered with `.localDone(id)`. For a flush, the range is empty.
  case local(id: UInt64, volume: UInt16, ApplicationOperation, range: ByteRange, durable: Bool)
  /// Answers the application, once a request.
  case complete(id: UInt64, IOStatus)
  /// Copy the payload of the frame just handled into the read request's buffer at `offset`.
  case deliver(id: UInt64, offset: UInt32, length: UInt32)
  /// `link` is current; a driver that has already closed it drops the frame.
  case send(link: UInt64, LinkLane, H2HFrame, PayloadSource)
  /// Read from this host's disk and find out whether it is all zero; answered with `.copyRead`. The buffer is kept until
  /// `.releaseTransfer`. A range longer than `pieceBytes` asks how far the volume is known to be zero: a multiple of
  /// `pieceBytes` from its start, or, where that is nothing, its first piece is read. `mayPack`: what is read goes as one
  /// payload to a peer that unpacks.
  case readForCopy(transfer: UInt64, volume: UInt16, range: ByteRange, pieceBytes: UInt64, mayPack: Bool)
  case releaseTransfer(UInt64)
  /// Replace page `page` of the volume's intent map durably; answered with `.intentStored`.
  case storeIntent(volume: UInt16, page: Int, revision: UInt64, bytes: [UInt8])
  /// Replace the session's record durably; answered with `.stored`. A later revision replaces a waiting earlier one.
  case store(revision: UInt64, SessionRecord)
  /// Flush all volumes on this host; answered with `.localFlushed`.
  case flushLocal(checkpoint: UInt64)
  /// SHA-256 of the extent past the page cache; answered with `.localDigest`.
  case digestLocal(id: UInt64, volume: UInt16, range: ByteRange)
  /// Complete the receipt with its digests, store it durably; answered with `.receiptStored`.
  case makeReceipt(ReceiptDraft)
  /// The same for what a verification found equal, in a file of its own; answered with `.verificationKept`.
  case keepVerification(ReceiptDraft)
  /// Make the host refuse the source for good (idempotent; again at every start); answered with `.hostFenced`.
  case fenceHost
  case sendHello(link: UInt64, HelloState)
  case answerHello(link: UInt64, HelloState)
  case refuseHello(link: UInt64, H2HStatus, why: String)
  /// The link is in use from here on: after the hello exchange, before any other frame. Not before it may the driver hand
  /// over frames of the link (it leaves them in the socket) or open the other lanes.
  case linkEstablished(link: UInt64)
  /// Shut the connections of this link; no `.linkDown` is needed in answer.
  case closeLink(link: UInt64, why: String)
  case commandAnswer(id: UInt64, CommandAnswer)
  /// Keep this hold with the session (it is in the record too).
  case hold(HoldCause, why: String)
  /// The stage changed; `machine.stage` says to what. The tap opens and closes by it.
  case stageChanged
  /// One line for the session's journal.
  case journal(String)
}
