import BlockModel
import Foundation
import LinuxPlatform
import Reconciling
import Seams
import TestSupport
import Testing

@testable import ARMClient

/// Whom a refusal for want of tokens holds up, and for how long.
@Suite struct ThrottlingTests {
  private static let machinePath =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/erp-db"
  private static let diskPath = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/data"
  private static let machine =
    "/subscriptions/s/resourcegroups/g/providers/microsoft.compute/virtualmachines/erp-db"

  private func named(_ method: HTTPRequest.Method, _ path: String, operationOf: String? = nil) -> [String] {
    ThrottleBucket.buckets(method, path: path, operationOf: operationOf).map(\.name)
  }

  @Test func aRequestIsCountedByTheManagerAndByItsGroupInCompute() {
    #expect(
      named(.post, Self.machinePath + "/attachDetachDataDisks") == [
        "subscription writes", "AttachDetachVMDisks of erp-db", "AttachDetachVMDisks",
      ])
    #expect(named(.get, Self.machinePath) == ["subscription reads", "LowCostGet of erp-db", "LowCostGet"])
    #expect(named(.put, Self.diskPath) == ["subscription writes", "CreateUpdateDisks"])
    #expect(named(.get, Self.diskPath) == ["subscription reads", "LowCostGet"])
    #expect(
      named(.get, "/subscriptions/s/providers/Microsoft.Compute/disks") == ["subscription reads", "HighCostGet"])
    #expect(named(.delete, Self.diskPath) == ["subscription deletes", "DeleteDisks"])
    #expect(named(.get, "/o/1", operationOf: Self.diskPath) == ["subscription reads", "GetOperation"])
    #expect(
      named(.get, "/o/1", operationOf: Self.machinePath) == [
        "subscription reads", "GetOperation of erp-db", "GetOperation",
      ])
    #expect(named(.get, "/subscriptions/s/providers/Microsoft.Compute/skus") == ["subscription reads"])
  }

  @Test(
    arguments: [
      (["SubscriptionRequestsThrottled"], nil, "subscription writes"),
      (["OperationNotAllowed", "TooManyRequests"], "AttachDetachVMDisksResource", "AttachDetachVMDisks of erp-db"),
      (["OperationNotAllowed", "TooManyRequests"], "AttachDetachVMDisksSubscriptionMaximum", "AttachDetachVMDisks"),
      (["OperationNotAllowed", "TooManyRequests"], nil, "AttachDetachVMDisks of erp-db"),
      ([], nil, "AttachDetachVMDisks of erp-db"),
    ] as [([String], String?, String)]) func theBucketThatAzureNamesIsClosed(
      codes: [String], target: String?, name: String
    )
  {
    let buckets = ThrottleBucket.buckets(
      .post, path: Self.machinePath + "/attachDetachDataDisks", operationOf: nil)
    #expect(ThrottleBucket.refused(buckets, codes: codes, target: target)?.name == name)
  }

  @Test func aRefusalThatNamesNothingHoldsUpNobodyElse() {
    let buckets = ThrottleBucket.buckets(.get, path: "/subscriptions/s/providers/x", operationOf: nil)
    #expect(ThrottleBucket.refused(buckets, codes: [], target: nil) == nil)
  }

  @Test func aDiskThatIsRefusedLeavesTheSubscriptionOpen() throws {
    let time = ManualTime()
    var budgets = ThrottleBudgets(knowsRates: true)
    let disk = ThrottleBucket.buckets(.put, path: Self.diskPath, operationOf: nil)
    let attach = ThrottleBucket.buckets(
      .post, path: Self.machinePath + "/attachDetachDataDisks", operationOf: nil)
    #expect(budgets.take(disk, now: time.monotonicNow()) == nil)
    budgets.answered(disk, remaining: [:], now: time.monotonicNow())
    let refused = try #require(
      ThrottleBucket.refused(disk, codes: ["OperationNotAllowed", "TooManyRequests"], target: "CreateUpdateDisks3Min"))
    budgets.refused(refused, retryAfterSeconds: 1200, now: time.monotonicNow())
    #expect(budgets.take(attach, now: time.monotonicNow()) == nil)
    #expect(budgets.take(disk, now: time.monotonicNow())?.seconds == 1200)
    // Nobody knows how fast it fills: after the time that was said it is simply open.
    time.advance(seconds: 1201)
    #expect(budgets.take(disk, now: time.monotonicNow()) == nil)
  }

  @Test(arguments: [nil, 0.0]) func refusalsThatSayNoTimeAreWaitedOutLongerEachTime(retryAfter: Double?) {
    let policy = RetryPolicy()
    let waits = (1...10).map { refusals -> Double in
      let decision = policy.decide(
        .answered(status: 429, retryAfterSeconds: retryAfter), attempt: 1, refusals: refusals, safe: true, chance: 0.5)
      guard case .again(let seconds, _, true) = decision else { return -1 }
      return seconds
    }
    #expect(waits.first == 0.375)
    #expect(zip(waits, waits.dropFirst()).allSatisfy { $0 < $1 || $1 == policy.longestDelaySeconds * 0.75 })
    #expect(waits.last == policy.longestDelaySeconds * 0.75)
  }

  @Test func aServiceThatRefusesForEverIsAskedLessAndLess() async throws {
    let (gateway, transport, pauses) = try World.scripted(
      [ScriptedTransport.token] + Array(repeating: ScriptedTransport.answer(429), count: 8)
        + [ScriptedTransport.answer(404, #"{"error":{"code":"ResourceNotFound","message":"m"}}"#)])
    #expect(try await gateway.disk("data") == nil)
    #expect(transport.isUsedUp)
    #expect(pauses.seconds.reduce(0, +) > 40)
  }
}

/// Gives tokens or nothing, as it is told.
final class FickleSource: TokenSource {
  let name: String
  private let isThere: Monitor<Bool>
  init(_ name: String, isThere: Bool) {
    self.name = name
    self.isThere = Monitor(isThere)
  }
  func become(there: Bool) { isThere.change { $0 = there } }
  func fetch() async throws(TokenFailure) -> AccessToken {
    guard isThere.withLock({ $0 }) else { throw .notConfigured("no metadata service answers here") }
    return AccessToken(value: Secret(name), lifetimeSeconds: 3600)
  }
}

@Suite struct ChosenCredentialTests {
  @Test func theCredentialOfARunStaysTheSame() async throws {
    let time = ManualTime()
    let (first, second) = (FickleSource("managed identity", isThere: true), FickleSource("az CLI", isThere: true))
    let provider = TokenProvider(sources: [first, second], time: time)
    #expect(try await provider.token().reveal() == "managed identity")
    first.become(there: false)
    time.advance(seconds: 4000)
    let error = await #expect(throws: GatewayError.self) { try await provider.token() }
    #expect(error?.message.contains("managed identity") == true)
    #expect(error?.message.contains("no metadata service answers here") == true)
    first.become(there: true)
    #expect(try await provider.token().reveal() == "managed identity")
    #expect(await provider.attempts.map(\.source) == ["managed identity"])
  }

  @Test func oneThatAppearsLaterIsNotTaken() async throws {
    let time = ManualTime()
    let (first, second) = (FickleSource("environment", isThere: false), FickleSource("az CLI", isThere: true))
    let provider = TokenProvider(sources: [first, second], time: time)
    #expect(try await provider.token().reveal() == "az CLI")
    first.become(there: true)
    time.advance(seconds: 4000)
    #expect(try await provider.token().reveal() == "az CLI")
  }
}
