import Foundation

/// Azure Resource Manager as a value: requests in, answers and due work out. It has no clock and does no I/O.
struct EmulatedCloud: Sendable {
  let configuration: EmulatorConfiguration
  var state: CloudState
  var throttle: Throttle
  var faults = FaultList()
  /// Tokens that were given out and when they end. In memory only: after a restart clients get new ones.
  var tokens: [String: IssuedToken] = [:]
  var makeUUID: @Sendable () -> String
  private var log: [JSONValue] = []

  static let logLimit = 10_000
  static let tokenLimit = 10_000
  static let tokenSeconds = 3599.0
  /// Finished operations are forgotten after so long, as Azure does.
  static let operationMemorySeconds = 24 * 3600.0

  init(_ configuration: EmulatorConfiguration, state: CloudState, makeUUID: @escaping @Sendable () -> String) {
    self.configuration = configuration
    self.state = state
    for name in state.machines.keys {
      self.state.machines[name]?.profile = Self.withoutSecrets(state.machines[name]?.profile ?? [:])
    }
    self.makeUUID = makeUUID
    var containers = state.containers ?? [:]
    for name in configuration.containers where containers[name] == nil { containers[name] = [:] }
    self.state.containers = containers
    throttle = Throttle(timeScale: configuration.timeScale, isActive: configuration.throttling)
    for text in configuration.faults { if let fault = Fault.read(json: text) { _ = faults.add(fault) } }
  }

  /// What the server does with the answer.
  struct Reply: Sendable {
    var response: EmulatorResponse
    var delaySeconds = 0.0
    var dropsConnection = false
  }

  mutating func reply(to request: EmulatorRequest, now: Double) -> Reply {
    if request.folded.first == "cmc-emulator" { return Reply(response: control(request)) }
    var delay = 0.0
    if case .delay(let seconds)? = faults.take(request, where: { if case .delay = $0 { true } else { false } }) {
      delay = seconds
    }
    if faults.take(request, where: { if case .expireTokens = $0 { true } else { false } }) != nil {
      for token in tokens.keys { tokens[token]?.endsAt = now }
    }
    let early = faults.take(request) { kind in
      switch kind {
      case .answer, .dropBefore: true
      default: false
      }
    }
    var response: EmulatorResponse
    var drops = false
    switch early {
    case .answer(let status, let code, let message, let retryAfter)?:
      response =
        if isBlobRequest(request) {
          BlobRefusal.text(status, code, message, requestID: makeUUID(), now: now)
        } else if request.folded.contains("oauth2") {
          refuseToken(request, status, code, message)
        } else {
          Refusal(status, code, message).response
        }
      if let retryAfter { response.headers += Self.retryAfter(retryAfter) }
    case .dropBefore?:
      response = EmulatorResponse(500)
      drops = true
    default:
      response = isBlobRequest(request) ? blobRoute(request, now: now) : handle(request, now: now)
      drops = faults.take(request, where: { if case .dropAfter = $0 { true } else { false } }) != nil
    }
    finishHeaders(&response, request)
    note(request, response, dropped: drops)
    return Reply(response: response, delaySeconds: delay, dropsConnection: drops)
  }

  private mutating func handle(_ request: EmulatorRequest, now: Double) -> EmulatorResponse {
    do throws(Refusal) {
      return try route(request, now: now)
    } catch {
      var response = error.response
      response.headers.append(("x-ms-failure-cause", error.status == 404 ? "gateway" : "service"))
      return response
    }
  }

  private mutating func route(_ request: EmulatorRequest, now: Double) throws(Refusal) -> EmulatorResponse {
    if let answer = try identityRoute(request, now: now) { return answer }
    try checkToken(request, now: now)
    try checkVersion(request)
    var remaining: [(name: String, value: String)] = []
    try checkPermission(request)
    let limit = Throttle.Rule.subscription(request)
    switch throttle.take(limit.rule, now: now) {
    case .success(let left): remaining = limit.headers.map { ($0, String(left)) }
    case .failure(let empty): throw throttled(empty, "SubscriptionRequestsThrottled", request)
    }
    var response = try resourceRoute(request, now: now)
    response.headers += remaining
    return response
  }

  func notFoundPath(_ request: EmulatorRequest) -> Refusal {
    Refusal(
      404, "InvalidResourceType",
      "The emulator serves nothing at \(request.method) \(request.rawPath.prefix(300)).")
  }

  // MARK: Limits

  func throttled(_ empty: TokenBucket.Empty, _ code: String, _ request: EmulatorRequest) -> Refusal {
    var refusal = Refusal(
      429, code,
      "Number of requests for subscription '\(configuration.subscription)' and operation "
        + "'\(request.method)' exceeded the limit. Please try again later.")
    refusal.headers = retryAfter(empty.secondsUntilNext)
    return refusal
  }

