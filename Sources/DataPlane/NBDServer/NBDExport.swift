package import BlockModel

/// What a client asks of an export, checked: the range lies within the export and on its block boundaries, the
/// flags fit the command.
package struct NBDRequest: Sendable, Equatable {
  package enum Kind: UInt8, Sendable {
    /// Fill the payload from the range.
    case read
    /// Write the payload to the range.
    case write
    /// What was answered before is durable once this is answered.
    case flush
    /// Zero the range; may unmap. A client's TRIM and its WRITE_ZEROES without NO_HOLE both arrive as this: every copy
    /// must read the same afterwards (DESIGN section 8.13).
    case zeroAndUnmap
    /// Zero the range and keep its space allocated.
    case zero
    /// A hint that the range will be read soon.
    case cache
  }
  package var kind: Kind
  package var range: ByteRange
  /// Forced unit access: durable before it is answered.
  package var durable: Bool
  /// Fail with `.notSupported` at once unless zeroing is faster than writing.
  package var onlyIfFast: Bool

  package init(kind: Kind, range: ByteRange, durable: Bool = false, onlyIfFast: Bool = false) {
    self.kind = kind
    self.range = range
    self.durable = durable
    self.onlyIfFast = onlyIfFast
  }
}

/// Block sizes as NBD_INFO_BLOCK_SIZE tells them, in bytes. `minimum` and `preferred` are powers of two.
package struct NBDBlockSizes: Sendable, Equatable {
  package var minimum: UInt32
  package var preferred: UInt32
  package var maximum: UInt32
  package init(minimum: UInt32 = 1, preferred: UInt32 = 4096, maximum: UInt32 = NBDLimits.maxPayloadBytes) {
    precondition(minimum.nonzeroBitCount == 1 && minimum <= 65_536 && preferred.nonzeroBitCount == 1)
    precondition(preferred >= minimum && preferred >= 512 && maximum >= preferred)
    precondition(maximum <= NBDLimits.maxPayloadBytes)
    self.minimum = minimum
    self.preferred = preferred
    self.maximum = maximum
  }
}

/// What BLOCK_STATUS can tell.
package enum NBDMetaContext: UInt32, Sendable, CaseIterable {
  /// Flags: bit 0 a hole, bit 1 reads as zeroes (document section "base:allocation metadata context").
  case allocation = 1
  /// Flags: bit 0 differs from the other copy: the changed data map.
  case dirty = 2

  package var name: String {
    switch self {
    case .allocation: "base:allocation"
    case .dirty: "cmc:dirty"
    }
  }
}

/// A run of an export with one status; `flags` as its context defines them.
package struct NBDExtent: Sendable, Equatable {
  package var lengthBytes: UInt64
  package var flags: UInt32
  package init(lengthBytes: UInt64, flags: UInt32) {
    self.lengthBytes = lengthBytes
    self.flags = flags
  }
}

package typealias NBDCompletion = @Sendable (Result<Void, NBDErrorCode>) -> Void

/// What an NBD server serves. All calls may come from many threads at once.
package protocol NBDExport: AnyObject, Sendable {
  /// What a client asks for; at most 4,096 bytes of UTF-8 without NUL. The empty name is the default export.
  var name: String { get }
  /// Grows at most; a connection that sees a request past the size it knows asks again.
  var sizeBytes: UInt64 { get }
  var blockSizes: NBDBlockSizes { get }
  var isReadOnly: Bool { get }
  /// Contexts beside `base:allocation`, which every export has, that BLOCK_STATUS answers.
  var hasDirtyMap: Bool { get }

  /// Carries `request` out, now or later, and calls `completion` exactly once, from any thread, possibly before this
  /// returns. `payload.bytes` has the range's length for reads (to be filled) and writes (to be written), and is empty
  /// otherwise; it belongs to the export until it calls `completion`, and not a moment longer. `completion` never blocks
  /// for the client.
  /// Overlapping requests in flight are the export's to order; those of different clients too.
  /// A flush covers every write answered, on any connection, before it was submitted.
  func submit(_ request: NBDRequest, payload: PayloadBuffer, completion: @escaping NBDCompletion)

  /// Consecutive extents from `range.offset`, at least one and at most `limit`; may cover less than `range`, never more.
  func blockStatus(
    of range: ByteRange, context: NBDMetaContext, limit: Int
  ) throws(NBDErrorCode) -> [NBDExtent]

  /// A client wants in. False refuses it: it is told NBD_REP_ERR_SHUTDOWN.
  func connectionOpened() -> Bool
  /// A client that was let in has gone, and none of its requests is in flight any more.
  func connectionClosed()
}
