import CLinux
import Glibc

/// The kernel's NBD client, commanded by netlink (linux/nbd-netlink.h). Its device lives in the kernel: it outlives the
/// process that connected it, and waits for the next connection.
package enum KernelNBD {
  package static let major: UInt32 = 43
  private enum Attribute {
    static let index: UInt16 = 1
    static let sizeBytes: UInt16 = 2
    static let blockBytes: UInt16 = 3
    static let serverFlags: UInt16 = 5
    static let sockets: UInt16 = 7
    static let deadConnectionSeconds: UInt16 = 8
    static let backend: UInt16 = 10
    static let socketItem: UInt16 = 1
    static let socketDescriptor: UInt16 = 1
  }
  private enum Command {
    static let connect: UInt8 = 1
    static let disconnect: UInt8 = 2
    static let reconfigure: UInt8 = 3
  }
  /// How often the kernel looks whether a request's connection was replaced, in milliseconds: what a request in flight
  /// waits for at most once its connection is back.
  private static let lookMilliseconds = 1000

  package struct Settings: Sendable {
    package var sizeBytes: UInt64
    package var blockBytes: UInt32
    /// The transmission flags that the server told in its handshake.
    package var serverFlags: UInt16
    /// How long requests wait for a connection before they fail, in seconds.
    package var deadConnectionSeconds: UInt64
    /// Shown as /sys/block/nbdN/backend (Linux 5.14): tells our devices from others.
    package var backend: String
    package init(
      sizeBytes: UInt64, blockBytes: UInt32, serverFlags: UInt16, deadConnectionSeconds: UInt64, backend: String
    ) {
      self.sizeBytes = sizeBytes
      self.blockBytes = blockBytes
      self.serverFlags = serverFlags
      self.deadConnectionSeconds = deadConnectionSeconds
      self.backend = backend
    }
  }

  /// Whether the module is loaded.
  package static var isLoaded: Bool { Files.exists("/sys/module/nbd") }

  /// Whether the module is loaded or lies where modprobe finds it.
  package static var isAvailable: Bool {
    if isLoaded { return true }
    guard let release = try? Files.readText("/proc/sys/kernel/osrelease").prefix(while: { !$0.isNewline }),
      let list = try? Files.readText("/lib/modules/\(release)/modules.dep")
    else { return false }
    return list.split(separator: "\n").contains { line in
      line.prefix { $0 != ":" }.split(separator: "/").last?.prefix { $0 != "." } == "nbd"
    }
  }

  package static func path(_ index: Int) -> String { "/dev/nbd\(index)" }

  /// Hands `socket`, on which the handshake is over, to a free device of the kernel; answers its index. No request
  /// timeout is set: a slow server must not have its requests sent twice; the connection's end is what counts.
  package static func connect(_ socket: FileDescriptor, _ settings: Settings) throws(SystemError) -> Int {
    let operation = "make an NBD device"
    let netlink = try GenericNetlink(family: "nbd")
    let answer = try netlink.command(
      Command.connect,
      NetlinkMessage.attribute(Attribute.sizeBytes, settings.sizeBytes)
        + NetlinkMessage.attribute(Attribute.blockBytes, UInt64(settings.blockBytes))
        + NetlinkMessage.attribute(Attribute.serverFlags, UInt64(settings.serverFlags))
        + NetlinkMessage.attribute(Attribute.deadConnectionSeconds, settings.deadConnectionSeconds)
        + NetlinkMessage.attribute(Attribute.backend, settings.backend) + sockets(socket), operation)
    guard let bytes = answer[Attribute.index] else {
      throw SystemError(operation, because: "the kernel does not say which it took")
    }
    let index = Int(NetlinkMessage.number(bytes[...], 0, UInt32.self))
    do throws(SystemError) {
      try Files.writeKernelFile("/sys/block/nbd\(index)/queue/io_timeout", "\(lookMilliseconds)")
    } catch {
      // Before Linux 5.0 there is no such file: requests in flight are sent again after half a minute, not a second.
      guard error.isNotFound else {
        try disconnect(index)
        throw error
      }
    }
    return index
  }

  /// Gives a device whose connection broke a new one; what was not answered is sent again. ENOSPC while the kernel
  /// believes that the old connection lives.
  package static func reconnect(_ index: Int, _ socket: FileDescriptor, backend: String) throws(SystemError) {
    _ = try GenericNetlink(family: "nbd").command(
      Command.reconfigure,
      NetlinkMessage.attribute(Attribute.index, UInt32(index)) + sockets(socket)
        + NetlinkMessage.attribute(Attribute.backend, backend),
      "give \(path(index)) a new connection")
  }

  /// Gives a connected device another size (Linux 5.2); one that has it already stays as it is.
  package static func resize(_ index: Int, sizeBytes: UInt64, backend: String) throws(SystemError) {
    let operation = "make \(path(index)) \(sizeBytes) bytes large"
    guard try self.sizeBytes(index) != sizeBytes else { return }
    _ = try GenericNetlink(family: "nbd").command(
      Command.reconfigure,
      NetlinkMessage.attribute(Attribute.index, UInt32(index))
        + NetlinkMessage.attribute(Attribute.sizeBytes, sizeBytes)
        + NetlinkMessage.attribute(Attribute.backend, backend), operation)
    let size = try self.sizeBytes(index)
    guard size == sizeBytes else {
      throw SystemError(operation, because: "the kernel leaves it at \(size); take the device away and make it anew")
    }
  }

  private static func sizeBytes(_ index: Int) throws(SystemError) -> UInt64 {
    let text = try Files.readText("/sys/block/nbd\(index)/size").prefix { $0.isNumber }
    guard let sectors = UInt64(text) else {
      throw SystemError("read the size of \(path(index))", because: "the kernel says \"\(text)\"")
    }
    return sectors * 512
  }

  /// Takes the connection away for good; the device is free for others once its last user closes it.
  package static func disconnect(_ index: Int) throws(SystemError) {
    _ = try GenericNetlink(family: "nbd").command(
      Command.disconnect, NetlinkMessage.attribute(Attribute.index, UInt32(index)), "disconnect \(path(index))")
  }

  /// The devices in use whose backend is `backend`, lowest first.
  package static func devices(backend: String) -> [Int] {
    let names = (try? Files.list("/sys/block")) ?? []
    return names.compactMap { name -> Int? in
      guard name.hasPrefix("nbd"), let index = Int(name.dropFirst(3)),
        let text = try? Files.readText("/sys/block/\(name)/backend"), Files.exists("/sys/block/\(name)/pid")
      else { return nil }
      return text.prefix { !$0.isNewline } == backend ? index : nil
    }.sorted()
  }

  private static func sockets(_ socket: FileDescriptor) -> [UInt8] {
    let item = NetlinkMessage.attribute(Attribute.socketDescriptor, UInt32(socket.number))
    let list = NetlinkMessage.attribute(Attribute.socketItem | NetlinkMessage.nested, item)
    return NetlinkMessage.attribute(Attribute.sockets | NetlinkMessage.nested, list)
  }
}
