package import BlockModel
import Foundation

/// A long-running operation of Azure, from its first answer to its end. Pure: it says what to read and how long to
/// wait, and is told what came of it. Knows both patterns (`Azure-AsyncOperation` and `Location`) and, where an answer
/// has neither, watches the resource's own provisioning state.
///
/// Source: FACTS "Rules of polling"; learn.microsoft.com/azure/azure-resource-manager/management/async-operations.
package struct ARMOperation: Sendable {
  package enum Effect: Sendable, Equatable {
    case wait(seconds: Double, why: String)
    /// GET this URL, byte for byte as it is.
    case read(url: String)
    case finished(Outcome)
  }

  package enum Outcome: Sendable, Equatable {
    case succeeded
    case failed(ARMFault)
    /// Another operation came first: look at the resource and repeat.
    case preempted
    /// Still running when the caller's time was up.
    case deadlinePassed
  }

  package enum Event: Sendable {
    case waited
    case answered(HTTPResponse)
    /// A read without an answer says nothing of the operation.
    case readFailed(why: String)
  }

  private enum Pattern: Sendable {
    case asyncOperation
    case location
    case resource
  }

  private enum State: Sendable {
    case waiting
    case reading
    case finished
  }

  /// After so many failed reads in a row the operation's URL is given up and the resource itself is asked.
  package static let failedReadsBeforeResource = 12

  private let resourceURL: String
  private let minimumPollSeconds: Double
  private let deadline: MonotonicTime
  private let clientRequestID: String?
  private var pattern: Pattern
  private var url: String
  private var state = State.waiting
  private var failedReads = 0
  private var lastPollSeconds: Double

  /// Reads the first answer (a success: 200, 201, 202 or 204). Without a `Retry-After` the service is asked every
  /// `defaultPollSeconds`, and never more often than `minimumPollSeconds`.
  package static func begin(
    _ answer: HTTPResponse, resourceURL: String, minimumPollSeconds: Double, defaultPollSeconds: Double,
    now: MonotonicTime, deadline: MonotonicTime, clientRequestID: String? = nil
  ) -> (ARMOperation, Effect) {
    var operation = ARMOperation(
      resourceURL: resourceURL, minimumPollSeconds: minimumPollSeconds, deadline: deadline,
      clientRequestID: clientRequestID, pattern: .resource, url: resourceURL, lastPollSeconds: defaultPollSeconds)
    if let url = answer.header("azure-asyncoperation") {
      operation.pattern = .asyncOperation
      operation.url = url
    } else if answer.status == 202 || answer.status == 201, let url = answer.header("location") {
      operation.pattern = .location
      operation.url = url
    } else {
      return (operation, operation.readResource(answer, now))
    }
    return (operation, operation.wait(RetryAfter.seconds(answer), "the operation is running", now))
  }

  private init(
    resourceURL: String, minimumPollSeconds: Double, deadline: MonotonicTime, clientRequestID: String?,
    pattern: Pattern, url: String, lastPollSeconds: Double
  ) {
    self.resourceURL = resourceURL
    self.minimumPollSeconds = minimumPollSeconds
    self.deadline = deadline
    self.clientRequestID = clientRequestID
    self.pattern = pattern
    self.url = url
    self.lastPollSeconds = lastPollSeconds
  }

  package mutating func handle(_ event: Event, now: MonotonicTime) -> Effect {
    switch (state, event) {
    case (.finished, _): preconditionFailure("an operation that ended is told nothing more")
    case (.waiting, _):
      state = .reading
      return .read(url: url)
    case (.reading, .waited): return .read(url: url)
    case (.reading, .readFailed(let why)): return readFailed(why, nil, now)
    case (.reading, .answered(let response)):
      guard (200...299).contains(response.status) || (pattern == .resource && response.status == 404) else {
        let why = response.status == 429 ? "throttled by the service" : "reading the status: \(response.status)"
        return readFailed(why, RetryAfter.seconds(response), now)
      }
      switch pattern {
      case .asyncOperation: return readStatus(response, now)
      case .location: return readMonitor(response, now)
      case .resource: return readResource(response, now)
      }
    }
  }

  private struct Status: Decodable {
    var status: String?
    var error: ARMErrorBody?
  }

  private mutating func readStatus(_ response: HTTPResponse, _ now: MonotonicTime) -> Effect {
    guard let body = try? JSONDecoder().decode(Status.self, from: Data(response.body)), let status = body.status
    else { return readFailed("the status can't be read", RetryAfter.seconds(response), now) }
    failedReads = 0
    switch status {
    case "Succeeded":
      // A preempted operation may call itself a success.
      if let error = body.error, fault(response, error).isPreemption { return finish(.preempted) }
      return finish(.succeeded)
    case "Failed", "Canceled": return finish(bad: fault(response, body.error, state: status))
    default: return wait(RetryAfter.seconds(response), "the operation is running", now)
    }
  }

  private mutating func readMonitor(_ response: HTTPResponse, _ now: MonotonicTime) -> Effect {
    failedReads = 0
    if response.status == 202 {
      if let next = response.header("location") { url = next }
      return wait(RetryAfter.seconds(response), "the operation is running", now)
    }
    if let error = ARMErrorBody.read(response.body), error.code != nil { return finish(bad: fault(response, error)) }
    return finish(.succeeded)
  }

  private struct Resource: Decodable {
    struct Properties: Decodable {
      var provisioningState: String?
    }
    var properties: Properties?
  }

  private mutating func readResource(_ response: HTTPResponse, _ now: MonotonicTime) -> Effect {
    if response.status == 204 || response.status == 404 { return finish(.succeeded) }
    failedReads = 0
    let resource = try? JSONDecoder().decode(Resource.self, from: Data(response.body))
    switch resource?.properties?.provisioningState {
    case nil, "Succeeded": return finish(.succeeded)
    case "Failed", "Canceled":
      return finish(bad: fault(response, nil, state: resource?.properties?.provisioningState ?? ""))
    default: return wait(RetryAfter.seconds(response), "the resource is being changed", now)
    }
  }

  private func fault(_ response: HTTPResponse, _ error: ARMErrorBody?, state: String = "Failed") -> ARMFault {
    var error = error ?? ARMErrorBody()
    if error.code == nil { error.code = state }
    if error.message == nil { error.message = "the operation ended as \(state)" }
    return ARMFault(
      status: 200, error: error, requestID: response.header("x-ms-request-id"), clientRequestID: clientRequestID,
      retryAfterSeconds: nil)
  }

  private mutating func finish(bad fault: ARMFault) -> Effect {
    finish(fault.isPreemption ? .preempted : .failed(fault))
  }

  private mutating func finish(_ outcome: Outcome) -> Effect {
    state = .finished
    return .finished(outcome)
  }

  private mutating func readFailed(_ why: String, _ retryAfter: Double?, _ now: MonotonicTime) -> Effect {
    failedReads += 1
    if failedReads >= Self.failedReadsBeforeResource, pattern != .resource {
      pattern = .resource
      url = resourceURL
      failedReads = 0
    }
    let pace = lastPollSeconds
    // How long throttling lasts says nothing of the pace afterwards.
    defer { lastPollSeconds = pace }
    return wait(retryAfter, why, now)
  }

  private mutating func wait(_ retryAfter: Double?, _ why: String, _ now: MonotonicTime) -> Effect {
    if let retryAfter { lastPollSeconds = retryAfter }
    let seconds = max(minimumPollSeconds, retryAfter ?? lastPollSeconds)
    guard now.adding(seconds: seconds) <= deadline else { return finish(.deadlinePassed) }
    state = .waiting
    return .wait(seconds: seconds, why: why)
  }
}
