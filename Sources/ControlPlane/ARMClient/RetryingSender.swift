import BlockModel
import Reconciling
package import Seams
import Synchronization

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

/// The budgets of one gateway, for all of its tasks.
final class SharedBudgets: Sendable {
  private let budgets: Mutex<ThrottleBudgets>
  init(knowsRates: Bool) { budgets = Mutex(ThrottleBudgets(knowsRates: knowsRates)) }
  func withBudgets<Value: Sendable>(_ body: (inout ThrottleBudgets) -> Value) -> Value {
    budgets.withLock { body(&$0) }
  }
}

/// Sends requests until the answer stands (`RetryPolicy`), within a deadline, and no faster than the budgets allow.
struct RetryingSender: Sendable {
  let transport: any HTTPTransport
  let services: ClientServices
  var policy = RetryPolicy()
  let budgets: SharedBudgets

  /// The last answer, good or bad. Throws where there was none. `buckets`: what the service counts it in.
  func send(
    _ request: HTTPRequest, buckets: [ThrottleBucket] = [], safe: Bool, deadline: MonotonicTime, while action: String
  ) async throws(GatewayError) -> HTTPResponse {
    var attempt = 1
    var refusals = 0
    while true {
      try await admit(buckets, deadline: deadline, while: action)
      let response: HTTPResponse?
      let outcome: RetryPolicy.Outcome
      var failure: HTTPTransportError?
      do throws(HTTPTransportError) {
        let answer = try await counted(request, buckets)
        response = answer
        outcome = .answered(status: answer.status, retryAfterSeconds: RetryAfter.seconds(answer))
      } catch {
        response = nil
        failure = error
        outcome = .failed(error)
      }
      if response?.status == 429 { refusals += 1 }
      let decision = policy.decide(
        outcome, attempt: attempt, refusals: refusals, safe: safe, chance: services.chance())
      if case .again(let seconds, let why, let throttled) = decision {
        let now = services.time.monotonicNow()
        if now.adding(seconds: seconds) <= deadline {
          let reason = throttled ? response.map { "\(why)\(Self.emptyBucket($0))" } ?? why : why
          try await services.wait(seconds: seconds, why: "\(reason), to \(action)")
          if !throttled { attempt += 1 }
          continue
        }
      }
      if let response { return response }
      throw Self.error(failure, while: action)
    }
  }

  /// One attempt, after `admit`; what its answer says of the buckets is noted.
  func counted(
    _ request: HTTPRequest, _ buckets: [ThrottleBucket]
  ) async throws(HTTPTransportError) -> HTTPResponse {
    let response: HTTPResponse
    do throws(HTTPTransportError) {
      response = try await transport.send(request)
    } catch {
      budgets.withBudgets { $0.lost(buckets) }
      throw error
    }
    let now = services.time.monotonicNow()
    let remaining = ThrottleBudgets.remaining(response)
    budgets.withBudgets { $0.answered(buckets, remaining: remaining, now: now) }
    if response.status == 429 {
      let body = ARMErrorBody.read(response.body)
      guard
        let bucket = ThrottleBucket.refused(
          buckets, codes: body?.allCodes ?? [], target: Self.bucketName(body))
      else { return response }
      let seconds = RetryAfter.seconds(response) ?? policy.firstDelaySeconds
      budgets.withBudgets { $0.refused(bucket, retryAfterSeconds: seconds, now: now) }
    }
    return response
  }

  /// Waits for the budgets, in time.
  func admit(
    _ buckets: [ThrottleBucket], deadline: MonotonicTime, while action: String
  ) async throws(GatewayError) {
    guard !buckets.isEmpty else { return }
    var now = services.time.monotonicNow()
    var next = budgets.withBudgets { $0.take(buckets, now: now) }
    while let wait = next {
      guard now.adding(seconds: wait.seconds) <= deadline else {
        budgets.withBudgets { $0.giveBack(buckets) }
        throw GatewayError(
          code: AzureFaultCode.throttled,
          message: "could not \(action) in time: Azure's request limit is used up (\(wait.bucket.name))",
          advice: "run again later", disposition: .retry(afterSeconds: wait.seconds))
      }
      do throws(GatewayError) {
        try await services.wait(seconds: wait.seconds, why: "\(wait.bucket.name) bucket empty, to \(action)")
      } catch {
        budgets.withBudgets { $0.giveBack(buckets) }
        throw error
      }
      now = services.time.monotonicNow()
      next = budgets.withBudgets { $0.stillClosed(buckets, now: now) }
    }
  }

  /// "CreateUpdateDisks3Min", where a refusal names it.
  private static func bucketName(_ body: ARMErrorBody?) -> String? {
    body?.details?.first { $0.code == "TooManyRequests" }?.target
  }

  /// ": CreateUpdateDisks3Min bucket empty", where the refusal names it.
  private static func emptyBucket(_ response: HTTPResponse) -> String {
    bucketName(ARMErrorBody.read(response.body)).map { ": \($0.prefix(80)) bucket empty" } ?? ""
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
