import LinuxPlatform
import VolumeTap

/// A host whose device-mapper and NBD client are on paper: volumes are files, and the test is the application, the
/// administrator and the kernel. A device with no tap beneath it is written as a file.
final class PaperTapKernel: TapKernel {
  struct Device: Sendable {
    var tap: Int?
    var isForeign = false
    var isSealed = false
    var writes = 0
    var openers = 0
    var hasOrigin = false
    /// Somebody opens it as the tap is taken out, and is gone at the second look.
    var isOpenedAtSwap = false
    var insertionFails = false
  }
  private struct State: Sendable {
    var devices: [String: Device] = [:]
    var connections: [Int: String] = [:]
    var next = 0
  }
  private let state = Monitor(State())

  func device(_ path: String) -> Device { state.withLock { $0.devices[path] ?? Device() } }
  func change(_ path: String, _ body: (inout Device) -> Void) {
    state.withLock { body(&$0.devices[path, default: Device()]) }
  }
  var connections: Int { state.withLock { $0.connections.count } }

  /// Somebody gives the device its own table back.
  func bypass(_ path: String) { change(path) { $0.tap = nil } }
  /// What the kernel knew is gone.
  func startAnew() {
    state.withLock { state in
      state.connections = [:]
      for path in state.devices.keys { state.devices[path] = Device() }
    }
  }

  func refusal(of path: String) -> String? { nil }
  func insertion(of path: String, key: String) -> (any TapInsertion)? { PaperInsertion(path: path, kernel: self) }
  var hasModule: Bool { true }
  func attach(
    socket: String, exportName: String, blockBytes: UInt32, known: Int?
  ) throws(TapError) -> any TapConnection {
    state.withLock { state in
      let found = known ?? state.connections.first { $0.value == socket }?.key ?? state.next
      state.next = max(state.next, found + 1)
      state.connections[found] = socket
      return PaperConnection(index: found, kernel: self)
    }
  }
  func disconnect(_ index: Int) { state.withLock { $0.connections[index] = nil } }
}

private struct PaperConnection: TapConnection {
  let index: Int
  let kernel: PaperTapKernel
  var path: String { "/dev/paper\(index)" }
  func mend() -> Bool { false }
  func grow(to sizeBytes: UInt64) {}
  func detach() { kernel.disconnect(index) }
}

private struct PaperInsertion: TapInsertion {
  let path: String
  let kernel: PaperTapKernel
  var name: String { path }
  private var device: PaperTapKernel.Device { kernel.device(path) }

  func state() -> MapperInsertion.State {
    if let tap = device.tap { return .inserted(nbdIndex: tap) }
    return device.isForeign ? .foreign : .absent
  }
  func isUntouched() -> Bool { device.writes == 0 }
  func isSealed() -> Bool { device.isSealed }
  func openCount() -> Int { device.openers }
  func isUsed() -> Bool {
    let isUsed = device.openers > 0
    if device.isOpenedAtSwap, isUsed { kernel.change(path) { $0.openers = 0 } }
    return isUsed
  }
  func ensureOrigin() -> String {
    kernel.change(path) { device in
      device.hasOrigin = true
      device.isForeign = false
    }
    return path
  }
  func removeOrigin() throws(SystemError) {
    if device.tap != nil { throw SystemError("remove the origin of \(path)", because: "its data lies there") }
    kernel.change(path) { $0.hasOrigin = false }
  }
  func insert(nbdIndex: Int, sizeBytes: UInt64) throws(SystemError) -> Double {
    if device.insertionFails {
      throw SystemError("put the tap beneath \(path)", because: "its table changed meanwhile")
    }
    kernel.change(path) { device in
      device.tap = nbdIndex
      device.isSealed = false
    }
    return 0
  }
  func takeOut(isSealed: Bool) -> Double {
    kernel.change(path) { device in
      device.tap = nil
      device.isSealed = isSealed
      if device.isOpenedAtSwap, isSealed { device.openers = 1 }
    }
    return 0
  }
}
