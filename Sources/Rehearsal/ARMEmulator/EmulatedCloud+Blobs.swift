import Foundation

/// A token that was given out.
struct IssuedToken: Sendable, Equatable {
  var endsAt: Double
  /// For the storage service, and for nothing else; false: for the resource manager.
  var isForStorage = false
}

struct StoredBlob: Codable, Sendable {
  var content: Data
  var contentType: String
  var etag: String
  var lastModified: Double
  var createdAt: Double
}

/// The Blob service's smallest useful part, at `/ACCOUNT/CONTAINER/BLOB` as Azurite has it: Put Blob, Get Blob, Get Blob
/// Properties and List Blobs, of block blobs, with bearer tokens of the storage audience.
extension EmulatedCloud {
  static let storageAudience = "https://storage.azure.com"
  /// Of all blobs together: they are kept in the state file.
  static let storageLimitBytes = 64 << 20
  /// Bearer tokens need this version of the REST API at least.
  static let oldestStorageVersion = "2017-11-09"
  static let listLimit = 5000

  func isBlobRequest(_ request: EmulatorRequest) -> Bool { request.path.first == configuration.storageAccount }

  mutating func blobRoute(_ request: EmulatorRequest, now: Double) -> EmulatorResponse {
    do throws(BlobRefusal) {
      try checkStorageToken(request, now: now)
      try checkStorageVersion(request)
      guard request.path.count > 1 else { throw BlobRefusal(.invalidURI) }
      let container = request.path[1]
      guard let blobs = state.containers?[container] else { throw BlobRefusal(.containerNotFound) }
      if request.query["comp"] == "list" {
        guard request.method == "GET", request.query["restype"] == "container" else { throw BlobRefusal(.invalidQuery) }
        return try list(blobs, container, request)
      }
      guard request.path.count > 2, request.query["comp"] == nil, request.query["restype"] == nil else {
        throw BlobRefusal(.notServed)
      }
      let name = request.path[2...].joined(separator: "/")
      switch request.method {
      case "PUT": return try putBlob(name, container, request, now: now)
      case "GET", "HEAD":
        guard let blob = blobs[name] else { throw BlobRefusal(.blobNotFound) }
        return Self.shown(blob, request)
      default: throw BlobRefusal(.notServed)
      }
    } catch {
      return error.response(requestID: makeUUID(), now: now)
    }
  }

  // MARK: Who asks

  private func checkStorageToken(_ request: EmulatorRequest, now: Double) throws(BlobRefusal) {
    var challenge = BlobRefusal(.noAuthentication)
    challenge.headers = [
      (
        "WWW-Authenticate",
        "Bearer authorization_uri=\(request.baseURL)/\(configuration.tenant)/oauth2/authorize resource_id="
          + Self.storageAudience
      )
    ]
    guard let header = request.headers["authorization"] else {
      // A shared access signature is none that this emulator made.
      if request.query["sig"] != nil { throw BlobRefusal(.authenticationFailed) }
      throw challenge
    }
    challenge.fault = .invalidAuthentication
    guard header.lowercased().hasPrefix("bearer "), let token = tokens[String(header.dropFirst(7))] else {
      challenge.detail = "Signature validation failed. The token is not one of this emulator."
      throw challenge
    }
    guard token.isForStorage else {
      challenge.detail = "Audience validation failed. Audience did not match."
      throw challenge
    }
    guard now < token.endsAt else {
      challenge.detail = "Lifetime validation failed. The token is expired."
      throw challenge
    }
    let action = request.method == "PUT" ? "write" : "read"
    let wanted = "microsoft.storage/storageaccounts/blobservices/containers/blobs/\(action)"
    if configuration.deniedActions.contains(wanted) { throw BlobRefusal(.permissionMismatch) }
  }

  private func checkStorageVersion(_ request: EmulatorRequest) throws(BlobRefusal) {
    guard let version = request.headers["x-ms-version"] else {
      throw BlobRefusal(.missingHeader, about: ("HeaderName", "x-ms-version"))
    }
    let isDate = version.utf8.count == 10 && version.split(separator: "-").map(\.count) == [4, 2, 2]
    guard isDate, version >= Self.oldestStorageVersion else {
      throw BlobRefusal(.invalidHeader, about: ("HeaderName", "x-ms-version"))
    }
  }

  // MARK: Blobs

