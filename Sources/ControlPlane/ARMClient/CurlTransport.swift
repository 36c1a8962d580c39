import CCurl
import LinuxPlatform
import Synchronization

/// How a transport reaches servers; the same variables that people set for curl.
package struct CurlSettings: Sendable, Equatable {
  /// PEM file: only these authorities are trusted. Nil: `CURL_CA_BUNDLE`, `SSL_CERT_FILE`, `SSL_CERT_DIR`, or the system's.
  package var certificateAuthorityFile: String?
  package var certificateAuthorityDirectory: String?

  package init(certificateAuthorityFile: String?, environment: [String: String]) {
    if let certificateAuthorityFile {
      self.certificateAuthorityFile = certificateAuthorityFile
      certificateAuthorityDirectory = nil
    } else {
      self.certificateAuthorityFile =
        environment["CURL_CA_BUNDLE"].flatMap { $0.isEmpty ? nil : $0 }
        ?? environment["SSL_CERT_FILE"].flatMap { $0.isEmpty ? nil : $0 }
      certificateAuthorityDirectory = environment["SSL_CERT_DIR"].flatMap { $0.isEmpty ? nil : $0 }
    }
    isExclusive = certificateAuthorityFile != nil
  }

  /// An explicit file replaces the system's authorities; one from the environment replaces only their file.
  let isExclusive: Bool
}

/// HTTP by libcurl's multi interface, on one thread of its own. Proxies come from the process's environment
/// (`HTTPS_PROXY`, `NO_PROXY`, …), as curl has it. Redirects are never followed: they would carry the token away.
package final class CurlTransport: HTTPTransport {
  private let engine: CurlEngine

  package init(_ settings: CurlSettings) throws(HTTPTransportError) {
    engine = try CurlEngine.open(settings)
    let engine = engine
    do {
      try PlatformThread.start(name: "curl") { engine.run() }
    } catch {
      throw HTTPTransportError(.closed, error.description, mayHaveArrived: false)
    }
  }

  deinit { engine.close() }

  package func send(_ request: HTTPRequest) async throws(HTTPTransportError) -> HTTPResponse {
    let id = engine.nextID()
    let engine = engine
    let result: Result<HTTPResponse, HTTPTransportError> = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        engine.submit(CurlEngine.Job(id: id, request: request) { continuation.resume(returning: $0) })
        // The handler may have run before the job was there to cancel.
        if Task.isCancelled { engine.cancel(id) }
      }
    } onCancel: {
      engine.cancel(id)
    }
    return try result.get()
  }
}

/// The thread's side: everything but the mailbox is touched by `run`'s thread only.
final class CurlEngine: Sendable {
  struct Job: Sendable {
    let id: UInt64
    let request: HTTPRequest
    let finish: @Sendable (Result<HTTPResponse, HTTPTransportError>) -> Void
  }

  private struct Mailbox {
    var waiting: [Job] = []
    var cancelled: [UInt64] = []
    var lastID: UInt64 = 0
    var closed = false
    /// Set once the multi handle is about to be freed: no wake-up after this.
    var finished = false
  }

  /// The handle is used by `run`'s thread; others only call `curl_multi_wakeup`, which libcurl allows from any thread,
  /// and only under the mailbox's lock while `finished` is false.
  private struct MultiHandle: @unchecked Sendable {
    let pointer: UnsafeMutableRawPointer
  }

  /// Jobs that wait for a free place; past this a request is refused at once.
  static let waitingLimit = 16_384

  private let settings: CurlSettings
  private let mailbox = Mutex(Mailbox())
  private let multi: MultiHandle

  private static let globalInit: Bool = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK

  private init(_ settings: CurlSettings, _ multi: MultiHandle) {
    self.settings = settings
    self.multi = multi
  }

  static func open(_ settings: CurlSettings) throws(HTTPTransportError) -> CurlEngine {
    guard globalInit, let pointer = curl_multi_init() else {
      throw HTTPTransportError(.closed, "libcurl can't be initialised", mayHaveArrived: false)
    }
    _ = cmc_curl_multi_set_long(pointer, CURLMOPT_MAX_HOST_CONNECTIONS, HTTPLimits.connectionsPerHost)
    return CurlEngine(settings, MultiHandle(pointer: pointer))
  }

  func nextID() -> UInt64 {
    mailbox.withLock { mailbox in
      mailbox.lastID += 1
      return mailbox.lastID
    }
  }

