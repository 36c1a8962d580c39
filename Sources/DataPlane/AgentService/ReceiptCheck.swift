internal import AgentProtocol
internal import BlockModel
internal import H2HProtocol

/// Checks that a receipt's roots follow from its digests, which is what tells a damaged or edited one. Pure.
enum ReceiptCheck {
  /// A line a volume, for people. Throws `.failed` and says which line is wrong.
  static func check(_ bytes: [UInt8]) throws(AgentFault) -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else { throw AgentFault(.failed, "this is no receipt") }
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false)[...]
    guard lines.popFirst() == "cmcplan-receipt 1", lines.popLast() == "" else {
      throw AgentFault(.failed, "this is no receipt of a version known here, or its end is missing")
    }
    var volume: (name: String, leaves: [UInt8], root: String)?
    var answer = ""
    func finish() throws(AgentFault) {
      guard let volume else { return }
      guard DeviceDigest.of(volume.leaves).description == volume.root else {
        throw AgentFault(
          .failed, "the digests of volume \(volume.name) do not give its root: the receipt was damaged or changed")
      }
      answer += "volume \(volume.name): root \(volume.root)\n"
    }
    for line in lines {
      if line.hasPrefix("volume=") {
        try finish()
        volume = try begin(line)
      } else if volume != nil {
        let fields = line.split(separator: " ")
        guard fields.count == 2, let index = Int(fields[0]), let digest = raw(fields[1]),
          let count = volume?.leaves.count, index >= 0, (index + 1) * ExtentDigest.byteCount <= count
        else { throw AgentFault(.failed, "\"\(line.prefix(80))\" is no line of a receipt") }
        volume?.leaves.replaceSubrange(
          index * ExtentDigest.byteCount..<(index + 1) * ExtentDigest.byteCount, with: digest)
      }
    }
    try finish()
    return answer
  }

  private static func begin(_ line: Substring) throws(AgentFault) -> (name: String, leaves: [UInt8], root: String) {
    var values: [String: String] = [:]
    for field in line.split(separator: " ") {
      guard let equals = field.firstIndex(of: "=") else { continue }
      values[String(field[..<equals])] = String(field[field.index(after: equals)...])
    }
    guard let name = values["volume"], let size = values["size"].flatMap({ UInt64($0) }),
      let extent = values["extent"].flatMap({ UInt64($0) }), extent > 0, let root = values["root"],
      size / extent < 1 << 24
    else { throw AgentFault(.failed, "\"\(line.prefix(80))\" is no line of a receipt") }
    let count = Int((size + extent - 1) / extent)
    return (name, [UInt8](repeating: 0, count: count * ExtentDigest.byteCount), root)
  }

  private static func raw(_ hex: Substring) -> [UInt8]? {
    let digits = Array(hex.utf8)
    guard digits.count == 2 * ExtentDigest.byteCount else { return nil }
    var bytes: [UInt8] = []
    for index in stride(from: 0, to: digits.count, by: 2) {
      guard let byte = UInt8(String(decoding: digits[index..<index + 2], as: UTF8.self), radix: 16) else { return nil }
      bytes.append(byte)
    }
    return bytes
  }
}
