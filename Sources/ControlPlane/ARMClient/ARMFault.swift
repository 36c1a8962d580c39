import Foundation
import Reconciling

/// The body of a refusal: `{"error":{…}}`, or bare as some 429s are.
struct ARMErrorBody: Decodable, Sendable, Equatable {
  struct Inner: Decodable, Sendable, Equatable {
    var exceptiontype: String?
    var errordetail: String?
  }
  var code: String?
  var message: String?
  var target: String?
  var details: [ARMErrorBody]?
  var innererror: Inner?

  private struct Wrapper: Decodable {
    var error: ARMErrorBody?
  }

  static func read(_ body: [UInt8]) -> ARMErrorBody? {
    let data = Data(body)
    if let wrapped = try? JSONDecoder().decode(Wrapper.self, from: data), let error = wrapped.error { return error }
    guard let bare = try? JSONDecoder().decode(ARMErrorBody.self, from: data), bare.code != nil else { return nil }
    return bare
  }

  /// The codes of this error and of everything it carries, outermost first.
  var allCodes: [String] {
    var codes = [code, innererror?.exceptiontype].compactMap { $0 }
    for detail in (details ?? []).prefix(32) { codes += [detail.code].compactMap { $0 } }
    return codes
  }
}

/// A refusal by Azure, with what support needs to find it.
package struct ARMFault: Sendable, Equatable {
  /// HTTP status; 200 where a long-running operation ended badly.
  package var status: Int
  /// Azure's own code; "" where the answer had none.
  package var code: String
  package var allCodes: [String]
  package var message: String
  package var target: String?
  package var requestID: String?
  package var clientRequestID: String?
  package var retryAfterSeconds: Double?
  /// How far this machine's clock is ahead of the service's, as the answer's date says.
  package var clockAheadSeconds: Double?

  static let messageLimit = 1000

  init(status: Int, error: ARMErrorBody?, requestID: String?, clientRequestID: String?, retryAfterSeconds: Double?) {
    self.status = status
    code = error?.code ?? ""
    allCodes = error?.allCodes ?? []
    var text = error?.message ?? "no reason given"
    if let detail = error?.innererror?.errordetail { text += " " + detail }
    message = String(text.split(whereSeparator: \.isNewline).joined(separator: " ").prefix(Self.messageLimit))
    target = error?.target
    self.requestID = requestID
    self.clientRequestID = clientRequestID
    self.retryAfterSeconds = retryAfterSeconds
  }

  init(_ response: HTTPResponse, clientRequestID: String?, clockAheadSeconds: Double? = nil) {
    self.init(
      status: response.status, error: ARMErrorBody.read(response.body),
      requestID: response.requestID,
      clientRequestID: clientRequestID, retryAfterSeconds: RetryAfter.seconds(response))
    self.clockAheadSeconds = clockAheadSeconds
  }

  func has(_ code: String) -> Bool { allCodes.contains { $0.caseInsensitiveCompare(code) == .orderedSame } }

  var isThrottling: Bool { status == 429 || has("TooManyRequests") }

  /// Another operation took the resource over; what the first one did has to be looked at again.
  var isPreemption: Bool { allCodes.contains { $0.lowercased().contains("preempted") } }

  /// Somebody else works on the same resource: look again, then repeat.
  var isContention: Bool {
    isPreemption || status == 412
      || ["Conflict", "AttachDiskWhileBeingDetached", "AnotherOperationInProgress", "RetryableError"].contains {
        has($0)
      }
      || message.contains("A disk at LUN")
  }

  /// "409 Conflict: … [request …]".
  var summary: String {
    var text = [status == 200 ? "" : "\(status)", code].filter { !$0.isEmpty }.joined(separator: " ")
    if let target { text += " (\(target))" }
    text += ": \(message)"
    let ids = [requestID.map { "request \($0)" }, clientRequestID.map { "client request \($0)" }].compactMap { $0 }
    if !ids.isEmpty { text += " [\(ids.joined(separator: ", "))]" }
    return text
  }

  /// What it means for `action` ("create disk 'erp-log'"), in words for a person.
  func gatewayError(while action: String) -> GatewayError {
    let meaning = meaning
    return GatewayError(
      code: meaning.code, message: "Azure refused to \(action): \(summary)", advice: meaning.advice,
      disposition: meaning.disposition, field: meaning.field)
  }
}

extension HTTPResponse {
  /// By which the service's support finds the request.
  var requestID: String? { header("x-ms-request-id") ?? header("x-ms-correlation-request-id") }
}

/// How long a service asks to wait, in seconds: `Retry-After` (integers), or the milliseconds of `retry-after-ms` and
/// `x-ms-retry-after-ms`, which an emulator that runs faster than time sends beside it.
enum RetryAfter {
  /// Longer than a day is taken as a day.
  static let limitSeconds = 86_400.0

  static func seconds(_ response: HTTPResponse) -> Double? {
    for (name, unit) in [("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1)] {
      guard let text = response.header(name), let number = Double(text), number.isFinite, number >= 0 else { continue }
      return min(number * unit, limitSeconds)
    }
    return nil
  }
}
