import BlockModel
import H2HProtocol
import Replication

extension SimulatedWorld {
  private static var requestLimit: Int { 12 }
  private var oldestRead: Int {
    requests.values.reduce(time) { $1.operation == .read ? min($0, $1.start) : $0 }
  }

  /// Begins a request, often where others are: a few hot places make overlaps frequent.
  mutating func stepApplication() {
    if isBypassed { return mayWrite ? stepPastTap() : () }
    guard mayWrite, bypass == .none, requests.count < Self.requestLimit, source?.takesRequests ?? false else { return }
    requestCounter += 1
    let volume = chance.below(volumeSizes.count)
    let total = Int(volumeSizes[volume] / SimulatedDisk.cellBytes)
    let first = chance.oneIn(2) ? chance.below(40) : chance.below(total)
    // Some span more than a frame's payload of 1 MiB.
    let length = min(
      chance.oneIn(30) ? 1 + chance.below(600) : 1 + chance.below(chance.oneIn(4) ? 40 : 4), total - first)
    let operation: ApplicationOperation =
      switch chance.below(20) {
      case 0..<7: .read
      case 7..<17: .write
      case 17..<18: .zeroes
      default: .flush
      }
    let range =
      operation == .flush
      ? ByteRange(offset: 0, length: 0)
      : ByteRange(
        offset: UInt64(first) * SimulatedDisk.cellBytes, length: UInt64(length) * SimulatedDisk.cellBytes)
    requests[requestCounter] = ApplicationRequest(
      id: requestCounter, volume: volume, operation: operation, range: range, durable: chance.oneIn(6), start: time)
    if operation == .write || operation == .zeroes {
      for cell in cells(range) {
        histories[volume][cell].begin(requestCounter, value: operation == .zeroes ? 0 : requestCounter, at: time)
      }
    }
    submit(requestCounter)
  }

  mutating func submit(_ id: UInt64) {
    guard let request = requests[id] else { return }
    report.requests += 1
    tellSource(
      .application(
        id: id, volume: UInt16(request.volume), request.operation, range: request.range, durable: request.durable))
  }

  mutating func complete(_ id: UInt64, _ status: IOStatus) {
    guard let request = requests.removeValue(forKey: id) else {
      note("request \(id) was completed twice")
      return
    }
    let hasFailed = failedLocally.remove(id) != nil
    if hasFailed, status == .ioError || status == .noSpace {
      for cell in cells(request.range) { histories[request.volume][cell].fail(id, at: time) }
      return
    }
    if hasFailed { note("request \(id) (\(request.operation)) failed on the disk and was completed with \(status)") }
    guard status == .ok else {
      if status != .refused { note("request \(id) (\(request.operation)) failed with \(status), though no disk did") }
      for cell in cells(request.range) { histories[request.volume][cell].forget(id) }
      return
    }
    let cells = cells(request.range)
    switch request.operation {
    case .read:
      guard request.seen.count == cells.count else {
        note("read \(id) was completed with \(request.seen.count) of \(cells.count) cells")
        return
      }
      for (cell, value) in zip(cells, request.seen)
      where !histories[request.volume][cell].read(value, start: request.start, end: time) {
        note(
          "stale data: a read of volume \(request.volume) cell \(cell) from \(request.start) saw \(value); "
            + "\(histories[request.volume][cell].entries)")
      }
    case .write, .zeroes:
      checkAcknowledged(request)
      let oldest = oldestRead
      for cell in cells {
        histories[request.volume][cell].end(id, at: time, isDurable: request.durable, oldestRead: oldest)
      }
    case .flush:
      let oldest = oldestRead
      for cell in histories[request.volume].indices {
        histories[request.volume][cell].flushed(start: request.start, oldestRead: oldest)
      }
    }
  }
}

extension SimulatedWorld {
  /// While the durable record says stand-in, nothing is acknowledged that the destination lacks (DESIGN §8.4).
  private mutating func checkAcknowledged(_ request: ApplicationRequest) {
    guard recordedAuthority == .standIn, lastDestinationPowerCut < request.start else { return }
    let value = request.operation == .zeroes ? 0 : request.id
    for cell in cells(request.range) where disks[1][request.volume].current[cell] != value {
      note("write \(request.id) was acknowledged in stand-in and the destination lacks it")
      return
    }
  }
}

extension SourceMachine {
  fileprivate var takesRequests: Bool {
    switch stage {
    case .prepared, .synchronizing, .tracking, .swinging, .standIn, .cancelled: true
    case .tapClosed, .proving, .proven, .fenced: false
    }
  }
}
