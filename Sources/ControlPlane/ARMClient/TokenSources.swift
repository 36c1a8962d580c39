import BlockModel
import Foundation
import LinuxPlatform
import MigrationModel
import Reconciling
import Seams

/// Longest that getting a token may take, retries included.
enum TokenLimits {
  static let fetchSeconds = 120.0
  /// Where no metadata service is, nothing answers at all.
  static let metadataSeconds = 2.0
  static let azureCLISeconds = 30.0
  /// Where a service doesn't say how long its token lives.
  static let assumedLifetimeSeconds = 300.0
}

/// The token endpoint of a tenant.
struct TokenEndpoint: Sendable {
  let endpoints: AzureEndpoints
  let tenantID: String
  let sender: RetryingSender

  private struct Answer: Decodable {
    var access_token: String
    var expires_in: FlexibleNumber?
  }

  private struct Refusal: Decodable {
    var error: String?
    var error_description: String?
    var trace_id: String?
    var correlation_id: String?
  }

  var url: String { "\(endpoints.authority)/\(URLText.encoded(tenantID))/oauth2/v2.0/token" }

  func token(clientID: String, assertion: Secret) async throws(GatewayError) -> AccessToken {
    try await token(
      clientID: clientID,
      [
        ("client_assertion_type", Secret("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")),
        ("client_assertion", assertion),
      ])
  }

  /// `fields` are sent as a form; what they hold is in no error.
  func token(clientID: String, _ fields: [(String, Secret)]) async throws(GatewayError) -> AccessToken {
    var pairs = [
      ("client_id", clientID), ("grant_type", "client_credentials"), ("scope", "\(endpoints.audience)/.default"),
    ]
    pairs += fields.map { ($0.0, $0.1.reveal()) }
    let form = pairs.map { "\($0.0)=\(URLText.encoded($0.1))" }.joined(separator: "&")
    let id = sender.services.random.uuid()
    // The authority reads the second name, and answers with it as its correlation id.
    let ids = ["x-ms-client-request-id", "client-request-id"].map { HTTPHeader($0, id) }
    let request = HTTPRequest(
      .post, url,
      headers: [
        HTTPHeader("Content-Type", "application/x-www-form-urlencoded"), HTTPHeader("Accept", "application/json"),
      ] + ids, body: Array(form.utf8))
    let deadline = sender.services.time.monotonicNow().adding(seconds: TokenLimits.fetchSeconds)
    let response: HTTPResponse
    do throws(GatewayError) {
      response = try await sender.send(request, safe: true, deadline: deadline, while: "sign in to Azure")
    } catch {
      var error = error
      if error.code != AzureFaultCode.cancelled { error.message += " [client request \(id)]" }
      throw error
    }
    guard response.status == 200 else { throw refusal(response, id) }
    guard let answer = try? JSONDecoder().decode(Answer.self, from: Data(response.body)), !answer.access_token.isEmpty
    else {
      throw GatewayError(
        code: AzureFaultCode.notUnderstood,
        message: "the token endpoint of \(endpoints.authority) answered something that is no token",
        advice: "check the integration's cloud", disposition: .needsOperator)
    }
    return AccessToken(
      value: Secret(answer.access_token),
      lifetimeSeconds: answer.expires_in?.value ?? TokenLimits.assumedLifetimeSeconds)
  }

  private func refusal(_ response: HTTPResponse, _ id: String) -> GatewayError {
    let body = try? JSONDecoder().decode(Refusal.self, from: Data(response.body))
    let text = (body?.error_description ?? body?.error ?? "no reason given")
      .split(whereSeparator: \.isNewline).joined(separator: " ").prefix(500)
    var message = "signing in to tenant \(tenantID) was refused: \(response.status) \(text)"
    let trace = (body?.trace_id ?? response.requestID).map { "trace \($0), " } ?? ""
    message += " [\(trace)correlation \(body?.correlation_id ?? id)]"
    let ahead = ClockSkew.aheadSeconds(response, now: sender.services.time.wallNow())
    return GatewayError(
      code: AzureFaultCode.signInRefused, message: message, advice: Self.advice(for: String(text), ahead),
      disposition: response.status >= 500 || response.status == 429 ? .retry(afterSeconds: 30) : .needsOperator,
      field: text.contains("AADSTS90002") || text.contains("AADSTS900023") ? .tenant : .credential)
  }

