import ARMClient
import BlockModel
import Foundation
import Testing

/// Following a long-running operation, with no network and no clock.
@Suite struct OperationTests {
  static let resource = "https://scripted/resource"
  static let start = MonotonicTime(nanoseconds: 1_000_000_000)
  static let signed = "https://scripted/op?p=1&c=" + String(repeating: "A%2b", count: 1000)

  static func answer(_ status: Int, _ body: String = "", _ headers: [(String, String)] = []) -> HTTPResponse {
    HTTPResponse(status: status, headers: headers.map { HTTPHeader($0.0, $0.1) }, body: Array(body.utf8))
  }

  static func begin(_ answer: HTTPResponse, minimum: Double = 4, seconds: Double = 3600) -> (
    ARMOperation, ARMOperation.Effect
  ) {
    ARMOperation.begin(
      answer, resourceURL: resource, minimumPollSeconds: minimum, defaultPollSeconds: 4, now: start,
      deadline: start.adding(seconds: seconds))
  }

  /// What a disk's PUT answers: both headers; the status URL is the one to ask.
  static let accepted = answer(
    202, #"{"name":"d","properties":{"provisioningState":"Updating"}}"#,
    [("azure-asyncoperation", signed), ("location", signed + "&monitor=true"), ("Retry-After", "2")])

