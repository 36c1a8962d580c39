import BlockModel
import Foundation
import LinuxPlatform
package import MigrationModel
import Planning
package import Reconciling
package import Seams

/// What a wait for Azure is about, for the operator to see: "waiting for Azure: 40 s (throttled: …)".
package struct AzureWait: Sendable, Equatable, CustomStringConvertible {
  package var seconds: Double
  package var why: String
  package init(seconds: Double, why: String) {
    self.seconds = seconds
    self.why = why
  }
  package var description: String {
    let shown = seconds < 10 ? (seconds * 10).rounded() / 10 : seconds.rounded()
    let number = shown == shown.rounded() ? String(Int(saturating: shown)) : String(shown)
    return "waiting for Azure: \(number) s (\(why))"
  }
}

/// Azure Resource Manager as the reconciler needs it, for one integration of a plan.
package final class AzureGateway: CloudGateway {
  let integration: AzureIntegration
  let connection: ARMConnection
  let tokens: TokenProvider

  /// `environment` is where credentials and `{env: NAME}` secrets are looked up; `children` runs the az CLI, and where
  /// it is nil that source is left out. `onWait` may be called from any thread, before each wait of a second or more.
  /// Makes no request: a wrong credential shows at the first call.
  package convenience init(
    integration: AzureIntegration, time: any TimeSource, random: any RandomSource, environment: [String: String],
    children: (any ChildProcesses)? = nil, onWait: @escaping @Sendable (AzureWait) -> Void = { _ in }
  ) throws(GatewayError) {
    let endpoints = AzureEndpoints(integration.cloud)
    let transport: CurlTransport
    do throws(HTTPTransportError) {
      transport = try CurlTransport(
        CurlSettings(certificateAuthorityFile: endpoints.certificateAuthorityFile, environment: environment))
    } catch {
      throw GatewayError(
        code: AzureFaultCode.unreachable, message: "no request to Azure can be made: \(error.message)", advice: "",
        disposition: .terminal)
    }
    let services = ClientServices(time: time, random: random, pauses: TaskPause(), onWait: onWait)
    try self.init(
      integration: integration, transport: transport, services: services, environment: environment,
      children: children)
  }

  /// With a network and clocks of the caller's, and perhaps its own sources of tokens: tests and simulations.
  package init(
    integration: AzureIntegration, transport: any HTTPTransport, services: ClientServices,
    environment: [String: String], children: (any ChildProcesses)? = nil, sources given: [any TokenSource]? = nil
  ) throws(GatewayError) {
    let endpoints = AzureEndpoints(integration.cloud)
    for url in [endpoints.authority, endpoints.resourceManager] {
      guard URLText.origin(of: url) != nil else {
        throw GatewayError(
          code: AzureFaultCode.invalidReference,
          message: "'\(url)' of integration '\(integration.name)' is no http or https URL",
          advice: "write it as https://HOST[:PORT]", disposition: .terminal)
      }
      guard URLText.scheme(of: url) == "https" || URLText.isLoopback(url) else {
        throw GatewayError(
          code: AzureFaultCode.unsafeEndpoint,
          message: "'\(url)' of integration '\(integration.name)' would carry secrets unencrypted",
          advice: "use https; http is for this machine's own addresses", disposition: .terminal)
      }
    }
    let sender = RetryingSender(
      transport: transport, services: services, budgets: SharedBudgets(knowsRates: endpoints.knowsRates))
    let sources =
      if let given { given } else {
        try Self.tokenSources(
          integration, endpoints: endpoints, sender: sender, environment: environment, children: children)
      }
    self.integration = integration
    tokens = TokenProvider(sources: sources, time: services.time)
    connection = ARMConnection(endpoints: endpoints, sender: sender, tokens: tokens)
  }

  static func tokenSources(
    _ integration: AzureIntegration, endpoints: AzureEndpoints, sender: RetryingSender, environment: [String: String],
    children: (any ChildProcesses)?
  ) throws(GatewayError) -> [any TokenSource] {
    let endpoint = TokenEndpoint(endpoints: endpoints, tenantID: integration.tenantID, sender: sender)
    switch integration.credential {
    case .clientSecret(let clientID, let reference):
      return [
        ClientSecretSource(
          endpoint: endpoint, clientID: clientID, reference: reference,
          reader: SecretReader(environment: environment))
      ]
    case .clientCertificate(let clientID, let file, let password):
      let reader = SecretReader(environment: environment)
      return [
        ClientCertificateSource(
          name: "client certificate", endpoint: endpoint, clientID: clientID, certificateFile: file
        ) { () throws(GatewayError) in
          guard let password else { return nil }
          return try reader.read(password)
        }
      ]
    case .ambient:
      var sources: [any TokenSource] = [
        EnvironmentSource(endpoint: endpoint, environment: environment),
        WorkloadIdentitySource(endpoint: endpoint, environment: environment),
        ManagedIdentitySource(
          transport: sender.transport, services: sender.services, audience: endpoints.audience, environment: environment
        ),
      ]
      if let children {
        sources.append(
          AzureCLISource(
            children: children, audience: endpoints.audience, tenantID: integration.tenantID,
            environment: environment, time: sender.services.time))
      }
      return sources
    }
  }

  /// Signs in, where nobody did yet, and says by which credential. No secret is in it.
  package func credentialReport() async -> CredentialReport {
    var failure: GatewayError?
    do throws(GatewayError) { _ = try await tokens.token() } catch { failure = error }
    return CredentialReport(attempts: await tokens.attempts, failure: failure)
  }

  func newDeadline() -> MonotonicTime {
    connection.services.time.monotonicNow().adding(seconds: AzureLimits.callSeconds)
  }

  /// How long to leave others alone with a resource before looking at it again.
  var contentionSeconds: Double {
    let pace = connection.endpoints.minimumPollSeconds
    return pace + pace * connection.services.chance()
  }

  /// A full resource id of `type`, or a name in the integration's resource group.
  func reference(_ text: String, type: String) throws(GatewayError) -> ARMResourceID {
    if let id = ARMResourceID(text), id.type.lowercased() == type.lowercased() {
      return ARMResourceID(
        subscription: id.subscription, resourceGroup: id.resourceGroup, type: type, name: id.name)
    }
    guard !text.isEmpty, !text.contains("/") else {
      throw GatewayError(
        code: AzureFaultCode.invalidReference, message: "'\(text)' is no name and no resource id of \(type)",
        advice: "write NAME, or /subscriptions/…/resourceGroups/…/providers/Microsoft.Compute/\(type)/NAME",
        disposition: .terminal)
    }
    return ARMResourceID(
      subscription: integration.subscriptionID, resourceGroup: integration.resourceGroup, type: type, name: text)
  }

  func encode(_ body: some Encodable) throws(GatewayError) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do {
      return Array(try encoder.encode(body))
    } catch {
      throw GatewayError(
        code: AzureFaultCode.invalidReference, message: "a request to Azure can't be written as JSON: \(error)",
        advice: "", disposition: .terminal)
    }
  }

  func missing(_ kind: String, _ id: ARMResourceID, _ answer: CloudAnswer?) -> GatewayError {
    GatewayError(
      code: AzureFaultCode.resourceMissing,
      message: "\(kind) '\(id.name)' doesn't exist in resource group '\(id.resourceGroup)' of subscription "
        + id.subscription + (answer?.note ?? ""),
      advice: "check the name and the integration's resource group; one that was deleted has to be made again first",
      disposition: .needsOperator, field: id.type == "virtualMachines" ? .machine : .diskName)
  }

  static func deadlinePassed(_ action: String) -> GatewayError {
    GatewayError(
      code: AzureFaultCode.deadlinePassed,
      message: "Azure had not finished after \(Int(AzureLimits.callSeconds / 60)) minutes to \(action)",
      advice: "it goes on; run again to wait for it", disposition: .retry(afterSeconds: 60))
  }
}
