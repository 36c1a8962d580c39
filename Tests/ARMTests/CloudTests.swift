import ARMClient
import BlockModel
import Foundation
import LinuxPlatform
import MigrationModel
import Reconciling
import TestSupport
import Testing

/// Where each cloud's requests go, and what tokens are asked for.
@Suite struct CloudTests {
  @Test(arguments: [
    (
      AzureIntegration.Cloud.public, "https://login.microsoftonline.com", "https://management.azure.com",
      "https://management.azure.com"
    ),
    (
      .usGovernment, "https://login.microsoftonline.us", "https://management.usgovcloudapi.net",
      "https://management.usgovcloudapi.net"
    ),
    (
      .china, "https://login.chinacloudapi.cn", "https://management.chinacloudapi.cn",
      "https://management.chinacloudapi.cn"
    ),
    (
      .custom(
        authority: "https://sts.example.com/", resourceManager: "https://arm.example.com",
        certificateAuthorityFile: nil), "https://sts.example.com", "https://arm.example.com",
      "https://management.azure.com"
    ),
  ]) func eachCloudHasItsOwnAddresses(
    cloud: AzureIntegration.Cloud, authority: String, manager: String, audience: String
  ) async throws {
    var integration = World.integration("https://scripted")
    integration.cloud = cloud
    let transport = ScriptedTransport([
      ScriptedTransport.token,
      ScriptedTransport.answer(404, #"{"error":{"code":"ResourceNotFound","message":"m"}}"#),
    ])
    let time = ManualTime()
    let services = ClientServices(time: time, random: SeededRandom(seed: 7), pauses: InstantPauses(time)) { _ in }
    let gateway = try AzureGateway(
      integration: integration, transport: transport, services: services,
      environment: ["LAB_SECRET": World.secretValue])
    #expect(try await gateway.machine("erp-db") == nil)
    let urls = transport.requests.map(\.url)
    #expect(urls[0] == "\(authority)/\(integration.tenantID)/oauth2/v2.0/token")
    #expect(urls[1].hasPrefix("\(manager)/subscriptions/"))
    let form = CredentialTests.form(transport.requests[0]).removingPercentEncoding
    #expect(form?.contains("scope=\(audience)/.default&") == true)
  }
}