  @Test func aDiskIsFollowedByItsSignedURLByteForByte() {
    var (operation, effect) = Self.begin(Self.accepted)
    #expect(effect == .wait(seconds: 4, why: "the operation is running"))
    #expect(operation.handle(.waited, now: Self.start) == .read(url: Self.signed))
    effect = operation.handle(
      .answered(Self.answer(200, #"{"startTime":"2024","status":"InProgress","name":"x"}"#, [("retry-after", "90")])),
      now: Self.start)
    // However long Azure asks for: it gets it.
    #expect(effect == .wait(seconds: 90, why: "the operation is running"))
    #expect(operation.handle(.waited, now: Self.start) == .read(url: Self.signed))
    effect = operation.handle(
      .answered(Self.answer(200, #"{"status":"Succeeded","properties":{"output":{"name":"d"}}}"#)), now: Self.start)
    #expect(effect == .finished(.succeeded))
  }

  @Test(arguments: [400, 404, 408, 429, 500, 503]) func aFailedReadIsNoFailedOperation(status: Int) {
    var (operation, _) = Self.begin(Self.accepted)
    for _ in 0..<5 {
      #expect(operation.handle(.waited, now: Self.start) == .read(url: Self.signed))
      guard case .wait = operation.handle(.answered(Self.answer(status, "<html>")), now: Self.start) else {
        Issue.record("gave up after \(status)")
        return
      }
    }
    _ = operation.handle(.waited, now: Self.start)
    #expect(
      operation.handle(.answered(Self.answer(200, #"{"status":"Succeeded"}"#)), now: Self.start)
        == .finished(.succeeded))
  }

  @Test func throttlingIsWaitedOutOnceAndDoesNotSlowDownWhatFollows() {
    var (operation, _) = Self.begin(Self.accepted)
    _ = operation.handle(.waited, now: Self.start)
    #expect(
      operation.handle(.answered(Self.answer(429, "", [("Retry-After", "1200")])), now: Self.start)
        == .wait(seconds: 1200, why: "throttled by the service"))
    _ = operation.handle(.waited, now: Self.start)
    #expect(
      operation.handle(.answered(Self.answer(200, #"{"status":"InProgress"}"#)), now: Self.start)
        == .wait(seconds: 4, why: "the operation is running"))
  }

  @Test func aStatusURLThatIsLostForGoodMakesTheResourceDecide() {
    var (operation, _) = Self.begin(Self.accepted)
    for _ in 0..<ARMOperation.failedReadsBeforeResource {
      #expect(operation.handle(.waited, now: Self.start) == .read(url: Self.signed))
      _ = operation.handle(.answered(Self.answer(404)), now: Self.start)
    }
    #expect(operation.handle(.waited, now: Self.start) == .read(url: Self.resource))
    let body = #"{"properties":{"provisioningState":"Succeeded"}}"#
    #expect(operation.handle(.answered(Self.answer(200, body)), now: Self.start) == .finished(.succeeded))
  }

  @Test(arguments: ["Running", "Accepted", "Creating", "succeeded", "SomethingNew"])
  func onlyTheThreeTerminalStatesEndIt(state: String) {
    var (operation, _) = Self.begin(Self.accepted)
    _ = operation.handle(.waited, now: Self.start)
    let effect = operation.handle(.answered(Self.answer(200, #"{"status":"\#(state)"}"#)), now: Self.start)
    guard case .wait = effect else {
      Issue.record("\(state) ended it")
      return
    }
  }

  @Test func aFailureCarriesAzuresOwnWords() throws {
    var (operation, _) = Self.begin(Self.accepted)
    _ = operation.handle(.waited, now: Self.start)
    let body = #"{"status":"Failed","error":{"code":"DiskQuota","message":"No more disks."},"name":"x"}"#
    guard
      case .finished(.failed(let fault)) = operation.handle(
        .answered(Self.answer(200, body, [("x-ms-request-id", "r-1")])), now: Self.start)
    else {
      Issue.record("not failed")
      return
    }
    #expect(fault.code == "DiskQuota")
    #expect(fault.message == "No more disks.")
    #expect(fault.requestID == "r-1")
  }

  @Test(arguments: [
    #"{"status":"Failed","error":{"code":"OperationPreempted","message":"m"}}"#,
    #"{"status":"Canceled","error":{"code":"OperationPreempted","message":"m"}}"#,
    #"{"status":"Succeeded","error":{"code":"OperationPreempted","message":"m"}}"#,
    #"{"status":"Failed","error":{"code":"X","message":"m","details":[{"code":"OperationPreempted","message":"m"}]}}"#,
  ])
  func preemptionMeansLookAgain(body: String) {
    var (operation, _) = Self.begin(Self.accepted)
    _ = operation.handle(.waited, now: Self.start)
    #expect(operation.handle(.answered(Self.answer(200, body)), now: Self.start) == .finished(.preempted))
  }

  @Test func aMachineAnswersTwoHundredAndIsFollowedAllTheSame() {
    let (_, effect) = Self.begin(
      Self.answer(200, #"{"dataDisks":[]}"#, [("azure-asyncoperation", Self.signed), ("etag", "\"9\"")]))
    #expect(effect == .wait(seconds: 4, why: "the operation is running"))
  }

  @Test func aLocationAloneIsFollowedUntilItStopsSayingAccepted() {
    var (operation, _) = Self.begin(Self.answer(202, "", [("Location", "https://scripted/monitor")]))
    #expect(operation.handle(.waited, now: Self.start) == .read(url: "https://scripted/monitor"))
    _ = operation.handle(.answered(Self.answer(202, "", [("Location", "https://scripted/monitor2")])), now: Self.start)
    #expect(operation.handle(.waited, now: Self.start) == .read(url: "https://scripted/monitor2"))
    #expect(operation.handle(.answered(Self.answer(204)), now: Self.start) == .finished(.succeeded))
  }

  @Test func withoutHeadersTheBodySpeaks() {
    #expect(Self.begin(Self.answer(200, #"{"properties":{}}"#)).1 == .finished(.succeeded))
    #expect(Self.begin(Self.answer(204)).1 == .finished(.succeeded))
    guard case .wait = Self.begin(Self.answer(201, #"{"properties":{"provisioningState":"Creating"}}"#)).1 else {
      Issue.record("a resource that is being created was taken for done")
      return
    }
  }

  @Test func itEndsAtTheCallersDeadlineAndNotBefore() {
    var (operation, effect) = Self.begin(Self.accepted, seconds: 10)
    guard case .wait = effect else { return }
    let later = Self.start.adding(seconds: 7)
    _ = operation.handle(.waited, now: later)
    effect = operation.handle(.answered(Self.answer(200, #"{"status":"InProgress"}"#)), now: later)
    #expect(effect == .finished(.deadlinePassed))
  }

  @Test func anEmulatorsFractionsAreHonoured() {
    let fast = Self.answer(202, "", [("azure-asyncoperation", Self.signed), ("Retry-After", "0.1")])
    #expect(Self.begin(fast, minimum: 0.05).1 == .wait(seconds: 0.1, why: "the operation is running"))
    #expect(Self.begin(fast).1 == .wait(seconds: 4, why: "the operation is running"))
  }

  /// Whatever a server answers, in whatever order: it ends by itself, and never faster than allowed.
  @Test(arguments: 0..<200) func itAlwaysEnds(seed: Int) {
    var generator = UInt64(seed) &* 0x9e37_79b9_7f4a_7c15 | 1
    func next(_ bound: UInt64) -> Int {
      generator = generator &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((generator >> 33) % bound)
    }
    let answers = [
      Self.answer(500), Self.answer(404, "{}"), Self.answer(429, "", [("Retry-After", "30")]), Self.answer(200, "[1]"),
      Self.answer(200, #"{"status":"InProgress"}"#), Self.answer(202, "", [("Location", "https://scripted/x")]),
      Self.answer(200, #"{"status":5}"#), Self.answer(302),
      Self.answer(200, #"{"properties":{"provisioningState":"U"}}"#),
    ]
    var now = Self.start
    let first = next(2) == 0 ? Self.accepted : Self.answer(202, "", [("Location", "https://scripted/m")])
    var (operation, effect) = Self.begin(first, seconds: 600)
    var steps = 0
    while true {
      steps += 1
      #expect(steps < 1000)
      switch effect {
      case .finished: return
      case .wait(let seconds, _):
        #expect(seconds >= 4)
        now = now.adding(seconds: seconds)
        effect = operation.handle(.waited, now: now)
      case .read:
        effect = operation.handle(
          next(5) == 0 ? .readFailed(why: "lost") : .answered(answers[next(UInt64(answers.count))]), now: now)
      }
    }
  }
}
