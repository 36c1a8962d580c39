/// What the handshake needs to know of an export.
package struct NBDExportDescription: Sendable, Equatable {
  package var name: String
  package var sizeBytes: UInt64
  package var isReadOnly: Bool
  package var blockSizes: NBDBlockSizes
  package var hasDirtyMap: Bool

  package init(
    name: String, sizeBytes: UInt64, isReadOnly: Bool = false, blockSizes: NBDBlockSizes = NBDBlockSizes(),
    hasDirtyMap: Bool = false
  ) {
    self.name = name
    self.sizeBytes = sizeBytes
    self.isReadOnly = isReadOnly
    self.blockSizes = blockSizes
    self.hasDirtyMap = hasDirtyMap
  }

  var contexts: [NBDMetaContext] { hasDirtyMap ? [.allocation, .dirty] : [.allocation] }

  /// Document section "Transmission flags". Multi-conn: every connection of an export sees the same device, and a flush
  /// covers what was answered on any of them.
  func transmissionFlags(structuredReplies: Bool) -> UInt16 {
    typealias Flag = NBDWire.TransmissionFlag
    var flags = Flag.hasFlags | Flag.sendFlush | Flag.sendFUA | Flag.canMultiConn | Flag.sendCache
    if isReadOnly {
      flags |= Flag.readOnly
    } else {
      flags |= Flag.sendTrim | Flag.sendWriteZeroes | Flag.sendFastZero
    }
    if structuredReplies { flags |= Flag.sendDF }
    return flags
  }
}

/// What client and server agreed on.
package struct NBDSession: Sendable, Equatable {
  package var exportName: String
  package var structuredReplies: Bool
  /// Selected contexts; a context's raw value is its id on the wire.
  package var contexts: [NBDMetaContext]

  package init(exportName: String, structuredReplies: Bool, contexts: [NBDMetaContext]) {
    self.exportName = exportName
    self.structuredReplies = structuredReplies
    self.contexts = contexts
  }
}

