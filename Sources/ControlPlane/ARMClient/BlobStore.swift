import BlockModel
import Foundation
import LinuxPlatform
package import MigrationModel
package import Reconciling
package import Seams

/// One block blob, as a list of a container has it.
package struct BlobItem: Sendable, Equatable {
  package var name: String
  package var sizeBytes: Int
}

/// Block blobs below an address: Put Blob, Get Blob and List Blobs of the Blob service's REST API, signed in as an
/// integration does, or with a shared access signature. Every call may be repeated.
package struct BlobStore: Sendable {
  /// Of the REST API; bearer tokens need 2017-11-09 at least.
  static let version = "2023-11-03"
  /// What tokens are asked for: the same in all clouds.
  static let audience = "https://storage.azure.com"
  /// The largest blob: an answer must hold it, for what is kept is read back.
  package static let blobLimitBytes = HTTPLimits.responseBytes - (1 << 20)
  static let callSeconds = 600.0
  /// Of a request, beside the time that its bytes take at this rate.
  static let leastBytesPerSecond = 256e3
  static let pages = 1000
  static let pageItems = 5000

  enum Access: Sendable {
    case tokens(TokenProvider)
    case signature(SecretReference, SecretReader)
  }

  package let address: BlobAddress
  let access: Access
  let sender: RetryingSender

  init(_ address: BlobAddress, access: Access, sender: RetryingSender) {
    self.address = address
    self.access = access
    self.sender = sender
  }

  /// `integration`: who signs in, and whose authority is trusted; nil with a signature (`sas`) only. Makes no request.
  package static func open(
    _ address: BlobAddress, integration: AzureIntegration?, sas: SecretReference?, time: any TimeSource,
    random: any RandomSource, environment: [String: String], children: (any ChildProcesses)?,
    onWait: @escaping @Sendable (AzureWait) -> Void
  ) throws(GatewayError) -> BlobStore {
    let endpoints = integration.map { AzureEndpoints($0.cloud) }
    let transport: CurlTransport
    do throws(HTTPTransportError) {
      transport = try CurlTransport(
        CurlSettings(certificateAuthorityFile: endpoints?.certificateAuthorityFile, environment: environment))
    } catch {
      throw GatewayError(
        code: ApplyCode.archiveFailed, message: "no request to \(address.origin) can be made: \(error.message)",
        advice: "", disposition: .terminal)
    }
    let services = ClientServices(time: time, random: random, pauses: TaskPause(), onWait: onWait)
    return try make(
      address, integration: integration, sas: sas, transport: transport, services: services, environment: environment,
      children: children)
  }

  /// With a network and clocks of the caller's, and perhaps its own sources of tokens.
  package static func make(
    _ address: BlobAddress, integration: AzureIntegration?, sas: SecretReference?, transport: any HTTPTransport,
    services: ClientServices, environment: [String: String], children: (any ChildProcesses)? = nil,
    sources given: [any TokenSource]? = nil
  ) throws(GatewayError) -> BlobStore {
    let sender = RetryingSender(transport: transport, services: services, budgets: SharedBudgets(knowsRates: false))
    if let sas {
      return BlobStore(
        address, access: .signature(sas, SecretReader(environment: environment)), sender: sender)
    }
    guard let integration else {
      throw GatewayError(
        code: ApplyCode.archiveFailed, message: "nothing says who signs in to \(address.origin)",
        advice: "name an integration under archive:, or a signature (sas)", disposition: .needsOperator)
    }
    var endpoints = AzureEndpoints(integration.cloud)
    endpoints.audience = audience
    let sources =
      if let given { given } else {
        try AzureGateway.tokenSources(
          integration, endpoints: endpoints, sender: sender, environment: environment, children: children)
      }
    return BlobStore(
      address, access: .tokens(TokenProvider(sources: sources, time: services.time)), sender: sender)
  }

  // MARK: Calls

  /// Replaces what is at the path.
  package func put(_ bytes: [UInt8], at path: String) async throws(GatewayError) {
    guard bytes.count <= Self.blobLimitBytes else {
      throw GatewayError(
        code: ApplyCode.archiveFailed,
        message: "\(path) has \(bytes.count) bytes, and at most \(Self.blobLimitBytes) are kept in a blob",
        advice: "name a directory under archive: instead; nothing was deleted", disposition: .needsOperator)
    }
    let headers = [
      HTTPHeader("x-ms-blob-type", "BlockBlob"), HTTPHeader("Content-Type", "application/octet-stream"),
    ]
    let answer = try await answer(.put, url(path), headers, body: bytes, to: "keep \(path)")
    guard answer.status == 201 else { throw fault(answer, "keep \(path)") }
  }

  /// Nil where nothing is there.
  package func get(_ path: String) async throws(GatewayError) -> [UInt8]? {
    let answer = try await answer(.get, url(path), to: "read \(path)")
    if answer.status == 404, Self.code(answer) == "BlobNotFound" { return nil }
    guard answer.status == 200 else { throw fault(answer, "read \(path)") }
    return answer.body
  }

  /// Everything whose path begins so, by paths below the address.
  package func list(_ beginning: String) async throws(GatewayError) -> [BlobItem] {
    let base = address.prefix.isEmpty ? "" : address.prefix + "/"
    var items: [BlobItem] = []
    var marker = ""
    for _ in 0..<Self.pages {
      var url =
        "\(address.containerURL)?restype=container&comp=list&maxresults=\(Self.pageItems)"
        + "&prefix=\(URLText.encoded(base + beginning))"
      if !marker.isEmpty { url += "&marker=\(URLText.encoded(marker))" }
      let answer = try await answer(.get, url, to: "list the archive")
      guard answer.status == 200 else { throw fault(answer, "list the archive") }
      guard let page = BlobList(answer.body) else {
        throw GatewayError(
          code: ApplyCode.archiveFailed, message: "\(address.origin) answered a list that is none",
          advice: "check archive: blob:", disposition: .needsOperator)
      }
      items += page.items.filter { $0.name.hasPrefix(base) }.map {
        BlobItem(name: String($0.name.dropFirst(base.count)), sizeBytes: $0.sizeBytes)
      }
      guard let next = page.nextMarker else { return items }
      marker = next
    }
    return items
  }

  // MARK: Requests

  private func url(_ path: String) -> String {
    path.split(separator: "/").reduce(address.text) { "\($0)/\(URLText.encoded(String($1)))" }
  }

  private func answer(
    _ method: HTTPRequest.Method, _ url: String, _ headers: [HTTPHeader] = [], body: [UInt8]? = nil, to action: String
  ) async throws(GatewayError) -> HTTPResponse {
    let first = try await send(method, url, headers, body, to: action)
    guard first.response.status == 401, let token = first.token, case .tokens(let tokens) = access else {
      return first.response
    }
    // Perhaps the token was revoked, or the clock jumped: once more with a fresh one.
    await tokens.reject(token)
    return try await send(method, url, headers, body, to: action).response
  }

  private func send(
    _ method: HTTPRequest.Method, _ url: String, _ headers: [HTTPHeader], _ body: [UInt8]?, to action: String
  ) async throws(GatewayError) -> (response: HTTPResponse, token: Secret?) {
    var url = url
    var token: Secret?
    var all =
      headers + [
        HTTPHeader("x-ms-version", Self.version), HTTPHeader("x-ms-date", httpDate),
        HTTPHeader("x-ms-client-request-id", sender.services.random.uuid()), HTTPHeader("User-Agent", "cmcplan/1"),
      ]
    switch access {
    case .tokens(let tokens):
      let value = try await tokens.token()
      all.append(HTTPHeader("Authorization", "Bearer \(value.reveal())"))
      token = value
    case .signature(let reference, let reader):
      url += (url.contains("?") ? "&" : "?") + (try await Self.signature(reference, reader)).reveal()
    }
    var request = HTTPRequest(method, url, headers: all, body: body)
    request.timeoutSeconds += Double(body?.count ?? 0) / Self.leastBytesPerSecond
    request.usesProxy = !URLText.isLoopback(url)
    let deadline = sender.services.time.monotonicNow().adding(seconds: Self.callSeconds)
    return (try await sender.send(request, safe: true, deadline: deadline, while: action), token)
  }

  /// As RFC 1123 has it: "Mon, 23 Nov 2026 04:00:00 GMT".
  private var httpDate: String {
    let formatter = DateFormatter()
    formatter.locale = Locale(identifier: "en_US_POSIX")
    formatter.timeZone = .gmt
    formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
    return formatter.string(from: Date(timeIntervalSince1970: sender.services.time.wallNow().secondsSince1970))
  }

  /// What is found there is sent only if it is what it should be: a wrong variable may hold another secret.
  package static func signature(_ found: Secret) throws(GatewayError) -> Secret {
    var text = found.reveal()
    if text.hasPrefix("?") { text.removeFirst() }
    let names = text.split(separator: "&").map { $0.prefix { $0 != "=" } }
    let isPlain = text.utf8.allSatisfy { $0 > 32 && $0 < 127 && $0 != UInt8(ascii: "#") }
    guard names.contains("sig"), names.contains("sv"), isPlain else {
      throw GatewayError(
        code: AzureFaultCode.secretMissing, message: "what archive: sas: names holds no shared access signature",
        advice: "put the signature there as the portal shows it (sv=…&sig=…), and nothing else",
        disposition: .needsOperator)
    }
    return Secret(text)
  }

  private static func signature(
    _ reference: SecretReference, _ reader: SecretReader
  ) async throws(GatewayError) -> Secret {
    let read: Result<Secret, GatewayError>
    do {
      read = try await onBlockingThread { () -> Result<Secret, GatewayError> in
        do throws(GatewayError) { return .success(try reader.read(reference)) } catch { return .failure(error) }
      }
    } catch {
      throw busy("read the archive's signature", error)
    }
    return try signature(try read.get())
  }

  // MARK: Refusals

  private static func code(_ answer: HTTPResponse) -> String {
    answer.header("x-ms-error-code")
      ?? BlobList.text(of: "Code", in: String(decoding: answer.body, as: UTF8.self)) ?? ""
  }

  private func fault(_ answer: HTTPResponse, _ action: String) -> GatewayError {
    let code = Self.code(answer)
    let body = String(decoding: answer.body.prefix(64 << 10), as: UTF8.self)
    // The service adds lines with its request's id and time.
    let message = BlobList.text(of: "Message", in: body)?.split(whereSeparator: \.isNewline).first.map(String.init)
    let request = answer.header("x-ms-request-id").map { " [request \($0)]" } ?? ""
    let (faultCode, advice): (String, String)
    switch (answer.status, code) {
    case (403, "AuthorizationPermissionMismatch"), (403, "InsufficientAccountPermissions"):
      faultCode = ApplyCode.archiveDenied
      advice =
        "give whoever signs in the role Storage Blob Data Contributor on the container, or the signature read, "
        + "create, write and list"
    case (401, _), (403, _):
      faultCode = ApplyCode.archiveDenied
      advice = "check the archive's integration, or its signature and when it ends, and the account's firewall"
    case (404, "ContainerNotFound"):
      faultCode = ApplyCode.archiveFailed
      advice = "make the container \(address.container), or name another one under archive:"
    case (409, _), (412, _):
      faultCode = ApplyCode.archiveFailed
      advice = "an immutability policy or lease of the container may be in the way"
    default:
      faultCode = ApplyCode.archiveFailed
      advice = "check archive: blob:"
    }
    return GatewayError(
      code: faultCode,
      message: "the archive \(address.text) can't be used: could not \(action): \(answer.status) \(code)"
        + (message.map { ": \($0.prefix(300))" } ?? "") + request,
      advice: "\(advice); then apply again. Nothing was deleted",
      disposition: answer.status >= 500 || answer.status == 429 ? .retry(afterSeconds: 15) : .needsOperator)
  }
}

/// The few words that are read of the service's XML. Names that we list are ours: letters, digits and `-._/`.
struct BlobList: Equatable {
  var items: [BlobItem]
  var nextMarker: String?

  /// Nil where it is no list.
  init?(_ body: [UInt8]) {
    let text = String(decoding: body, as: UTF8.self)
    guard text.contains("<EnumerationResults") else { return nil }
    items = text.components(separatedBy: "<Blob>").dropFirst().compactMap { part in
      guard let name = Self.text(of: "Name", in: part),
        let size = Self.text(of: "Content-Length", in: part).flatMap(Int.init)
      else { return nil }
      return BlobItem(name: name, sizeBytes: size)
    }
    nextMarker = Self.text(of: "NextMarker", in: text).flatMap { $0.isEmpty ? nil : $0 }
  }

  static func text(of element: String, in xml: String) -> String? {
    guard let start = xml.range(of: "<\(element)>"),
      let end = xml.range(of: "</\(element)>", range: start.upperBound..<xml.endIndex)
    else { return nil }
    var text = String(xml[start.upperBound..<end.lowerBound])
    for (entity, character) in [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")] {
      text = text.replacingOccurrences(of: entity, with: character)
    }
    return text
  }
}
