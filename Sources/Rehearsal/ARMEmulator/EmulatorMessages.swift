import Foundation

/// One request, as far as the emulated service looks at it.
struct EmulatorRequest: Sendable {
  var method: String
  /// Decoded parts between the slashes.
  var path: [String]
  /// The path as it came, for the log and for faults.
  var rawPath: String
  /// Names in lower case; decoded.
  var query: [String: String]
  /// Names in lower case.
  var headers: [String: String]
  var body: [UInt8]

  /// "https://host:port" as the client named this server.
  var baseURL: String

  /// Takes an absolute URL apart.
  init(method: String, url: String, headers: [(String, String)], body: [UInt8]) {
    let rest = url.drop { $0 != ":" }.dropFirst(3)
    let authority = rest.prefix { $0 != "/" }
    self.init(
      method: method, target: String(rest.dropFirst(authority.count)), headers: headers, body: body,
      baseURL: String(url.prefix(url.count - rest.count)) + authority)
  }

  /// `target`: path and query, as the request line has them.
  init(method: String, target: String, headers: [(String, String)], body: [UInt8], baseURL: String) {
    self.method = method
    rawPath = target
    path = target.prefix { $0 != "?" }.split(separator: "/").map { $0.removingPercentEncoding ?? String($0) }
    query = [:]
    for pair in target.drop(while: { $0 != "?" }).dropFirst().split(separator: "&").prefix(64) {
      let parts = pair.split(separator: "=", maxSplits: 1).map { $0.removingPercentEncoding ?? String($0) }
      if let name = parts.first { query[name.lowercased()] = parts.count > 1 ? parts[1] : "" }
    }
    self.headers = Dictionary(headers.map { ($0.0.lowercased(), $0.1) }) { $1 }
    self.body = body
    self.baseURL = baseURL
  }

  /// Names of the path in lower case: Azure's paths have no case.
  var folded: [String] { path.map { $0.lowercased() } }
}

struct EmulatorResponse: Sendable {
  var status: Int
  var headers: [(name: String, value: String)] = []
  var body: JSONValue?
  /// In place of `body`: what isn't JSON.
  var raw: Raw?

  struct Raw: Sendable {
    var contentType: String
    var bytes: [UInt8]
  }

  var contentType: String { raw?.contentType ?? "application/json; charset=utf-8" }
  var bytes: [UInt8] { raw?.bytes ?? body?.bytes ?? [] }

  init(_ status: Int, _ body: JSONValue? = nil, headers: [(name: String, value: String)] = []) {
    self.status = status
    self.body = body
    self.headers = headers
  }

  func with(_ name: String, _ value: String) -> EmulatorResponse {
    var copy = self
    copy.headers.append((name, value))
    return copy
  }
}

/// A refusal, on its way to being a response.
struct Refusal: Error, Sendable {
  var status: Int
  var code: String
  var message: String
  var target: String?
  var headers: [(name: String, value: String)] = []
  var details: [(code: String, target: String, message: String)] = []
  /// Compute's 429 has no "error" around it (FACTS: errors).
  var isBare = false
  /// Code of the error inside, which some refusals alone tell apart.
  var innerCode: String?

  init(_ status: Int, _ code: String, _ message: String, target: String? = nil) {
    self.status = status
    self.code = code
    self.message = message
    self.target = target
  }

  static func invalid(_ target: String, _ message: String) -> Refusal {
    Refusal(400, "InvalidParameter", message, target: target)
  }

  static func missing(_ parameter: String) -> Refusal {
    invalid(parameter, "Required parameter '\(parameter)' is missing (null).")
  }

  var error: JSONValue {
    var object = JSONObject([("code", .string(code)), ("message", .string(message))])
    if let target { object["target"] = .string(target) }
    if !details.isEmpty {
      object["details"] = .array(
        details.map { ["code": .string($0.code), "target": .string($0.target), "message": .string($0.message)] })
    }
    if let innerCode {
      object["innererror"] = ["exceptiontype": .string(innerCode), "errordetail": .string(message)]
    }
    return .object(object)
  }

  var response: EmulatorResponse { EmulatorResponse(status, isBare ? error : ["error": error], headers: headers) }
}