  private mutating func putBlob(
    _ name: String, _ container: String, _ request: EmulatorRequest, now: Double
  ) throws(BlobRefusal) -> EmulatorResponse {
    guard let type = request.headers["x-ms-blob-type"] else {
      throw BlobRefusal(.missingHeader, about: ("HeaderName", "x-ms-blob-type"))
    }
    guard type == "BlockBlob" else { throw BlobRefusal(.invalidHeader, about: ("HeaderName", "x-ms-blob-type")) }
    guard request.headers["content-length"] != nil else { throw BlobRefusal(.missingLength) }
    guard name.utf8.count <= 1024 else { throw BlobRefusal(.invalidURI) }
    let known = state.containers?[container]?[name]
    if request.headers["if-none-match"] == "*", known != nil { throw BlobRefusal(.alreadyExists) }
    if let wanted = request.headers["if-match"], wanted != "*", wanted != known?.etag {
      throw BlobRefusal(.conditionNotMet)
    }
    let others = (state.containers ?? [:]).values.flatMap(\.values).reduce(0) { $0 + $1.content.count }
    guard others - (known?.content.count ?? 0) + request.body.count <= Self.storageLimitBytes else {
      throw BlobRefusal(.full)
    }
    let blob = StoredBlob(
      content: Data(request.body), contentType: request.headers["content-type"] ?? "application/octet-stream",
      etag: "\"0x\(makeUUID().filter(\.isHexDigit).uppercased().prefix(15))\"", lastModified: now,
      createdAt: known?.createdAt ?? now)
    state.containers?[container]?[name] = blob
    return EmulatorResponse(201)
      .with("ETag", blob.etag).with("Last-Modified", Self.httpDate(now)).with("x-ms-request-server-encrypted", "true")
      .with("x-ms-version", request.headers["x-ms-version"] ?? "")
  }

  private static func shown(_ blob: StoredBlob, _ request: EmulatorRequest) -> EmulatorResponse {
    var response = EmulatorResponse(200)
      .with("ETag", blob.etag).with("Last-Modified", httpDate(blob.lastModified)).with("x-ms-blob-type", "BlockBlob")
      .with("x-ms-creation-time", httpDate(blob.createdAt)).with("Accept-Ranges", "bytes")
      .with("x-ms-lease-state", "available").with("x-ms-lease-status", "unlocked")
      .with("x-ms-version", request.headers["x-ms-version"] ?? "")
    response.raw = EmulatorResponse.Raw(contentType: blob.contentType, bytes: [UInt8](blob.content))
    return response
  }

  private func list(
    _ blobs: [String: StoredBlob], _ container: String, _ request: EmulatorRequest
  ) throws(BlobRefusal) -> EmulatorResponse {
    let prefix = request.query["prefix"] ?? ""
    var most = Self.listLimit
    if let text = request.query["maxresults"] {
      guard let count = Int(text), count > 0 else { throw BlobRefusal(.invalidQuery) }
      most = min(count, Self.listLimit)
    }
    let marker = request.query["marker"] ?? ""
    let all = blobs.keys.filter { $0.hasPrefix(prefix) && $0 >= marker }.sorted()
    var xml =
      "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"\(request.baseURL)/"
      + "\(configuration.storageAccount)\" ContainerName=\"\(Self.escaped(container))\">"
    if !prefix.isEmpty { xml += "<Prefix>\(Self.escaped(prefix))</Prefix>" }
    xml += "<MaxResults>\(most)</MaxResults><Blobs>"
    for name in all.prefix(most) {
      guard let blob = blobs[name] else { continue }
      xml +=
        "<Blob><Name>\(Self.escaped(name))</Name><Properties><Creation-Time>\(Self.httpDate(blob.createdAt))"
        + "</Creation-Time><Last-Modified>\(Self.httpDate(blob.lastModified))</Last-Modified><Etag>"
        + "\(blob.etag.filter { $0 != "\"" })</Etag><Content-Length>\(blob.content.count)</Content-Length><Content-Type>"
        + "\(Self.escaped(blob.contentType))</Content-Type><BlobType>BlockBlob</BlobType></Properties></Blob>"
    }
    xml += "</Blobs><NextMarker>\(all.count > most ? Self.escaped(all[most]) : "")</NextMarker></EnumerationResults>"
    var response = EmulatorResponse(200).with("x-ms-version", request.headers["x-ms-version"] ?? "")
    response.raw = EmulatorResponse.Raw(contentType: "application/xml", bytes: Array(xml.utf8))
    return response
  }

  static func escaped(_ text: String) -> String {
    text.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;")
      .replacingOccurrences(of: ">", with: "&gt;").replacingOccurrences(of: "\"", with: "&quot;")
  }

  /// "Mon, 23 Nov 2026 04:00:00 GMT".
  static func httpDate(_ secondsSince1970: Double) -> String {
    let formatter = DateFormatter()
    formatter.locale = Locale(identifier: "en_US_POSIX")
    formatter.timeZone = .gmt
    formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
    return formatter.string(from: Date(timeIntervalSince1970: secondsSince1970))
  }
}

