import AgentProtocol
import BlockModel
import Testing

@Suite("JSON-RPC framing")
struct JSONRPCTests {
  @Test("A call and its answer survive the wire")
  func roundTrip() throws {
    let call = AcquireLeaseCall(
      session: SessionID("p/m"), holder: "me", fencingNumber: 7, timeToLiveSeconds: 30, steal: false)
    let line = try JSONRPC.requestLine(call, id: .number(3))
    #expect(line.last == 10 && line.filter { $0 == 10 }.count == 1)
    let head = try JSONRPC.requestHead(of: line)
    #expect(head.id == .number(3) && head.method == "acquireLease")
    let read = try JSONRPC.parameters(of: line, as: AcquireLeaseCall.self)
    #expect(read.fencingNumber == 7 && read.session.text == "p/m")

    let done = try JSONRPC.answerLine(Done(), id: .text("x"))
    let response = try JSONRPC.response(of: done, to: ReleaseLeaseCall.self)
    #expect(response.id == .text("x"))
    #expect(try response.result.get() == Done())
  }

  @Test("The largest part of a receipt fits a message, byte for byte")
  func evidence() throws {
    let bytes = (0..<ReadEvidenceCall.partLimitBytes).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    let line = try JSONRPC.answerLine(EvidencePart(bytes, ofSizeBytes: 1 << 40), id: .number(1))
    let response = try JSONRPC.response(of: line, to: ReadEvidenceCall.self)
    #expect(try response.result.get().bytes == bytes)
    #expect(try response.result.get().sizeBytes == 1 << 40)
  }

  @Test("A fault arrives whole, with its code")
  func fault() throws {
    let fault = AgentFault(.inUse, "port 4996 is in use; choose another")
    let response = try JSONRPC.response(of: JSONRPC.faultLine(fault, id: .number(1)), to: HelloCall.self)
    #expect(throws: fault) { try response.result.get() }
    #expect(String(decoding: JSONRPC.faultLine(fault, id: nil), as: UTF8.self).contains(#""id":null"#))
  }

  @Test(
    "Garbage is refused with words, not a crash",
    arguments: ["", "{", "[]", "42", #"{"method":"hello"}"#, #"{"jsonrpc":"1.0","method":"hello"}"#, "\u{0}\u{1}"])
  func garbage(text: String) {
    #expect(throws: AgentFault.self) { try JSONRPC.requestHead(of: Array(text.utf8)) }
  }

  @Test("A missing parameter is named")
  func missing() throws {
    let line = Array(#"{"jsonrpc":"2.0","id":1,"method":"command","params":{"fencingNumber":1}}"#.utf8)
    let fault = #expect(throws: AgentFault.self) { try JSONRPC.parameters(of: line, as: SessionCommandCall.self) }
    #expect(fault?.message.contains("session") == true)
  }

  @Test("Lines are cut wherever the bytes happen to break, and a line with no end is refused")
  func splitting() throws {
    var splitter = LineSplitter(limitBytes: 8)
    try splitter.append(Array("ab".utf8))
    #expect(splitter.next() == nil)
    try splitter.append(Array("c\n\nde\nf".utf8))
    #expect(splitter.next() == Array("abc".utf8))
    #expect(splitter.next() == Array("de".utf8))
    #expect(splitter.next() == nil)
    #expect(throws: AgentFault.self) { try splitter.append(Array("0123456789".utf8)) }
  }
}
