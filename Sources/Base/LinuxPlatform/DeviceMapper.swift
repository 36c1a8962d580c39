import BlockModel
import CLinux
import Glibc

/// One line of a device-mapper table. Sectors are 512 bytes.
package struct MapperTarget: Sendable, Equatable {
  package var startSectors: UInt64
  package var lengthSectors: UInt64
  /// "linear", "striped" and so on.
  package var kind: String
  package var parameters: String
  package init(startSectors: UInt64, lengthSectors: UInt64, kind: String, parameters: String) {
    self.startSectors = startSectors
    self.lengthSectors = lengthSectors
    self.kind = kind
    self.parameters = parameters
  }
}

/// A device-mapper device as the kernel shows it now.
package struct MapperDevice: Sendable, Equatable {
  package var name: String
  package var uuid: String
  package var number: DeviceNumber
  /// Opens of any kind: mounts, devices stacked above, processes.
  package var openCount: Int
  /// devtmpfs makes this node, whatever udev does.
  package var path: String { "/dev/dm-\(number.minor)" }
}

/// Device-mapper by its own ioctls: no libdevmapper, no udev cookie. Calls block for as long as I/O in flight takes.
package struct DeviceMapper: Sendable {
  package static let controlPath = "/dev/mapper/control"
  /// Longest table that is read, in bytes.
  static let longestTableBytes = 4 << 20
  private static let firstBufferBytes = 16 << 10
  /// The lengths that the kernel allows, without the final zero.
  package static let nameLimitBytes = 127
  package static let uuidLimitBytes = 128

  private let control: FileDescriptor

  /// Needs root. ENOENT, ENODEV where the kernel has no device-mapper.
  package init() throws(SystemError) { control = try FileDescriptor.open(Self.controlPath, O_RDWR) }

  /// The device of this name, nil where there is none.
  package func device(named name: String) throws(SystemError) -> MapperDevice? {
    do throws(SystemError) {
      return try call(CMC_DM_DEV_STATUS, name, "look at device-mapper device \(name)")
    } catch {
      if error.errorNumber == ENXIO { return nil }
      throw error
    }
  }

  /// The live table.
  package func table(of name: String) throws(SystemError) -> [MapperTarget] {
    let operation = "read the table of \(name)"
    var size = Self.firstBufferBytes
    while size <= Self.longestTableBytes {
      let buffer = AlignedBuffer(byteCount: size)
      cmc_dm_prepare(buffer.bytes.baseAddress, size, name, "", CMC_DM_STATUS_TABLE, 0)
      var facts = cmc_dm_facts()
      _ = try check(
        cmc_dm_call(control.number, CMC_DM_TABLE_STATUS, buffer.bytes.baseAddress, &facts), operation)
      guard facts.flags & CMC_DM_BUFFER_FULL == 0 else {
        size *= 4
        continue
      }
      return try targets(in: buffer, count: Int(facts.target_count), operation)
    }
    throw SystemError(operation, because: "it is longer than \(Self.longestTableBytes) bytes")
  }

  private func targets(
    in buffer: AlignedBuffer, count: Int, _ operation: String
  ) throws(SystemError) -> [MapperTarget] {
    var found: [MapperTarget] = []
    var offset = 0
    for _ in 0..<count {
      var target = cmc_dm_target()
      _ = try check(cmc_dm_next_target(buffer.bytes.baseAddress, buffer.count, &offset, &target), operation)
      found.append(
        MapperTarget(
          startSectors: target.start, lengthSectors: target.length, kind: text(of: target.kind),
          parameters: target.parameters.map { String(cString: $0) } ?? ""))
    }
    return found
  }

  /// Makes a device that udev's rules leave alone: no links, no probing. EBUSY where name or uuid is taken.
  package func create(
    name: String, uuid: String, table: [MapperTarget]
  ) throws(SystemError) -> MapperDevice {
    let operation = "make device-mapper device \(name)"
    _ = try call(CMC_DM_DEV_CREATE, name, uuid: uuid, operation)
    do throws(SystemError) {
      try load(table, into: name)
      return try call(CMC_DM_DEV_SUSPEND, name, event: CMC_DM_LEAVE_ALONE, operation)
    } catch {
      // What is left has no table; the first error says why.
      _ = try? call(CMC_DM_DEV_REMOVE, name, operation)
      throw error
    }
  }

  /// Puts `table` in the place of the live one. Requests in flight finish on the old table, later ones wait for the new:
  /// one call of the kernel suspends, swaps and resumes, so that a killed caller leaves either the one or the other. A
  /// mounted file system isn't frozen: it needs no consistent moment, only an order, and a freeze would wait for its whole
  /// journal. Answers how long the I/O was held, in seconds.
  @discardableResult
  package func replaceTable(
    of name: String, with table: [MapperTarget]
  ) throws(SystemError) -> Double {
    try load(table, into: name)
    let begin = MonotonicTime.now
    do throws(SystemError) {
      _ = try call(CMC_DM_DEV_SUSPEND, name, flags: CMC_DM_SKIP_LOCKFS, "swap the table of \(name)")
    } catch {
      _ = try? call(CMC_DM_TABLE_CLEAR, name, "drop the new table of \(name)")
      // The kernel may have suspended before it failed: with nothing loaded this goes on with the old table.
      _ = try? call(CMC_DM_DEV_SUSPEND, name, flags: CMC_DM_SKIP_LOCKFS, "resume \(name)")
      throw error
    }
    return MonotonicTime.now.seconds(since: begin)
  }

  /// Removes the device; while somebody has it open, as soon as that ends. Nothing happens where there is none.
  package func remove(_ name: String) throws(SystemError) {
    do throws(SystemError) {
      _ = try call(
        CMC_DM_DEV_REMOVE, name, flags: CMC_DM_DEFERRED_REMOVE, event: CMC_DM_LEAVE_ALONE,
        "remove device-mapper device \(name)")
    } catch {
      if error.errorNumber != ENXIO { throw error }
    }
  }

  private func load(_ table: [MapperTarget], into name: String) throws(SystemError) {
    let operation = "load a table into \(name)"
    let size = table.reduce(Self.firstBufferBytes) { $0 + $1.parameters.utf8.count + 128 }
    let buffer = AlignedBuffer(byteCount: size)
    cmc_dm_prepare(buffer.bytes.baseAddress, size, name, "", 0, 0)
    var used = 0
    for target in table {
      _ = try check(
        cmc_dm_add_target(
          buffer.bytes.baseAddress, size, &used, target.startSectors, target.lengthSectors, target.kind,
          target.parameters), operation)
    }
    var facts = cmc_dm_facts()
    _ = try check(cmc_dm_call(control.number, CMC_DM_TABLE_LOAD, buffer.bytes.baseAddress, &facts), operation)
  }

  private func call(
    _ command: UInt32, _ name: String, uuid: String = "", flags: UInt32 = 0, event: UInt32 = 0,
    _ operation: @autoclosure () -> String
  ) throws(SystemError) -> MapperDevice {
    guard (1...Self.nameLimitBytes).contains(name.utf8.count), uuid.utf8.count <= Self.uuidLimitBytes else {
      throw SystemError(operation(), because: "its name or uuid is too long")
    }
    let buffer = AlignedBuffer(byteCount: Self.firstBufferBytes)
    cmc_dm_prepare(buffer.bytes.baseAddress, buffer.count, name, uuid, flags, event)
    var facts = cmc_dm_facts()
    _ = try check(cmc_dm_call(control.number, command, buffer.bytes.baseAddress, &facts), operation())
    return MapperDevice(
      name: text(of: facts.name), uuid: text(of: facts.uuid),
      number: DeviceNumber(major: facts.major, minor: facts.minor), openCount: Int(facts.open_count))
  }

  /// A C string in an array of fixed length.
  private func text<Characters>(of characters: Characters) -> String {
    withUnsafeBytes(of: characters) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
  }
}
