import BlockModel
import NBDServer
import Testing

private let disk = NBDExportDescription(name: "disk", sizeBytes: 1 << 30, hasDirtyMap: true)
private let archive = NBDExportDescription(
  name: "archive", sizeBytes: 4096, isReadOnly: true, blockSizes: NBDBlockSizes(minimum: 512))
private let exports = [disk, archive]

private func option(_ number: UInt32, _ data: [UInt8] = []) -> [UInt8] {
  var bytes: [UInt8] = []
  bytes.appendBigEndian(NBDWire.optionMagic)
  bytes.appendBigEndian(number)
  bytes.appendBigEndian(UInt32(data.count))
  return bytes + data
}

private func text(_ text: String) -> [UInt8] {
  var bytes: [UInt8] = []
  bytes.appendBigEndian(UInt32(text.utf8.count))
  return bytes + Array(text.utf8)
}

private func chooseData(_ name: String, _ infos: [UInt16] = []) -> [UInt8] {
  var bytes = text(name)
  bytes.appendBigEndian(UInt16(infos.count))
  for info in infos { bytes.appendBigEndian(info) }
  return bytes
}

private func queries(_ name: String, _ list: [String]) -> [UInt8] {
  var bytes = text(name)
  bytes.appendBigEndian(UInt32(list.count))
  return bytes + list.flatMap(text)
}

private let flags: [UInt8] = [0, 0, 0, 3]

/// Types of the option replies in a byte stream, with their data.
private func replies(_ effects: [NBDHandshake.Effect]) -> [(type: UInt32, data: [UInt8])] {
  var bytes: [UInt8] = []
  for case .send(let part) in effects { bytes += part }
  var found: [(UInt32, [UInt8])] = []
  var position = 0
  bytes.withUnsafeBytes { raw in
    while position + 20 <= raw.count {
      let length = Int(raw.bigEndian(at: position + 16, as: UInt32.self))
      found.append(
        (raw.bigEndian(at: position + 12, as: UInt32.self), Array(raw[position + 20..<position + 20 + length])))
      position += 20 + length
    }
  }
  return found
}

private func talk(_ messages: [UInt8]...) -> (NBDHandshake, [NBDHandshake.Effect]) {
  var handshake = NBDHandshake()
  _ = handshake.receive(flags, exports: exports)
  var effects: [NBDHandshake.Effect] = []
  for message in messages { effects += handshake.receive(message, exports: exports) }
  return (handshake, effects)
}

@Suite("NBD handshake") struct HandshakeTests {
  @Test("the greeting offers fixed newstyle and no zeroes") func greeting() {
    #expect(NBDHandshake.greeting == Array("NBDMAGICIHAVEOPT".utf8) + [0, 3])
  }

  @Test("unknown client flags end the session") func unknownClientFlags() {
    var handshake = NBDHandshake()
    #expect(handshake.receive([0, 0, 0, 4], exports: exports) == [.disconnect])
  }

  @Test("a byte at a time is understood as well as all at once") func pieces() {
    let stream = flags + option(8) + option(3)
    var whole = NBDHandshake()
    let atOnce = whole.receive(stream, exports: exports)
    var pieces = NBDHandshake()
    var oneByOne: [NBDHandshake.Effect] = []
    for byte in stream { oneByOne += pieces.receive([byte], exports: exports) }
    #expect(atOnce == oneByOne)
    #expect(replies(atOnce).map(\.type) == [1, 2, 2, 1])
  }

