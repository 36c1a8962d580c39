import MigrationModel
package import Seams

/// Why a webhook was not told. `message` names its host at most, for path and query may be secrets.
package struct WebhookError: Error, Sendable, Equatable, CustomStringConvertible {
  package let message: String
  package var description: String { message }
}

/// Posts small JSON documents to webhooks: few attempts, each with a time limit, no redirects.
package struct WebhookSender: Sendable {
  package struct Limits: Sendable {
    package var attempts = 3
    package var attemptSeconds = 10.0
    /// Before the second attempt; doubles.
    package var firstPauseSeconds = 1.0
    /// The longest that a receiver may ask us to wait.
    package var longestPauseSeconds = 5.0
    package init() {}
  }

  private let transport: any HTTPTransport
  private let pausing: any Pausing
  private let limits: Limits

  package init(transport: any HTTPTransport, pausing: any Pausing, limits: Limits = Limits()) {
    self.transport = transport
    self.pausing = pausing
    self.limits = limits
  }

  /// Returns once the receiver answered 2xx. A receiver that was slow to answer may get the document twice.
  package func post(_ body: [UInt8], to url: Secret) async throws(WebhookError) {
    let text = url.reveal()
    guard WebhookAddress(text) != nil else {
      throw WebhookError(message: "what is found there is no https URL")
    }
    var request = HTTPRequest(
      .post, text, headers: [HTTPHeader("Content-Type", "application/json"), HTTPHeader("User-Agent", "cmcplan")],
      body: body, timeoutSeconds: limits.attemptSeconds)
    request.usesProxy = !URLText.isLoopback(text)
    var pause = limits.firstPauseSeconds
    for attempt in 1... {
      let (why, isWorthAnother, asked) = await attemptOnce(request)
      guard let why else { return }
      guard isWorthAnother, attempt < limits.attempts else { throw WebhookError(message: why) }
      do throws(CancellationError) {
        try await pausing.pause(seconds: min(max(pause, asked), limits.longestPauseSeconds))
      } catch {
        throw WebhookError(message: why)
      }
      pause *= 2
    }
  }

  /// Why it did not arrive, nil where it did; whether it may another time; and after how many seconds.
  private func attemptOnce(_ request: HTTPRequest) async -> (why: String?, isWorthAnother: Bool, afterSeconds: Double) {
    do throws(HTTPTransportError) {
      let answer = try await transport.send(request)
      let origin = URLText.origin(of: request.url) ?? "the server"
      switch answer.status {
      case 200...299: return (nil, false, 0)
      case 300...399: return ("\(origin) answered \(answer.status), and redirects are not followed", false, 0)
      case 408, 429, 500...599:
        let asked = answer.header("Retry-After").flatMap { Double($0) } ?? 0
        return ("\(origin) answered \(answer.status)", true, max(0, asked))
      default: return ("\(origin) answered \(answer.status)", false, 0)
      }
    } catch {
      switch error.code {
      case .hostNotFound, .connectFailed, .proxyFailed, .timedOut, .dropped, .overloaded:
        return (error.message, true, 0)
      case .invalidRequest, .untrustedServer, .tooLarge, .cancelled, .closed: return (error.message, false, 0)
      }
    }
  }
}
