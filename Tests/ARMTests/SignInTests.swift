import ARMClient
import ARMEmulator
import Foundation
import LinuxPlatform
import MigrationModel
import Reconciling
import Seams
import TestSupport
import Testing

/// Signing in with a certificate, as GitHub's workflow, and as App Service.
@Suite(.timeLimit(.minutes(10))) struct SignInTests {
  /// Key and self-signed certificate made by openssl, as PEM, encrypted PEM and PFX.
  struct Certificate {
    let directory: String
    var pem: String { "\(directory)/client.pem" }
    var encrypted: String { "\(directory)/encrypted.pem" }
    var pfx: String { "\(directory)/client.pfx" }

    init() throws {
      directory = FileManager.default.temporaryDirectory.path + "/cmc-sign-\(SystemRandom().uuid())"
      try Files.makeDirectories(directory)
      try openssl([
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "\(directory)/key.pem", "-out",
        "\(directory)/certificate.pem", "-days", "2", "-subj", "/CN=client",
      ])
      let certificate = try Files.read("\(directory)/certificate.pem")
      try Files.replace(pem, with: try Files.read("\(directory)/key.pem") + certificate)
      try openssl([
        "pkcs8", "-topk8", "-in", "\(directory)/key.pem", "-out", "\(directory)/locked.pem", "-passout", "pass:p4ss",
      ])
      try Files.replace(encrypted, with: try Files.read("\(directory)/locked.pem") + certificate)
      try openssl([
        "pkcs12", "-export", "-in", "\(directory)/certificate.pem", "-inkey", "\(directory)/key.pem", "-out", pfx,
        "-passout", "pass:p4ss",
      ])
    }

    @discardableResult
    func openssl(_ arguments: [String]) throws -> String {
      let command = ChildCommand(
        executable: "/usr/bin/openssl", arguments: arguments, environment: ["PATH": "/usr/bin:/bin"], timeoutSeconds: 30
      )
      let result = try PosixChildProcesses().run(command)
      guard result.succeeded else {
        throw EmulatorError("openssl: \(String(decoding: result.errorOutput, as: UTF8.self))")
      }
      return String(decoding: result.output, as: UTF8.self)
    }

    /// Whether a peer, openssl itself, takes the signature for this certificate's.
    func verifies(_ input: String, _ signature: Data) throws -> Bool {
      let public_ = try openssl(["x509", "-in", "\(directory)/certificate.pem", "-pubkey", "-noout"])
      try Files.replace("\(directory)/public.pem", with: Array(public_.utf8))
      try Files.replace("\(directory)/input", with: Array(input.utf8))
      try Files.replace("\(directory)/signature", with: Array(signature))
      let said = try? openssl([
        "dgst", "-sha256", "-verify", "\(directory)/public.pem", "-sigopt", "rsa_padding_mode:pss", "-sigopt",
        "rsa_pss_saltlen:32", "-signature", "\(directory)/signature", "\(directory)/input",
      ])
      return said?.contains("Verified OK") == true
    }
  }

  static func decoded(_ part: Substring) -> Data {
    var text = part.replacingOccurrences(of: "-", with: "+").replacingOccurrences(of: "_", with: "/")
    while text.count % 4 != 0 { text += "=" }
    return Data(base64Encoded: text) ?? Data()
  }

  static func field(_ name: String, _ request: HTTPRequest?) -> String {
    let form = String(decoding: request?.body ?? [], as: UTF8.self)
    let pair = form.split(separator: "&").first { $0.hasPrefix("\(name)=") }
    return pair?.dropFirst(name.count + 1).removingPercentEncoding ?? ""
  }

  func check(_ assertion: String, _ certificate: Certificate) throws {
    let parts = assertion.split(separator: ".")
    try #require(parts.count == 3)
    #expect(try certificate.verifies("\(parts[0]).\(parts[1])", Self.decoded(parts[2])))
    let header = try #require(try JSONSerialization.jsonObject(with: Self.decoded(parts[0])) as? [String: String])
    #expect(header["alg"] == "PS256")
    let print = try certificate.openssl([
      "x509", "-in", "\(certificate.directory)/certificate.pem", "-noout", "-fingerprint", "-sha256",
    ])
    let hexadecimal = print.split(separator: "=").last?.filter(\.isHexDigit).lowercased() ?? ""
    let sent = Self.decoded(Substring(header["x5t#S256"] ?? "")).map { String(format: "%02x", $0) }.joined()
    #expect(sent == hexadecimal && !hexadecimal.isEmpty)
    let claims = try #require(try JSONSerialization.jsonObject(with: Self.decoded(parts[1])) as? [String: Any])
    #expect(claims["aud"] as? String == "https://scripted/\(EmulatorConfiguration.defaultTenant)/oauth2/v2.0/token")
    #expect(claims["iss"] as? String == "app" && claims["sub"] as? String == "app")
    let (from, until) = (claims["nbf"] as? Int ?? 0, claims["exp"] as? Int ?? 0)
    #expect(until > from && until - from <= 600)
  }

  @Test func aCertificateOfThePlanSignsIn() async throws {
    let certificate = try Certificate()
    defer { try? Files.removeTree(certificate.directory) }
    let password = SecretReference.environment("PFX_PASSWORD")
    for (file, secret) in [(certificate.pem, nil), (certificate.encrypted, password), (certificate.pfx, password)] {
      var integration = World.integration("https://scripted")
      integration.credential = .clientCertificate(clientID: "app", certificateFile: file, password: secret)
      let (gateway, transport) = try Self.gateway(
        integration, ["PFX_PASSWORD": "p4ss"], [ScriptedTransport.token, CredentialTests.missing])
      #expect(try await gateway.machine("erp-db") == nil)
      #expect(Self.field("client_assertion_type", transport.requests.first).hasSuffix(":jwt-bearer"))
      try check(Self.field("client_assertion", transport.requests.first), certificate)
    }
  }

  static func gateway(
    _ integration: AzureIntegration, _ environment: [String: String], _ steps: [ScriptedTransport.Step]
  ) throws -> (AzureGateway, ScriptedTransport) {
    let time = ManualTime()
    let transport = ScriptedTransport(steps)
    let services = ClientServices(time: time, random: SeededRandom(seed: 1), pauses: InstantPauses(time)) { _ in }
    let gateway = try AzureGateway(
      integration: integration, transport: transport, services: services, environment: environment)
    return (gateway, transport)
  }

  @Test(arguments: ["AZURE", "ARM"]) func aCertificateOfTheEnvironmentSignsIn(prefix: String) async throws {
    let certificate = try Certificate()
    defer { try? Files.removeTree(certificate.directory) }
    let (gateway, transport) = try CredentialTests.ambient(
      [
        "\(prefix)_CLIENT_ID": "app", "\(prefix)_CLIENT_CERTIFICATE_PATH": certificate.pfx,
        "\(prefix)_CLIENT_CERTIFICATE_PASSWORD": "p4ss",
      ], [ScriptedTransport.token, CredentialTests.missing])
    #expect(try await gateway.machine("erp-db") == nil)
    try check(Self.field("client_assertion", transport.requests.first), certificate)
  }

  @Test func aCertificateThatCannotSignInIsNamedWithoutItsPassword() async throws {
    let certificate = try Certificate()
    defer { try? Files.removeTree(certificate.directory) }
    for (file, password) in [
      (certificate.pfx, "wr0ng"), ("\(certificate.directory)/certificate.pem", ""), ("/nowhere", ""),
    ] {
      let (gateway, _) = try CredentialTests.ambient(
        [
          "AZURE_CLIENT_ID": "app", "AZURE_CLIENT_CERTIFICATE_PATH": file,
          "AZURE_CLIENT_CERTIFICATE_PASSWORD": password,
        ], [])
      let error = await #expect(throws: GatewayError.self) { try await gateway.machine("erp-db") }
      #expect(error?.code == "CMC3101")
      #expect(error?.message.contains(file) == true)
      #expect(error?.description.contains("wr0ng") == false)
    }
  }

  @Test func aGitHubWorkflowSignsInWithItsOwnToken() async throws {
    let (gateway, transport) = try CredentialTests.ambient(
      [
        "AZURE_CLIENT_ID": "app", "ACTIONS_ID_TOKEN_REQUEST_URL": "https://github.example/token?version=2",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "request-s3cret",
      ],
      [
        ScriptedTransport.answer(200, #"{"count":1,"value":"github.jwt"}"#), ScriptedTransport.token,
        CredentialTests.missing,
      ])
    #expect(try await gateway.machine("erp-db") == nil)
    let asked = transport.requests[0]
    #expect(asked.url == "https://github.example/token?version=2&audience=api%3A%2F%2FAzureADTokenExchange")
    #expect(asked.headers.contains(HTTPHeader("Authorization", "Bearer request-s3cret")))
    #expect(Self.field("client_assertion", transport.requests[1]) == "github.jwt")
    let report = await gateway.credentialReport()
    #expect(report.failure == nil)
    #expect(
      report.text
        == "workload identity; not environment (neither AZURE_CLIENT_ID nor ARM_CLIENT_ID is set together with its "
        + "_CLIENT_SECRET or _CLIENT_CERTIFICATE_PATH)")
  }

  @Test func aWorkflowWithoutThePermissionIsToldSo() async throws {
    let (gateway, _) = try CredentialTests.ambient(
      [
        "AZURE_CLIENT_ID": "app", "ACTIONS_ID_TOKEN_REQUEST_URL": "https://github.example/token",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "request-s3cret",
      ], [ScriptedTransport.answer(403, "")])
    let error = await #expect(throws: GatewayError.self) { try await gateway.machine("erp-db") }
    #expect(error?.code == "CMC3102")
    #expect(error?.advice.contains("id-token: write") == true)
    #expect(error?.description.contains("s3cret") == false)
    let report = await gateway.credentialReport()
    #expect(report.failure != nil)
    #expect(!report.text.contains("s3cret"))
  }

  @Test func aManagedIdentityThatIsBeingAssignedIsWaitedForAndAppServiceHasItsOwn() async throws {
    let answer = #"{"access_token":"msi","expires_on":"1700000000","token_type":"Bearer"}"#
    let (gateway, transport) = try CredentialTests.ambient(
      ["IDENTITY_ENDPOINT": "http://127.0.0.1:1/msi", "IDENTITY_HEADER": "key"],
      [ScriptedTransport.answer(404), ScriptedTransport.answer(200, answer), CredentialTests.missing])
    #expect(try await gateway.machine("erp-db") == nil)
    #expect(transport.requests[1].url.hasPrefix("http://127.0.0.1:1/msi?api-version=2019-08-01&resource="))
    #expect(transport.requests[1].headers.first == HTTPHeader("X-IDENTITY-HEADER", "key"))
    let (without, _) = try CredentialTests.ambient(["ARM_USE_MSI": "false"], [])
    let error = await #expect(throws: GatewayError.self) { try await without.machine("erp-db") }
    #expect(error?.message.contains("ARM_USE_MSI is false") == true)
  }
}
