import BlockModel
import Foundation
import Planning
import Reconciling
import Seams

/// Limits of one call of the gateway.
package enum AzureLimits {
  /// A call gives up waiting after this: throttling of 20 minutes and a slow operation fit in.
  package static let callSeconds = 3600.0
  /// A list has at most so many pages.
  package static let pages = 10_000
  /// Rounds of looking, attaching and looking again.
  package static let attachRounds = 30
  /// Times that a disk's creation is begun again after a conflict or a preemption.
  package static let createRounds = 10
}

/// Authenticated requests to one resource manager, each with an id of its own.
struct ARMConnection: Sendable {
  let endpoints: AzureEndpoints
  let sender: RetryingSender
  let tokens: TokenProvider

  var services: ClientServices { sender.services }

  /// An answer together with the id that it was asked by.
  struct Exchange: Sendable {
    let response: HTTPResponse
    let clientRequestID: String
    let clockAheadSeconds: Double?

    func fault() -> ARMFault {
      ARMFault(response, clientRequestID: clientRequestID, clockAheadSeconds: clockAheadSeconds)
    }
    var isSuccess: Bool { (200...299).contains(response.status) }

    /// By what a finding that rests on it can be looked up.
    var answer: CloudAnswer {
      let fault = isSuccess ? nil : fault()
      return CloudAnswer(
        refusal: fault.map { "\($0.status) \($0.code)" }, requestID: response.requestID,
        clientRequestID: clientRequestID)
    }
  }

  func url(_ path: String, version: String) -> String {
    "\(endpoints.resourceManager)\(path)?api-version=\(version)"
  }

  /// Sends, with retries where they are safe, until an answer stands. `safe`: sending it twice does no harm.
  func exchange(
    _ method: HTTPRequest.Method, _ url: String, body: [UInt8]? = nil, safe: Bool = true, deadline: MonotonicTime,
    while action: String
  ) async throws(GatewayError) -> Exchange {
    let first = try await authorized(method, url, body, safe: safe, deadline: deadline, while: action)
    guard first.0.response.status == 401 else { return first.0 }
    // Perhaps the token was revoked, or the clock jumped: once more with a fresh one.
    await tokens.reject(first.1)
    return try await authorized(method, url, body, safe: safe, deadline: deadline, while: action).0
  }

  private func authorized(
    _ method: HTTPRequest.Method, _ url: String, _ body: [UInt8]?, safe: Bool, deadline: MonotonicTime,
    while action: String
  ) async throws(GatewayError) -> (Exchange, Secret) {
    let token = try await tokens.token()
    let (request, id) = try request(method, url, body, token)
    do throws(GatewayError) {
      let buckets = ThrottleBucket.buckets(method, path: URLText.path(of: url), operationOf: nil)
      let response = try await sender.send(
        request, buckets: buckets, safe: safe, deadline: deadline, while: action)
      let ahead = ClockSkew.aheadSeconds(response, now: services.time.wallNow())
      return (Exchange(response: response, clientRequestID: id, clockAheadSeconds: ahead), token)
    } catch {
      var error = error
      if error.code != AzureFaultCode.cancelled { error.message += " [client request \(id)]" }
      throw error
    }
  }

  private func request(
    _ method: HTTPRequest.Method, _ url: String, _ body: [UInt8]?, _ token: Secret
  ) throws(GatewayError) -> (HTTPRequest, String) {
    guard URLText.belongs(url, to: endpoints.resourceManager) else {
      throw GatewayError(
        code: AzureFaultCode.unsafeEndpoint,
        message: "Azure named a URL at \(URLText.origin(of: url) ?? "no server"), which isn't "
          + "\(endpoints.resourceManager): the token isn't sent there",
        advice: "check the integration's cloud", disposition: .terminal)
    }
    let id = services.random.uuid()
    var headers = [
      HTTPHeader("Authorization", "Bearer \(token.reveal())"), HTTPHeader("Accept", "application/json"),
      HTTPHeader("User-Agent", "cmcplan/1"), HTTPHeader("x-ms-client-request-id", id),
      HTTPHeader("x-ms-return-client-request-id", "true"),
    ]
    if body != nil { headers.append(HTTPHeader("Content-Type", "application/json; charset=utf-8")) }
    return (HTTPRequest(method, url, headers: headers, body: body), id)
  }

