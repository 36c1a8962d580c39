import BlockModel
import NBDServer
import TestSupport
import Testing

@Suite("NBD request rules") struct RequestRulesTests {
  private let rules = NBDRules(
    sizeBytes: 1 << 30, blockSizes: NBDBlockSizes(minimum: 512), isReadOnly: false, structuredReplies: true,
    hasContexts: true)
  private let readOnly = NBDRules(
    sizeBytes: 1 << 30, blockSizes: NBDBlockSizes(), isReadOnly: true, structuredReplies: false, hasContexts: false)

  private func header(
    _ type: UInt16, _ offset: UInt64, _ length: UInt32, flags: UInt16 = 0
  ) -> NBDRequestHeader {
    NBDRequestHeader(flags: flags, type: type, cookie: 1, offset: offset, length: length)
  }

  @Test("a request that is not aligned to the advertised minimum is invalid") func alignment() {
    #expect(rules.judge(header(0, 1, 512)) == .refuse(.invalid, skipBytes: 0))
    #expect(rules.judge(header(1, 512, 100)) == .refuse(.invalid, skipBytes: 100))
    #expect(rules.judge(header(6, 512, 1)) == .refuse(.invalid, skipBytes: 0))
  }

  @Test("writing past the end is no space, reading past it invalid, and nothing overflows") func range() {
    for offset: UInt64 in [1 << 30, (1 << 30) - 512, UInt64.max - 511] {
      #expect(rules.judge(header(0, offset, 1024)) == .refuse(.invalid, skipBytes: 0))
      #expect(rules.judge(header(1, offset, 1024)) == .refuse(.noSpace, skipBytes: 1024))
      #expect(rules.judge(header(4, offset, 1024)) == .refuse(.invalid, skipBytes: 0))
      #expect(rules.judge(header(6, offset, 1024)) == .refuse(.noSpace, skipBytes: 0))
      #expect(rules.judge(header(7, offset, 1024)) == .refuse(.invalid, skipBytes: 0))
    }
  }

  @Test("trim is write zeroes that may unmap; NO_HOLE keeps the space; FUA and FAST_ZERO are passed on") func zeroing()
  {
    let range = ByteRange(offset: 512, length: 512)
    #expect(
      rules.judge(header(4, 512, 512, flags: 1))
        == .submit(NBDRequest(kind: .zeroAndUnmap, range: range, durable: true), payloadBytes: 0))
    #expect(
      rules.judge(header(6, 512, 512, flags: 0b10))
        == .submit(NBDRequest(kind: .zero, range: range), payloadBytes: 0))
    #expect(
      rules.judge(header(6, 512, 512, flags: 0b10000))
        == .submit(NBDRequest(kind: .zeroAndUnmap, range: range, onlyIfFast: true), payloadBytes: 0))
  }

  @Test("a read-only export refuses every change as not permitted", arguments: [1, 4, 6] as [UInt16])
  func readOnlyExport(type: UInt16) {
    #expect(readOnly.judge(header(type, 0, 512)) == .refuse(.notPermitted, skipBytes: type == 1 ? 512 : 0))
  }

  @Test("flags that don't belong to the command are invalid") func flags() {
    #expect(rules.judge(header(0, 0, 512, flags: 0b10)) == .refuse(.invalid, skipBytes: 0))
    #expect(rules.judge(header(3, 0, 0, flags: 0b100)) == .refuse(.invalid, skipBytes: 0))
    #expect(rules.judge(header(1, 0, 512, flags: 1 << 15)) == .refuse(.invalid, skipBytes: 512))
    #expect(readOnly.judge(header(0, 0, 512, flags: 0b100)) == .refuse(.invalid, skipBytes: 0), "DF, simple replies")
  }

  @Test("longer than 32 MiB: a read overflows, a write is dropped, an absurd write ends the session") func tooLong() {
    #expect(rules.judge(header(0, 0, 33 << 20)) == .refuse(.overflow, skipBytes: 0))
    #expect(rules.judge(header(1, 0, 33 << 20)) == .refuse(.invalid, skipBytes: 33 << 20))
    #expect(rules.judge(header(1, 0, 512 << 20)) == .disconnect)
    #expect(rules.judge(header(0, 0, 32 << 20)) != .refuse(.overflow, skipBytes: 0))
  }

  @Test("block status without a context is invalid; an unknown command too") func others() {
    #expect(readOnly.judge(header(7, 0, 512)) == .refuse(.invalid, skipBytes: 0))
    #expect(rules.judge(header(8, 0, 512)) == .refuse(.invalid, skipBytes: 0))
    #expect(rules.judge(header(3, 512, 0)) == .refuse(.invalid, skipBytes: 0))
    #expect(rules.judge(header(2, 0, 0)) == .leave)
  }

  @Test("20,000 random and mutated inputs neither crash nor break a rule") func fuzz() {
    let random = SeededRandom(seed: 4996)
    var valid: [UInt8] = [0, 0, 0, 3]
    for number: UInt32 in [8, 3, 9, 10, 7] {
      valid.appendBigEndian(NBDWire.optionMagic)
      valid.appendBigEndian(number)
      let data: [UInt8] = number < 9 && number != 7 ? [] : [0, 0, 0, 4] + Array("disk".utf8) + [0, 0, 0, 0]
      valid.appendBigEndian(UInt32(data.count - (number == 7 ? 2 : 0)))
      valid += number == 7 ? data.dropLast(2) : data
    }
    var request: [UInt8] = []
    for command: UInt16 in 0...8 {
      request.appendBigEndian(NBDWire.requestMagic)
      request.appendBigEndian(UInt16(0))
      request.appendBigEndian(command)
      request.appendBigEndian(UInt64(command))
      request.appendBigEndian(UInt64(4096))
      request.appendBigEndian(UInt32(4096))
    }
    for round in 0..<20_000 {
      let choice = random.bytes(4)
      switch round % 3 {
      case 0: fuzzNBDDecoder(random.bytes(Int(choice[0])))
      default:
        var bytes = round % 3 == 1 ? valid : request
        for _ in 0...(choice[1] % 4) {
          let place = random.bytes(3)
          bytes[(Int(place[0]) << 8 | Int(place[1])) % bytes.count] = place[2]
        }
        fuzzNBDDecoder(Array(bytes.prefix(bytes.count - Int(choice[2] % 32))))
      }
    }
  }
}
