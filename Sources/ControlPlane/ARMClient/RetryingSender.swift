import BlockModel
import Reconciling
package import Seams

/// What a client needs of the world beside the network.
package struct ClientServices: Sendable {
  package var time: any TimeSource
  package var random: any RandomSource
  package var pauses: any Pausing
  package var onWait: @Sendable (AzureWait) -> Void
  package init(
    time: any TimeSource, random: any RandomSource, pauses: any Pausing,
    onWait: @escaping @Sendable (AzureWait) -> Void
  ) {
    self.time = time
    self.random = random
    self.pauses = pauses
    self.onWait = onWait
  }

  /// Shorter waits are not worth a line.
  static let reportedWaitSeconds = 1.0

  /// 0 ..< 1.
  func chance() -> Double { Double(random.uint64() >> 11) / Double(1 << 53) }

  func wait(seconds: Double, why: String) async throws(GatewayError) {
    if seconds >= Self.reportedWaitSeconds { onWait(AzureWait(seconds: seconds, why: why)) }
    do {
      try await pauses.pause(seconds: seconds)
    } catch {
      throw Self.cancelled
    }
  }

  static let cancelled = GatewayError(
    code: AzureFaultCode.cancelled, message: "waiting for Azure was cancelled",
    advice: "run again: what Azure has begun goes on and is found again", disposition: .retry(afterSeconds: 0))
}

/// Sends requests until the answer stands (`RetryPolicy`), within a deadline.
struct RetryingSender: Sendable {
  let transport: any HTTPTransport
  let services: ClientServices
  var policy = RetryPolicy()

  /// The last answer, good or bad. Throws where there was none.
  func send(
    _ request: HTTPRequest, safe: Bool, deadline: MonotonicTime, while action: String
  ) async throws(GatewayError) -> HTTPResponse {
    var attempt = 1
    while true {
      let response: HTTPResponse?
      let outcome: RetryPolicy.Outcome
      var failure: HTTPTransportError?
      do throws(HTTPTransportError) {
        let answer = try await transport.send(request)
        response = answer
        outcome = .answered(status: answer.status, retryAfterSeconds: RetryAfter.seconds(answer))
      } catch {
        response = nil
        failure = error
        outcome = .failed(error)
      }
      let decision = policy.decide(outcome, attempt: attempt, safe: safe, chance: services.chance())
      if case .again(let seconds, let why, let throttled) = decision {
        let now = services.time.monotonicNow()
        if now.adding(seconds: seconds) <= deadline {
          try await services.wait(seconds: seconds, why: "\(why), to \(action)")
          if !throttled { attempt += 1 }
          continue
        }
      }
      if let response { return response }
      throw Self.error(failure, while: action)
    }
  }

  static func error(_ failure: HTTPTransportError?, while action: String) -> GatewayError {
    guard let failure else { return ClientServices.cancelled }
    switch failure.code {
    case .cancelled: return ClientServices.cancelled
    case .untrustedServer:
      return GatewayError(
        code: AzureFaultCode.untrustedServer,
        message: "could not \(action): the server's certificate isn't trusted (\(failure.message))",
        advice: "for a private authority set its certificate file in the integration's cloud, or SSL_CERT_FILE",
        disposition: .needsOperator)
    case .invalidRequest, .tooLarge, .overloaded, .closed:
      return GatewayError(
        code: AzureFaultCode.unreachable, message: "could not \(action): \(failure.message)", advice: "",
        disposition: .terminal)
    case .hostNotFound, .connectFailed, .proxyFailed, .timedOut, .dropped:
      return GatewayError(
        code: AzureFaultCode.unreachable, message: "could not \(action): \(failure.message)",
        advice: "check the network, HTTPS_PROXY and the integration's cloud, then run again",
        disposition: .retry(afterSeconds: 15))
    }
  }
}
