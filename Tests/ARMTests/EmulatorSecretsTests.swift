import Foundation
import Testing

@testable import ARMEmulator

/// What a client may send and nobody may find.
@Suite struct EmulatorSecretsTests {
  private static let secrets = ["hunter2", "Y2xvdWQtaW5pdA==", "dXNlcg==", "<AdminPassword>"]
  private static let body = #"""
    {"location": "westeurope", "properties": {
      "hardwareProfile": {"vmSize": "Standard_D4s_v5"}, "userData": "dXNlcg==",
      "osProfile": {"computerName": "new", "adminUsername": "azureuser", "adminPassword": "hunter2",
        "customData": "Y2xvdWQtaW5pdA==", "windowsConfiguration": {"provisionVMAgent": true,
          "additionalUnattendContent": [{"content": "<AdminPassword>"}]}}}}
    """#

  private static func stored(_ cloud: EmulatedCloud) throws -> String {
    String(decoding: try JSONEncoder().encode(cloud.state), as: UTF8.self)
  }

  @Test func theStateKeepsNoSecretOfAMachine() throws {
    let configuration = EmulatorConfiguration(
      stateDirectory: "/nowhere", machines: [], clientSecret: "s", throttling: false)
    var cloud = EmulatedCloud(configuration, state: CloudState(), makeUUID: { UUID().uuidString.lowercased() })
    cloud.tokens["t"] = IssuedToken(endsAt: 4e9)
    let url =
      "/subscriptions/\(configuration.subscription)/resourceGroups/\(configuration.resourceGroup)/providers"
      + "/Microsoft.Compute/virtualMachines/new?api-version=2024-11-01"
    let reply = cloud.reply(
      to: EmulatorRequest(
        method: "PUT", url: "http://127.0.0.1\(url)",
        headers: [("Authorization", "Bearer t"), ("Content-Type", "application/json")], body: Array(Self.body.utf8)),
      now: 1e9)
    #expect(reply.response.status == 201, "\(String(decoding: reply.response.body?.bytes ?? [], as: UTF8.self))")
    let text = try Self.stored(cloud)
    #expect(text.contains("azureuser"))
    for secret in Self.secrets { #expect(!text.contains(secret)) }
  }

  @Test func whatAnEarlierOneKeptIsForgotten() throws {
    var state = CloudState()
    state.machines["old"] = StoredMachine(
      name: "old", location: "westeurope", size: "Standard_D4s_v5", identifier: "i", timeCreated: "t", isNew: false)
    let profile = try JSONDecoder().decode(JSONValue.self, from: Data(Self.body.utf8))["properties"]
    state.machines["old"]?.profile = try #require(profile)
    let cloud = EmulatedCloud(
      EmulatorConfiguration(stateDirectory: "/nowhere", machines: [], clientSecret: "s", throttling: false),
      state: state, makeUUID: { "u" })
    let text = try Self.stored(cloud)
    #expect(text.contains("azureuser"))
    for secret in Self.secrets { #expect(!text.contains(secret)) }
  }

  @Test func onlySignInsThatAreCheckedAreOffered() throws {
    var cloud = EmulatedCloud(
      EmulatorConfiguration(stateDirectory: "/nowhere", machines: [], clientSecret: "s", throttling: false),
      state: CloudState(), makeUUID: { "u" })
    let url = "http://127.0.0.1/\(EmulatorConfiguration.defaultTenant)/v2.0/.well-known/openid-configuration"
    let reply = cloud.reply(to: EmulatorRequest(method: "GET", url: url, headers: [], body: []), now: 1e9)
    #expect(
      reply.response.body?["token_endpoint_auth_methods_supported"] == ["client_secret_post", "private_key_jwt"])
  }
}
