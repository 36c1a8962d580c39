internal import FoundationEssentials

/// The `id` of a JSON-RPC request: whatever the caller chose, given back with the answer.
package enum RequestID: Codable, Sendable, Hashable {
  case number(Int64)
  case text(String)

  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let number = try? container.decode(Int64.self) {
      self = .number(number)
    } else {
      self = .text(try container.decode(String.self))
    }
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .number(let number): try container.encode(number)
    case .text(let text): try container.encode(text)
    }
  }
}

/// The framing of the control protocol: JSON-RPC 2.0 objects, one a line, a line feed at the end of each
/// (https://www.jsonrpc.org/specification). Batches are not spoken. Pure: bytes in, values out.
package enum JSONRPC {
  /// What of a request can be read before its method is known. `id` is nil for a notification, which gets no answer.
  package struct RequestHead: Sendable, Equatable {
    package var id: RequestID?
    package var method: String
  }

  /// An answer as it came: which request it is for, and the result or the fault.
  package struct Response<Answer: Sendable>: Sendable {
    /// Nil where the peer could not read the request's id.
    package var id: RequestID?
    package var result: Result<Answer, AgentFault>
  }

  /// The line (with its line feed) that makes a call. Throws `.badRequest` where it would be longer than the limit.
  package static func requestLine<Call: AgentCall>(_ call: Call, id: RequestID) throws(AgentFault) -> [UInt8] {
    try line(Request(id: id, method: Call.method, params: call), what: "the request \(Call.method)")
  }

  /// The line that answers a call. Throws `.failed` where it would be longer than the limit.
  package static func answerLine<Answer: Codable & Sendable>(
    _ answer: Answer, id: RequestID
  ) throws(AgentFault) -> [UInt8] {
    try line(AnswerOut(id: id, result: answer), what: "the answer")
  }

  /// The line that refuses a call; `code` is a JSON-RPC number, `data` the fault itself.
  package static func faultLine(_ fault: AgentFault, id: RequestID?) -> [UInt8] {
    let object = FaultOut(id: id, error: ErrorObject(code: fault.code.number, message: fault.message, data: fault))
    if let bytes = try? line(object, what: "the fault") { return bytes }
    return Array(#"{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"internal error"}}"#.utf8) + [10]
  }

  /// Reads id and method of a request line. Throws `.badRequest`.
  package static func requestHead(of line: some Sequence<UInt8>) throws(AgentFault) -> RequestHead {
    let head: HeadIn
    do {
      head = try JSONDecoder().decode(HeadIn.self, from: Data(line))
    } catch {
      throw AgentFault(.badRequest, "the line is not a JSON-RPC 2.0 request; send one JSON object a line")
    }
    guard head.jsonrpc == "2.0" else {
      throw AgentFault(.badRequest, "\"jsonrpc\" must be \"2.0\"")
    }
    return RequestHead(id: head.id, method: head.method)
  }

  /// Reads the parameters of a request line whose head named this call's method. Throws `.badRequest`.
  package static func parameters<Call: AgentCall>(
    of line: some Sequence<UInt8>, as call: Call.Type
  ) throws(AgentFault) -> Call {
    do {
      return try JSONDecoder().decode(ParametersIn<Call>.self, from: Data(line)).params
    } catch let error as DecodingError {
      throw AgentFault(.badRequest, "the parameters of \(Call.method) can't be read: \(describe(error))")
    } catch {
      throw AgentFault(.badRequest, "the parameters of \(Call.method) can't be read")
    }
  }

  /// Reads an answer line. Throws `.protocolMismatch` where it is no answer to such a call at all.
  package static func response<Call: AgentCall>(
    of line: some Sequence<UInt8>, to call: Call.Type
  ) throws(AgentFault) -> Response<Call.Answer> {
    do {
      let answer = try JSONDecoder().decode(AnswerIn<Call.Answer>.self, from: Data(line))
      if let error = answer.error {
        return Response(id: answer.id, result: .failure(error.data ?? AgentFault(.failed, error.message)))
      }
      if let result = answer.result { return Response(id: answer.id, result: .success(result)) }
    } catch let error as DecodingError {
      throw AgentFault(.protocolMismatch, "the agent's answer to \(Call.method) can't be read: \(describe(error))")
    } catch {}
    throw AgentFault(.protocolMismatch, "the agent's answer to \(Call.method) can't be read")
  }

  private static func line(_ object: some Encodable, what: String) throws(AgentFault) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let bytes: [UInt8]
    do {
      bytes = [UInt8](try encoder.encode(object))
    } catch {
      throw AgentFault(.failed, "\(what) can't be written as JSON")
    }
    guard bytes.count < AgentProtocolVersion.messageLimitBytes else {
      throw AgentFault(
        .badRequest, "\(what) has \(bytes.count) bytes; a message may have \(AgentProtocolVersion.messageLimitBytes)")
    }
    return bytes + [10]
  }

  private static func describe(_ error: DecodingError) -> String {
    func path(_ context: DecodingError.Context) -> String {
      context.codingPath.map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: ".")
    }
    return switch error {
    case .keyNotFound(let key, let context):
      "\(path(context).isEmpty ? "" : path(context) + ".")\(key.stringValue) is missing"
    case .typeMismatch(_, let context), .valueNotFound(_, let context): "\(path(context)) has the wrong type"
    case .dataCorrupted(let context): "\(path(context)) has a value that is not known here"
    @unknown default: "it has another form"
    }
  }
}

