import Foundation
import LinuxPlatform
import Seams

/// Plugs disks into a running QEMU machine and out of it, by the machine protocol (QMP) of its monitor: JSON, a message
/// a line. Each LUN is a `virtio-blk-pci` device of its own. Blocks.
///
/// Source: QEMU's "QMP Protocol Specification" and QMP reference (blockdev-add, device_add, device_del).
enum MachineMonitor {
  static let connectSeconds = 5.0
  /// The longest silence between two messages of a monitor.
  static let answerSeconds = 15.0
  static let lineLimitBytes = 1 << 20
  /// Messages that are read past while one answer is waited for.
  static let eventLimit = 1000

  static func plug(_ socket: String, lun: Int, file: String) throws(SystemError) {
    var session = try Session(socket)
    if try session.hasDevice(lun) { return }
    // A guest may have let go of a disk after nobody waited for it any more: then its file is open still.
    if try session.hasNode(lun) { try session.command("blockdev-del", ["node-name": .string("cmclun\(lun)")]) }
    try session.command(
      "blockdev-add",
      [
        "driver": "raw", "node-name": .string("cmclun\(lun)"),
        "file": ["driver": "file", "filename": .string(file), "discard": "unmap"],
      ])
    do throws(SystemError) {
      try session.insert([
        ("driver", "virtio-blk-pci"), ("drive", .string("cmclun\(lun)")), ("id", .string("cmcdisk\(lun)")),
        ("serial", .string("lun\(lun)")),
      ])
    } catch {
      // The file must not stay open for a device that isn't there.
      _ = try? session.ask("blockdev-del", ["node-name": .string("cmclun\(lun)")])
      throw error
    }
  }

  /// Tells the guest that a disk of its has grown; nothing happens where it isn't plugged in.
  static func resize(_ socket: String, lun: Int, sizeBytes: UInt64) throws(SystemError) {
    var session = try Session(socket)
    guard try session.hasNode(lun) else { return }
    try session.command(
      "block_resize", ["node-name": .string("cmclun\(lun)"), "size": .number(Double(sizeBytes))])
  }

  /// Asks the machine to let go of a disk. With ACPI or PCI Express its guest decides when: until it has, this is called
  /// again, and never waits.
  static func unplug(_ socket: String, lun: Int) throws(SystemError) -> DeviceProgress {
    var session = try Session(socket)
    guard try session.hasNode(lun) else { return .done }
    if try session.hasDevice(lun) {
      let answer = try session.ask("device_del", ["id": .string("cmcdisk\(lun)")])
      if try session.hasDevice(lun) {
        return .pending("QEMU: \(answer["error"]?["desc"]?.text ?? "the guest was asked")")
      }
    }
    // The device is gone; what it used is let go of a moment later.
    let closed = try session.ask("blockdev-del", ["node-name": .string("cmclun\(lun)")])
    return closed["error"].map { .pending("QEMU: \($0["desc"]?.text ?? "its file is in use")") } ?? .done
  }

  /// One connection: greeting, capabilities, commands.
  private struct Session {
    private let channel: SocketChannel
    private let socket: String
    private var received: [UInt8] = []

    init(_ socket: String) throws(SystemError) {
      self.socket = socket
      channel = try SocketConnector.unix(
        path: socket, timeoutSeconds: connectSeconds, idleTimeoutSeconds: answerSeconds)
      guard try readMessage()["QMP"] != nil else { throw failure("it doesn't greet as QMP does") }
      try command("qmp_capabilities", [:])
    }

    mutating func command(_ name: String, _ arguments: JSONValue) throws(SystemError) {
      let answer = try ask(name, arguments)
      if let error = answer["error"] { throw failure("\(name): \(error["desc"]?.text ?? "refused")") }
    }

    mutating func hasNode(_ lun: Int) throws(SystemError) -> Bool {
      let nodes = try ask("query-named-block-nodes", [:])["return"]?.items ?? []
      return nodes.contains { $0["node-name"]?.text == "cmclun\(lun)" }
    }

    mutating func hasDevice(_ lun: Int) throws(SystemError) -> Bool {
      let devices = try ask("qom-list", ["path": "/machine/peripheral"])["return"]?.items ?? []
      return devices.contains { $0["name"]?.text == "cmcdisk\(lun)" }
    }

    /// Adds a device where the machine puts it by itself, or else at its first free port: the root bus of PCI Express
    /// (`-machine q35`) takes nothing while the machine runs, its `pcie-root-port`s do.
    mutating func insert(_ device: [(String, JSONValue)]) throws(SystemError) {
      var answer = try ask("device_add", .object(JSONObject(device)))
      guard answer["error"] != nil else { return }
      let buses = try ask("query-pci", [:])["return"]?.items ?? []
      let ports = buses.flatMap { $0["devices"]?.items ?? [] }.filter { $0["pci_bridge"] != nil }
        .compactMap { $0["qdev_id"]?.text }.filter { !$0.isEmpty }
      // A port has one place. Without its address some versions take a second device, and unplug both together.
      for port in ports {
        answer = try ask("device_add", .object(JSONObject(device + [("bus", .string(port)), ("addr", "0x0")])))
        if answer["error"] == nil { return }
      }
      throw failure(
        "device_add: \(answer["error"]?["desc"]?.text ?? "refused")"
          + (ports.isEmpty ? "; a machine of type q35 needs -device pcie-root-port,id=… for each disk" : ""))
    }

    /// The answer, `return` or `error`. Events that come first are read past.
    mutating func ask(_ name: String, _ arguments: JSONValue) throws(SystemError) -> JSONValue {
      var message = JSONObject([("execute", .string(name))])
      if arguments != [:] { message["arguments"] = arguments }
      let bytes = JSONValue.object(message).bytes + [UInt8(ascii: "\n")]
      do {
        try bytes.withUnsafeBytes { raw in try channel.write(raw) }
      } catch {
        throw failure("\(error)")
      }
      for _ in 0..<eventLimit {
        let answer = try readMessage()
        if answer["return"] != nil || answer["error"] != nil { return answer }
      }
      throw failure("\(name) has no answer among \(eventLimit) messages")
    }

    private mutating func readMessage() throws(SystemError) -> JSONValue {
      while true {
        if let end = received.firstIndex(of: UInt8(ascii: "\n")) {
          let line = Array(received[..<end])
          received.removeFirst(end + 1)
          guard let message = JSONValue.parse(line) else { throw failure("it says something that is no JSON") }
          return message
        }
        guard received.count < lineLimitBytes else { throw failure("a message is longer than \(lineLimitBytes) bytes") }
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        let count: Int
        do {
          count = try buffer.withUnsafeMutableBytes { raw in try channel.read(into: raw) }
        } catch {
          throw failure("\(error)")
        }
        received += buffer[..<count]
      }
    }

    private func failure(_ text: String) -> SystemError {
      SystemError("use the machine's monitor \(socket)", errorNumber: Errno.inputOutput, detail: text)
    }
  }
}
