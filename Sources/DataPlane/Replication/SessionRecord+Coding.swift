import BlockModel
package import H2HProtocol

/// Why a stored record can't be believed.
package enum RecordError: Error, Sendable, Equatable, CustomStringConvertible {
  case damaged(what: String)
  case newerVersion(what: String, version: Int)

  package var description: String {
    switch self {
    case .damaged(let what): "\(what) is damaged"
    case .newerVersion(let what, let version):
      "\(what) is of version \(version), newer than this agent; install the agent that wrote it"
    }
  }
}

/// Lines of text, `key=value`, after a first line with the version and before a last one with the CRC-32C of all bytes
/// above it. Values are escaped (`%0a`, `%0d`, `%25`). Lines with unknown keys are kept as they are.
struct RecordText {
  private(set) var lines: [String]
  private let title: String
  static let version = 1

  init(title: String) {
    self.title = title
    lines = ["\(title) \(Self.version)"]
  }

  mutating func put(_ key: String, _ value: String?) {
    guard let value else { return }
    var escaped = ""
    for character in value.unicodeScalars {
      switch character {
      case "%": escaped += "%25"
      case "\n": escaped += "%0a"
      case "\r": escaped += "%0d"
      default: escaped.unicodeScalars.append(character)
      }
    }
    lines.append("\(key)=\(escaped)")
  }
  mutating func put(unknown: [String]) { lines += unknown }

  var bytes: [UInt8] {
    let body = Array((lines.joined(separator: "\n") + "\n").utf8)
    return body + Array("crc32c=\(hex(UInt64(CRC32C.checksum(body)), digits: 8))\n".utf8)
  }

  static func parse(_ bytes: [UInt8], title: String) throws(RecordError) -> [(key: String, value: String)] {
    let damaged = RecordError.damaged(what: title)
    guard bytes.last == 10, let lastStart = bytes.dropLast().lastIndex(of: 10) else { throw damaged }
    let body = bytes[...lastStart]
    guard let tail = String(validating: bytes[(lastStart + 1)...].dropLast(), as: UTF8.self),
      tail == "crc32c=\(hex(UInt64(CRC32C.checksum(body)), digits: 8))",
      let text = String(validating: body, as: UTF8.self)
    else { throw damaged }
    var lines = text.split(separator: "\n", omittingEmptySubsequences: true).map(String.init)
    guard !lines.isEmpty else { throw damaged }
    let first = lines.removeFirst().split(separator: " ")
    guard first.count == 2, first[0] == title, let version = Int(first[1]) else { throw damaged }
    guard version == Self.version else { throw .newerVersion(what: title, version: version) }
    var out: [(key: String, value: String)] = []
    for line in lines {
      guard let equals = line.firstIndex(of: "=") else { throw damaged }
      out.append((String(line[..<equals]), unescape(line[line.index(after: equals)...])))
    }
    return out
  }

  private static func unescape(_ text: Substring) -> String {
    var out = ""
    var rest = text.unicodeScalars[...]
    while let character = rest.popFirst() {
      guard character == "%" else {
        out.unicodeScalars.append(character)
        continue
      }
      switch String(String.UnicodeScalarView(rest.prefix(2))) {
      case "25": out += "%"
      case "0a": out += "\n"
      case "0d": out += "\r"
      default:
        out += "%"
        continue
      }
      rest = rest.dropFirst(2)
    }
    return out
  }
}

func hex(_ value: UInt64, digits: Int) -> String {
  let text = String(value, radix: 16)
  return String(repeating: "0", count: max(0, digits - text.count)) + text
}

extension SessionRecord {
  private static let title = "cmcplan-session"

  package func encoded() -> [UInt8] {
    var text = RecordText(title: Self.title)
    text.put("session", session.text)
    text.put("role", role.rawValue)
    text.put("generation", String(generation.number))
    text.put("authority", authority.name)
    text.put("prepared", prepared.map { String($0.number) })
    text.put("preparedAuthority", preparedAuthority?.name)
    text.put("copyID", hex(copyID, digits: 16))
    text.put("stage", stage)
    text.put("initialSynchronizationAt", initialSynchronizationAt.map { String($0.secondsSince1970) })
    text.put("swings", String(swings))
    text.put("standInSince", standInSince.map { String($0.secondsSince1970) })
    text.put("receipt", receiptDigest)
    text.put("holdCause", holdCause?.rawValue)
    text.put("holdWhy", holdWhy)
    text.put("inconsistentSince", inconsistentSince.map { String($0.secondsSince1970) })
    text.put(unknown: unknown)
    return text.bytes
  }

