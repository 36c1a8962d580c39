import Testing

@testable import LinuxPlatform

@Suite("Messages of generic netlink")
struct NetlinkTests {
  @Test("A request has its length, its attributes padded to four bytes, and asks for an acknowledgement")
  func request() {
    let attributes = NetlinkMessage.attribute(1, UInt32(7)) + NetlinkMessage.attribute(10, "abcd")
    let message = NetlinkMessage.encode(family: 0x1c, command: 2, version: 1, sequence: 5, attributes)
    #expect(attributes.count == 8 + 12, "five bytes of text take eight")
    #expect(message.count == 20 + attributes.count)
    #expect(message[0] == UInt8(message.count) && message[4] == 0x1c && message[6] == 5 && message[8] == 5)
    #expect(Array(message[16...17]) == [2, 1])
  }

  @Test("Acknowledgements, refusals and answers are told apart")
  func answers() {
    func header(_ length: UInt32, _ type: UInt16) -> [UInt8] {
      withUnsafeBytes(of: length) { Array($0) } + withUnsafeBytes(of: type) { Array($0) } + [
        0, 0, 9, 0, 0, 0, 0, 0, 0, 0,
      ]
    }
    let done = header(36, NetlinkMessage.errorType) + [UInt8](repeating: 0, count: 20)
    #expect(NetlinkMessage.decode(done) == [.init(errorNumber: 0, sequence: 9)])
    let refusal = header(20, NetlinkMessage.errorType) + withUnsafeBytes(of: Int32(-28)) { Array($0) }
    #expect(NetlinkMessage.decode(refusal) == [.init(errorNumber: 28, sequence: 9)])
    let content = header(28, 0x1c) + [1, 1, 0, 0] + NetlinkMessage.attribute(1, UInt32(3))
    let answer = NetlinkMessage.Answer(errorNumber: nil, sequence: 9, attributes: [1: [3, 0, 0, 0]])
    #expect(NetlinkMessage.decode(content + done) == [answer, .init(errorNumber: 0, sequence: 9)])
  }

  @Test("Whatever does not fit is left out, at every length")
  func garbage() {
    let whole = NetlinkMessage.encode(
      family: 0x1c, command: 2, version: 1, sequence: 5, NetlinkMessage.attribute(1, UInt64(7)))
    for count in 0..<whole.count { #expect(NetlinkMessage.decode(Array(whole[..<count])).isEmpty) }
    #expect(NetlinkMessage.decode([UInt8](repeating: 255, count: 64)).isEmpty)
    #expect(NetlinkMessage.decode([UInt8](repeating: 0, count: 64)).isEmpty)
  }
}
