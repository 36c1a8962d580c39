/// When a request that had no good answer is sent again. Pure: time and chance come from outside.
package struct RetryPolicy: Sendable, Equatable {
  /// Attempts in all for answers that say the service is unwell.
  package var attempts = 6
  /// Attempts in all where nobody answers: a wrong address should show soon.
  package var connectAttempts = 3
  package var firstDelaySeconds = 0.5
  package var longestDelaySeconds = 30.0
  package init() {}

  package enum Outcome: Sendable, Equatable {
    case answered(status: Int, retryAfterSeconds: Double?)
    case failed(HTTPTransportError)
  }

  package enum Decision: Sendable, Equatable {
    /// The outcome stands.
    case stand
    case again(afterSeconds: Double, why: String, throttled: Bool)
  }

  /// `attempt` counts from 1; throttled ones don't count there, but in `refusals`, this one too. `safe`: sending twice
  /// does no harm. `chance`: 0 ..< 1.
  package func decide(_ outcome: Outcome, attempt: Int, refusals: Int = 0, safe: Bool, chance: Double) -> Decision {
    switch outcome {
    case .answered(429, let retryAfter):
      // Where it isn't said, or said to be no time at all, each refusal makes the next wait longer.
      let said = retryAfter.flatMap { $0 > 0 ? $0 : nil }
      return .again(
        afterSeconds: said ?? delay(max(1, refusals), chance), why: "throttled by the service", throttled: true)
    case .answered(let status, let retryAfter) where status == 408 || (500...599).contains(status):
      guard safe, attempt < attempts, status != 501 else { return .stand }
      return .again(
        afterSeconds: max(retryAfter ?? 0, delay(attempt, chance)), why: "the service answered \(status)",
        throttled: false)
    case .answered: return .stand
    case .failed(let error):
      switch error.code {
      case .connectFailed, .hostNotFound, .proxyFailed:
        guard attempt < connectAttempts else { return .stand }
      case .dropped, .timedOut:
        guard attempt < attempts, safe || !error.mayHaveArrived else { return .stand }
      case .invalidRequest, .untrustedServer, .tooLarge, .cancelled, .closed, .overloaded: return .stand
      }
      return .again(afterSeconds: delay(attempt, chance), why: error.message, throttled: false)
    }
  }

  /// Doubles each time; half of it is chance, so that many clients don't come back at once.
  private func delay(_ attempt: Int, _ chance: Double) -> Double {
    var delay = firstDelaySeconds
    for _ in 1..<max(1, min(attempt, 16)) { delay *= 2 }
    delay = min(delay, longestDelaySeconds)
    return delay / 2 + delay / 2 * chance
  }
}
