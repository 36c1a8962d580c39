/// Every limit of the server, by name.
package struct NBDLimits: Sendable {
  /// The longest READ or WRITE, in bytes: 2^25, which the document calls the size that all should support.
  package static let maxPayloadBytes: UInt32 = 32 << 20
  /// Strings of the protocol, in bytes (document section "Conventions").
  static let maxNameBytes = 4096
  /// Data of one option that is looked at, in bytes; longer is skipped and answered with NBD_REP_ERR_TOO_BIG.
  static let maxOptionBytes = 64 << 10
  /// Data of one option that is skipped, in bytes; longer counts as denial of service: hard disconnect.
  static let maxSkippedOptionBytes = 16 << 20
  /// Options before a client must have chosen an export; then hard disconnect.
  static let maxOptions = 512
  /// Queries in one LIST or SET_META_CONTEXT.
  static let maxMetaQueries = 64
  /// Payload of a WRITE that is too long or refused: read and dropped up to this many bytes, beyond it hard disconnect.
  static let maxSkippedPayloadBytes: UInt32 = 128 << 20
  /// Extents in one block status chunk; the document advises at most 2^20.
  static let maxExtentsPerReply = 1 << 14
  /// Bytes that a connection reads ahead.
  static let receiveBufferBytes = 256 << 10
  /// A payload of so many bytes is worth a system call of its own.
  static let longPayloadBytes = 64 << 10
  /// Bytes of small replies that go out with one system call.
  static let sendBufferBytes = 128 << 10
  /// A read's payload up to this many bytes is copied next to other replies; a longer one gets a writev of its own.
  static let maxCopiedReplyBytes = 16 << 10

  /// Connections of one server at a time; another is closed at once.
  package var maxConnections = 64
  /// Requests of one connection in flight; past it, its socket isn't read.
  package var maxRequestsInFlight = 512
  /// Payload in flight of all connections together, in bytes; past it, sockets aren't read. At least twice the longest
  /// request, so that one slow client can't take everything.
  package var payloadBudgetBytes = 128 << 20
  /// Idle payload buffers that are kept for reuse, in bytes.
  package var idlePayloadBytes = 16 << 20

  package init() {}
  package static let standard = NBDLimits()
}
