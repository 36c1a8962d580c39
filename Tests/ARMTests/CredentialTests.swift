import ARMClient
import BlockModel
import Foundation
import LinuxPlatform
import MigrationModel
import Reconciling
import Seams
import Synchronization
import TestSupport
import Testing

/// Where a credential comes from when the plan names none.
@Suite(.timeLimit(.minutes(10))) struct CredentialTests {
  static let missing = ScriptedTransport.answer(404, #"{"error":{"code":"ResourceNotFound","message":"m"}}"#)

  static func ambient(
    _ environment: [String: String], _ steps: [ScriptedTransport.Step], children: (any ChildProcesses)? = nil
  ) throws -> (AzureGateway, ScriptedTransport) {
    var integration = World.integration("https://scripted")
    integration.credential = .ambient
    let time = ManualTime()
    let transport = ScriptedTransport(steps)
    let services = ClientServices(time: time, random: SeededRandom(seed: 1), pauses: InstantPauses(time)) { _ in }
    let gateway = try AzureGateway(
      integration: integration, transport: transport, services: services, environment: environment, children: children)
    return (gateway, transport)
  }

  static func form(_ request: HTTPRequest?) -> String { String(decoding: request?.body ?? [], as: UTF8.self) }

  @Test(arguments: ["AZURE", "ARM"]) func aServicePrincipalOfTheEnvironmentIsUsed(prefix: String) async throws {
    let (gateway, transport) = try Self.ambient(
      ["\(prefix)_CLIENT_ID": "app", "\(prefix)_CLIENT_SECRET": "p&ss=w rd"], [ScriptedTransport.token, Self.missing])
    #expect(try await gateway.machine("erp-db") == nil)
    #expect(transport.requests[0].url.hasSuffix("/oauth2/v2.0/token"))
    #expect(Self.form(transport.requests[0]).contains("client_secret=p%26ss%3Dw%20rd"))
    #expect(transport.requests[1].headers.contains(HTTPHeader("Authorization", "Bearer scripted-token")))
    #expect(await gateway.credentialReport().attempts.map(\.source) == ["environment"])
  }

  @Test func aFederatedTokenIsReadFromItsFileEachTime() async throws {
    let file = FileManager.default.temporaryDirectory.path + "/cmc-token-\(SystemRandom().uuid())"
    defer { try? Files.remove(file) }
    try Files.replace(file, with: Array("first.jwt\n".utf8))
    let (gateway, transport) = try Self.ambient(
      ["AZURE_CLIENT_ID": "app", "AZURE_FEDERATED_TOKEN_FILE": file],
      [
        ScriptedTransport.token,
        { _ in
          // Between one token and the next whoever keeps the file fresh has changed it.
          try? Files.replace(file, with: Array("second.jwt\n".utf8))
          return HTTPResponse(status: 401)
        }, ScriptedTransport.token, Self.missing,
      ])
    #expect(try await gateway.machine("erp-db") == nil)
    #expect(Self.form(transport.requests[0]).contains("client_assertion=first.jwt"))
    #expect(Self.form(transport.requests[0]).contains("client_assertion_type=urn%3Aietf%3Aparams%3Aoauth"))
    #expect(Self.form(transport.requests[2]).contains("client_assertion=second.jwt"))
    #expect(await gateway.credentialReport().attempts.map(\.source) == ["environment", "workload identity"])
  }

  @Test func aManagedIdentityAnswersWithNumbersInQuotes() async throws {
    let answer = #"{"access_token":"msi","expires_in":"86399","expires_on":"1700000000","token_type":"Bearer"}"#
    let (gateway, transport) = try Self.ambient(
      ["AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:1/"],
      [ScriptedTransport.answer(200, answer), Self.missing])
    #expect(try await gateway.machine("erp-db") == nil)
    let request = transport.requests[0]
    #expect(request.url.hasPrefix("http://127.0.0.1:1/metadata/identity/oauth2/token?api-version=2018-02-01&resource="))
    #expect(request.headers.first == HTTPHeader("Metadata", "true"))
    #expect(request.headers.map(\.name) == ["Metadata", "x-ms-client-request-id"])
    #expect(!request.usesProxy)
    #expect(transport.requests[1].headers.contains(HTTPHeader("Authorization", "Bearer msi")))
  }

  @Test func theAzureCLIComesLast() async throws {
    let children = FakeCLI()
    let directory = FileManager.default.temporaryDirectory.path + "/cmc-az-\(SystemRandom().uuid())"
    defer { try? Files.removeTree(directory) }
    try Files.makeDirectories(directory)
    try Files.replace("\(directory)/az", with: Array("#!/bin/false\n".utf8), mode: 0o755)
    let (gateway, transport) = try Self.ambient(
      ["PATH": "/nowhere:\(directory)"],
      [ScriptedTransport.fail(.timedOut, mayHaveArrived: false), Self.missing], children: children)
    #expect(try await gateway.machine("erp-db") == nil)
    #expect(transport.requests[1].headers.contains(HTTPHeader("Authorization", "Bearer from-az")))
    #expect(children.commands.first?.arguments.prefix(2) == ["account", "get-access-token"])
    let attempts = await gateway.credentialReport().attempts
    #expect(attempts.map(\.source) == ["environment", "workload identity", "managed identity", "az CLI"])
    #expect(attempts.last?.skippedBecause == nil)
    #expect(attempts[2].skippedBecause == "no metadata service answers here")
  }

  @Test func withoutAnyCredentialEachReasonIsNamed() async throws {
    let (gateway, _) = try Self.ambient([:], [ScriptedTransport.fail(.connectFailed, mayHaveArrived: false)])
    let error = await #expect(throws: GatewayError.self) { try await gateway.machine("erp-db") }
    #expect(error?.code == "CMC3118")
    for part in ["environment:", "workload identity:", "managed identity:"] {
      #expect(error?.message.contains(part) == true)
    }
  }
}

/// Signs in at once and remembers how it was called.
final class FakeCLI: ChildProcesses {
  private let seen = Mutex<[ChildCommand]>([])
  var commands: [ChildCommand] { seen.withLock { $0 } }
  func run(_ command: ChildCommand) throws(ChildError) -> ChildResult {
    seen.withLock { $0.append(command) }
    let answer = #"{"accessToken":"from-az","expires_on":1893460000,"tokenType":"Bearer"}"#
    return ChildResult(ending: .exited(0), output: Array(answer.utf8), errorOutput: [], outputTruncated: false)
  }
}