  /// One read of an operation's status: the poller decides what a failure means.
  private func readOnce(
    _ url: String, of resourceURL: String, deadline: MonotonicTime, while action: String
  ) async throws(GatewayError) -> ARMOperation.Event {
    let token: Secret
    do throws(GatewayError) {
      token = try await tokens.token()
    } catch {
      guard case .retry = error.disposition else { throw error }
      return .readFailed(why: error.message)
    }
    let (request, _) = try request(.get, url, nil, token)
    let isOperation = url != resourceURL
    let buckets = ThrottleBucket.buckets(
      .get, path: URLText.path(of: url), operationOf: isOperation ? URLText.path(of: resourceURL) : nil)
    do throws(GatewayError) {
      try await sender.admit(buckets, deadline: deadline, while: action)
    } catch {
      guard error.code == AzureFaultCode.throttled else { throw error }
      return .readFailed(why: error.message)
    }
    do throws(HTTPTransportError) {
      let response = try await sender.counted(request, buckets)
      if response.status == 401 { await tokens.reject(token) }
      return .answered(response)
    } catch {
      guard error.code != .cancelled else { throw ClientServices.cancelled }
      return .readFailed(why: error.message)
    }
  }

  /// Follows a long-running operation to its end.
  func finish(
    _ exchange: Exchange, resourceURL: String, deadline: MonotonicTime, while action: String
  ) async throws(GatewayError) -> ARMOperation.Outcome {
    try await finishShowing(exchange, resourceURL: resourceURL, deadline: deadline, while: action).outcome
  }

  /// The same, with the last answer: an operation's status may show the whole resource (`properties.output`).
  func finishShowing(
    _ exchange: Exchange, resourceURL: String, deadline: MonotonicTime, while action: String
  ) async throws(GatewayError) -> (outcome: ARMOperation.Outcome, last: HTTPResponse) {
    var last = exchange.response
    var (operation, effect) = ARMOperation.begin(
      exchange.response, resourceURL: resourceURL, minimumPollSeconds: endpoints.minimumPollSeconds,
      defaultPollSeconds: endpoints.defaultPollSeconds,
      now: services.time.monotonicNow(), deadline: deadline, clientRequestID: exchange.clientRequestID)
    while true {
      switch effect {
      case .finished(let outcome): return (outcome, last)
      case .wait(let seconds, let why):
        try await services.wait(seconds: seconds, why: "\(why), to \(action)")
        effect = operation.handle(.waited, now: services.time.monotonicNow())
      case .read(let url):
        let event = try await readOnce(url, of: resourceURL, deadline: deadline, while: action)
        if case .answered(let response) = event { last = response }
        effect = operation.handle(event, now: services.time.monotonicNow())
      }
    }
  }

  /// Reads a resource; no value where there is none.
  func read<Body: Decodable>(
    _ type: Body.Type, _ url: String, deadline: MonotonicTime, while action: String
  ) async throws(GatewayError) -> CloudReading<Body> {
    let exchange = try await exchange(.get, url, deadline: deadline, while: action)
    if exchange.response.status == 404 {
      let fault = exchange.fault()
      guard fault.has("ResourceNotFound") || fault.has("NotFound") else { throw fault.gatewayError(while: action) }
      return CloudReading(nil, exchange.answer)
    }
    return CloudReading(try decode(type, exchange, while: action), exchange.answer)
  }

  func decode<Body: Decodable>(
    _ type: Body.Type, _ exchange: Exchange, while action: String
  ) throws(GatewayError) -> Body {
    guard exchange.isSuccess else { throw exchange.fault().gatewayError(while: action) }
    do {
      return try JSONDecoder().decode(type, from: Data(exchange.response.body))
    } catch {
      throw GatewayError(
        code: AzureFaultCode.notUnderstood,
        message: "could not \(action): the answer isn't what Azure Resource Manager answers "
          + "(\(exchange.response.status), \(exchange.response.body.count) bytes)"
          + " [client request \(exchange.clientRequestID)]",
        advice: "check the integration's cloud and any proxy on the way", disposition: .needsOperator)
    }
  }
}