  /// Throws if any byte is not as it was written. A record that can't be read must stop the session, never restart it.
  package init(decoding bytes: [UInt8]) throws(RecordError) {
    let damaged = RecordError.damaged(what: Self.title)
    var values: [String: String] = [:]
    var unknown: [String] = []
    let known: Set = [
      "session", "role", "generation", "authority", "prepared", "preparedAuthority", "copyID", "stage",
      "initialSynchronizationAt", "swings", "standInSince", "receipt", "holdCause", "holdWhy", "inconsistentSince",
    ]
    for (key, value) in try RecordText.parse(bytes, title: Self.title) {
      if known.contains(key) {
        values[key] = value
      } else {
        var line = RecordText(title: "")
        line.put(key, value)
        unknown += line.lines.dropFirst()
      }
    }
    guard let session = values["session"], let role = values["role"].flatMap(Role.init(rawValue:)),
      let generation = values["generation"].flatMap({ UInt64($0) }),
      let authority = values["authority"].flatMap(CopyAuthority.init(name:)), let stage = values["stage"],
      let copyID = values["copyID"].flatMap({ UInt64($0, radix: 16) })
    else { throw damaged }
    self.init(
      session: SessionID(session), role: role, generation: Generation(generation), authority: authority, stage: stage)
    self.copyID = copyID
    prepared = values["prepared"].flatMap { UInt64($0) }.map(Generation.init)
    preparedAuthority = values["preparedAuthority"].flatMap(CopyAuthority.init(name:))
    initialSynchronizationAt = values["initialSynchronizationAt"].flatMap(Double.init).map(
      WallTime.init(secondsSince1970:))
    swings = values["swings"].flatMap { Int($0) } ?? 0
    standInSince = values["standInSince"].flatMap(Double.init).map(WallTime.init(secondsSince1970:))
    receiptDigest = values["receipt"]
    holdCause = values["holdCause"].flatMap(HoldCause.init(rawValue:))
    holdWhy = values["holdWhy"]
    inconsistentSince = values["inconsistentSince"].flatMap(Double.init).map(WallTime.init(secondsSince1970:))
    self.unknown = unknown
  }
}

extension DeviceLabel {
  /// The first withheld block: label, then zeroes.
  package static let byteCount = 4096
  private static let title = "cmcplan-label"

  /// 4 KiB: record text as in `SessionRecord`, padded with zero bytes.
  package func encoded() -> [UInt8] {
    var text = RecordText(title: Self.title)
    text.put("session", session.text)
    text.put("volume", volume.text)
    text.put("role", Role.destination.rawValue)
    text.put("sizeBytes", String(sizeBytes))
    text.put("generation", String(generation.number))
    text.put("authority", authority.name)
    text.put("peer", peer.text)
    text.put("copyID", hex(copyID, digits: 16))
    text.put("inconsistentSince", inconsistentSince.map { String($0.secondsSince1970) })
    text.put("cancelled", isCancelled ? "yes" : "no")
    let bytes = text.bytes
    precondition(bytes.count <= Self.byteCount, "names are limited so that a label always fits")
    return bytes + [UInt8](repeating: 0, count: Self.byteCount - bytes.count)
  }

  /// Nil where there is no label at all. Throws where there is one that is damaged or newer.
  package static func decode(_ bytes: some Collection<UInt8>) throws(RecordError) -> DeviceLabel? {
    let block = Array(bytes.prefix(byteCount))
    guard block.starts(with: Array(title.utf8)) else { return nil }
    let text = Array(block.prefix { $0 != 0 })
    var values: [String: String] = [:]
    for (key, value) in try RecordText.parse(text, title: title) { values[key] = value }
    guard let session = values["session"], let volume = values["volume"],
      let size = values["sizeBytes"].flatMap({ UInt64($0) }),
      let generation = values["generation"].flatMap({ UInt64($0) }),
      let authority = values["authority"].flatMap(CopyAuthority.init(name:)), let peer = values["peer"],
      let copyID = values["copyID"].flatMap({ UInt64($0, radix: 16) })
    else { throw .damaged(what: title) }
    return DeviceLabel(
      session: SessionID(session), volume: VolumeName(volume), sizeBytes: size, generation: Generation(generation),
      authority: authority, peer: KeyFingerprint(peer), copyID: copyID,
      inconsistentSince: values["inconsistentSince"].flatMap(Double.init).map(WallTime.init(secondsSince1970:)),
      isCancelled: values["cancelled"] == "yes")
  }
}

/// The proof that both copies were identical, as a file of lines (DESIGN §8.8):
/// ```
/// cmcplan-receipt 1
/// session=… generation=… verify=… at=SECONDS      (a line each)
/// volume=NAME size=BYTES extent=BYTES compared=BYTES root=HEX
/// INDEX HEX                                        (a line an extent that was compared)
/// ```
/// `root` is SHA-256 over the digests of all extents in order, 32 zero bytes for one that was not compared. The receipt's
/// own digest is SHA-256 of the file.
package enum Receipt {
  /// `notes`: lines `key=value` about the session as a whole, which no check reads.
  package static func text(_ draft: ReceiptDraft, notes: [String] = [], sha256: ([UInt8]) -> ExtentDigest) -> [UInt8] {
    var out: [UInt8] = []
    func line(_ text: String) {
      out += Array(text.utf8)
      out.append(10)
    }
    line("cmcplan-receipt 1")
    line("session=\(draft.session)")
    line("generation=\(draft.generation)")
    line("verify=\(draft.verify.rawValue)")
    line("at=\(draft.at.secondsSince1970)")
    for note in notes { line(note) }
    for volume in draft.volumes {
      line(
        "volume=\(volume.name) size=\(volume.sizeBytes) extent=\(volume.extentBytes) "
          + "compared=\(volume.comparedBytes) root=\(root(of: volume.digests, sha256: sha256))")
      for (index, digest) in volume.digests.enumerated() { if let digest { line("\(index) \(digest)") } }
    }
    return out
  }

  /// The SHA-256 of all extents' digests, 32 zero bytes for one that was not compared.
  package static func root(of digests: [ExtentDigest?], sha256: ([UInt8]) -> ExtentDigest) -> ExtentDigest {
    var leaves: [UInt8] = []
    leaves.reserveCapacity(digests.count * ExtentDigest.byteCount)
    for digest in digests { leaves += digest?.array ?? [UInt8](repeating: 0, count: ExtentDigest.byteCount) }
    return sha256(leaves)
  }
}
