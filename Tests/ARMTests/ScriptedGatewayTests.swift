import ARMClient
import ARMEmulator
import BlockModel
import Foundation
import LinuxPlatform
import MigrationModel
import Planning
import Reconciling
import Seams
import Synchronization
import TestSupport
import Testing

/// The gateway over a scripted network, with time that passes at once.
@Suite(.timeLimit(.minutes(10))) struct ScriptedGatewayTests {
  static let disk = #"""
    {"name":"data","id":"/subscriptions/s/resourceGroups/rehearsal/providers/Microsoft.Compute/disks/data",
     "location":"westeurope","sku":{"name":"Premium_LRS","tier":"Premium"},"tags":{"CMCPLAN-ID":"x"},
     "properties":{"diskSizeGB":32,"diskSizeBytes":34359738368,"diskState":"Unattached","tier":"P4"}}
    """#

  @Test func everyRequestHasAnIdAndErrorsNameBothIds() async throws {
    let refusal = #"{"error":{"code":"AuthorizationFailed","message":"The client does not have authorization."}}"#
    let (gateway, transport, _) = try World.scripted([
      ScriptedTransport.token, ScriptedTransport.answer(403, refusal, [("x-ms-request-id", "service-id")]),
    ])
    let error = await #expect(throws: GatewayError.self) { try await gateway.machine("erp-db") }
    let id = try #require(transport.requests.last?.headers.first { $0.name == "x-ms-client-request-id" }?.value)
    #expect(error?.code == "CMC3103")
    #expect(error?.message.contains("request service-id, client request \(id)") == true)
    #expect(error?.description.contains("scripted-token") == false)
    #expect(error?.disposition == .needsOperator)
  }

  @Test func aThrottlingAnswerWithoutAWrapperIsUnderstood() async throws {
    let body = #"{"code":"OperationNotAllowed","message":"too many","details":[{"code":"TooManyRequests"}]}"#
    let waits = Waits()
    let (gateway, _, pauses) = try World.scripted(
      [
        ScriptedTransport.token, ScriptedTransport.answer(429, body, [("Retry-After", "1200")]),
        ScriptedTransport.answer(200, Self.disk),
      ], waits: waits)
    #expect(try await gateway.disk("data")?.sizeBytes == 32 << 30)
    // 20 minutes, as the documentation's sample has it, and the operator was told.
    #expect(pauses.seconds == [1200])
    #expect(
      waits.all.map(\.description) == ["waiting for Azure: 1200 s (throttled by the service, to read disk 'data')"])
  }

  @Test func theEmptyBucketIsNamedToTheOperator() async throws {
    let body = #"""
      {"code":"OperationNotAllowed","message":"too many",
       "details":[{"code":"TooManyRequests","target":"CreateUpdateDisks3Min","message":"m"}]}
      """#
    let waits = Waits()
    let (gateway, _, pauses) = try World.scripted(
      [
        ScriptedTransport.token, ScriptedTransport.answer(429, body, [("Retry-After", "40")]),
        ScriptedTransport.answer(200, Self.disk),
      ], waits: waits)
    _ = try await gateway.disk("data")
    #expect(pauses.seconds == [40])
    #expect(
      waits.all.map(\.description) == [
        "waiting for Azure: 40 s (throttled by the service: CreateUpdateDisks3Min bucket empty, to read disk 'data')"
      ])
  }

  @Test func throttlingBeyondTheDeadlineIsGivenBackToTheCaller() async throws {
    let step = ScriptedTransport.answer(
      429, #"{"error":{"code":"TooManyRequests","message":"m"}}"#, [("Retry-After", "9000")])
    let (gateway, _, _) = try World.scripted([ScriptedTransport.token, step])
    let error = await #expect(throws: GatewayError.self) { try await gateway.disk("data") }
    #expect(error?.code == "CMC3107")
    #expect(error?.disposition == .retry(afterSeconds: 9000))
  }

  @Test func aServiceThatIsDownIsTriedWithGrowingPauses() async throws {
    let down = ScriptedTransport.answer(503, "")
    let (gateway, transport, pauses) = try World.scripted(
      [ScriptedTransport.token] + Array(repeating: down, count: 6))
    let error = await #expect(throws: GatewayError.self) { try await gateway.disk("data") }
    #expect(transport.isUsedUp)
    #expect(pauses.seconds.count == 5)
    #expect(pauses.seconds == pauses.seconds.sorted())
    if case .retry = error?.disposition {} else { Issue.record("not to be tried again") }
  }

  @Test func nobodyThereShowsSoon() async throws {
    let refused = ScriptedTransport.fail(.connectFailed, mayHaveArrived: false)
    let (gateway, _, pauses) = try World.scripted(Array(repeating: refused, count: 3))
    let error = await #expect(throws: GatewayError.self) { try await gateway.disk("data") }
    #expect(error?.code == "CMC3104")
    #expect(pauses.seconds.reduce(0, +) < 3)
  }

  @Test func theTokenIsNotSentToAnotherServer() async throws {
    let machine = #"""
      {"id":"/subscriptions/s/resourceGroups/rehearsal/providers/Microsoft.Compute/virtualMachines/erp-db",
       "name":"erp-db","location":"westeurope","properties":{"provisioningState":"Succeeded",
       "storageProfile":{"dataDisks":[]}}}
      """#
    let (gateway, transport, _) = try World.scripted([
      ScriptedTransport.token, ScriptedTransport.answer(200, machine),
      ScriptedTransport.answer(200, "{}", [("Azure-AsyncOperation", "https://scripted.evil.example/op")]),
    ])
    let error = await #expect(throws: GatewayError.self) { try await gateway.attach([("data", .none)], to: "erp-db") }
    #expect(error?.code == "CMC3117")
    #expect(transport.requests.count == 3)
  }

  @Test func plainHTTPIsForThisMachineOnly() throws {
    for (base, allowed) in [
      ("http://127.0.0.1:8080", true), ("http://localhost:1", true), ("http://[::1]:1", true),
      ("http://127.0.0.1.example.com", false), ("http://management.example.com", false), ("ftp://localhost", false),
    ] {
      #expect(World.isAccepted(base) == allowed, "\(base)")
    }
  }

  @Test func aReferenceCannotLeaveItsPlace() async throws {
    let (gateway, transport, _) = try World.scripted([
      ScriptedTransport.token, ScriptedTransport.answer(404, #"{"error":{"code":"ResourceNotFound","message":"m"}}"#),
    ])
    await #expect(throws: GatewayError.self) { try await gateway.machine("../../disks/x") }
    await #expect(throws: GatewayError.self) { try await gateway.machine("") }
    #expect(try await gateway.machine("a?b#c %2e") == nil)
    #expect(transport.requests.last?.url.contains("/virtualMachines/a%3Fb%23c%20%252e?api-version=") == true)
  }

  @Test func aListFollowsItsPagesAndANarrowCredentialItsResourceGroup() async throws {
    let page = #"{"value":[\#(Self.disk)],"nextLink":"https://scripted/next?$skiptoken=abc"}"#
    let (gateway, transport, _) = try World.scripted([
      ScriptedTransport.token,
      ScriptedTransport.answer(403, #"{"error":{"code":"AuthorizationFailed","message":"m"}}"#),
      ScriptedTransport.answer(200, page), ScriptedTransport.answer(200, #"{"value":[]}"#),
    ])
    #expect(try await gateway.disks(of: PlanID("x")).map(\.name) == ["data"])
    #expect(transport.requests[2].url.contains("/resourceGroups/rehearsal/"))
    #expect(transport.requests[3].url == "https://scripted/next?$skiptoken=abc")
  }

  @Test func oneRenewalServesManyCallersAndComesBeforeTheEnd() async throws {
    let time = ManualTime()
    let source = CountingSource()
    let provider = TokenProvider(sources: [source], time: time)
    try await withThrowingTaskGroup(of: Secret.self) { group in
      for _ in 0..<50 { group.addTask { try await provider.token() } }
      for try await token in group { #expect(token.reveal() == "token-1") }
    }
    time.advance(seconds: 3600 - 301)
    #expect(try await provider.token().reveal() == "token-1")
    time.advance(seconds: 2)
    #expect(try await provider.token().reveal() == "token-2")
    await provider.reject(Secret("token-1"))
    #expect(try await provider.token().reveal() == "token-2")
    await provider.reject(Secret("token-2"))
    #expect(try await provider.token().reveal() == "token-3")
    // The source fails now; the token that lives on is used to its end.
    source.breakDown()
    time.advance(seconds: 3400)
    #expect(try await provider.token().reveal() == "token-3")
    time.advance(seconds: 300)
    await #expect(throws: GatewayError.self) { try await provider.token() }
  }

  @Test func sourcesAreTriedInOrderAndTheReasonsKept() async throws {
    let time = ManualTime()
    let provider = TokenProvider(
      sources: [EmptySource(name: "environment"), CountingSource()], time: time)
    #expect(try await provider.token().reveal() == "token-1")
    let attempts = await provider.attempts
    #expect(attempts.map(\.source) == ["environment", "counting"])
    #expect(attempts.map(\.skippedBecause) == ["not set", nil])
    let none = TokenProvider(sources: [EmptySource(name: "environment")], time: time)
    let error = await #expect(throws: GatewayError.self) { try await none.token() }
    #expect(error?.message.contains("environment: not set") == true)
  }

  @Test func aSecretCannotBePrinted() {
    let secret = Secret("hunter2")
    var dumped = ""
    dump(secret, to: &dumped)
    for text in ["\(secret)", String(describing: secret), String(reflecting: secret), dumped, "\([secret])"] {
      #expect(!text.contains("hunter2"))
    }
    let missing = #expect(throws: GatewayError.self) {
      try SecretReader(environment: [:]).read(.environment("NOPE"))
    }
    #expect(missing?.message.contains("NOPE") == true)
  }

  @Test func cancellingStopsTheWaiting() async throws {
    let (gateway, _, _) = try World.scripted([
      ScriptedTransport.token, ScriptedTransport.answer(429, "", [("Retry-After", "5")]),
    ])
    let task = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      return try await gateway.disk("data")
    }
    let error = await #expect(throws: GatewayError.self) { try await task.value }
    #expect(error?.code == "CMC3190")
  }
}

/// Gives out token-1, token-2, … for an hour each.
final class CountingSource: TokenSource {
  let name = "counting"
  private let state = Mutex((count: 0, broken: false))
  func breakDown() { state.withLock { $0.broken = true } }
  func fetch() async throws(TokenFailure) -> AccessToken {
    await Task.yield()
    let number: Int? = state.withLock { state in
      if state.broken { return nil }
      state.count += 1
      return state.count
    }
    guard let number else {
      throw .failed(GatewayError(code: "CMC3104", message: "down", advice: "", disposition: .retry(afterSeconds: 1)))
    }
    return AccessToken(value: Secret("token-\(number)"), lifetimeSeconds: 3600)
  }
}

struct EmptySource: TokenSource {
  let name: String
  func fetch() async throws(TokenFailure) -> AccessToken { throw .notConfigured("not set") }
}