  @Test("GO opens the export, tells size, flags and block sizes, and hands over what came after") func go() throws {
    var (handshake, effects) = talk(option(7, chooseData("archive", [3])) + [9, 9])
    #expect(effects == [.open(exportName: "archive")])
    effects = handshake.opened(true, exports: exports)
    let answers = replies(effects)
    #expect(answers.map(\.type) == [3, 3, 1])
    #expect(answers[0].data.count == 12)
    #expect(answers[0].data[11] & 0b11 == 0b11, "has flags, read-only")
    #expect(answers[1].data == [0, 3, 0, 0, 2, 0, 0, 0, 16, 0, 2, 0, 0, 0])
    #expect(
      effects.last
        == .enterTransmission(NBDSession(exportName: "archive", structuredReplies: false, contexts: [])))
    #expect(handshake.leftover == [9, 9])
  }

  @Test("INFO tells the same and stays in the handshake") func info() {
    let (_, effects) = talk(option(6, chooseData("disk")), option(3))
    #expect(replies(effects).map(\.type) == [3, 1, 2, 2, 1])
  }

  @Test("the empty name is the first export") func defaultExport() {
    let (_, effects) = talk(option(7, chooseData("")))
    #expect(effects == [.open(exportName: "disk")])
  }

  @Test("an unknown export is refused, and another can be chosen") func unknownExport() {
    let (_, effects) = talk(option(7, chooseData("nothing")), option(7, chooseData("disk")))
    #expect(replies(effects).map(\.type) == [0x8000_0006])
    #expect(effects.last == .open(exportName: "disk"))
  }

  @Test("EXPORT_NAME of an unknown export ends the session: it can't be answered") func unknownExportName() {
    let (_, effects) = talk(option(1, Array("nothing".utf8)))
    #expect(effects == [.disconnect])
  }

  @Test("EXPORT_NAME answers ten bytes when zeroes are left out, and 134 when not", arguments: [true, false])
  func exportName(omitsZeroes: Bool) {
    var handshake = NBDHandshake()
    _ = handshake.receive([0, 0, 0, omitsZeroes ? 3 : 1], exports: exports)
    #expect(handshake.receive(option(1, Array("disk".utf8)), exports: exports) == [.open(exportName: "disk")])
    guard case .send(let reply) = handshake.opened(true, exports: exports).first else {
      Issue.record("no reply")
      return
    }
    #expect(reply.count == (omitsZeroes ? 10 : 134))
  }

  @Test("a closed tap refuses with SHUTDOWN, and the client may go on asking") func refused() {
    var (handshake, _) = talk(option(7, chooseData("disk")))
    let effects = handshake.opened(false, exports: exports)
    #expect(replies(effects).map(\.type) == [0x8000_0007])
    #expect(replies(handshake.receive(option(3), exports: exports)).last?.type == 1)
  }

  @Test("while the server shuts down, options are refused but ABORT is acknowledged") func shuttingDown() {
    var handshake = NBDHandshake()
    _ = handshake.receive(flags, exports: exports)
    #expect(
      replies(handshake.receive(option(3), exports: exports, isShuttingDown: true)).map(\.type) == [0x8000_0007])
    let effects = handshake.receive(option(2), exports: exports, isShuttingDown: true)
    #expect(replies(effects).map(\.type) == [1])
    #expect(effects.last == .disconnect)
  }

  @Test("unknown options and STARTTLS are unsupported, and the next option works", arguments: [5, 11, 77] as [UInt32])
  func unknownOption(number: UInt32) {
    let (_, effects) = talk(option(number, [1, 2, 3]), option(8))
    #expect(replies(effects).map(\.type) == [0x8000_0001, 1])
  }

  @Test("malformed option data is invalid, not fatal") func malformed() {
    let tooLongName: [UInt8] = [0, 0, 1, 0, 65, 0, 0]
    let (_, effects) = talk(
      option(7, tooLongName), option(7, chooseData("disk") + [0]), option(3, [1]), option(8, [1]),
      option(6, text("a\u{0}b") + [0, 0]), option(8))
    #expect(replies(effects).map(\.type) == [0x8000_0003, 0x8000_0003, 0x8000_0003, 0x8000_0003, 0x8000_0003, 1])
  }

  @Test("an option longer than the limit is skipped and called too big") func tooBig() {
    let (_, effects) = talk(option(77, [UInt8](repeating: 0, count: 70_000)), option(8))
    #expect(replies(effects).map(\.type) == [0x8000_0009, 1])
  }

  @Test("a wrong option magic, an absurd length, and endless options end the session") func hopeless() {
    #expect(talk([UInt8](repeating: 7, count: 16)).1 == [.disconnect])
    var absurd = Array("IHAVEOPT".utf8)
    absurd.appendBigEndian(UInt32(3))
    absurd.appendBigEndian(UInt32.max)
    #expect(talk(absurd).1 == [.disconnect])
    let endless = (0..<513).flatMap { _ in option(8) }
    #expect(talk(endless).1.last == .disconnect)
  }

  @Test("meta contexts need structured replies") func contextsNeedStructuredReplies() {
    let (_, effects) = talk(option(10, queries("disk", ["base:allocation"])), option(9, queries("disk", [])))
    #expect(replies(effects).map(\.type) == [0x8000_0003, 0x8000_0003])
  }

  @Test("contexts are listed by name, wildcard or all, and only what the export has") func listContexts() {
    func names(_ export: String, _ list: [String]) -> [String] {
      let (_, effects) = talk(option(8), option(9, queries(export, list)))
      return replies(effects).filter { $0.type == 4 }.map { String(decoding: $0.data.dropFirst(4), as: UTF8.self) }
    }
    #expect(names("disk", []) == ["base:allocation", "cmc:dirty"])
    #expect(names("disk", ["cmc:"]) == ["cmc:dirty"])
    #expect(names("disk", ["x-other:thing", "base:allocation"]) == ["base:allocation"])
    #expect(names("archive", []) == ["base:allocation"])
  }

  @Test("what was selected holds for the same export only") func selectedContexts() {
    func session(_ selected: String, _ chosen: String) -> [NBDMetaContext] {
      var (handshake, _) = talk(
        option(8), option(10, queries(selected, ["base:allocation", "base:", "cmc:dirty"])),
        option(7, chooseData(chosen)))
      guard case .enterTransmission(let session) = handshake.opened(true, exports: exports).last else { return [] }
      return session.contexts
    }
    #expect(session("disk", "disk") == [.allocation, .dirty])
    #expect(session("disk", "archive") == [])
    #expect(session("archive", "archive") == [.allocation])
  }

  @Test("a later failed SET_META_CONTEXT forgets the earlier one") func failedSelection() {
    var (handshake, _) = talk(
      option(8), option(10, queries("disk", ["base:allocation"])), option(10, queries("nothing", [])),
      option(7, chooseData("disk")))
    guard case .enterTransmission(let session) = handshake.opened(true, exports: exports).last else {
      Issue.record("no session")
      return
    }
    #expect(session.contexts.isEmpty)
  }

  @Test("too many queries are too big") func tooManyQueries() {
    let (_, effects) = talk(option(8), option(10, queries("disk", [String](repeating: "x-a:b", count: 65))))
    #expect(replies(effects).map(\.type) == [1, 0x8000_0009])
  }
}