/// Cuts a stream of bytes into lines. A line longer than the limit is an error: the stream can't be read further.
package struct LineSplitter: Sendable {
  private var buffer: [UInt8] = []
  private var searched = 0
  private let limitBytes: Int

  package init(limitBytes: Int = AgentProtocolVersion.messageLimitBytes) { self.limitBytes = limitBytes }

  /// Adds what was read. Throws `.badRequest` once more than the limit came with no line feed.
  package mutating func append(_ bytes: some Collection<UInt8>) throws(AgentFault) {
    buffer.append(contentsOf: bytes)
    if buffer.count > limitBytes, !buffer.contains(10) {
      throw AgentFault(.badRequest, "a message is longer than \(limitBytes) bytes; the connection is closed")
    }
  }

  /// The next whole line with no line feed; nil where more must be read first. Empty lines are skipped.
  package mutating func next() -> [UInt8]? {
    while let end = buffer[searched...].firstIndex(of: 10) {
      let line = Array(buffer[..<end])
      buffer.removeSubrange(...end)
      searched = 0
      if !line.isEmpty { return line }
    }
    searched = buffer.count
    return nil
  }
}

extension AgentFault.Code {
  /// The JSON-RPC error number; the standard's own where it has one, else in its range for servers.
  package var number: Int {
    switch self {
    case .badRequest: -32600
    case .failed: -32000
    case .protocolMismatch: -32001
    case .unknownSession: -32002
    case .fenced: -32003
    case .wrongStage: -32004
    case .inUse: -32005
    case .notBlank: -32006
    case .deviceFailed: -32007
    case .notFound: -32008
    case .noSpace: -32009
    case .refused: -32010
    }
  }
}

private struct Request<Call: AgentCall>: Encodable {
  var jsonrpc = "2.0"
  var id: RequestID
  var method: String
  var params: Call
}

private struct HeadIn: Decodable {
  var jsonrpc: String
  var id: RequestID?
  var method: String
}

private struct ParametersIn<Call: AgentCall>: Decodable {
  var params: Call
}

private struct AnswerOut<Answer: Encodable>: Encodable {
  var jsonrpc = "2.0"
  var id: RequestID
  var result: Answer
}

private struct ErrorObject: Codable {
  var code: Int
  var message: String
  var data: AgentFault?
}

private struct FaultOut: Encodable {
  var jsonrpc = "2.0"
  var id: RequestID?
  var error: ErrorObject

  private enum CodingKeys: String, CodingKey {
    case jsonrpc
    case id
    case error
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(jsonrpc, forKey: .jsonrpc)
    // The specification wants a null id where none could be read, not a missing one.
    try container.encode(id, forKey: .id)
    try container.encode(error, forKey: .error)
  }
}

private struct AnswerIn<Answer: Decodable>: Decodable {
  var id: RequestID?
  var result: Answer?
  var error: ErrorObject?
}