  /// The codes that people meet, learn.microsoft.com/entra/identity-platform/reference-error-codes.
  private static func advice(for text: String, _ clockAheadSeconds: Double?) -> String {
    if text.contains("AADSTS7000215") { return "the client secret is wrong: use the secret's value, not its id" }
    if text.contains("AADSTS7000222") { return "the client secret has expired: make a new one" }
    if text.contains("AADSTS700016") { return "the client id is unknown in this tenant: check clientId and tenantId" }
    if text.contains("AADSTS90002") || text.contains("AADSTS900023") { return "no such tenant: check tenantId" }
    if text.contains("AADSTS700027"), text.contains("expired") {
      return "the certificate has expired: make a new one, and upload its public part to the application"
    }
    if text.contains("AADSTS700027") {
      return "the certificate isn't registered for this client id: upload its public part to the application"
    }
    if text.contains("AADSTS70021") || text.contains("AADSTS700213") {
      return "no federated credential of the application matches this workload: add its issuer and subject there"
    }
    if text.contains("AADSTS700024") {
      return ClockSkew.advice(clockAheadSeconds)
        ?? "the assertion isn't valid now: check this machine's clock, and that what keeps a token file fresh still runs"
    }
    if text.contains("AADSTS50027") {
      return "the token isn't one of its issuer's, or was cut short: check what writes it"
    }
    return "check the integration's tenantId and credential"
  }
}

/// A number, or a number in quotes as the metadata service has it.
struct FlexibleNumber: Decodable {
  var value: Double
  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let number = try? container.decode(Double.self) {
      value = number
    } else {
      let text = try container.decode(String.self)
      guard let number = Double(text) else {
        throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a number")
      }
      value = number
    }
  }
}

/// A client secret that the plan names.
struct ClientSecretSource: TokenSource {
  let name = "client secret"
  let endpoint: TokenEndpoint
  let clientID: String
  let reference: SecretReference
  let reader: SecretReader

  func fetch() async throws(TokenFailure) -> AccessToken {
    let (reader, reference) = (reader, reference)
    let secret: Result<Secret, GatewayError>
    do {
      secret = try await onBlockingThread { () -> Result<Secret, GatewayError> in
        do throws(GatewayError) { return .success(try reader.read(reference)) } catch { return .failure(error) }
      }
    } catch {
      throw .failed(busy("read the client secret", error))
    }
    do throws(GatewayError) {
      return try await endpoint.token(clientID: clientID, [("client_secret", secret.get())])
    } catch {
      throw .failed(error)
    }
  }
}

/// Variables of the environment, where an empty one is none.
struct Variables: Sendable {
  let environment: [String: String]
  subscript(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }

  /// The client id that goes with a source of `AZURE_*` or `ARM_*` variables.
  var clientID: String? { self["AZURE_CLIENT_ID"] ?? self["ARM_CLIENT_ID"] }

  /// Whether Terraform's switch of this name is set to a refusal.
  func refuses(_ name: String) -> Bool { ["false", "0"].contains(self[name]?.lowercased() ?? "") }
}

/// A service principal from `AZURE_*`, or from `ARM_*` as Terraform's users have them: a secret or a certificate.
struct EnvironmentSource: TokenSource {
  let name = "environment"
  let endpoint: TokenEndpoint
  let environment: [String: String]

  func fetch() async throws(TokenFailure) -> AccessToken {
    let variables = Variables(environment: environment)
    for prefix in ["AZURE", "ARM"] {
      guard let clientID = variables["\(prefix)_CLIENT_ID"] else { continue }
      if let secret = variables["\(prefix)_CLIENT_SECRET"] {
        do throws(GatewayError) {
          return try await endpoint.token(clientID: clientID, [("client_secret", Secret(secret))])
        } catch {
          throw .failed(error)
        }
      }
      if let file = variables["\(prefix)_CLIENT_CERTIFICATE_PATH"] {
        let password = variables["\(prefix)_CLIENT_CERTIFICATE_PASSWORD"].map { Secret($0) }
        let source = ClientCertificateSource(
          name: name, endpoint: endpoint, clientID: clientID, certificateFile: file
        ) { () throws(GatewayError) in password }
        return try await source.fetch()
      }
    }
    throw .notConfigured(
      "neither AZURE_CLIENT_ID nor ARM_CLIENT_ID is set together with its _CLIENT_SECRET or _CLIENT_CERTIFICATE_PATH")
  }
}

/// Workload identity federation: the assertion is a file that something else keeps fresh, so it is read each time; or
/// GitHub's own, fetched each time.
struct WorkloadIdentitySource: TokenSource {
  let name = "workload identity"
  let endpoint: TokenEndpoint
  let environment: [String: String]

