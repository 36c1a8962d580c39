/// The limits of one session's machines. Bytes, seconds and counts as named.
package struct ReplicationLimits: Sendable, Equatable {
  /// One transfer of the copier. At most `H2HLimits.payloadBytes`.
  package var transferBytes = 512 << 10
  /// The same where a budget limits copying: what an application's request finds before it on its way is no more.
  package var limitedTransferBytes = 128 << 10
  /// Transfers read or sent and not yet answered, all volumes together.
  package var copyWindowBytes = 16 << 20
  /// The same in number: after small random writes they are small.
  package var transfers = 256
  /// Most of a budget that is ever in hand; what a governor saves up is less.
  package var budgetBytes: UInt64 = 1 << 30
  /// Where zeroes were seen, so much is asked for at once.
  package var zeroRunBytes: UInt64 = 64 << 20
  /// The copier flushes the destination at the latest after so many bytes or seconds.
  package var checkpointBytes: UInt64 = 1 << 30
  package var checkpointSeconds = 5.0
  /// Answered runs kept until a flush covers them; a checkpoint is forced at this many.
  package var unflushedRuns = 1 << 16
  /// Application requests, active and waiting. The driver never has more outstanding: a `precondition`.
  package var applicationRequests = 4096
  package var applicationRequestBytes: UInt64 = 32 << 20
  /// Digest comparisons at once, while idle and in a proof.
  package var verificationWindow = 4
  package var proofWindow = 8
  /// A failed transfer, store or flush is tried again after this.
  package var retrySeconds = 1.0
  /// An idle link is pinged this often per `linkLossTimeout`.
  package var pingsPerTimeout = 4.0
  /// Granularity of the dirty map and of the intent map. Powers of two; an extent is at least a block.
  package var smallestBlockBytes: UInt64 = 64 << 10
  package var smallestExtentBytes: UInt64 = 4 << 20
  package init() {}

  /// 64 KiB up to 4 TiB, then growing so that a map never has more than 64 Mi blocks.
  func blockBytes(forVolumeBytes size: UInt64) -> UInt64 {
    var block = smallestBlockBytes
    while size / block > 64 << 20 { block *= 2 }
    return block
  }

  /// 4 MiB up to 4 TiB, then growing so that a volume never has more than 1 Mi extents. A multiple of the block size.
  func extentBytes(forVolumeBytes size: UInt64) -> UInt64 {
    var extent = smallestExtentBytes
    while size / extent > 1 << 20 { extent *= 2 }
    return extent
  }
}