/// The fixed newstyle handshake, server side: bytes in, effects out, no I/O (document section "Newstyle negotiation").
package struct NBDHandshake: Sendable {
  package enum Effect: Sendable, Equatable {
    case send([UInt8])
    /// Ask the export whether it takes another client, and tell the answer to `opened`.
    case open(exportName: String)
    /// The handshake is over; what came after it is in `leftover`.
    case enterTransmission(NBDSession)
    case disconnect
  }

  private enum State {
    case clientFlags
    case optionHeader
    case optionData(option: UInt32, length: Int)
    case skipping(option: UInt32, remaining: Int)
    case opening(Opening)
    case done
  }
  struct Opening {
    var option: NBDWire.Option
    var export: NBDExportDescription
    var infos: [UInt16]
  }

  private var state = State.clientFlags
  private var input: [UInt8] = []
  private var optionCount = 0
  private var omitsZeroes = false
  var structuredReplies = false
  /// What SET_META_CONTEXT chose last, for which export.
  var selection: (exportName: String, contexts: [NBDMetaContext])?

  package init() {}

  /// The server speaks first.
  package static var greeting: [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendBigEndian(NBDWire.serverMagic)
    bytes.appendBigEndian(NBDWire.optionMagic)
    bytes.appendBigEndian(NBDWire.HandshakeFlag.fixedNewstyle | NBDWire.HandshakeFlag.noZeroes)
    return bytes
  }

  /// Bytes that belong to the transmission phase already.
  package var leftover: [UInt8] { input }

  /// Takes what the client sent. `exports` is what could be chosen now, the default first; `isShuttingDown` turns
  /// every option away.
  package mutating func receive(
    _ bytes: some Sequence<UInt8>, exports: [NBDExportDescription], isShuttingDown: Bool = false
  ) -> [Effect] {
    input.append(contentsOf: bytes)
    return advance(exports, isShuttingDown)
  }

  /// The export's answer to `.open`.
  package mutating func opened(
    _ accepted: Bool, exports: [NBDExportDescription], isShuttingDown: Bool = false
  ) -> [Effect] {
    guard case .opening(let opening) = state else { preconditionFailure("nothing was asked") }
    guard accepted else {
      if opening.option == .exportName { return finish([.disconnect]) }
      state = .optionHeader
      let refusal = Effect.send(
        NBDOptionReply.error(
          opening.option.rawValue, NBDWire.OptionReply.errorShutdown, "export \(opening.export.name) is closed"))
      return [refusal] + advance(exports, isShuttingDown)
    }
    let reply: [UInt8]
    if opening.option == .exportName {
      reply = NBDOptionReply.exportNameReply(
        opening.export, structuredReplies: structuredReplies, omitsZeroes: omitsZeroes)
    } else {
      reply = NBDOptionReply.info(
        opening.option, opening.export, infos: opening.infos, structuredReplies: structuredReplies)
    }
    // Contexts hold only for the export that they were selected for.
    let contexts = selection.flatMap { $0.exportName == opening.export.name ? $0.contexts : nil } ?? []
    let session = NBDSession(
      exportName: opening.export.name, structuredReplies: structuredReplies, contexts: contexts)
    return finish([.send(reply), .enterTransmission(session)])
  }

  private mutating func finish(_ effects: [Effect]) -> [Effect] {
    state = .done
    return effects
  }

  private mutating func advance(_ exports: [NBDExportDescription], _ isShuttingDown: Bool) -> [Effect] {
    var effects: [Effect] = []
    while let more = step(exports, isShuttingDown) { effects += more }
    return effects
  }

  /// One message, or nil when more bytes or an answer are needed.
  private mutating func step(_ exports: [NBDExportDescription], _ isShuttingDown: Bool) -> [Effect]? {
    switch state {
    case .clientFlags:
      guard let raw = take(4) else { return nil }
      var cursor = NBDCursor(raw[...])
      let flags = cursor.number(UInt32.self) ?? 0
      guard flags & ~0b11 == 0 else { return finish([.disconnect]) }
      omitsZeroes = flags & 0b10 != 0
      state = .optionHeader
      return []
    case .optionHeader:
      guard let raw = take(NBDWire.optionHeaderBytes) else { return nil }
      return header(raw)
    case .optionData(let option, let length):
      guard let data = take(length) else { return nil }
      state = .optionHeader
      return answer(option, data, exports, isShuttingDown)
    case .skipping(let option, let remaining):
      guard remaining > 0 else {
        state = .optionHeader
        if option == NBDWire.Option.exportName.rawValue { return finish([.disconnect]) }
        return [
          .send(
            NBDOptionReply.error(option, NBDWire.OptionReply.errorTooBig, "the option's data is too long"))
        ]
      }
      guard !input.isEmpty else { return nil }
      let dropped = min(remaining, input.count)
      input.removeFirst(dropped)
      state = .skipping(option: option, remaining: remaining - dropped)
      return []
    case .opening, .done: return nil
    }
  }

  private mutating func header(_ raw: [UInt8]) -> [Effect] {
    var cursor = NBDCursor(raw[...])
    guard cursor.number(UInt64.self) == NBDWire.optionMagic, let option = cursor.number(UInt32.self),
      let length = cursor.number(UInt32.self), length <= NBDLimits.maxSkippedOptionBytes
    else { return finish([.disconnect]) }
    optionCount += 1
    guard optionCount <= NBDLimits.maxOptions else { return finish([.disconnect]) }
    if length > NBDLimits.maxOptionBytes {
      state = .skipping(option: option, remaining: Int(length))
    } else {
      state = .optionData(option: option, length: Int(length))
    }
    return []
  }

  private mutating func take(_ count: Int) -> [UInt8]? {
    guard input.count >= count else { return nil }
    let taken = Array(input[..<count])
    input.removeFirst(count)
    return taken
  }

  private mutating func answer(
    _ number: UInt32, _ data: [UInt8], _ exports: [NBDExportDescription], _ isShuttingDown: Bool
  ) -> [Effect] {
    let option = NBDWire.Option(rawValue: number)
    if option == .abort {
      return finish([.send(NBDOptionReply.acknowledge(number)), .disconnect])
    }
    if isShuttingDown {
      if option == .exportName { return finish([.disconnect]) }
      return [.send(NBDOptionReply.error(number, NBDWire.OptionReply.errorShutdown, "the server is shutting down"))]
    }
    switch option {
    case .exportName:
      guard let name = nbdText(data[...]), let export = Self.find(name, exports) else {
        return finish([.disconnect])
      }
      return open(Opening(option: .exportName, export: export, infos: []))
    case .info, .go: return chooseExport(option == .go ? .go : .info, data, exports)
    case .list: return [.send(NBDOptionReply.list(data, exports))]
    case .structuredReply:
      guard data.isEmpty else { return [.send(NBDOptionReply.invalid(number, "this option has no data"))] }
      structuredReplies = true
      return [.send(NBDOptionReply.acknowledge(number))]
    case .listMetaContext: return [.send(listContexts(data, exports))]
    case .setMetaContext: return [.send(setContexts(data, exports))]
    case .abort, .startTLS, nil:
      // TLS: this server listens on a Unix socket that only root may open.
      return [.send(NBDOptionReply.error(number, NBDWire.OptionReply.errorUnsupported, "unknown option"))]
    }
  }

  private mutating func open(_ opening: Opening) -> [Effect] {
    state = .opening(opening)
    return [.open(exportName: opening.export.name)]
  }

  private mutating func chooseExport(
    _ option: NBDWire.Option, _ data: [UInt8], _ exports: [NBDExportDescription]
  ) -> [Effect] {
    var cursor = NBDCursor(data[...])
    guard let name = cursor.text(), let count = cursor.number(UInt16.self), cursor.remaining == 2 * Int(count) else {
      return [.send(NBDOptionReply.invalid(option.rawValue, "export name and information requests are malformed"))]
    }
    var infos: [UInt16] = []
    while let info = cursor.number(UInt16.self) { infos.append(info) }
    guard let export = Self.find(name, exports) else {
      return [.send(NBDOptionReply.error(option.rawValue, NBDWire.OptionReply.errorUnknown, "no export \(name)"))]
    }
    if option == .go { return open(Opening(option: .go, export: export, infos: infos)) }
    return [
      .send(NBDOptionReply.info(option, export, infos: infos, structuredReplies: structuredReplies))
    ]
  }

  /// The empty name is the first export, unless one is really named so.
  static func find(_ name: String, _ exports: [NBDExportDescription]) -> NBDExportDescription? {
    exports.first { $0.name == name } ?? (name.isEmpty ? exports.first : nil)
  }
}