  static let gitHubAudience = "api://AzureADTokenExchange"

  func fetch() async throws(TokenFailure) -> AccessToken {
    let variables = Variables(environment: environment)
    let file = variables["AZURE_FEDERATED_TOKEN_FILE"] ?? variables["ARM_OIDC_TOKEN_FILE_PATH"]
    let text = variables["ARM_OIDC_TOKEN"]
    let requestURL = variables["ARM_OIDC_REQUEST_URL"] ?? variables["ACTIONS_ID_TOKEN_REQUEST_URL"]
    guard file != nil || text != nil || requestURL != nil else {
      throw .notConfigured(
        "none of AZURE_FEDERATED_TOKEN_FILE, ARM_OIDC_TOKEN, ARM_OIDC_TOKEN_FILE_PATH and "
          + "ACTIONS_ID_TOKEN_REQUEST_URL set")
    }
    guard !variables.refuses("ARM_USE_OIDC") else { throw .notConfigured("ARM_USE_OIDC is false") }
    guard let clientID = variables.clientID else {
      throw .notConfigured("neither AZURE_CLIENT_ID nor ARM_CLIENT_ID set")
    }
    do throws(GatewayError) {
      let assertion: Secret
      if let file {
        assertion = try await Self.read(file)
      } else if let text {
        assertion = Secret(text)
      } else {
        let bearer = variables["ARM_OIDC_REQUEST_TOKEN"] ?? variables["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]
        assertion = try await gitHubToken(requestURL ?? "", bearer)
      }
      return try await endpoint.token(clientID: clientID, assertion: assertion)
    } catch {
      throw .failed(error)
    }
  }

  private static func read(_ path: String) async throws(GatewayError) -> Secret {
    let read: Result<String, GatewayError>
    do {
      read = try await onBlockingThread { () -> Result<String, GatewayError> in
        do throws(GatewayError) { return .success(try SecretReader.text(ofFile: path)) } catch {
          return .failure(error)
        }
      }
    } catch {
      throw busy("read the federated token", error)
    }
    return Secret(try read.get())
  }

  private struct GitHubAnswer: Decodable {
    var value: String
  }

  /// Source: docs.github.com/actions/reference/openid-connect-reference, "Requesting the JWT".
  private func gitHubToken(_ url: String, _ bearer: String?) async throws(GatewayError) -> Secret {
    func refused(_ why: String, _ advice: String) -> GatewayError {
      GatewayError(
        code: AzureFaultCode.signInRefused, message: "GitHub gave no identity token: \(why)", advice: advice,
        disposition: .needsOperator)
    }
    let permission = "give the job 'permissions: id-token: write'"
    guard let bearer else { throw refused("ACTIONS_ID_TOKEN_REQUEST_TOKEN isn't set", permission) }
    guard URLText.scheme(of: url) == "https" || URLText.isLoopback(url) else {
      throw refused("ACTIONS_ID_TOKEN_REQUEST_URL is no https URL", "run in a GitHub workflow")
    }
    let mark = url.contains("?") ? "&" : "?"
    let request = HTTPRequest(
      .get, "\(url)\(mark)audience=\(URLText.encoded(Self.gitHubAudience))",
      headers: [HTTPHeader("Authorization", "Bearer \(bearer)"), HTTPHeader("Accept", "application/json")])
    let sender = endpoint.sender
    let deadline = sender.services.time.monotonicNow().adding(seconds: TokenLimits.fetchSeconds)
    let response = try await sender.send(
      request, safe: true, deadline: deadline, while: "ask GitHub for an identity token")
    guard response.status == 200,
      let answer = try? JSONDecoder().decode(GitHubAnswer.self, from: Data(response.body)), !answer.value.isEmpty
    else { throw refused("it answered \(response.status)", permission) }
    return Secret(answer.value)
  }
}

/// The metadata service of an Azure VM or of a pod.
struct ManagedIdentitySource: TokenSource {
  let name = "managed identity"
  let transport: any HTTPTransport
  let services: ClientServices
  let audience: String
  let environment: [String: String]

  private struct Answer: Decodable {
    var access_token: String
    var expires_in: FlexibleNumber?
  }

  /// While an identity is being assigned the service answers so for a while.
  private static let passing: Set<Int> = [404, 410, 429, 500, 502, 503, 504]
  private static let attempts = 4