/// A refusal of the Blob service: XML, with its code in a header too. Codes, statuses and messages are those that the
/// service documents.
struct BlobRefusal: Error {
  enum Fault {
    case noAuthentication, invalidAuthentication, authenticationFailed, permissionMismatch
    case missingHeader, invalidHeader, missingLength, invalidURI, invalidQuery, notServed
    case containerNotFound, blobNotFound, alreadyExists, conditionNotMet, full
  }
  var fault: Fault
  var headers: [(name: String, value: String)] = []
  var detail: String?
  var about: (element: String, value: String)?

  init(_ fault: Fault, about: (element: String, value: String)? = nil) {
    self.fault = fault
    self.about = about
  }

  private var words: (status: Int, code: String, message: String) {
    let notAuthenticated =
      "Server failed to authenticate the request. Please refer to the information in the www-authenticate header."
    return switch fault {
    case .noAuthentication: (401, "NoAuthenticationInformation", notAuthenticated)
    case .invalidAuthentication: (401, "InvalidAuthenticationInfo", notAuthenticated)
    case .authenticationFailed:
      (
        403, "AuthenticationFailed",
        "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly "
          + "including the signature."
      )
    case .permissionMismatch:
      (
        403, "AuthorizationPermissionMismatch",
        "This request is not authorized to perform this operation using this permission."
      )
    case .missingHeader:
      (400, "MissingRequiredHeader", "An HTTP header that's mandatory for this request is not specified.")
    case .invalidHeader:
      (400, "InvalidHeaderValue", "The value for one of the HTTP headers is not in the correct format.")
    case .missingLength: (411, "MissingContentLengthHeader", "The Content-Length header was not specified.")
    case .invalidURI: (400, "InvalidUri", "The requested URI does not represent any resource on the server.")
    case .invalidQuery:
      (
        400, "InvalidQueryParameterValue",
        "Value for one of the query parameters specified in the request URI is invalid."
      )
    case .notServed: (501, "NotImplemented", "The emulator serves block blobs: Put, Get, Get Properties and List.")
    case .containerNotFound: (404, "ContainerNotFound", "The specified container does not exist.")
    case .blobNotFound: (404, "BlobNotFound", "The specified blob does not exist.")
    case .alreadyExists: (409, "BlobAlreadyExists", "The specified blob already exists.")
    case .conditionNotMet:
      (412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.")
    case .full:
      (500, "InternalError", "The emulator keeps at most \(EmulatedCloud.storageLimitBytes >> 20) MiB of blobs.")
    }
  }

  func response(requestID: String, now: Double) -> EmulatorResponse {
    let (status, code, message) = words
    var more = ""
    if let detail { more += "<AuthenticationErrorDetail>\(detail)</AuthenticationErrorDetail>" }
    if let about { more += "<\(about.element)>\(about.value)</\(about.element)>" }
    var response = Self.text(status, code, message, more, requestID: requestID, now: now)
    response.headers += headers
    return response
  }

  static func text(
    _ status: Int, _ code: String, _ message: String, _ more: String = "", requestID: String, now: Double
  ) -> EmulatorResponse {
    let xml =
      "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>\(EmulatedCloud.escaped(code))</Code><Message>"
      + "\(EmulatedCloud.escaped(message))\nRequestId:\(requestID)\nTime:\(EmulatedCloud.timestamp(now))</Message>"
      + more + "</Error>"
    var response = EmulatorResponse(status, headers: [("x-ms-error-code", code)])
    response.raw = EmulatorResponse.Raw(contentType: "application/xml", bytes: Array(xml.utf8))
    return response
  }
}
