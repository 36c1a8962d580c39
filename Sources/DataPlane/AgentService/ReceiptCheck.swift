internal import AgentProtocol
internal import BlockModel
internal import H2HProtocol

/// Checks that a receipt's roots follow from its digests, which is what tells a damaged or edited one. Pure.
enum ReceiptCheck {
  struct Volume {
    var name: String
    var sizeBytes: UInt64
    var extentBytes: UInt64
    var root: String
    /// By number of extent; those that were not compared have none.
    var digests: [Int: ExtentDigest] = [:]

    /// SHA-256 over all digests, 32 zero bytes in the place of those that are missing.
    var rootOfDigests: String {
      let count = Int((sizeBytes + extentBytes - 1) / extentBytes)
      var leaves: [UInt8] = []
      leaves.reserveCapacity(count * ExtentDigest.byteCount)
      for index in 0..<count { leaves += digests[index]?.array ?? [UInt8](repeating: 0, count: ExtentDigest.byteCount) }
      return DeviceDigest.of(leaves).description
    }
  }

  /// Throws `.failed` and says which line is wrong.
  static func check(_ bytes: [UInt8]) throws(AgentFault) -> [Volume] {
    guard let text = String(validating: bytes, as: UTF8.self) else { throw AgentFault(.failed, "this is no receipt") }
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false)[...]
    guard lines.popFirst() == "cmcplan-receipt 1", lines.popLast() == "" else {
      throw AgentFault(.failed, "this is no receipt of a version known here, or its end is missing")
    }
    var volumes: [Volume] = []
    for line in lines {
      if line.hasPrefix("volume=") {
        volumes.append(try begin(line))
      } else if let last = volumes.indices.last {
        let fields = line.split(separator: " ")
        guard fields.count == 2, let index = Int(fields[0]), index >= 0, let digest = raw(fields[1]),
          UInt64(index) * volumes[last].extentBytes < volumes[last].sizeBytes
        else { throw AgentFault(.failed, "\"\(line.prefix(80))\" is no line of a receipt") }
        volumes[last].digests[index] = digest
      }
    }
    for volume in volumes where volume.rootOfDigests != volume.root {
      throw AgentFault(
        .failed, "the digests of volume \(volume.name) do not give its root: the receipt was damaged or changed")
    }
    return volumes
  }

  private static func begin(_ line: Substring) throws(AgentFault) -> Volume {
    var values: [String: String] = [:]
    for field in line.split(separator: " ") {
      guard let equals = field.firstIndex(of: "=") else { continue }
      values[String(field[..<equals])] = String(field[field.index(after: equals)...])
    }
    guard let name = values["volume"], let size = values["size"].flatMap({ UInt64($0) }),
      let extent = values["extent"].flatMap({ UInt64($0) }), extent > 0, extent <= 1 << 40, size <= UInt64(Int64.max),
      let root = values["root"], size / extent < 1 << 24
    else { throw AgentFault(.failed, "\"\(line.prefix(80))\" is no line of a receipt") }
    return Volume(name: name, sizeBytes: size, extentBytes: extent, root: root)
  }

  private static func raw(_ hex: Substring) -> ExtentDigest? {
    let digits = Array(hex.utf8)
    guard digits.count == 2 * ExtentDigest.byteCount else { return nil }
    var bytes: [UInt8] = []
    for index in stride(from: 0, to: digits.count, by: 2) {
      guard let byte = UInt8(String(decoding: digits[index..<index + 2], as: UTF8.self), radix: 16) else { return nil }
      bytes.append(byte)
    }
    return ExtentDigest(bytes)
  }
}