  func fetch() async throws(TokenFailure) -> AccessToken {
    let variables = Variables(environment: environment)
    guard !variables.refuses("ARM_USE_MSI") else { throw .notConfigured("ARM_USE_MSI is false") }
    let request = request(variables)
    var response: HTTPResponse
    do throws(HTTPTransportError) {
      response = try await transport.send(request)
      for attempt in 1..<Self.attempts where Self.passing.contains(response.status) {
        do throws(GatewayError) {
          try await services.wait(seconds: Double(1 << attempt) / 4, why: "the metadata service isn't ready")
        } catch {
          break
        }
        response = try await transport.send(request)
      }
    } catch {
      if error.code == .cancelled { throw .failed(ClientServices.cancelled) }
      throw .notConfigured("no metadata service answers here")
    }
    guard response.status == 200, let answer = try? JSONDecoder().decode(Answer.self, from: Data(response.body)) else {
      let which = variables["AZURE_CLIENT_ID"].map { " with client id \($0)" } ?? ""
      throw .notConfigured("the metadata service answered \(response.status): no identity\(which) is assigned")
    }
    return AccessToken(
      value: Secret(answer.access_token),
      lifetimeSeconds: answer.expires_in?.value ?? TokenLimits.assumedLifetimeSeconds)
  }

  /// Of a virtual machine or a pod; of App Service and Functions, where they say so.
  private func request(_ variables: Variables) -> HTTPRequest {
    var url: String
    let headers: [HTTPHeader]
    let resource = URLText.encoded(audience)
    if let endpoint = variables["IDENTITY_ENDPOINT"], let key = variables["IDENTITY_HEADER"] {
      url = "\(endpoint)?api-version=2019-08-01&resource=\(resource)"
      headers = [HTTPHeader("X-IDENTITY-HEADER", key)]
    } else {
      var host = variables["AZURE_POD_IDENTITY_AUTHORITY_HOST"] ?? "http://169.254.169.254"
      while host.hasSuffix("/") { host.removeLast() }
      url = "\(host)/metadata/identity/oauth2/token?api-version=2018-02-01&resource=\(resource)"
      headers = [HTTPHeader("Metadata", "true")]
    }
    if let clientID = variables["AZURE_CLIENT_ID"] { url += "&client_id=\(URLText.encoded(clientID))" }
    let id = HTTPHeader("x-ms-client-request-id", services.random.uuid())
    var request = HTTPRequest(.get, url, headers: headers + [id], timeoutSeconds: TokenLimits.metadataSeconds)
    request.usesProxy = false
    return request
  }
}

/// Whoever is signed in to the az CLI.
struct AzureCLISource: TokenSource {
  let name = "az CLI"
  let children: any ChildProcesses
  let audience: String
  let tenantID: String
  let environment: [String: String]
  let time: any TimeSource

  private struct Answer: Decodable {
    var accessToken: String
    var expires_on: FlexibleNumber?
  }

  func fetch() async throws(TokenFailure) -> AccessToken {
    guard !Variables(environment: environment).refuses("ARM_USE_CLI") else {
      throw .notConfigured("ARM_USE_CLI is false")
    }
    guard let executable = find("az") else { throw .notConfigured("az is not on PATH") }
    let command = ChildCommand(
      executable: executable,
      arguments: [
        "account", "get-access-token", "--output", "json", "--resource", audience, "--tenant", tenantID,
      ], environment: environment, timeoutSeconds: TokenLimits.azureCLISeconds)
    let children = children
    let result: ChildResult
    do {
      result = try await onBlockingThread { try children.run(command) }
    } catch {
      throw .notConfigured("az can't be run")
    }
    guard result.succeeded, let answer = try? JSONDecoder().decode(Answer.self, from: Data(result.output)) else {
      throw .notConfigured("az has no token: run 'az login --tenant \(tenantID)'")
    }
    let lifetime = answer.expires_on.map { $0.value - time.wallNow().secondsSince1970 }
    return AccessToken(
      value: Secret(answer.accessToken), lifetimeSeconds: lifetime ?? TokenLimits.assumedLifetimeSeconds)
  }

  private func find(_ name: String) -> String? {
    for directory in (environment["PATH"] ?? "").split(separator: ":") where directory.hasPrefix("/") {
      let path = "\(directory)/\(name)"
      if FileManager.default.isExecutableFile(atPath: path) { return path }
    }
    return nil
  }
}

func busy(_ action: String, _ error: any Error) -> GatewayError {
  GatewayError(
    code: AzureFaultCode.secretMissing, message: "could not \(action): \(error)", advice: "run again",
    disposition: .retry(afterSeconds: 5))
}
