package import BlockModel
package import Seams

/// A block device as it is, for tests and benches: no tracking, no mirroring.
package final class DeviceExport: NBDExport {
  /// Where requests are carried out.
  package enum Execution: Sendable {
    /// On the connection's own thread, one after the other. Right for what never waits: page cache, memory.
    case inline
    /// Handed to threads of somebody else's: the closure must run the work it is given, soon, on another thread.
    case handedTo(@Sendable (@escaping @Sendable () -> Void) -> Void)
  }

  package let name: String
  package let isReadOnly: Bool
  package let blockSizes: NBDBlockSizes
  package var sizeBytes: UInt64 { device.sizeBytes }
  package var hasDirtyMap: Bool { false }
  private let device: any BlockDevice
  private let execution: Execution

  package init(
    name: String, device: any BlockDevice, isReadOnly: Bool = false, blockSizes: NBDBlockSizes = NBDBlockSizes(),
    execution: Execution = .inline
  ) {
    self.name = name
    self.device = device
    self.isReadOnly = isReadOnly
    self.blockSizes = blockSizes
    self.execution = execution
  }

  package func submit(_ request: NBDRequest, payload: PayloadBuffer, completion: @escaping NBDCompletion) {
    switch execution {
    case .inline: completion(carryOut(request, payload))
    case .handedTo(let run): run { completion(self.carryOut(request, payload)) }
    }
  }

  private func carryOut(_ request: NBDRequest, _ payload: PayloadBuffer) -> Result<Void, NBDErrorCode> {
    do throws(BlockDeviceError) {
      switch request.kind {
      case .read: try device.read(at: request.range.offset, into: payload.bytes)
      case .write:
        try device.write(
          at: request.range.offset, from: UnsafeRawBufferPointer(payload.bytes), durable: request.durable)
      case .flush: try device.flush()
      case .zeroAndUnmap, .zero:
        // Nothing says beforehand that this device zeroes faster than it writes.
        if request.onlyIfFast { return .failure(.notSupported) }
        try device.writeZeroes(request.range, mayUnmap: request.kind == .zeroAndUnmap, durable: request.durable)
      case .cache: break
      }
      return .success(())
    } catch {
      return .failure(NBDErrorCode(error))
    }
  }

  package func blockStatus(
    of range: ByteRange, context: NBDMetaContext, limit: Int
  ) throws(NBDErrorCode) -> [NBDExtent] {
    guard context == .allocation else { throw .invalid }
    do throws(BlockDeviceError) {
      return try device.allocation(of: range).prefix(limit).map {
        NBDExtent(lengthBytes: $0.range.length, flags: $0.isZero ? NBDAllocation.hole | NBDAllocation.zero : 0)
      }
    } catch {
      throw NBDErrorCode(error)
    }
  }

  package func connectionOpened() -> Bool { true }
  package func connectionClosed() {}
}

/// Flags of `base:allocation`.
package enum NBDAllocation {
  package static let hole: UInt32 = 1 << 0
  package static let zero: UInt32 = 1 << 1
}

extension NBDErrorCode {
  /// What a client is told of a device's failure.
  package init(_ error: BlockDeviceError) {
    switch error.code {
    case .outOfRange: self = .invalid
    case .noSpace: self = .noSpace
    case .readOnly: self = .notPermitted
    case .readFailed, .writeFailed, .flushFailed, .gone: self = .inputOutput
    }
  }
}
