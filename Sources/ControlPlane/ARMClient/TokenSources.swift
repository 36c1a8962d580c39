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
    var correlation_id: String?
  }

  /// `fields` are sent as a form; what they hold is in no error.
  func token(clientID: String, _ fields: [(String, Secret)]) async throws(GatewayError) -> AccessToken {
    let url = "\(endpoints.authority)/\(URLText.encoded(tenantID))/oauth2/v2.0/token"
    var pairs = [
      ("client_id", clientID), ("grant_type", "client_credentials"), ("scope", "\(endpoints.audience)/.default"),
    ]
    pairs += fields.map { ($0.0, $0.1.reveal()) }
    let form = pairs.map { "\($0.0)=\(URLText.encoded($0.1))" }.joined(separator: "&")
    let request = HTTPRequest(
      .post, url,
      headers: [
        HTTPHeader("Content-Type", "application/x-www-form-urlencoded"), HTTPHeader("Accept", "application/json"),
      ], body: Array(form.utf8))
    let deadline = sender.services.time.monotonicNow().adding(seconds: TokenLimits.fetchSeconds)
    let response = try await sender.send(request, safe: true, deadline: deadline, while: "sign in to Azure")
    guard response.status == 200 else { throw refusal(response) }
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

  private func refusal(_ response: HTTPResponse) -> GatewayError {
    let body = try? JSONDecoder().decode(Refusal.self, from: Data(response.body))
    let text = (body?.error_description ?? body?.error ?? "no reason given")
      .split(whereSeparator: \.isNewline).joined(separator: " ").prefix(500)
    var message = "signing in to tenant \(tenantID) was refused: \(response.status) \(text)"
    if let id = body?.correlation_id { message += " [correlation \(id)]" }
    return GatewayError(
      code: AzureFaultCode.signInRefused, message: message, advice: Self.advice(for: String(text)),
      disposition: response.status >= 500 || response.status == 429 ? .retry(afterSeconds: 30) : .needsOperator)
  }

  /// The codes that people meet, learn.microsoft.com/entra/identity-platform/reference-error-codes.
  private static func advice(for text: String) -> String {
    if text.contains("AADSTS7000215") { return "the client secret is wrong: use the secret's value, not its id" }
    if text.contains("AADSTS7000222") { return "the client secret has expired: make a new one" }
    if text.contains("AADSTS700016") { return "the client id is unknown in this tenant: check clientId and tenantId" }
    if text.contains("AADSTS90002") || text.contains("AADSTS900023") { return "no such tenant: check tenantId" }
    if text.contains("AADSTS700024") { return "the assertion isn't valid now: check this machine's clock" }
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

/// A service principal from `AZURE_*`, or from `ARM_*` as Terraform's users have them.
struct EnvironmentSource: TokenSource {
  let name = "environment"
  let endpoint: TokenEndpoint
  let environment: [String: String]

  func fetch() async throws(TokenFailure) -> AccessToken {
    for prefix in ["AZURE", "ARM"] {
      guard let clientID = variable("\(prefix)_CLIENT_ID"), let secret = variable("\(prefix)_CLIENT_SECRET") else {
        continue
      }
      do throws(GatewayError) {
        return try await endpoint.token(clientID: clientID, [("client_secret", Secret(secret))])
      } catch {
        throw .failed(error)
      }
    }
    throw .notConfigured("neither AZURE_CLIENT_ID and AZURE_CLIENT_SECRET nor ARM_CLIENT_ID and ARM_CLIENT_SECRET set")
  }

  private func variable(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
}

/// Workload identity federation: the assertion is a file that something else keeps fresh, so it is read each time.
struct WorkloadIdentitySource: TokenSource {
  let name = "workload identity"
  let endpoint: TokenEndpoint
  let environment: [String: String]

  func fetch() async throws(TokenFailure) -> AccessToken {
    guard let path = environment["AZURE_FEDERATED_TOKEN_FILE"], !path.isEmpty else {
      throw .notConfigured("AZURE_FEDERATED_TOKEN_FILE not set")
    }
    guard let clientID = environment["AZURE_CLIENT_ID"], !clientID.isEmpty else {
      throw .notConfigured("AZURE_CLIENT_ID not set")
    }
    let read: Result<String, GatewayError>
    do {
      read = try await onBlockingThread { () -> Result<String, GatewayError> in
        do throws(GatewayError) { return .success(try SecretReader.text(ofFile: path)) } catch {
          return .failure(error)
        }
      }
    } catch {
      throw .failed(busy("read the federated token", error))
    }
    do throws(GatewayError) {
      let assertion = Secret(try read.get())
      return try await endpoint.token(
        clientID: clientID,
        [
          ("client_assertion_type", Secret("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")),
          ("client_assertion", assertion),
        ])
    } catch {
      throw .failed(error)
    }
  }
}

/// The metadata service of an Azure VM or of a pod.
struct ManagedIdentitySource: TokenSource {
  let name = "managed identity"
  let transport: any HTTPTransport
  let audience: String
  let environment: [String: String]

  private struct Answer: Decodable {
    var access_token: String
    var expires_in: FlexibleNumber?
  }

  func fetch() async throws(TokenFailure) -> AccessToken {
    var host = environment["AZURE_POD_IDENTITY_AUTHORITY_HOST"] ?? ""
    if host.isEmpty { host = "http://169.254.169.254" }
    while host.hasSuffix("/") { host.removeLast() }
    var url = "\(host)/metadata/identity/oauth2/token?api-version=2018-02-01&resource=\(URLText.encoded(audience))"
    if let clientID = environment["AZURE_CLIENT_ID"], !clientID.isEmpty {
      url += "&client_id=\(URLText.encoded(clientID))"
    }
    var request = HTTPRequest(
      .get, url, headers: [HTTPHeader("Metadata", "true")], timeoutSeconds: TokenLimits.metadataSeconds)
    request.usesProxy = false
    let response: HTTPResponse
    do throws(HTTPTransportError) {
      response = try await transport.send(request)
    } catch {
      throw .notConfigured("no metadata service answers here")
    }
    guard response.status == 200, let answer = try? JSONDecoder().decode(Answer.self, from: Data(response.body)) else {
      throw .notConfigured("the metadata service answered \(response.status): no identity is assigned")
    }
    return AccessToken(
      value: Secret(answer.access_token),
      lifetimeSeconds: answer.expires_in?.value ?? TokenLimits.assumedLifetimeSeconds)
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

private func busy(_ action: String, _ error: any Error) -> GatewayError {
  GatewayError(
    code: AzureFaultCode.secretMissing, message: "could not \(action): \(error)", advice: "run again",
    disposition: .retry(afterSeconds: 5))
}
