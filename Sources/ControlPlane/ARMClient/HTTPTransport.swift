/// One HTTP request. Headers are sent in order; names are compared without case.
package struct HTTPRequest: Sendable, Equatable {
  package enum Method: String, Sendable {
    case get = "GET"
    case put = "PUT"
    case patch = "PATCH"
    case post = "POST"
    case delete = "DELETE"
  }
  package var method: Method
  package var url: String
  package var headers: [HTTPHeader]
  package var body: [UInt8]?
  /// From the first connection attempt to the last byte of the answer.
  package var timeoutSeconds: Double
  /// False for link-local services, which no proxy can reach.
  package var usesProxy = true

  package init(
    _ method: Method, _ url: String, headers: [HTTPHeader] = [], body: [UInt8]? = nil,
    timeoutSeconds: Double = HTTPLimits.requestSeconds
  ) {
    self.method = method
    self.url = url
    self.headers = headers
    self.body = body
    self.timeoutSeconds = timeoutSeconds
  }
}

package struct HTTPHeader: Sendable, Equatable {
  package var name: String
  package var value: String
  package init(_ name: String, _ value: String) {
    self.name = name
    self.value = value
  }
}

package struct HTTPResponse: Sendable, Equatable {
  package var status: Int
  package var headers: [HTTPHeader]
  package var body: [UInt8]
  package init(status: Int, headers: [HTTPHeader] = [], body: [UInt8] = []) {
    self.status = status
    self.headers = headers
    self.body = body
  }

  /// The first header of this name, whatever its case.
  package func header(_ name: String) -> String? {
    let wanted = name.lowercased()
    return headers.first { $0.name.lowercased() == wanted }?.value
  }
}

package enum HTTPLimits {
  /// A page of 1,000 disks is about 2 MB; a list of all SKUs of a subscription about 10 MB.
  package static let responseBytes = 64 << 20
  package static let headerBytes = 256 << 10
  package static let requestSeconds = 60.0
  package static let connectSeconds = 15.0
  /// Connections kept to one host; more requests wait for one of them (or share one by HTTP/2).
  package static let connectionsPerHost = 8
  package static let requestsInFlight = 64
}

/// Why a request has no answer. `message` names the host and never holds a header, a query or a body.
package struct HTTPTransportError: Error, Sendable, Equatable, CustomStringConvertible {
  package enum Code: String, Sendable {
    case invalidRequest
    case hostNotFound
    case connectFailed
    case proxyFailed
    case untrustedServer
    case timedOut
    /// The connection broke after the request may have been received.
    case dropped
    case tooLarge
    case cancelled
    /// The transport was shut down.
    case closed
    /// Too many requests at once, or no memory.
    case overloaded
  }
  package let code: Code
  package let message: String
  /// False where the service certainly never saw the request, so that repeating any request is safe.
  package let mayHaveArrived: Bool
  package init(_ code: Code, _ message: String, mayHaveArrived: Bool) {
    self.code = code
    self.message = message
    self.mayHaveArrived = mayHaveArrived
  }
  package var description: String { message }
}

/// The way to the network. Cancelling the calling task abandons the request.
package protocol HTTPTransport: Sendable {
  func send(_ request: HTTPRequest) async throws(HTTPTransportError) -> HTTPResponse
}
