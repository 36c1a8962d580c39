import ARMClient
import LinuxPlatform
import MigrationModel
import Seams
import Synchronization
import Testing

/// A webhook gets a document, or the reason is said without its address; nothing waits for long.
@Suite(.timeLimit(.minutes(10))) struct WebhookSenderTests {
  private static let url = "https://hooks.example.com/T0/s3cret?token=s3cret"

  final class Script: HTTPTransport, Pausing {
    private let state:
      Mutex<(answers: [Result<HTTPResponse, HTTPTransportError>], requests: [HTTPRequest], pauses: [Double])>
    init(_ answers: [Result<HTTPResponse, HTTPTransportError>]) { state = Mutex((answers, [], [])) }
    var requests: [HTTPRequest] { state.withLock(\.requests) }
    var pauses: [Double] { state.withLock(\.pauses) }

    func send(_ request: HTTPRequest) async throws(HTTPTransportError) -> HTTPResponse {
      let answer = state.withLock { state in
        state.requests.append(request)
        return state.answers.isEmpty ? .success(HTTPResponse(status: 599)) : state.answers.removeFirst()
      }
      return try answer.get()
    }
    func pause(seconds: Double) async throws(CancellationError) { state.withLock { $0.pauses.append(seconds) } }
  }

  private static func post(_ script: Script, to url: String = url) async -> String? {
    do throws(WebhookError) {
      try await WebhookSender(transport: script, pausing: script).post([1, 2], to: Secret(url))
      return nil
    } catch {
      #expect(!error.message.contains("s3cret"))
      return error.message
    }
  }

  private static func status(_ status: Int, _ headers: [HTTPHeader] = []) -> Result<HTTPResponse, HTTPTransportError> {
    .success(HTTPResponse(status: status, headers: headers))
  }

  @Test("a receiver that is unwell for a moment gets it; each attempt has its time limit")
  func retries() async {
    let script = Script([
      .failure(HTTPTransportError(.timedOut, "https://hooks.example.com: timed out", mayHaveArrived: true)),
      Self.status(503, [HTTPHeader("retry-after", "3600")]), Self.status(204),
    ])
    #expect(await Self.post(script) == nil)
    #expect(script.requests.count == 3)
    #expect(script.requests.allSatisfy { $0.timeoutSeconds == 10 && $0.body == [1, 2] && $0.usesProxy })
    #expect(script.pauses == [1, 5], "nobody is waited for as long as they ask")
  }

  @Test("one that stays unwell is given up after three attempts")
  func givesUp() async {
    let script = Script([Self.status(500), Self.status(429), Self.status(502), Self.status(200)])
    #expect(await Self.post(script) == "https://hooks.example.com answered 502")
    #expect(script.requests.count == 3)
  }

  @Test("what another attempt can't change is not tried again", arguments: [301, 400, 401, 404, 410])
  func refusals(_ status: Int) async {
    let script = Script([Self.status(status), Self.status(200)])
    #expect(await Self.post(script)?.contains("answered \(status)") == true)
    #expect(script.requests.count == 1)
  }

  @Test("a server that can't prove who it is gets nothing, once")
  func untrusted() async {
    let script = Script([.failure(HTTPTransportError(.untrustedServer, "no trust", mayHaveArrived: false))])
    #expect(await Self.post(script) == "no trust")
    #expect(script.requests.count == 1)
  }

  @Test(
    "what a secret holds must be an https URL, and is not shown where it isn't",
    arguments: [
      "s3cret", "http://hooks.example.com/s3cret", "https://user:s3cret@hooks.example.com/", "https:///s3cret",
      "ftp://h/s3cret", "https://h/ s3cret", "https://h:99999/s3cret", "https://h:+5/s3cret",
      "http://127.0.0.1.s3cret/",
    ])
  func notAnAddress(_ url: String) async {
    let script = Script([Self.status(200)])
    #expect(await Self.post(script, to: url) == "what is found there is no https URL")
    #expect(script.requests.isEmpty)
  }

  @Test("a real one on this machine is reached without a proxy; a port with nobody behind it is said")
  func loopback() async throws {
    let script = Script([Self.status(200)])
    #expect(await Self.post(script, to: "http://127.0.0.1:9/s3cret") == nil)
    #expect(script.requests.first?.usesProxy == false)
    let transport = try CurlTransport(CurlSettings(certificateAuthorityFile: nil, environment: [:]))
    do throws(WebhookError) {
      try await WebhookSender(transport: transport, pausing: Script([])).post(
        [1], to: Secret("http://127.0.0.1:1/s3cret"))
      Issue.record("nobody is there")
    } catch {
      #expect(error.message.hasPrefix("http://127.0.0.1:1: ") && !error.message.contains("s3cret"))
    }
  }

  @Test("below an allowed address is what its path holds, and no way out of it")
  func within() throws {
    func address(_ text: String) throws -> WebhookAddress { try #require(WebhookAddress(text)) }
    let base = try address("https://Hooks.example.com:443/services/T0/")
    #expect(try address("https://hooks.example.com/services/T0/B1?x=y").isWithin(base))
    #expect(try address("https://hooks.example.com/services/T0").isWithin(base))
    for other in [
      "https://hooks.example.com/services/T01", "https://hooks.example.com/",
      "https://hooks.example.com:8443/services/T0",
      "https://hooks.example.com/services/T0/../T1", "https://hooks.example.com/services/T0/%2E%2e/T1",
      "https://evil.example.com/services/T0/B1", "https://hooks.example.com.evil.org/services/T0/B1",
    ] {
      #expect(try !address(other).isWithin(base), "\(other)")
    }
    #expect(try address("https://h/any?thing").isWithin(address("https://h")))
    #expect(try !address("http://127.0.0.1/x").isWithin(address("https://127.0.0.1")))
  }
}
