internal import BlockModel
internal import LinuxPlatform
internal import NBDServer
internal import Replication
internal import Seams

/// A volume as the application's NBD client sees it: every request goes through the session's machine.
final class TapExport: NBDExport {
  private struct Doors: Sendable {
    var isOpen = true
    var connections = 0
    var sizeBytes: UInt64
  }

  /// The session's changed data map of a range: at most so many runs from its beginning.
  typealias ChangedData = @Sendable (ByteRange, Int) -> [SourceMachine.MapRun]

  /// The session, asked for one request.
  typealias Submit = @Sendable (ApplicationOperation, NBDRequest, PayloadBuffer, @escaping NBDCompletion) -> Void

  let name: String
  var sizeBytes: UInt64 { doors.withLock { $0.sizeBytes } }
  let blockSizes: NBDBlockSizes
  var isReadOnly: Bool { false }
  var hasDirtyMap: Bool { true }
  private let device: any BlockDevice
  private let submit: Submit
  private let changedData: ChangedData
  private let doors: Monitor<Doors>

  init(
    name: String, sizeBytes: UInt64, device: any BlockDevice, changedData: @escaping ChangedData,
    submit: @escaping Submit
  ) {
    self.changedData = changedData
    self.name = name
    doors = Monitor(Doors(sizeBytes: sizeBytes))
    self.device = device
    self.submit = submit
    let minimum = min(max(device.blockBytes, 1), 4096)
    blockSizes = NBDBlockSizes(minimum: minimum, preferred: 4096, maximum: NBDLimits.maxPayloadBytes)
  }

  func submit(_ request: NBDRequest, payload: PayloadBuffer, completion: @escaping NBDCompletion) {
    switch request.kind {
    case .read: submit(.read, request, payload, completion)
    case .write: submit(.write, request, payload, completion)
    case .flush: submit(.flush, request, payload, completion)
    case .zeroAndUnmap, .zero:
      // Two copies have to be zeroed; nobody can promise beforehand that both do it faster than a write.
      if request.onlyIfFast { return completion(.failure(.notSupported)) }
      if request.range.isEmpty { return completion(.success(())) }
      submitZeroes(request, payload: payload, completion: completion)
    case .cache: completion(.success(()))
    }
  }

  /// A client may zero or trim up to 4 GiB at once: one piece after the other, each as long as a machine takes. A
  /// failure ends it, and leaves what no NBD client may rely on: part of the range zeroed.
  private func submitZeroes(_ request: NBDRequest, payload: PayloadBuffer, completion: @escaping NBDCompletion) {
    var piece = request
    piece.range.length = min(request.range.length, Self.zeroesLimitBytes)
    var rest = request
    rest.range = ByteRange(from: piece.range.end, to: request.range.end)
    if rest.range.isEmpty { return submit(.zeroes, piece, payload, completion) }
    submit(.zeroes, piece, payload) { [rest] result in
      switch result {
      case .success: self.submitZeroes(rest, payload: payload, completion: completion)
      case .failure: completion(result)
      }
    }
  }

  private static let zeroesLimitBytes = ReplicationLimits().applicationRequestBytes

  /// Both copies have the same holes as far as it matters: what reads as zeroes here reads as zeroes there.
  func blockStatus(
    of range: ByteRange, context: NBDMetaContext, limit: Int
  ) throws(NBDErrorCode) -> [NBDExtent] {
    if context == .dirty {
      return changedData(range, limit).map { NBDExtent(lengthBytes: $0.range.length, flags: $0.differs ? 1 : 0) }
    }
    do throws(BlockDeviceError) {
      return try device.allocation(of: range).prefix(limit).map {
        NBDExtent(lengthBytes: $0.range.length, flags: $0.isZero ? NBDAllocation.hole | NBDAllocation.zero : 0)
      }
    } catch {
      throw NBDErrorCode(error)
    }
  }

  func connectionOpened() -> Bool {
    doors.withLock { doors in
      guard doors.isOpen else { return false }
      doors.connections += 1
      return true
    }
  }

  func connectionClosed() { doors.change { $0.connections -= 1 } }

  var connections: Int { doors.withLock { $0.connections } }

  /// Lets nobody in any more, if nobody is in now. False where somebody is; then nothing changed.
  func closeIfIdle() -> Bool {
    doors.withLock { doors in
      guard doors.connections == 0 else { return false }
      doors.isOpen = false
      return true
    }
  }

  /// Connections that know the former size ask again when a client goes past it; a client that opens anew sees it.
  func grow(to sizeBytes: UInt64) { doors.change { $0.sizeBytes = max($0.sizeBytes, sizeBytes) } }

  func open() { doors.change { $0.isOpen = true } }
}
