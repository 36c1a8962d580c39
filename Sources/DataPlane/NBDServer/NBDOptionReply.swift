/// Replies during option haggling, as bytes.
enum NBDOptionReply {
  private static func message(_ option: UInt32, _ type: UInt32, _ data: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(NBDWire.optionReplyHeaderBytes + data.count)
    bytes.appendBigEndian(NBDWire.optionReplyMagic)
    bytes.appendBigEndian(option)
    bytes.appendBigEndian(type)
    bytes.appendBigEndian(UInt32(data.count))
    return bytes + data
  }

  static func acknowledge(_ option: UInt32) -> [UInt8] { message(option, NBDWire.OptionReply.ack, []) }

  /// With a word for the person at the client, cut to the protocol's string limit.
  static func error(_ option: UInt32, _ type: UInt32, _ text: String) -> [UInt8] {
    message(option, type, Array(text.utf8.prefix(NBDLimits.maxNameBytes)))
  }

  static func invalid(_ option: UInt32, _ text: String) -> [UInt8] {
    error(option, NBDWire.OptionReply.errorInvalid, text)
  }

  static func list(_ data: [UInt8], _ exports: [NBDExportDescription]) -> [UInt8] {
    let option = NBDWire.Option.list.rawValue
    guard data.isEmpty else { return invalid(option, "this option has no data") }
    var bytes: [UInt8] = []
    for export in exports {
      var entry: [UInt8] = []
      entry.appendBigEndian(UInt32(export.name.utf8.count))
      bytes += message(option, NBDWire.OptionReply.server, entry + Array(export.name.utf8))
    }
    return bytes + acknowledge(option)
  }

  static func metaContext(_ option: NBDWire.Option, id: UInt32, name: String) -> [UInt8] {
    var data: [UInt8] = []
    data.appendBigEndian(id)
    return message(option.rawValue, NBDWire.OptionReply.metaContext, data + Array(name.utf8))
  }

  /// The answers to INFO and GO, with the final acknowledgement.
  static func info(
    _ option: NBDWire.Option, _ export: NBDExportDescription, infos: [UInt16], structuredReplies: Bool
  ) -> [UInt8] {
    var data: [UInt8] = []
    data.appendBigEndian(NBDWire.Info.export)
    data.appendBigEndian(export.sizeBytes)
    data.appendBigEndian(export.transmissionFlags(structuredReplies: structuredReplies))
    var bytes = message(option.rawValue, NBDWire.OptionReply.info, data)
    if infos.contains(NBDWire.Info.name) {
      var name: [UInt8] = []
      name.appendBigEndian(NBDWire.Info.name)
      bytes += message(option.rawValue, NBDWire.OptionReply.info, name + Array(export.name.utf8))
    }
    if infos.contains(NBDWire.Info.blockSize) {
      var sizes: [UInt8] = []
      sizes.appendBigEndian(NBDWire.Info.blockSize)
      sizes.appendBigEndian(export.blockSizes.minimum)
      sizes.appendBigEndian(export.blockSizes.preferred)
      sizes.appendBigEndian(export.blockSizes.maximum)
      bytes += message(option.rawValue, NBDWire.OptionReply.info, sizes)
    }
    return bytes + acknowledge(option.rawValue)
  }

  /// The answer to EXPORT_NAME, which has no header.
  static func exportNameReply(
    _ export: NBDExportDescription, structuredReplies: Bool, omitsZeroes: Bool
  ) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendBigEndian(export.sizeBytes)
    bytes.appendBigEndian(export.transmissionFlags(structuredReplies: structuredReplies))
    if !omitsZeroes { bytes += [UInt8](repeating: 0, count: 124) }
    return bytes
  }
}