  func submit(_ job: Job) {
    let refusal: HTTPTransportError? = mailbox.withLock { mailbox in
      guard !mailbox.closed else {
        return HTTPTransportError(.closed, "the HTTP client is shut down", mayHaveArrived: false)
      }
      guard mailbox.waiting.count < Self.waitingLimit else {
        return HTTPTransportError(
          .overloaded, "more than \(Self.waitingLimit) requests wait already", mayHaveArrived: false)
      }
      mailbox.waiting.append(job)
      wake(&mailbox)
      return nil
    }
    if let refusal { job.finish(.failure(refusal)) }
  }

  func cancel(_ id: UInt64) {
    mailbox.withLock { mailbox in
      guard !mailbox.closed else { return }
      mailbox.cancelled.append(id)
      wake(&mailbox)
    }
  }

  func close() {
    mailbox.withLock { mailbox in
      mailbox.closed = true
      wake(&mailbox)
    }
  }

  private func wake(_ mailbox: inout Mailbox) {
    if !mailbox.finished { curl_multi_wakeup(multi.pointer) }
  }

  /// The thread's whole life.
  func run() {
    var transfers: [UnsafeMutableRawPointer: CurlTransfer] = [:]
    while takeMail(into: &transfers) {
      var running: Int32 = 0
      curl_multi_perform(multi.pointer, &running)
      finishCompleted(&transfers)
      // Wakes earlier for traffic, for libcurl's own timers and for mail.
      curl_multi_poll(multi.pointer, nil, 0, 1000, nil)
    }
    let abandoned = mailbox.withLock { mailbox in
      mailbox.finished = true
      defer { mailbox.waiting = [] }
      return mailbox.waiting
    }
    let closed = HTTPTransportError(.closed, "the HTTP client was shut down", mayHaveArrived: true)
    for transfer in transfers.values { end(transfer, .failure(closed)) }
    for job in abandoned { job.finish(.failure(closed)) }
    curl_multi_cleanup(multi.pointer)
  }

  /// False once the transport is closed.
  private func takeMail(into transfers: inout [UnsafeMutableRawPointer: CurlTransfer]) -> Bool {
    let free = HTTPLimits.requestsInFlight - transfers.count
    let (jobs, cancelledWaiting, cancelled, closed) = mailbox.withLock { mailbox in
      let cancelled = Set(mailbox.cancelled)
      mailbox.cancelled = []
      let gone = cancelled.isEmpty ? [] : mailbox.waiting.filter { cancelled.contains($0.id) }
      if !gone.isEmpty { mailbox.waiting.removeAll { cancelled.contains($0.id) } }
      let jobs = Array(mailbox.waiting.prefix(max(0, free)))
      mailbox.waiting.removeFirst(jobs.count)
      return (jobs, gone, cancelled, mailbox.closed)
    }
    for job in cancelledWaiting { job.finish(.failure(Self.cancelledError(mayHaveArrived: false))) }
    for (handle, transfer) in transfers where cancelled.contains(transfer.job.id) {
      transfers[handle] = nil
      end(transfer, .failure(Self.cancelledError(mayHaveArrived: true)))
    }
    for job in jobs where !closed {
      do throws(HTTPTransportError) {
        let transfer = try CurlTransfer(job, settings)
        guard curl_multi_add_handle(multi.pointer, transfer.handle) == CURLM_OK else {
          transfer.free()
          throw HTTPTransportError(.overloaded, "libcurl takes no further request", mayHaveArrived: false)
        }
        transfers[transfer.handle] = transfer
      } catch {
        job.finish(.failure(error))
      }
    }
    if closed {
      for job in jobs {
        job.finish(
          .failure(HTTPTransportError(.closed, "the HTTP client was shut down", mayHaveArrived: false)))
      }
    }
    return !closed
  }

  private static func cancelledError(mayHaveArrived: Bool) -> HTTPTransportError {
    HTTPTransportError(.cancelled, "the request was cancelled", mayHaveArrived: mayHaveArrived)
  }

  private func finishCompleted(_ transfers: inout [UnsafeMutableRawPointer: CurlTransfer]) {
    var left: Int32 = 0
    while let message = curl_multi_info_read(multi.pointer, &left) {
      guard message.pointee.msg == CURLMSG_DONE, let handle = message.pointee.easy_handle else { continue }
      let code = message.pointee.data.result
      guard let transfer = transfers.removeValue(forKey: handle) else { continue }
      end(transfer, transfer.outcome(code))
    }
  }

  private func end(_ transfer: CurlTransfer, _ result: Result<HTTPResponse, HTTPTransportError>) {
    curl_multi_remove_handle(multi.pointer, transfer.handle)
    transfer.free()
    transfer.job.finish(result)
  }
}
