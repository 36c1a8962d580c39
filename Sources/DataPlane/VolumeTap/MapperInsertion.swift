internal import BlockModel
package import LinuxPlatform

/// The tap beneath a device-mapper device in use (DESIGN section 8, "Tap", case a): the device's own table lives on in a
/// device of ours, the origin, and the device's table becomes one line that leads to the tap.
///
///     before  application - vg/data - disks
///     after   application - vg/data - /dev/nbdN - agent - origin - disks
///
/// All state is the kernel's, so a restarted agent reads it there. The origin's table is the way back.
package struct MapperInsertion: Sendable {
  package enum State: Sendable, Equatable {
    case absent
    case inserted(nbdIndex: Int)
    /// The device leads to something that is neither its own table nor our tap.
    case foreign
  }

  /// Targets of which two devices with the same table may live side by side: they keep nothing on the disk themselves.
  static let passiveTargets: Set<String> = ["linear", "striped"]
  private static let uuidPrefix = "CMCPLAN-"
  private static let originPrefix = "cmcplan-origin-"
  private static let digestDigits = 16
  /// Udev's probes open a device for a moment; so often, a tenth of a second apart, is looked for the last of them.
  static let openerLooks = 20

  private let mapper: DeviceMapper
  /// The device that the application uses.
  package let name: String
  package let origin: String
  private let originUUID: String

  /// Nil where `path` is no device-mapper device. `key` names the volume uniquely on this host.
  package init?(path: String, key: String) throws(SystemError) {
    guard let name = Self.mapperName(of: path) else { return nil }
    mapper = try DeviceMapper()
    self.name = name
    let digest = Self.digest(key)
    origin = "\(Self.originPrefix)\(digest)"
    originUUID = Self.originUUID(of: name, digest: digest)
  }

  /// Nil where `path` is no device-mapper device.
  package static func mapperName(of path: String) -> String? {
    guard let facts = try? Files.facts(path), facts.kind == .blockDevice,
      let name = try? Files.readText("/sys/dev/block/\(facts.device)/dm/name")
    else { return nil }
    return String(name.prefix { !$0.isNewline })
  }

  /// Names must be short and the same at every start; nobody attacks them.
  static func digest(_ text: String) -> String {
    let digits = String(StableHash.of(text), radix: 16)
    return String(repeating: "0", count: digestDigits - digits.count) + digits
  }

  // MARK: Pure

  /// Why a device with this table can't have the tap beneath it; nil where it can.
  static func refusal(of table: [MapperTarget], name: String) -> String? {
    guard !table.isEmpty else { return "\(name) has no table" }
    for target in table where !passiveTargets.contains(target.kind) {
      return target.kind == "multipath"
        ? "\(name) is a multipath device, whose table can't be swapped"
        : "\(name) has a \(target.kind) target, which can't be opened twice"
    }
    return nil
  }

  private static func originUUID(of name: String, digest: String) -> String {
    String("\(uuidPrefix)\(name)-".prefix(DeviceMapper.uuidLimitBytes - digestDigits)) + digest
  }

  /// Whether the device `candidate` with this uuid is the origin of device `name`, and not of one whose name only begins
  /// like it.
  static func isOrigin(_ candidate: String, uuid: String, of name: String) -> Bool {
    guard candidate.hasPrefix(originPrefix) else { return false }
    return uuid == originUUID(of: name, digest: String(candidate.dropFirst(originPrefix.count)))
  }

  /// The line that leads to the tap's device.
  static func tapTable(sectors: UInt64, device: DeviceNumber) -> [MapperTarget] {
    [MapperTarget(startSectors: 0, lengthSectors: sectors, kind: "linear", parameters: "\(device) 0")]
  }

  /// The NBD device that a table leads to as `tapTable` has it.
  static func tapDevice(of table: [MapperTarget]) -> DeviceNumber? {
    guard table.count == 1, let only = table.first, only.kind == "linear", only.startSectors == 0 else { return nil }
    let words = only.parameters.split(separator: " ")
    guard words.count == 2, words[1] == "0", let number = DeviceNumber(words[0]), number.major == KernelNBD.major else {
      return nil
    }
    return number
  }

  static func sectors(of table: [MapperTarget]) -> UInt64 { table.reduce(0) { $0 + $1.lengthSectors } }

  // MARK: Looking

  /// Why the tap can't go beneath `path`; nil where it can, or is there.
  package static func refusal(of path: String) -> String? {
    guard let name = mapperName(of: path) else { return "\(path) is no device-mapper device" }
    do throws(SystemError) {
      let table = try DeviceMapper().table(of: name)
      return tapDevice(of: table) == nil ? refusal(of: table, name: name) : nil
    } catch {
      return error.description
    }
  }

  /// Where the data of a device lies that has a tap of ours beneath it: the path of its origin. Nil for any other.
  package static func origin(beneath path: String) throws(SystemError) -> String? {
    guard let name = mapperName(of: path), let mapper = try? DeviceMapper(),
      tapDevice(of: try mapper.table(of: name)) != nil
    else { return nil }
    for node in try Files.list("/sys/block") where node.hasPrefix("dm-") {
      guard let text = try? Files.readText("/sys/block/\(node)/dm/name") else { continue }
      let candidate = String(text.prefix { !$0.isNewline })
      guard let device = try mapper.device(named: candidate), isOrigin(candidate, uuid: device.uuid, of: name) else {
        continue
      }
      return "/dev/\(node)"
    }
    throw SystemError("find the data of \(name)", because: "it leads to an NBD device that is no tap of this agent")
  }

  package func state() throws(SystemError) -> State {
    let table = try mapper.table(of: name)
    if let device = Self.tapDevice(of: table), let index = Self.index(of: device),
      try mapper.device(named: origin) != nil
    {
      return .inserted(nbdIndex: index)
    }
    guard try mapper.device(named: origin) != nil else { return .absent }
    return try mapper.table(of: origin) == table ? .absent : .foreign
  }

  private static func index(of device: DeviceNumber) -> Int? {
    guard let target = try? Files.linkTarget("/sys/dev/block/\(device)") else { return nil }
    let last = Files.lastPart(of: target)
    return last.hasPrefix("nbd") ? Int(last.dropFirst(3)) : nil
  }

  /// Whether nothing was written to the device since it came to be in this boot. That somebody has it open says nothing:
  /// as it appears udev reads it, and what an opener writes after a swap of the table goes where the new table leads.
  package func isUntouched() throws(SystemError) -> Bool {
    guard let device = try mapper.device(named: name) else { return false }
    return Self.isUntouched(stat: try Files.readText("/sys/dev/block/\(device.number)/stat"))
  }

  /// Completed writes are the fifth number, completed discards the twelfth (Documentation/block/stat.rst).
  static func isUntouched(stat: String) -> Bool {
    let fields = stat.split(whereSeparator: \.isWhitespace)
    return fields.count > 11 && fields[4] == "0" && fields[11] == "0"
  }

  /// Whether the device, back on its own table, refuses writes.
  package func isSealed() throws(SystemError) -> Bool {
    guard let device = try mapper.device(named: name) else { return false }
    return try DeviceUse.isReadOnly(device.path)
  }

  package func openCount() throws(SystemError) -> Int { try mapper.device(named: name)?.openCount ?? 0 }

  // MARK: The origin

  /// The device with the original's table, made where there is none; answers its path. While the tap isn't in, it
  /// follows what others changed of the table.
  package func ensureOrigin() throws(SystemError) -> String {
    let table = try mapper.table(of: name)
    let existing = try mapper.device(named: origin)
    if Self.tapDevice(of: table) != nil {
      guard let existing else {
        throw SystemError(
          "use \(name)",
          because:
            "it leads to an NBD device, but its own table (\(origin)) is gone; restore it with lvchange --refresh or dmsetup"
        )
      }
      return existing.path
    }
    if let why = Self.refusal(of: table, name: name) { throw SystemError("put a tap beneath \(name)", because: why) }
    if let existing {
      if try mapper.table(of: origin) != table { try mapper.replaceTable(of: origin, with: table) }
      return existing.path
    }
    return try mapper.create(name: origin, uuid: originUUID, table: table).path
  }

  /// Goes when its last user, the agent, lets go of it. Never while the tap leads the application's data through it.
  package func removeOrigin() throws(SystemError) {
    if try mapper.device(named: name) != nil, Self.tapDevice(of: try mapper.table(of: name)) != nil {
      throw SystemError(
        "remove \(origin)", because: "\(name) still leads to the tap, and its data lies there; take the tap out first")
    }
    try mapper.remove(origin)
  }

  // MARK: In and out

  /// Swaps the tap in. Answers how long the I/O was held, in seconds.
  package func insert(nbdIndex: Int, sizeBytes: UInt64) throws(SystemError) -> Double {
    let table = try mapper.table(of: name)
    let operation = "put the tap beneath \(name)"
    guard try mapper.table(of: origin) == table else {
      throw SystemError(operation, because: "its table changed meanwhile; repeat")
    }
    guard Self.sectors(of: table) * 512 == sizeBytes else {
      throw SystemError(
        operation,
        because:
          "it has \(Self.sectors(of: table) * 512) bytes, the session's volume \(sizeBytes); apply the plan again")
    }
    let tap = try Files.facts(KernelNBD.path(nbdIndex)).device
    let pause = try mapper.replaceTable(of: name, with: Self.tapTable(sectors: sizeBytes / 512, device: tap))
    try unseal()
    return pause
  }

  /// Gives the device its own table back, and has it refuse writes if it is to be sealed. The table itself stays
  /// writable: a read-only one makes udev forget the device's names. Answers how long the I/O was held, in seconds.
  package func takeOut(isSealed: Bool) throws(SystemError) -> Double {
    guard let path = try mapper.device(named: name)?.path else {
      throw SystemError("take the tap out of \(name)", because: "the device is gone")
    }
    // Before, so that there is no moment in which it could be written; after, because some kernels forget it on the way.
    try DeviceUse.setReadOnly(path, isSealed)
    let pause = try mapper.replaceTable(of: name, with: try mapper.table(of: origin))
    try DeviceUse.setReadOnly(path, isSealed)
    return pause
  }

  /// For a device that is sealed: it is written again through the tap.
  private func unseal() throws(SystemError) {
    if let device = try mapper.device(named: name), try isSealed() { try DeviceUse.setReadOnly(device.path, false) }
  }

  /// Whether somebody has the device open who doesn't leave within two seconds.
  package func isUsed() throws(SystemError) -> Bool {
    for _ in 0..<Self.openerLooks {
      if try openCount() == 0 { return false }
      pauseThread(milliseconds: 100)
    }
    return true
  }
}