  /// Takes from Compute's buckets; the header that tells what is left.
  mutating func takeCompute(
    _ rules: [Throttle.Rule], now: Double
  ) throws(Refusal) -> (name: String, value: String) {
    var shown: [String] = []
    for rule in rules {
      switch throttle.take(rule, now: now) {
      case .success(let left): shown.append("Microsoft.Compute/\(rule.headerName);\(left)")
      case .failure(let empty):
        var refusal = Refusal(
          429, "OperationNotAllowed",
          "The server rejected the request because too many requests have been received for this subscription.")
        refusal.details = [
          (
            "TooManyRequests", rule.headerName,
            "{\"operationGroup\":\"\(rule.headerName)\",\"allowedRequestCount\":\(Int(rule.capacity))}"
          )
        ]
        refusal.isBare = true
        refusal.headers = retryAfter(empty.secondsUntilNext)
        throw refusal
      }
    }
    return ("x-ms-ratelimit-remaining-resource", shown.joined(separator: ","))
  }

  /// Whole seconds as Azure sends them: some clients read nothing else, and take 0 for "not said". Where time runs
  /// faster here, milliseconds go beside them, in the header that Azure's own clients know.
  func retryAfter(_ seconds: Double) -> [(name: String, value: String)] {
    if configuration.timeScale == 1 { return Self.retryAfter(max(1, seconds.rounded(.up))) }
    return Self.retryAfter(max(0.01, seconds))
  }

  static func retryAfter(_ seconds: Double) -> [(name: String, value: String)] {
    let whole = seconds.rounded(.up)
    let header = ("Retry-After", String(Int(whole)))
    return whole == seconds ? [header] : [header, ("retry-after-ms", String(Int((seconds * 1000).rounded(.up))))]
  }

  func scaled(_ seconds: Double) -> Double { seconds / configuration.timeScale }

  // MARK: Headers and log

  private mutating func finishHeaders(_ response: inout EmulatorResponse, _ request: EmulatorRequest) {
    let id = makeUUID()
    response.headers += [
      ("cache-control", "no-cache"), ("pragma", "no-cache"), ("expires", "-1"),
      ("strict-transport-security", "max-age=31536000; includeSubDomains"), ("x-content-type-options", "nosniff"),
      ("x-ms-request-id", id), ("x-ms-correlation-request-id", id),
      ("x-ms-routing-request-id", "EMULATOR:\(Self.timestamp(0)):\(id)"),
    ]
    if request.headers["x-ms-return-client-request-id"]?.lowercased() == "true",
      let id = request.headers["x-ms-client-request-id"], id.utf8.count <= 128
    {
      response.headers.append(("x-ms-client-request-id", id))
    }
  }

  private mutating func note(_ request: EmulatorRequest, _ response: EmulatorResponse, dropped: Bool) {
    if log.count >= Self.logLimit { log.removeFirst(Self.logLimit / 2) }
    log.append([
      "method": .string(request.method), "path": .string(request.rawPath), "status": .int(response.status),
      "dropped": .bool(dropped),
    ])
  }

  /// "POST 200" of every request whose path holds `part`.
  func answered(_ part: String) -> [String] {
    log.compactMap { line in
      guard let path = line["path"]?.text, path.lowercased().contains(part.lowercased()) else { return nil }
      return "\(line["method"]?.text ?? "") \(line["status"]?.integer ?? 0)"
    }
  }

  /// The emulator's own endpoints; they need no token, because they rule no Azure.
  private mutating func control(_ request: EmulatorRequest) -> EmulatorResponse {
    switch (request.method, request.folded.dropFirst().joined(separator: "/")) {
    case ("GET", "requests"): return EmulatorResponse(200, ["value": .array(log)])
    case ("DELETE", "requests"):
      log = []
      return EmulatorResponse(204)
    case ("DELETE", "tokens"):
      tokens = [:]
      return EmulatorResponse(204)
    case ("DELETE", "faults"):
      faults.removeAll()
      return EmulatorResponse(204)
    case ("POST", "faults"):
      guard let body = JSONValue.parse(request.body) else {
        return Refusal(400, "InvalidFault", "The body is no JSON.").response
      }
      let read = (body.items ?? [body]).map(Fault.read)
      guard !read.contains(where: { $0 == nil }) else {
        return Refusal(400, "InvalidFault", Fault.form).response
      }
      for fault in read.compactMap({ $0 }) where !faults.add(fault) {
        return Refusal(409, "TooManyFaults", "There are \(Fault.limit) faults already.").response
      }
      return EmulatorResponse(201, ["count": .int(read.count)])
    default: return Refusal(404, "NotFound", "There is no such control endpoint.").response
    }
  }

  /// "2024-10-31T16:15:09.5471773+00:00", as the service writes times.
  static func timestamp(_ secondsSince1970: Double) -> String {
    let whole = secondsSince1970.rounded(.down)
    let date = Date(timeIntervalSince1970: whole)
    let ticks = Int(((secondsSince1970 - whole) * 1e7).rounded(.down))
    let text = date.formatted(.iso8601.dateSeparator(.dash).timeSeparator(.colon))
    let fraction = String(String(ticks + 10_000_000).dropFirst())
    return text.replacingOccurrences(of: "Z", with: ".\(fraction)+00:00")
  }
}
