/// Faults that a test asks for: `POST /cmc-emulator/faults` with an object or an array of them.
struct Fault: Sendable {
  enum Kind: Sendable {
    case answer(status: Int, code: String, message: String, retryAfter: Double?)
    /// The connection breaks before the request is carried out.
    case dropBefore
    /// The request is carried out, and then the connection breaks: the client can't know.
    case dropAfter
    case delay(seconds: Double)
    /// The operation that the request begins ends badly; so many of its attachments are made all the same.
    case operation(StoredOperation.Failure, keeps: Int)
    /// Every token that was given out ends now.
    case expireTokens
  }

  static let limit = 1000
  /// Part of "METHOD /path" in lower case; "" is every request.
  var match: String
  var kind: Kind
  var times: Int

  static let form =
    "A fault is {\"match\": \"PUT /sub…\", \"times\": 1} with one of \"status\": 400…599 (and \"code\", "
    + "\"message\", \"retryAfter\"), \"drop\": \"before\" or \"after\", \"delay\": seconds, "
    + "\"operation\": {\"code\": …, \"message\": …, \"keeps\": 0}, \"expireTokens\": true."

  /// Nil where it isn't understood.
  static func read(json: String) -> Fault? { JSONValue.parse(Array(json.utf8)).flatMap(read) }

  /// Nil where it isn't understood.
  static func read(_ value: JSONValue) -> Fault? {
    guard let match = value["match"]?.text else { return nil }
    let times = value["times"]?.integer ?? 1
    guard (1...1_000_000).contains(times) else { return nil }
    let kind: Kind
    if let status = value["status"]?.integer, (400...599).contains(status) {
      kind = .answer(
        status: status, code: value["code"]?.text ?? (status == 429 ? "TooManyRequests" : "InternalServerError"),
        message: value["message"]?.text ?? "A fault was asked for.", retryAfter: value["retryAfter"]?.double)
    } else if let drop = value["drop"] {
      switch drop {
      case "before": kind = .dropBefore
      case "after", true: kind = .dropAfter
      default: return nil
      }
    } else if let delay = value["delay"]?.double, (0...600).contains(delay) {
      kind = .delay(seconds: delay)
    } else if let operation = value["operation"], let code = operation["code"]?.text {
      kind = .operation(
        StoredOperation.Failure(code: code, message: operation["message"]?.text ?? "A fault was asked for."),
        keeps: max(0, operation["keeps"]?.integer ?? 0))
    } else if value["expireTokens"]?.flag == true {
      kind = .expireTokens
    } else {
      return nil
    }
    return Fault(match: match.lowercased(), kind: kind, times: times)
  }
}

struct FaultList: Sendable {
  private var faults: [Fault] = []

  /// False where there are too many.
  mutating func add(_ fault: Fault) -> Bool {
    guard faults.count < Fault.limit else { return false }
    faults.append(fault)
    return true
  }

  mutating func removeAll() { faults = [] }

  /// The first that matches and that `isWanted`; it is used up by one.
  mutating func take(_ request: EmulatorRequest, where isWanted: (Fault.Kind) -> Bool) -> Fault.Kind? {
    let line = "\(request.method) \(request.rawPath)".lowercased()
    guard let index = faults.firstIndex(where: { line.contains($0.match) && isWanted($0.kind) }) else { return nil }
    let kind = faults[index].kind
    faults[index].times -= 1
    if faults[index].times == 0 { faults.remove(at: index) }
    return kind
  }
}
